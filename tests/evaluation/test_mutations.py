"""Hand-made breakages of the metrics, each caught by the metric tests: a test that cannot fail would let one through.

Each is applied to a copy of the package, and the tests of its module are run on the copy in a process of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import pertinent

HERE = Path(__file__).parent
PACKAGE = Path(pertinent.__file__).parent


@dataclass(frozen=True)
class Breakage:
    """What goes wrong, the module of pertinent/evaluation, the text that is replaced, and the tests that must notice."""

    what: str
    module: str
    before: str
    after: str
    tests: str


BREAKAGES = [
    Breakage("discount starts a rank too late", "metrics", "np.arange(2, k + 2)", "np.arange(3, k + 3)", "metrics"),
    Breakage("gain 2^grade without - 1", "metrics", "np.exp2(grades.astype(np.float64)) - 1.0", "np.exp2(grades.astype(np.float64))", "metrics"),
    Breakage("linear gain squared", "metrics", '"linear": lambda grades: grades.astype(np.float64)', '"linear": lambda grades: grades.astype(np.float64) ** 2', "metrics"),
    Breakage("lowest score first", "metrics", "np.lexsort((-scores, queries))", "np.lexsort((scores, queries))", "metrics"),
    Breakage("ideal in the worst order", "metrics", "best_first = np.cumsum(judgments.grade_counts[:, ::-1], axis=1)", "best_first = np.cumsum(judgments.grade_counts, axis=1)", "metrics"),
    Breakage("ties broken by row", "metrics", "if self.tie_starts.size == gains.size:", "if True:", "metrics"),
    Breakage("queries without gain counted as 0", "metrics", "(ideal > 0).astype(np.float64))", "np.ones(ideal.size))", "metrics"),
    Breakage("sDCG's ideal a grade too high", "metrics", "np.array([ranking.judgments.n_grades - 1])", "np.array([ranking.judgments.n_grades])", "metrics"),
    Breakage("an equal pair counts as right", "metrics", "0.5 * n_tied", "n_tied", "metrics"),
    Breakage("pairs of one grade are counted", "metrics", "ranking.grades == grade", "ranking.grades >= grade", "metrics"),
    Breakage("unjudged items left out of a run's list", "metrics", "Ranking.of(judgments, of_query, np.maximum(judged, 0), found)", "Ranking.of(judgments, of_query[judged >= 0], judged[judged >= 0], found[judged >= 0])", "measures"),
    Breakage("relevant is above rel, not from it", "binary", "ranking.grades >= _lowest", "ranking.grades > _lowest", "binary"),
    Breakage("precision needs more than k judgments", "binary", "sum(axis=1) >= k) | short_lists", "sum(axis=1) > k) | short_lists", "binary"),
    Breakage("average precision leaves out its own item", "binary", "ties.relevant_before + 1 +", "ties.relevant_before +", "binary"),
    Breakage("average precision over the retrieved relevant items", "binary", "PerQuery(np.minimum(divide(sums, n_relevant), 1.0), (n_relevant > 0)", "PerQuery(np.minimum(divide(sums, _summed(ranking, inside, _relevant(ranking, rel)[inside])), 1.0), (n_relevant > 0)", "measures"),
    Breakage("reciprocal rank of the next relevant item", "binary", "_log_choose(size - place, relevant - 1)", "_log_choose(size - place, np.maximum(relevant - 2, 0))", "metrics"),
    Breakage("AUROC gives ties nothing", "classification", "below -= 0.5 * misses", "below -= misses", "classification"),
    Breakage("P(grade >= k) is P(grade < k)", "classification", "np.cumsum(wide[:, :0:-1], axis=1)[:, ::-1]", "np.cumsum(wide[:, :-1], axis=1)", "classification"),
    Breakage("kappa weighs misses by their size, not its square", "classification", "columns = [(judged - given) ** 2,", "columns = [np.abs(judged - given),", "classification"),
    Breakage("within one is within two", "measures", "scored.predicted, tolerance=1)", "scored.predicted, tolerance=2)", "measures"),
    Breakage("log loss in bits", "classification", "[-np.log(chosen),", "[-np.log2(chosen),", "classification"),
    Breakage("Brier without the constant", "classification", "- 2 * chosen + 1,", "- 2 * chosen,", "measures"),
    Breakage("F1 counts a hit once", "classification", "2.0 * (judged & given)", "1.0 * (judged & given)", "measures"),
    Breakage("ECE lets gaps cancel out", "classification", "np.abs(sums[:, :-1]).sum(axis=1) / n", "np.abs(sums[:, :-1].sum(axis=1)) / n", "classification"),
    Breakage("AUPRC from the lowest score", "pooled", "above_hits = np.cumsum(hits[:, ::-1], axis=1)", "above_hits = np.cumsum(hits, axis=1)", "measures"),
    Breakage("AUROC's error misses the negatives", "pooled", "(above / n_hits - area) / n_misses", "0 * (above / n_hits - area) / n_misses", "statistics"),
    Breakage("AUROC@k is at k + 1", "measures", "return PooledAuroc.by(scored.sorted_by(threshold), scored.judgments.grades >= threshold)", "return PooledAuroc.by(scored.sorted_by(threshold), scored.judgments.grades > threshold)", "measures"),
    Breakage("standard error without n / (n - 1)", "intervals", "np.sqrt(n / (n - 1) * np.sum(influence**2))", "np.sqrt(np.sum(influence**2))", "statistics"),
    Breakage("pairs instead of queries resampled", "intervals", "yield counts.reshape(n, n_queries).astype(np.float64)", "yield (counts.reshape(n, n_queries) > 0).astype(np.float64)", "intervals"),
    Breakage("an exchange moves one side only", "statistics", "- other.formula(other.sums.sum(axis=0) - moved)", "- other.formula(other.sums.sum(axis=0)[None, :])", "statistics"),
    Breakage("a randomisation p-value of 0", "significance", "(as_far + 1) / (total + 1)", "as_far / total", "significance"),
    Breakage("a one-sided randomisation test", "significance", "(np.abs(found) >= bar)", "(found >= bar)", "significance"),
    Breakage("Holm as Bonferroni", "significance", "found[order] * (n - ranks + 1)", "found[order] * n", "significance"),
    Breakage("Benjamini-Hochberg not monotone", "significance", "np.minimum.accumulate((found[order] * n / ranks)[::-1])[::-1]", "found[order] * n / ranks", "significance"),
    Breakage("alpha's coincidences by the ratings, not one less", "raters", "couples / (ratings.sizes - 1)", "couples / (ratings.sizes)", "raters"),
    Breakage("ordinal alpha from grade ends", "raters", "np.cumsum(totals, axis=1) - totals / 2", "np.cumsum(totals, axis=1)", "raters"),
    Breakage("a rating set against itself", "raters", "(agreeing * sizes - 1) / (sizes - 1)", "agreeing", "raters"),
]  # fmt: skip


def run_on_copy(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(HERE / f"test_{tests}.py")]
    return subprocess.run(command, env=environment, cwd=HERE.parent.parent, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, folder / "pertinent", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_every_breakage_changes_one_place_of_the_source() -> None:
    assert len(BREAKAGES) >= 20
    assert len({each.what for each in BREAKAGES}) == len(BREAKAGES)
    for each in BREAKAGES:
        source = (PACKAGE / "evaluation" / f"{each.module}.py").read_text(encoding="utf-8")
        assert source.count(each.before) == 1, each.what
        assert each.before != each.after


@pytest.mark.slow
@pytest.mark.parametrize("tests", sorted({each.tests for each in BREAKAGES}))
def test_the_copy_as_it_is_passes(copy: Path, tests: str) -> None:
    done = run_on_copy(copy, tests)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda each: each.what)
def test_a_breakage_is_caught(copy: Path, breakage: Breakage) -> None:
    file = copy / "pertinent" / "evaluation" / f"{breakage.module}.py"
    sound = file.read_text(encoding="utf-8")
    file.write_text(sound.replace(breakage.before, breakage.after), encoding="utf-8")
    try:
        done = run_on_copy(copy, breakage.tests)
    finally:
        file.write_text(sound, encoding="utf-8")
    assert done.returncode == 1, done.stdout  # a failed test, not a file that cannot be run
    assert " failed" in done.stdout
