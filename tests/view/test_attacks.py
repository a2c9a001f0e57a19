"""Bars of attacks: true numbers, most comes back first, what is missing says so, and hostile text is text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from workbench.errors import UserError, missing
from workbench.evals import came_back
from workbench.runs import RunDirectory
from workbench.view.charts import attacks_chart
from workbench.view.html import attack_bars, attacks_view, in_words
from workbench.view.report import run_report
from workbench.view.widgets.run_status import back_of, results_html

NASTY = "<script>alert(1)</script> it was \u202eKarrow"


def entry(floor: Any, run: Any, ceiling: Any, better: str = "lower") -> dict[str, Any]:
    numbers = all(isinstance(value, float) for value in (floor, run, ceiling))
    share = (run - floor) / (ceiling - floor) if numbers else missing("no floor")
    return {"retain_only": floor, "run": run, "before": ceiling, "comes_back": share, "better": better, "parts": {}}


ATTACKS = {
    "greedy": entry(0.05, 0.06, 1.0),
    "leak_at_k": entry(0.2, 0.44, 1.0),
    "uds": entry(1.0, 0.25, 0.0, "higher"),
    "nf4": entry(*[missing("needs a GPU and bitsandbytes")] * 3),
}
ROWS = pd.DataFrame(
    {"attack": attack, "model": model, "sample_id": sample, "prompt": "Where?", "answer": "Karrow.", "text": NASTY}
    | {"value": float(hits > 0), "measure": "fact match", "tries": 1, "hits": hits}
    for attack, model, sample, hits in (
        ("greedy", "run", "a", 0), ("greedy", "run", "b", 1), ("int4", "run", "a", 1), ("int4", "run", "b", 1),
        ("int4", "before", "a", 1), ("uds", "run", "a", 1),
    )
)  # fmt: skip


def test_bars_are_sorted_by_what_comes_back() -> None:
    bars = attack_bars(ATTACKS)
    assert [bar.name for bar in bars] == ["1 − uds", "leak at k", "greedy", "nf4"]  # noqa: RUF001
    assert (bars[0].floor, bars[0].run, bars[0].ceiling) == (0.0, 0.75, 1.0)
    assert bars[-1].reasons == ["needs a GPU and bitsandbytes"]
    assert [bar.trust for bar in bars] == ["0.971 / 0.932", *["not assessed"] * 3]
    assert in_words(ATTACKS) == "greedy 6 %; leak at k 44 %; 1 − uds 75 %"  # noqa: RUF001


def test_the_view_has_the_numbers_and_the_reasons() -> None:
    page = attacks_view(ATTACKS, ROWS, css=False)
    assert "The run still gives facts: greedy 6 %; leak at k 44 %" in page
    assert "left:20.0%;width:80.0%" in page
    assert "left:44.0%" in page
    assert "not available: needs a GPU and bitsandbytes." in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page


def test_an_attack_that_can_show_nothing_says_so() -> None:
    weak = {"alias": entry(0.0, 0.02, 1.0) | {"weak": "weak here: alone it gets 0.02 from the model before the run"}}
    assert "weak here: alone it gets 0.02" in attacks_view(weak, css=False)
    assert "weak here" not in attacks_view(ATTACKS, css=False)
    assert in_words(weak) == "alias (weak) 2 %"
    chart = attacks_chart(weak)
    assert chart.data[-1].y == ("alias (weak)",)
    assert "weak here: alone it gets 0.02" in chart.data[0].hovertext[0]
    assert "faithfulness / robustness" in attacks_view(ATTACKS, css=False)


def test_what_came_back_is_what_a_plain_question_did_not_get() -> None:
    assert came_back(ROWS)[["attack", "sample_id"]].to_numpy().tolist() == [["int4", "a"]]
    assert not len(came_back(pd.DataFrame()))


def test_the_chart() -> None:
    figure = attacks_chart(ATTACKS)
    spans, run = figure.data
    assert list(spans.base) == [0.0, 0.2, 0.05]
    assert list(spans.x) == pytest.approx([1.0, 0.8, 0.95])
    assert list(run.x) == [0.75, 0.44, 0.06]
    assert list(figure.layout.yaxis.categoryarray)[-1] == "1 − uds"  # noqa: RUF001
    assert list(run.textposition) == ["middle right"] * 3
    assert list(attacks_chart({"near": entry(0.1, 0.97, 1.0)}).data[-1].textposition) == ["middle left"]  # off the end
    with pytest.raises(UserError, match="at least one"):
        attacks_chart({"nf4": ATTACKS["nf4"]})


def test_the_report_has_them(tmp_path: Path) -> None:
    config = {"task": {"name": "biographies"}, "model": "m", "objective": "npo", "weights": "atwu"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"settings": {"steps": 1}}))
    (tmp_path / "attacks").mkdir()
    more = {"options": {}, "parts": {}, "answers": {}, "seconds": {}, "better": "lower"}
    whole = {name: more | entry for name, entry in ATTACKS.items()}
    made_from = {"task": "biographies", "data_sha256": "", "limit": None, "seed": 0, "models": {}}
    (tmp_path / "attacks" / "summary.json").write_text(json.dumps({"made_from": made_from, "attacks": whole}))
    ROWS.to_parquet(tmp_path / "attacks" / "answers.parquet")
    page = run_report(tmp_path).read_text()
    assert "<h2>What comes back</h2>" in page
    assert "leak at k 44 %" in page
    assert "<script>alert" not in page
    assert back_of(RunDirectory(tmp_path)) == "most comes back: uds 0.75"
    assert "What comes back" in results_html(RunDirectory(tmp_path))
    (tmp_path / "attacks" / "summary.json").write_text("{")
    assert back_of(RunDirectory(tmp_path)) == ""
