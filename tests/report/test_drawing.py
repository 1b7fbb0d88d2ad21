from __future__ import annotations

import re

import numpy as np
import pytest

from pertinent.report import plots
from pertinent.report.definitions import auroc
from pertinent.report.drawing import Drawing, Scale, tick_text, ticks
from pertinent.report.tables import Results


def test_a_scale_is_a_straight_line_kept_inside_the_axis() -> None:
    x = Scale(0.5, 1.0, 100, 300)
    assert [x(v) for v in (0.5, 0.75, 1.0, 0.2, 7)] == [100, 200, 300, 100, 300]
    assert Scale(3, 3, 0, 10)(3) == 5


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.45, 1, [0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        (0, 400, [0, 100, 200, 300, 400]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_tick_numbers_have_the_decimals_of_their_step() -> None:
    assert [tick_text(v, s) for v, s in ((0.6, 0.2), (1.0, 0.2), (0.25, 0.05), (1500, 500), (-0.5, 0.5), (0.0, 0.1))] == [
        ".6", "1.0", ".25", "1,500", "-.5", "0",
    ]  # fmt: skip


def test_text_in_a_drawing_is_escaped() -> None:
    drawing = Drawing("a", 10, 10, "<i>", "</desc><script>")
    drawing.text(0, 0, "<script>alert(1)</script>")
    assert "<script" not in drawing.render()
    assert "&lt;i&gt;" in drawing.render()


def test_a_mark_lies_where_its_value_is() -> None:
    results = Results({"student": {"auroc_4+": 0.75}}, {"student": {"auroc_4+": [0.7, 0.8]}})
    svg = plots.threshold_panel("p", results, ["student", "teacher"], auroc(4), (0.5, 1.0))
    (x1, x2), (cx,) = (
        re.findall(r'class="whisker system-student" x1="([\d.]+)" y1="42" x2="([\d.]+)"', svg)[0],
        re.findall(r'<circle class="mark system-student" cx="([\d.]+)"', svg),
    )
    assert float(cx) == pytest.approx((float(x1) + float(x2)) / 2)
    assert float(cx) == pytest.approx(231)  # the middle of the axis, 126 to 336
    assert "Teacher no number" in svg
    assert 'system-teacher" d=' not in svg


def test_common_axis_is_rounded_out_and_absent_without_a_value() -> None:
    results = Results({"student": {"auroc_4+": 0.752}}, {"student": {"auroc_4+": [0.71, 0.79]}})
    assert plots.domain([results], ["student", "bm25"], [auroc(4)]) == pytest.approx((0.7, 0.8))
    assert plots.domain([results], ["bm25"], [auroc(4)]) is None


def test_histograms_and_curves_of_one_value_do_not_divide_by_zero() -> None:
    grades = np.array([0, 0, 3])
    svg = plots.histogram_panel("p", "student", grades, np.array([1.5, 1.5, 1.5]), 5)
    assert "nan" not in svg
    assert svg.count('class="area') == 2
    assert "nan" not in plots.curve_panel("p", "loss", "step", {"loss": [(10.0, 0.0)]})
