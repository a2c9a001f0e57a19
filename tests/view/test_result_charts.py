"""Charts of what runs did: the numbers of the tables are in them, and better ends are named."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from workbench.errors import UserError
from workbench.view.charts.results import metrics_chart, slope_chart, tradeoff_chart


def metrics_of(forget: float, retain: float) -> dict[str, Any]:
    before = {"forget": {"fact_accuracy": 1.0}, "retain": {"fact_accuracy": 0.9}}
    return {"before": before, "after": {"forget": {"fact_accuracy": forget}, "retain": {"fact_accuracy": retain}}}


def test_tradeoff_joins_before_and_after_and_spreads_seeds() -> None:
    seeds = [metrics_of(0.0, 0.9), metrics_of(0.2, 0.6), metrics_of(0.1, 0.6)]
    figure = tradeoff_chart({"<b>three</b>": seeds, "one": metrics_of(0.5, 0.8)})
    name = "&lt;b&gt;three&lt;/b&gt;"
    start, small, mean = (trace for trace in figure.data if trace.name == name)
    assert (start.x[0], start.y[0]) == (1.0, 0.9)
    assert list(small.x) == [0.0, 0.2, 0.1]
    assert (mean.x[0], mean.y[0]) == pytest.approx((0.1, 0.7))
    # bars reach from the lowest to the highest seed
    assert (mean.error_y.array[0], mean.error_y.arrayminus[0]) == pytest.approx((0.2, 0.1))
    assert mean.error_x.array[0] == pytest.approx(0.1)
    arrows = [a for a in figure.layout.annotations if a.showarrow]
    assert (arrows[1].ax, arrows[1].ay, arrows[1].x, arrows[1].y) == (1.0, 0.9, 0.5, 0.8)
    assert figure.layout.xaxis.title.text == "forget: fact accuracy (lower is better)"
    assert figure.layout.yaxis.title.text == "retain: fact accuracy (higher is better)"
    assert [trace.name for trace in figure.data if trace.showlegend is None] == [name, "one"]


def test_tradeoff_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="at least one finished run"):
        tradeoff_chart({})
    missing = metrics_of(0.1, 0.9)
    missing["after"]["forget"]["fact_accuracy"] = {"value": None, "reason": "no labels"}
    with pytest.raises(UserError, match=r"run 'x' has no forget\.fact_accuracy after: no labels"):
        tradeoff_chart({"x": missing})
    with pytest.raises(UserError, match=r"run 'x' has no forget\.rouge before"):
        tradeoff_chart({"x": metrics_of(0, 1)}, "rouge")


def test_metrics_chart_has_a_panel_a_metric_and_a_line_a_set() -> None:
    curve = pd.DataFrame(
        {
            "step": [0, 0, 5, 5, 9, 9],
            "probe_set": ["forget", "retain"] * 3,
            "fact_accuracy": [1.0, 1.0, None, 0.9, 0.2, 0.8],
            "perplexity": [None, 1.1, None, 1.2, None, 1.3],
            "rouge": [None] * 6,
        }
    )
    figure = metrics_chart(curve, ["fact_accuracy", "perplexity", "rouge"])
    drawn = {(line.name, line.xaxis): (list(line.x), list(line.y)) for line in figure.data}
    assert drawn == {
        ("forget", "x"): ([0, 9], [1.0, 0.2]),
        ("retain", "x"): ([0, 5, 9], [1.0, 0.9, 0.8]),
        ("retain", "x2"): ([0, 5, 9], [1.1, 1.2, 1.3]),
    }
    assert [line.showlegend for line in figure.data] == [True, True, False]
    with pytest.raises(UserError, match="none of the metrics rouge"):
        metrics_chart(curve, ["rouge"])


def probes(*pairs: tuple[float, float], probe_set: str = "forget") -> pd.DataFrame:
    rows = [
        {"phase": phase, "probe_set": probe_set, "sample_id": f"s{n}", "prompt": f"<i>{n}?</i>", "probability": value}
        for n, pair in enumerate(pairs)
        for phase, value in zip(("before", "after"), pair, strict=True)
    ]
    return pd.DataFrame(rows)


def test_slope_chart_draws_each_answer_once() -> None:
    table = pd.concat([probes((1, 0.2), (1, 0.2), (1, 0.995)), probes((0.3, 0.8), probe_set="retain")])
    figure = slope_chart(table)
    ends = {(t.name, t.xaxis, t.line.width): (t.y[0], round(t.y[4], 6)) for t in figure.data}
    assert ends == {
        ("fell", "x", 2): (1.0, 0.2),  # two answers, one wider line
        ("stayed", "x", 1): (1.0, 0.995),
        ("rose", "x2", 1): (0.3, 0.8),
    }
    assert "&lt;i&gt;0?&lt;/i&gt;" in figure.data[0].customdata[0]
    assert [a.text for a in figure.layout.annotations] == [
        "<b>forget</b><br>2 fell · 0 rose · 1 stayed",
        "<b>retain</b><br>0 fell · 1 rose · 0 stayed",
    ]
    assert {t.xaxis for t in slope_chart(table, sets=["retain"]).data} == {"x"}
    three = slope_chart(pd.concat([table, probes((0.3, 0.8), probe_set="neighbours")]))  # narrow: one below the other
    assert three.layout.annotations[0].text == "<b>forget</b><br>2 fell<br>0 rose<br>1 stayed"


def test_slope_chart_says_what_is_missing() -> None:
    table = probes((1.0, 0.2))
    with pytest.raises(UserError, match="unknown metric 'probabilty'"):
        slope_chart(table, "probabilty")
    with pytest.raises(UserError, match="unknown probe set 'retian'"):
        slope_chart(table, sets=["retian"])
    with pytest.raises(UserError, match="has phases \\['before'\\]"):
        slope_chart(table[table["phase"] == "before"])
    with pytest.raises(UserError, match="no answer has 'probability' before and after"):
        slope_chart(table.assign(probability=float("nan")))
