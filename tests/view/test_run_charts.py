"""Charts of runs: every number of the ledger is in them, and what cannot be drawn says so."""

from __future__ import annotations

import pandas as pd
import pytest

from workbench.errors import UserError
from workbench.view.charts.runs import cost_chart, reach_chart

COSTS = {
    "<b>one</b>": {"phases": {"forget": {"seconds": 2.0, "flops": 3e9}, "probes": {"seconds": 5.0, "flops": 1e9}}},
    "two": {"phases": {"forget": {"seconds": 4.0, "flops": 6e9}, "scoring": {"seconds": 1.0, "flops": 0.0}}},
}


def test_cost_chart_shows_every_phase_of_every_run() -> None:
    figure = cost_chart(COSTS)
    seconds = {bar.name: list(bar.x) for bar in figure.data if bar.xaxis == "x"}
    assert seconds == {"forget": [2.0, 4.0], "probes": [5.0, 0.0], "scoring": [0.0, 1.0]}
    assert sum(sum(bar.x) for bar in figure.data if bar.xaxis == "x2") == 10e9
    assert figure.data[0].y[0] == "&lt;b&gt;one&lt;/b&gt;"
    assert next(iter(seconds)) == "forget"  # the largest first
    small = {"phases": {**COSTS["two"]["phases"], "events": {"seconds": 0.01}, "saving": {"seconds": 0.02}}}
    bars = {bar.name: list(bar.x) for bar in cost_chart({"two": small}).data if bar.xaxis == "x"}
    assert bars == {"forget": [4.0], "scoring": [1.0], "the rest": [0.03]}
    with pytest.raises(UserError, match="at least one finished run"):
        cost_chart({"unfinished": {}})


def test_reach_chart_shows_both_sets_against_what_was_spent() -> None:
    curve = pd.DataFrame(
        {
            "step": [0, 0, 5, 5],
            "probe_set": ["forget", "retain"] * 2,
            "flops": [0, 0, 1e9, 1e9],
            "seconds": [0, 0, 2.0, 2.0],
            "fact_accuracy": [1.0, 1.0, 0.2, 0.9],
        }
    )
    figure = reach_chart({"run": curve, "empty": pd.DataFrame()}, "fact_accuracy", against="seconds", level=0.5)
    assert {line.xaxis: (line.name, list(line.x), list(line.y)) for line in figure.data} == {
        "x": ("run", [0, 2.0], [1.0, 0.2]),
        "x2": ("run", [0, 2.0], [1.0, 0.9]),
    }
    assert [line.showlegend for line in figure.data] == [True, False]
    assert [note.text for note in figure.layout.annotations[:2]] == ["forget", "retain"]
    assert figure.layout.shapes[0].y0 == 0.5
    with pytest.raises(UserError, match="no run has the metric 'perplexity'"):
        reach_chart({"run": curve}, "perplexity")
    with pytest.raises(UserError, match="against is flops, seconds, step"):
        reach_chart({"run": curve}, "fact_accuracy", against="euros")
