"""The leaderboard after attack: what comes back at a like level of forgetting, and nothing made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import after_attack
import leaderboard
import leaderboard_page
import pytest

from workbench.errors import missing


def end(greedy: float, int4: float) -> dict[str, Any]:
    return {"attacks": {"greedy": value(greedy), "int4": value(int4), "uds": missing("needs a model")}}


def value(number: float) -> dict[str, Any]:
    return {"value": number, "parts": {}, "answers": 4, "seconds": 1.0}


ENDS = {"before": end(1.0, 1.0), "retain_only": end(0.0, 0.2)}


def runs(weights: str, pairs: list[tuple[float, float]], objective: str = "npo") -> list[dict[str, Any]]:
    job = {"objective": objective, "weights": weights, "lr": 1e-3, "gamma": 1.0}
    figures = dict.fromkeys(leaderboard_page.COLUMNS, 0.5)
    return [job | figures | {"seed": seed} | end(*pair) for seed, pair in enumerate(pairs)]


def test_how_far_a_run_is_between_the_other_two() -> None:
    (run,) = runs("uniform", [(0.1, 0.6)])
    back = after_attack.comes_back(run, ENDS)
    assert back["greedy"] == pytest.approx(0.1)
    assert back["int4"] == pytest.approx((0.6 - 0.2) / 0.8)
    assert back["uds"] != back["uds"]  # not a number: it was not available


def test_what_lies_beyond_the_level() -> None:
    """On lines but for a constant that the weights add: the residuals are that constant around its mean.

    Another objective that leaves more behind at every level does not count for its weights.
    """
    plain = [(0.1, 0.28), (0.2, 0.36), (0.3, 0.44)]
    more = [(level, told + 0.16) for level, told in plain]
    rows = [*runs("uniform", plain), *runs("atwu", more)]
    for name, pairs in (("uniform", plain), ("atwu", more)):
        rows += runs(name, [(level + 0.3, told + 0.5) for level, told in pairs], "rmu")
    beyond = after_attack.beyond_level(rows, ENDS)
    assert set(beyond) == {"int4"}
    assert beyond["int4"]["atwu"]["mean"] == pytest.approx(0.1)
    assert beyond["int4"]["uniform"]["mean"] == pytest.approx(-0.1)
    assert beyond["int4"]["atwu"]["low"] == pytest.approx(0.1)
    assert after_attack.answer(beyond) == ["- atwu: more behind under int4 by 0.20"]
    assert after_attack.answer({"int4": dict.fromkeys(("uniform", "atwu"), beyond["int4"]["atwu"])}) == [
        "- atwu: all attacks within the noise"
    ]


def test_only_what_forgot_alike_is_compared() -> None:
    rows = [
        *runs("uniform", [(0.1, 0.3), (0.2, 0.4)]),
        *runs("atwu", [(0.1, 0.6), (0.2, 0.7)]),
        *runs("spans", [(0.0, 0.3), (0.05, 0.4)]),
    ]
    cells = leaderboard_page.cells(rows)
    after_attack.add_columns(cells, rows, ENDS)
    assert sorted(after_attack.alike(cells)) == [
        "- `npo` + atwu: int4 more by 0.37",
        "- `npo` + spans: not at a similar level (0.03 against 0.15 left when asked plainly)",
    ]
    args = SimpleNamespace(options={"int4": {"group": 32}}, reference="bio-retain", attack_limit=4)
    text = "\n".join(after_attack.pages(args, cells, rows, ENDS))
    assert "int4.group=32" in text
    assert "| `npo` | atwu | 0.15 (0.10 to 0.20) | 0.56 (0.50 to 0.62) | not available |" in text


def test_settings_are_taken_from_an_earlier_record(tmp_path: Any) -> None:
    record = tmp_path / "record.json"
    record.write_text('{"cells": [{"objective": "npo", "weights": "atwu", "lr": 0.001, "gamma": 3.0}]}')
    assert leaderboard.chosen(str(record), [("npo", "atwu")])[0]["gamma"] == 3.0
    with pytest.raises(SystemExit, match="no settings of wga"):
        leaderboard.chosen(str(record), [("wga", "atwu")])


def test_a_run_without_a_level_is_left_out_and_ends_nothing() -> None:
    rows = [*runs("uniform", [(0.1, 0.3), (0.2, 0.4)]), *runs("atwu", [(0.1, 0.6), (0.2, 0.7)])]
    lost = runs("spans", [(0.1, 0.3)])
    lost[0]["attacks"]["greedy"] = missing("its logits are not finite")
    beyond = after_attack.beyond_level([*rows, *lost], ENDS)
    assert beyond == after_attack.beyond_level(rows, ENDS)
    cells = leaderboard_page.cells([*rows, *lost])
    after_attack.add_columns(cells, [*rows, *lost], ENDS)
    assert len(after_attack.alike(cells)) == 1
    without_uniform = {"int4": {"atwu": beyond["int4"]["atwu"]}}
    assert after_attack.answer(without_uniform) == ["- atwu: all attacks within the noise"]
