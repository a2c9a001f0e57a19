"""Relearning: the copy learns, the model does not, and the rest is what was not taught."""

from __future__ import annotations

import pytest

from workbench.errors import UserError
from workbench.evals.probes import probe
from workbench.evals.relearning import relearn, taught
from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import Task


def test_what_was_forgotten_comes_back_in_a_copy(retained: LanguageModel, small: Task) -> None:
    before = retained.fingerprint()
    curve = relearn(retained, small, steps=12, share=0.5, every=5, lr=1e-3)
    assert list(zip(curve["step"], curve["rows"], strict=True)) == [
        (step, rows) for step in (0, 5, 10, 12) for rows in ("rest", "all")
    ]
    everything = curve[curve["rows"] == "all"]["probability"].to_list()
    assert everything[-1] > everything[0] + 0.1
    assert everything[0] == pytest.approx(probe(retained, small).metrics["forget"]["probability"])
    assert retained.fingerprint() == before
    again = relearn(retained, small, steps=12, share=0.5, every=5, lr=1e-3)
    assert again.equals(curve)


def test_the_rest_is_what_was_not_taught(small: Task) -> None:
    part, rest = taught(small, 0.25, seed=3)
    assert len(part) == 3
    assert {s.id for s in part} | {s.id for s in rest} == {s.id for s in small.forget}
    assert not {s.id for s in part} & {s.id for s in rest}
    assert taught(small, 0.25, seed=3) == (part, rest)
    assert taught(small, 0.25, seed=4) != (part, rest)


def test_measures_the_rest_alone(retained: LanguageModel, small: Task) -> None:
    _, rest = taught(small, 0.5, seed=0)
    curve = relearn(retained, small, steps=1, every=1)
    start = curve[(curve["step"] == 0) & (curve["rows"] == "rest")].iloc[0]
    only = Task("rest", {"forget": rest, "retain": small.retain})
    assert start["probability"] == pytest.approx(probe(retained, only).metrics["forget"]["probability"], rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0, 0.01, 1.5, -0.5])
def test_shares_that_leave_nothing(small: Task, share: float) -> None:
    with pytest.raises(UserError, match="share"):
        taught(small, share, 0)


def test_every_must_be_a_number_of_steps(retained: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="every"):
        relearn(retained, small, every=0)
