"""Write docs/paper.md from benchmarks/results/*.json: our rows beside the paper's own, with what agrees and what does not.

python benchmarks/paper.py --page
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from page_tables import cell, number, shown, table
from paper_claims import (
    PAPER_EMBEDDING,
    PAPER_MODELS,
    PAPER_SMALL,
    PAPER_STUDENT,
    PAPER_TEACHER,
    Claim,
    apart,
    paired,
    rising,
    sentence,
    signed_percent,
    standing,
)
from pertinent.files import read_json

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
GAP = "not measured yet"
HEAD = """# The paper's tables, on public data

Written by `benchmarks/paper_page.py` from `benchmarks/results/*.json`; `make paper` measures what 2 cores can in an hour,
`make paper-full` all of it. The paper ([arXiv 2410.17152](https://arxiv.org/abs/2410.17152)) measured on judgments of its own
that are not public, so no figure here can repeat one of its; what compares is the direction of a difference, and shares.
Certainty of its figures: **A**, stated by the authors or by two independent texts; **B**, by one secondary text.
[How each number is computed](metrics.md); all rows with their commits and machines: [results](results.md).

**Agrees** and **does not agree** need a 95% interval that leaves out 0 (of a paired difference), or two intervals on the same
pairs that are apart; else it *cannot be told*. Part (c) alone goes by means over seeds, which must rise at every step. The paper's
figure is accuracy, which says nothing of an order: a table under the verdicts has the other measures, one by one."""
METRICS = ("accuracy", "auroc_3+", "auroc_4+", "auroc_5+", "pair_accuracy", "ndcg@20")
ALL_METRICS = (METRICS[0], "auroc_2+", *METRICS[1:])
MSRD_STEPS = ("title", "overview", "links", "tags", "engaged")
TRANSFER_CELLS = {"zh-zh": "Chinese, the teacher over its encoder untuned", "en-ar": "Arabic texts, likewise"}
DATA_SETS = {"homedepot": "Home Depot", "esci_us_small": "ESCI US small"}


def page(results: Path) -> str:
    """The page as text. results: the folder of the results files; it need not exist."""
    parts = [models, fields, scaling, languages, student]
    return "\n\n".join([HEAD, *(text for part in parts for text in part(results))]) + "\n"


def rows_in(results: Path, name: str) -> dict[str, Row]:
    """The rows of a results file by name, none where it does not exist."""
    file = results / f"{name}.json"
    return {row["row"]: row for row in read_json(file)["rows"]} if file.is_file() else {}


def models(results: Path) -> list[str]:
    """(a): teachers of several language models beside what is not fine-tuned."""
    rows = rows_in(results, "teacher_models")
    base = rows.get("cosine-e5")
    listed = [
        "bm25",
        "cosine-use",
        "cosine-minilm",
        "cosine-e5",
        "e5-random",
        "minilm",
        "e5/0",
        "best",
        "e5-4k",
        "gemma-lora",
    ]
    paper = table(
        ["the paper's model", "five-scale accuracy", "over its embedding", "certainty"],
        [[name, number(v), _over(v, PAPER_EMBEDDING), grade] for name, v, grade in PAPER_MODELS[:-1]],
    )
    claims = [
        apart(
            f"a fine-tuned cross-encoder is above the embedding baseline (accuracy {_over(PAPER_TEACHER, PAPER_EMBEDDING)})",
            "A",
            _first(rows, "best", "e5/0"),
            base,
            "accuracy",
        ),
        apart(
            f"a larger language model is a better teacher (Llama-3-8B over mBERT, accuracy {_over(PAPER_TEACHER, PAPER_SMALL)})",
            "A",
            rows.get("gemma-lora"),
            rows.get("e5-4k"),
            "accuracy",
        ),
    ]
    return [
        "## (a) Language models compared",
        paper,
        "Home Depot, five grades, one epoch on 16,000 human rows (best: all rows; e5-4k and gemma-lora: 4,000 rows, and the "
        "first 2,000 test pairs). No model of the paper's size fits 2 cores: Gemma-3-270M stands for the larger one.",
        _metric_table(rows, listed, over=base),
        *_verdicts(claims),
        *_measures(rows, [(row, low) for row in ("best", "e5/0") for low in ("cosine-e5", "bm25")]),
    ]


def fields(results: Path) -> list[str]:
    """(b): fields of the item text, added one after another."""
    rows = rows_in(results, "text_fields")
    differences = rows.get("msrd/differences", {})
    steps = []
    for before, step in zip(("", *MSRD_STEPS), MSRD_STEPS, strict=False):
        gain = differences.get(f"{step}-{before}")
        told = "" if not before else GAP if gain is None else _gain(gain)
        steps.append(
            [
                step,
                *(_mean_cell(_seeds(rows, f"msrd/{step}"), m) for m in ("auroc_2+", "pair_accuracy", "ndcg@20")),
                told,
            ]
        )
    pairs = [
        ["ESCI, all fields less title", _gain(rows.get("esci/differences", {}).get("all-title"))],
        ["CxC, four captions less one", _gain(rows.get("cxc/differences", {}).get("four-one"))],
    ]
    claims = [
        paired(
            "user-action fields (boards, engaged queries) gain notably on top of the content fields",
            "A",
            differences.get("user_actions-links"),
            "MSRD, AUROC 2+,",
        ),
        paired("each content field adds: a description", "A", differences.get("overview-title"), "MSRD, AUROC 2+,"),
        paired("each content field adds: link text", "A", differences.get("links-overview"), "MSRD, AUROC 2+,"),
    ]
    return [
        "## (b) Text fields",
        "The paper starts from the image's caption and adds one field after another; each adds, and the user-action fields "
        "gain notably on top (A; its figures are not public).",
        "MSRD, 6,000 training pairs, mean over seeds; each step adds to those before it. Links: genres, director, actors, "
        "characters; tags: its boards; engaged: queries of the training queries' log, cross-fitted.",
        table(["step", "AUROC 2+", "pair_accuracy", "ndcg@20", "AUROC 2+ over the step before"], steps),
        table(["other sets", "mean over folds or seeds"], pairs),
        *_verdicts(claims),
    ]


def scaling(results: Path) -> list[str]:
    """(c): student quality by how many pairs its teacher labelled."""
    rows = rows_in(results, "label_scaling")
    claims = [
        rising("more teacher labels help the student at every step (0.3, 6, 12, 30 million)", "A", label_steps(rows))
    ]
    return [
        "## (c) Label scaling",
        "The paper's student gains monotonically over 0.3, 6, 12 and 30 million teacher-labelled rows (A, in words).",
        _metric_table(rows, list(rows)) if rows else _gap("c"),
        *_verdicts(claims),
    ]


def languages(results: Path) -> list[str]:
    """(d): quality in languages in which nobody judged: six cells of query and text language on Flickr8k, and far sets."""
    rows = rows_in(results, "language_transfer")
    says = "a language in which there is no human label gains from the labels of another"
    claims = [_transferred(rows, cell, f"{says} (here: {told})") for cell, told in TRANSFER_CELLS.items()]
    return [
        "## (d) Languages without labels",
        "The paper reports gains in languages in which there is no human label (A, in words; precision at 8 by country).",
        *(_transfer_tables(rows) if rows else [_gap("d")]),
        *_verdicts(claims),
    ]


def _transferred(rows: Rows, cell: str, says: str) -> Claim:
    names = (f"flickr8k/teacher/{cell}", f"flickr8k/embedding/{cell}")
    return apart(says, "A", *(rows.get(name) for name in names), "auroc_expert")


def _transfer_tables(rows: Rows) -> list[str]:
    """A table a kind of figures: no row has all of them."""
    kinds = (
        "The teacher, trained on English CxC judgments, on CxC itself:",
        "Flickr8k, query-text languages; AUROC and Kendall's tau against experts and against the crowd:",
        "Far sets: KUAKE-QTR (medical queries) and XTD10, which tells matching across translation and no more:",
    )
    metrics = (
        METRICS,
        ("auroc_expert", "kendall_expert", "auroc_crowd", "kendall_crowd"),
        ("auroc", "kendall"),
    )
    found = []
    for lead, names in zip(kinds, metrics, strict=True):
        lines = [
            [name, *(cell(row, m) if _has(row, m) else "-" for m in names)]
            for name, row in rows.items()
            if any(_has(row, m) for m in names)
        ]
        found += [lead, table(["row", *(shown(m) for m in names)], lines)] if lines else []
    return found


def student(results: Path) -> list[str]:
    """(e): the student against its teacher, the embedding, and what a team would use instead."""
    chain, quality = rows_in(results, "pipeline"), rows_in(results, "student_quality")
    found, claims = [], []
    for name, title in DATA_SETS.items():
        ours, teacher = chain.get(f"{name}/student"), chain.get(f"{name}/teacher")
        claims.append(
            apart(
                f"{title}: the student is above the embedding baseline (accuracy {_over(PAPER_STUDENT, PAPER_EMBEDDING)})",
                "B",
                ours,
                chain.get(f"{name}/embedding"),
                "accuracy",
            )
        )
        found.append([title, *(_share(ours, teacher)), *(_kept(chain, name, k) for k in (3, 4, 5))])
    paper_row = [
        "the paper",
        f"{number(PAPER_STUDENT)} (B)",
        f"{number(PAPER_TEACHER)} (A)",
        f"{PAPER_STUDENT / PAPER_TEACHER:.0%}",
    ]
    return [
        "## (e) The student against its teacher and baselines",
        "Share of the teacher's accuracy, and of its AUROC gain over BM25, that the student keeps.",
        table(
            ["data", "student", "teacher", "share", "gain kept 3+", "gain kept 4+", "gain kept 5+"],
            [[*paper_row, "-", "-", "-"], *found],
        ),
        *_verdicts(claims),
        *_measures(
            chain,
            [
                (f"{name}/{system}", f"{name}/{low}")
                for name in DATA_SETS
                for system in ("teacher", "student")
                for low in ("embedding", "bm25")
            ],
        ),
        *_side_by_side(results),
        *(["All rows of the student's own benchmark:", _metric_table(quality, list(quality))] if quality else []),
    ]


def label_steps(rows: Rows) -> list[tuple[str, float | None]]:
    """The mean AUROC 4+ over seeds at each number of teacher labels, in order of that number; None while seeds lack."""
    sizes: dict[int, list[float]] = {}
    for row in rows.values():
        if "label_rows" in row and row.get("auroc_4+") is not None:
            sizes.setdefault(int(row["label_rows"]), []).append(float(row["auroc_4+"]))
    n_seeds = max(map(len, sizes.values()), default=0)
    means = {size: float(np.mean(values)) if len(values) == n_seeds else None for size, values in sizes.items()}
    return [(f"{size:,}", mean) for size, mean in sorted(means.items())]


def _side_by_side(results: Path) -> list[str]:
    """What a team would pick instead, on the same held-out pairs of Home Depot."""
    models_, others, chain = (rows_in(results, name) for name in ("teacher_models", "alternatives", "pipeline"))
    rows: dict[str, Row] = {
        "BM25": models_.get("bm25", {}),
        "USE, cosine": models_.get("cosine-use", {}),
        "multilingual-e5-small, cosine": models_.get("cosine-e5", {}),
        "LightGBM on lexical features, regression": others.get("lightgbm", {}),
        "LightGBM on lexical features, LambdaRank": others.get("lightgbm-lambdarank", {}),
        "sentence-transformers CrossEncoder, its defaults, 16,000 rows, one epoch": others.get("cross-encoder-16k", {}),
        "our teacher, 16,000 rows, one epoch": models_.get("e5/0", {}),
        "our teacher, 42,000 rows, one epoch": chain.get("homedepot/teacher", {}),
        "our student of it": chain.get("homedepot/student", {}),
        "sentence-transformers CrossEncoder, its defaults, 4,000 rows": others.get("cross-encoder-4k", {}),
        "our teacher, 4,000 rows, one epoch": models_.get("e5-4k", {}),
    }
    lead = (
        "What a team would pick instead, on the same held-out queries of Home Depot. The last two rows are of the first 2,000 "
        "test pairs: compare them with each other alone."
    )
    return ["### Side by side", lead, _metric_table(rows, list(rows))]


def _metric_table(rows: Rows, names: Sequence[str], over: Row | None = None) -> str:
    """A line a row by the usual metrics, with intervals; a marked gap where the row is not there."""
    metrics = [m for m in METRICS if any(_has(rows.get(name), m) for name in names)] or list(METRICS)
    more: list[tuple[str, Callable[[Row], str]]] = [
        ("test pairs", lambda row: _whole(row.get("n_pairs", row.get("test_pairs"))))
    ]
    if over is not None:
        more.insert(0, ("accuracy over cosine-e5", lambda row: _over_row(row, over)))
    lines = []
    for name in names:
        row = rows.get(name)
        if not row:
            lines.append([name, f"*{GAP}*", *["-"] * (len(metrics) + len(more) - 1)])
            continue
        cells = [cell(row, m) if _has(row, m) and "intervals" in row else number(row.get(m)) for m in metrics]
        lines.append([name, *cells, *(text(row) for _, text in more)])
    return table(["row", *(shown(m) for m in metrics), *(head for head, _ in more)], lines)


def _measures(rows: Rows, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """By which measures each row is above the other, and by which not; nothing without rows."""
    lines = []
    for name, low in pairs:
        if name in rows and low in rows:
            differences = rows[name].get("differences", {}).get(rows[low].get("system"), {})
            found = standing(rows[name], rows[low], ALL_METRICS, differences)
            named = [", ".join(map(shown, metrics)) or "-" for metrics in (found.above, found.untold, found.below)]
            lines.append([name, low, *named])
    lead = "Measure by measure, on the same pairs, by the same rule:"
    return [lead, table(["row", "against", "above", "cannot be told", "below"], lines)] if lines else []


def _verdicts(claims: Sequence[Claim]) -> list[str]:
    lines = [[c.says[0].upper() + c.says[1:], c.certainty, c.here, c.verdict] for c in claims]
    return [table(["the paper says", "certainty", "here", "verdict"], lines), sentence(claims)]


def _gap(part: str) -> str:
    return f"*{GAP.capitalize()}*: `python benchmarks/paper.py --full --parts {part}`."


def _first(rows: Rows, *names: str) -> Row | None:
    return next((rows[name] for name in names if name in rows), None)


def _seeds(rows: Rows, stem: str) -> list[Row]:
    return [row for name, row in rows.items() if name.rpartition("/")[0] == stem]


def _mean_cell(rows: Sequence[Row], metric: str) -> str:
    values = [row[metric] for row in rows if _has(row, metric)]
    if not values:
        return f"*{GAP}*"
    return number(float(np.mean(values))) + (f" ({len(values)} seeds)" if len(values) > 1 else " (1 seed)")


def _gain(found: Mapping[str, Any] | None) -> str:
    return f"*{GAP}*" if not found else paired("", "", found, "").here.strip()


def _share(ours: Row | None, teacher: Row | None) -> list[str]:
    if not ours or not teacher:
        return [f"*{GAP}*", "-", "-"]
    return [cell(ours, "accuracy"), cell(teacher, "accuracy"), f"{ours['accuracy'] / teacher['accuracy']:.0%}"]


def _kept(chain: Rows, name: str, threshold: int) -> str:
    bm25, teacher, ours = (
        chain.get(f"{name}/{s}", {}).get(f"auroc_{threshold}+") for s in ("bm25", "teacher", "student")
    )
    if bm25 is None or teacher is None or ours is None:
        return "-"
    if teacher - bm25 < 0.005:
        return "the teacher has no gain"
    return f"{(ours - bm25) / (teacher - bm25):.0%}"


def _has(row: Row | None, metric: str) -> bool:
    return bool(row) and row is not None and row.get(metric) is not None


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"


def _over(value: float, base: float) -> str:
    return "-" if value == base else signed_percent(value / base - 1)


def _over_row(row: Row, base: Row) -> str:
    if row.get("n_pairs") != base.get("n_pairs"):
        return "other pairs"
    return _over(row["accuracy"], base["accuracy"])
