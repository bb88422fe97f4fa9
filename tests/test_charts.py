"""Pictures for notebooks carry their intervals."""

from __future__ import annotations

import pytest

from lab.charts import bars, lines
from lab.statistics import Estimate


def test_bars_have_a_title_and_whiskers_where_there_is_an_interval() -> None:
    table = {"a": {"x": Estimate(0.5, 0.4, 0.7, 10), "y": 0.2}}
    figure = bars(table, "title", "share")
    [trace] = figure.data
    assert list(trace.x) == ["x", "y"] and list(trace.y) == [0.5, 0.2]
    assert list(trace.error_y.array) == [pytest.approx(0.2), None]
    assert list(trace.error_y.arrayminus) == [pytest.approx(0.1), None]
    assert figure.layout.title.text == "title" and figure.layout.yaxis.title.text == "share"


def test_lines_have_whiskers_and_name_their_axes() -> None:
    points = [(1.0, Estimate(0.5, 0.4, 0.7, 10)), (2.0, 0.25)]
    figure = lines({"a": points}, "title", "rankings", "accuracy")
    [trace] = figure.data
    assert list(trace.x) == [1.0, 2.0] and list(trace.y) == [0.5, 0.25]
    assert list(trace.error_y.array) == [pytest.approx(0.2), None]
    assert figure.layout.xaxis.title.text == "rankings"
    assert figure.layout.yaxis.title.text == "accuracy"


def test_an_interval_without_end_has_no_whisker() -> None:
    [trace] = bars({"a": {"x": Estimate(0.5, float("-inf"), float("inf"), 1)}}, "t", "y").data
    assert list(trace.error_y.array) == [None]
