"""The scorer that needs no model: against a loop over all pairs of tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.errors import UserError
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.scorers.base import TaskContext
from workbench.scorers.score import score_fixed
from workbench.tasks.samples import Sample, Task


def frequency(lm: LanguageModel, samples: list[Sample], before: list[int], token: int) -> float:
    """How often the token comes after these two, of all times that anything does; 0 if nothing does."""
    after = []
    for sample in samples:
        encoding = encode(lm, sample)
        ids = [-1, -1, *encoding.ids]
        after += [ids[p + 2] for p in encoding.answer_positions if ids[p : p + 2] == before]
    return after.count(token) / len(after) if after else 0.0


@pytest.mark.parametrize(("k", "window"), [(0.0, 2), (0.0, 0), (0.5, 1)])
def test_su_ngram(k: float, window: int, full: LanguageModel, small: Task) -> None:
    # Pairs of tokens that go on in two ways, in either set, so that frequencies are not all 0 or 1.
    sample = small.forget[0]
    more = [
        replace(sample, id=word, answer=sample.answer.replace("and", word), spans=None, wrong_answers=())
        for word in ("but", "or", "who")
    ]
    task = replace(small, sets={"forget": [*small.forget[:4], more[0]], "retain": [*small.retain[:20], *more[1:]]})
    table = score_fixed(TaskContext(full, task), ["su_ngram"], options={"su_ngram": {"k": k, "window": window}})
    for each in task.forget:
        encoding = encode(full, each)
        ids = [-1, -1, *encoding.ids]
        moved = []
        for place in encoding.answer_positions:
            both = [frequency(full, s, ids[place : place + 2], ids[place + 2]) for s in (task.forget, task.retain)]
            moved.append(abs(both[0] - both[1]))
        hits = [i for i, m in enumerate(moved) if m > np.mean(moved) + k * np.std(moved) + 1e-12]
        expected = [float(any(abs(i - j) <= window for j in hits)) for i in range(len(moved))]
        assert table.loc[table["sample_id"] == each.id, "score"].tolist() == expected
    assert 0 < table["score"].mean() < 1


def test_a_negative_window_says_so(full: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="window must be at least 0"):
        score_fixed(TaskContext(full, small), ["su_ngram"], options={"su_ngram": {"window": -1}})


def test_a_window_may_be_wider_than_any_answer(full: LanguageModel, small: Task) -> None:
    tables = [
        score_fixed(TaskContext(full, small), ["su_ngram"], options={"su_ngram": {"window": n}}) for n in (500, 10**12)
    ]
    assert tables[0]["score"].equals(tables[1]["score"])


@pytest.mark.parametrize("name", ["su_ngram", "span_gradient"])
def test_deviations_that_are_no_number_say_so(full: LanguageModel, small: Task, name: str) -> None:
    with pytest.raises(UserError, match="must be finite, not nan"):
        score_fixed(TaskContext(full, small), [name], options={name: {"k": float("nan")}})
