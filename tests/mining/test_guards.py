"""No held-out query, none of too few users, no private one, and none of the version's own fold."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining_logs import by_users, engaged, of_split, row
from pertinent.data.build import build_dataset
from pertinent.data.config import DataConfig
from pertinent.data.splits import SplitConfig, SplitRule, cross_folds, normalise_query, query_id_of, split_of
from pertinent.errors import DataError
from pertinent.mining import guards
from pertinent.mining.engine import open_engine
from pertinent.mining.guards import HELD_OUT, NO_QUERY, check_fields

TRAIN, DEV, TEST = of_split("train", 12), of_split("dev", 10), of_split("test", 10)
UNJUDGED = of_split("train", 6, "other")


def test_a_planted_held_out_query_never_contributes_and_is_counted(mine) -> None:
    fair = [*by_users(UNJUDGED[0], 0), *by_users(UNJUDGED[0], 0, "impression")]
    # Judged for dev and test; in dev and test by the rule alone; held out by the data set's own split alone.
    planted = [DEV[0], TEST[0], of_split("dev", 1, "other")[0], of_split("test", 1, "other")[0], "own 1", "own 2"]
    leaks = [r for query in planted for r in (*by_users(query, 0), *by_users(f"  {query.upper()} ", 0))]
    result, tables = mine([*fair, *leaks])
    clean, expected = mine(fair)
    for name, table in tables.items():
        assert table.equals(expected[name]), name
    assert result.quarantined == {HELD_OUT: len(leaks)}
    assert result.counts["rows"] == {"seen": 10 + len(leaks), "dropped": len(leaks), "kept": 10}
    assert result.counts["queries"]["held_out"] == len(planted)
    assert clean.quarantined == {}


def test_a_query_that_the_data_set_itself_trains_on_is_mined(mine) -> None:
    _, tables = mine(by_users("own 0", 3))
    assert engaged(tables) == {"i3": {"own 0": 5.0}}


def test_the_check_refuses_a_file_with_a_held_out_query_or_one_of_the_own_fold(data: Path, tmp_path: Path) -> None:
    entry = pl.List(pl.Struct({"query": pl.String, "weight": pl.Float64}))

    def fields(version: int, *queries: str) -> Path:
        lists = [[], [{"query": query, "weight": 1.0} for query in queries]]
        schema = {"item_id": pl.String, "text_version": pl.Int8, "engaged_queries": entry}
        rows = {"item_id": ["i0", "i1"], "text_version": [-1, version], "engaged_queries": lists}
        pl.DataFrame(rows, schema=schema).write_parquet(tmp_path / "fields.parquet")
        return tmp_path / "fields.parquet"

    query = TRAIN[0]
    fold = cross_folds(pl.Series([query]), 5)[0]
    assert check_fields(fields(-1, query), data) == {"rows": 2, "entries": 1, "queries": 1, "refused": 0}
    assert check_fields(fields((fold + 1) % 5, query), data)["entries"] == 1
    with pytest.raises(DataError, match=f"item i1, text_version {fold}: expected no .* own fold, found '{query}'"):
        check_fields(fields(fold, query), data)
    for leak in (DEV[0], TEST[0], TEST[0].upper(), of_split("dev", 1, "other")[0], "own 2"):
        with pytest.raises(DataError, match=r"item i1, text_version -1: expected no .* held-out query .*1 such"):
            check_fields(fields(-1, query, leak), data)


def test_the_stage_checks_what_it_has_written(mine, monkeypatch: pytest.MonkeyPatch) -> None:
    # With the SQL guard broken, the check (another implementation) still refuses the result.
    monkeypatch.setattr(guards, "_TWO_64", 1e-30)
    leak = of_split("test", 1, "other")[0]
    with pytest.raises(DataError, match=f"held-out query .* found '{leak}'"):
        mine(by_users(leak, 0))


def test_a_query_appears_from_k_distinct_users_over_its_spellings(mine) -> None:
    two, three, other = UNJUDGED[:3]
    rows = [row(two, 0, user=f"u{k % 2}") for k in range(50)]
    rows += [row(f" {three.title()}", 0, user="u0"), row(three.upper(), 0, user="u1"), row(three, 0, user="u2")]
    rows += [row(other, 0, user="u0"), row(other.upper(), 0, user="u0"), row(other.title(), 0, user="u1")]
    rows += [row(other, 0, user=None), row(other, 0, user=""), row(other, 0, user=" ")]
    result, tables = mine(rows, k=3)
    assert engaged(tables) == {"i0": {three: 3.0}}
    assert set(tables["rates"]["query"]) == {three}
    counts = result.counts["queries"]
    assert (counts["log"], counts["too_few_users"], counts["shown"]) == (3, 2, 1)
    # An item's rate names no query: every row counts.
    assert tables["item_rates"].filter(text_version=-1)["actions"].to_list() == [59]


def test_k_is_exact_at_its_edge_against_a_count_by_hand(mine) -> None:
    queries = of_split("train", 300, "edge")
    rows = [row(query, 0, user=f"{query}/{u}") for q, query in enumerate(queries) for u in range(1 + q % 9)]
    for k in (1, 4, 5, 9):
        _, tables = mine(rows, k=k, max_queries=1000)
        assert set(engaged(tables).get("i0", {})) == {query for q, query in enumerate(queries) if 1 + q % 9 >= k}


def test_a_log_without_anybody_to_count_is_refused_unless_told_otherwise(mine) -> None:
    nobody = [{"query": UNJUDGED[0], "item_id": "i0", "action": "save"}]
    with pytest.raises(DataError, match=r"expected a column user to count 5 distinct .* k_by=session .* k=1"):
        mine(nobody)
    with pytest.raises(DataError, match="expected some row with a user to count 5 distinct ones a query, found none"):
        mine([row(UNJUDGED[0], 0, user=None)])
    result, tables = mine(nobody, k=1)
    assert engaged(tables) == {"i0": {UNJUDGED[0]: 1.0}}
    assert result.counts["anonymity"] == "none: k is 1"
    sessions = [{"query": UNJUDGED[0], "item_id": "i0", "action": "save", "session": f"s{k}"} for k in range(2)]
    result, tables = mine(sessions, k=2, k_by="session")
    assert engaged(tables) == {"i0": {UNJUDGED[0]: 2.0}}
    assert result.counts["anonymity"] == "at least 2 distinct sessions a query"


def test_private_queries_are_left_out_however_many_ask_them(mine) -> None:
    texts = ["call 617 555 0100", "a@b.example", "４１１１ 1111 1111 1111", "Ünal@firma.de"]
    private = [next(f"{t} {k}" for k in range(500) if split_of(f"{t} {k}") == "train") for t in texts]
    rows = [r for query in [*private, UNJUDGED[0]] for r in by_users(query, 0)]
    result, tables = mine(rows)
    assert engaged(tables) == {"i0": {UNJUDGED[0]: 5.0}}
    assert set(tables["rates"]["query"]) == {UNJUDGED[0]}
    assert (result.counts["queries"]["private"], result.counts["queries"]["rows_of_private"]) == (4, 20)


def test_version_k_has_nothing_of_the_queries_of_fold_k(mine) -> None:
    queries = of_split("train", 40, "fold")
    folds = dict(zip(queries, cross_folds(pl.Series(queries), 5), strict=True))
    assert set(folds.values()) == set(range(5))
    alone = queries[0]
    rows = [r for q, query in enumerate(queries) for r in by_users(query, q % 3)] + by_users(alone, 7)
    _, tables = mine(rows, max_queries=100)
    everything = engaged(tables)
    for k in range(5):
        version = {**everything, **engaged(tables, k)}  # an equal row may be left out
        for item, found in version.items():
            assert found == {q: w for q, w in everything[item].items() if folds[q] != k}
    # The item whose only query is of this fold has an empty list, not no row.
    assert engaged(tables, folds[alone])["i7"] == {}
    fields = tables["fields"]
    assert fields.select("item_id", "text_version").rows() == sorted(fields.select("item_id", "text_version").rows())
    assert fields.schema["text_version"] == pl.Int8


def test_the_best_queries_of_a_version_are_chosen_without_the_fold(mine) -> None:
    queries = of_split("train", 30, "best")
    fold = cross_folds(pl.Series(queries[:1]), 5)[0]
    others = [q for q in queries if cross_folds(pl.Series([q]), 5)[0] != fold][:2]
    rows = [*by_users(queries[0], 0, n=9), *by_users(others[0], 0, n=7), *by_users(others[1], 0, n=6)]
    _, tables = mine(rows, max_queries=2)
    assert engaged(tables)["i0"] == {queries[0]: 9.0, others[0]: 7.0}
    assert engaged(tables, fold)["i0"] == {others[0]: 7.0, others[1]: 6.0}


def test_with_splits_by_words_a_fold_leaves_out_every_reordering(mine, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "words"
    source.mkdir()
    out.mkdir()
    pl.DataFrame({"item_id": ["i0"], "title": ["t"]}).write_csv(source / "items.csv")
    queries = [f"w{k} x y" for k in range(60)]
    rows = [{"query": q, "item_id": "i0", "grade": k % 5} for k, q in enumerate(queries * 2)]
    pl.DataFrame(rows).write_csv(source / "judgments.csv")
    (source / "dataset.yaml").write_text("split_by: words\n")
    build_dataset(DataConfig(path=source), out)
    held = next(q for q in queries if split_of(" ".join(sorted(q.split()))) == "test")
    kept = [q for q in queries if split_of(" ".join(sorted(q.split()))) == "train"]
    first, second = next(
        (a, f"y x {a.split()[0]}")
        for a in kept
        if cross_folds(pl.Series([a, f"y x {a.split()[0]}"]), 5).n_unique() == 2
    )
    turned = " ".join(reversed(held.split()))
    result, tables = mine([*by_users(first, 0), *by_users(second, 0), *by_users(turned, 0)], data_folder=out)
    assert engaged(tables) == {"i0": {first: 5.0, second: 5.0}}
    assert result.quarantined == {HELD_OUT: 5}
    for k in set(cross_folds(pl.Series([first, second]), 5)):
        assert engaged(tables, k)["i0"] == {}
        assert tables["item_rates"].filter(text_version=k)["actions"].to_list() == [0]


def test_with_splits_by_words_a_reordering_of_a_held_out_query_is_held_out(tmp_path: Path) -> None:
    judged = pl.DataFrame({"query": ["blue sofa", "red chair"], "query_id": ["1", "2"], "split": ["test", "train"]})
    queries = pl.Series(["Sofa blue", "blue sofa", "chair  red", "red chair"])
    by_words = guards.HeldOut(judged, SplitRule(SplitConfig(), "words"))
    assert guards.are_held_out(queries, by_words).to_list() == [True, True, False, False]
    by_text = guards.are_held_out(queries, guards.HeldOut(judged, SplitRule(SplitConfig())))
    by_hash = [split_of(query) != "train" for query in queries]
    assert by_text.to_list() == [by_hash[0], True, by_hash[2], False]


def test_empty_queries_are_dropped_and_counted(mine) -> None:
    rows = [*by_users(UNJUDGED[0], 0), row("", 0), row(" \t", 0), {**row("", 0), "query": None}]
    result, _ = mine(rows)
    assert result.quarantined == {NO_QUERY: 3}


def test_a_judged_query_has_its_own_id_and_any_other_its_hash(mine) -> None:
    _, tables = mine([*by_users(TRAIN[0].upper(), 0), *by_users(UNJUDGED[0], 0)])
    ids = dict(tables["rates"].select("query", "query_id").unique().iter_rows())
    assert ids == {TRAIN[0]: f"id of {TRAIN[0]}", UNJUDGED[0]: query_id_of(UNJUDGED[0])}


ODD = st.text(st.sampled_from("aZ \t\x1c\x1f\x0b\x0c\r\x85\xa0éİßΐ\u0301\u200bﬁ１"), max_size=8)


@pytest.fixture(scope="module")
def connection():
    import duckdb

    with duckdb.connect() as opened:
        opened.create_function("normalise_text", normalise_query, ["VARCHAR"], "VARCHAR")
        yield opened


@settings(max_examples=60, deadline=None)
@given(st.lists(ODD | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8), min_size=1))
def test_the_sql_normalises_as_python_does(connection, texts: list[str]) -> None:
    found = connection.execute(f"SELECT {guards.NORMALISED} FROM (SELECT unnest(?) AS query)", [texts]).fetchall()
    assert [text for (text,) in found] == [normalise_query(text) for text in texts]


def test_an_older_data_folder_that_does_not_tell_its_rule_is_refused(data: Path, tmp_path: Path, mine) -> None:
    import shutil

    import orjson

    old = tmp_path / "old"
    shutil.copytree(data, old)
    about = orjson.loads((old / "dataset.json").read_bytes())
    del about["split"]
    (old / "dataset.json").write_bytes(orjson.dumps(about))
    with pytest.raises(DataError, match="expected the rule of the splits, found none"):
        mine(by_users(UNJUDGED[0], 0), data_folder=old)


def test_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    from pertinent.errors import ConfigError

    monkeypatch.setitem(sys.modules, "duckdb", None)
    with (
        pytest.raises(
            ConfigError, match=r"^label sample: expected DuckDB, found none: pip install 'pertinent\[mine\]'"
        ),
        open_engine(tmp_path, "label sample", threads=1, memory_gib=1.0),
    ):
        pass
