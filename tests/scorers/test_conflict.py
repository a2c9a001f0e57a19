"""Conflict with retain text: against plain autograd, one token at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.errors import UserError
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.scorers.base import TaskContext
from workbench.scorers.score import score_fixed
from workbench.tasks.samples import Task
from workbench.unlearning.scoring import score_task
from workbench.unlearning.unlearn import forget_then_relearn


@pytest.fixture(scope="module")
def few(small: Task) -> Task:
    return replace(small, sets={"forget": small.forget[:3], "retain": small.retain[:5]})


@pytest.fixture(scope="module")
def exact(retained: LanguageModel) -> LanguageModel:
    """In float64; of the model that has not memorised the forget answers, whose gradients are not mere rounding."""
    lm = retained.frozen_copy()
    lm.module.double().requires_grad_(True)
    return lm


def flat(lm: LanguageModel, value: torch.Tensor) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(lm.module.parameters()), retain_graph=True)])


def slow(lm: LanguageModel, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """(-dot with the unit retain gradient, -cosine), a backward pass a token, in float64."""
    stats = token_stats(lm, collate(lm, [encode(lm, s) for s in task.retain]), extras=False)
    retain = flat(lm, stats.nll.mean())
    dots, cosines = [], []
    for sample in task.forget:
        for value in token_stats(lm, collate(lm, [encode(lm, sample)]), extras=False).nll:
            each = flat(lm, value)
            dots.append(float(-(each @ retain) / retain.norm()))
            cosines.append(float(-(each @ retain) / retain.norm() / each.norm()))
    return np.array(dots), np.array(cosines)


def test_both_equal_plain_autograd(retained: LanguageModel, exact: LanguageModel, few: Task) -> None:
    """In float64; in float32 the product alone: the gradient of a sure token is rounding there, and so is its angle."""
    dots, cosines = slow(exact, few)
    for lm, name, expected, far in (
        (exact, "retain_conflict", dots, 1e-4),
        (exact, "gradient_cosine", cosines, 1e-4),
        (retained, "retain_conflict", dots, 2e-2),
    ):
        table = score_fixed(TaskContext(lm, few, batch_size=2), [name])
        scores = table["score"].to_numpy()
        np.testing.assert_allclose(scores, expected, rtol=far, atol=far * np.abs(expected).max(), err_msg=name)


def test_the_directional_derivative_predicts_a_step(exact: LanguageModel, few: Task) -> None:
    """Moving the parameters a little along the retain gradient changes each l_t as the score says."""
    dots, _ = slow(exact, few)
    stats = token_stats(exact, collate(exact, [encode(exact, s) for s in few.retain]), extras=False)
    parameters = list(exact.module.parameters())
    parts = torch.autograd.grad(stats.nll.mean(), parameters)
    length = torch.stack([p.norm() for p in parts]).norm()
    losses = []
    for sign in (1, -1):
        moved = exact.frozen_copy()
        with torch.no_grad():
            for p, g in zip(moved.module.parameters(), parts, strict=True):
                p += sign * 1e-3 * g / length
            each = [token_stats(moved, collate(moved, [encode(moved, s)]), extras=False).nll for s in few.forget]
        losses.append(torch.cat(each).numpy())
    np.testing.assert_allclose(-(losses[0] - losses[1]) / 2e-3, dots, rtol=1e-2, atol=1e-2 * np.abs(dots).max())


@pytest.mark.parametrize(("k", "k_span"), [(1.0, 0.0), (0.5, 0.5), (2.0, -0.5)])
def test_spans_around_tokens_that_the_forget_gradient_needs(
    k: float, k_span: float, exact: LanguageModel, few: Task
) -> None:
    """Gradients a token at a time, then a loop that walks from each anchor to both sides."""
    units = []
    for samples in (few.forget, few.retain):
        stats = token_stats(exact, collate(exact, [encode(exact, s) for s in samples]), extras=False)
        gradient = flat(exact, stats.nll.mean())
        units.append(gradient / gradient.norm())
    table = score_fixed(TaskContext(exact, few, batch_size=2), ["span_gradient"],
                        options={"span_gradient": {"k": k, "k_span": k_span}})  # fmt: skip
    for sample in few.forget:
        nll = token_stats(exact, collate(exact, [encode(exact, sample)]), extras=False).nll
        c = np.array([float(flat(exact, value) @ (units[0] - units[1])) for value in nll])
        expected = np.zeros(len(c))
        for anchor in np.flatnonzero(c > c.mean() + k * c.std()):
            for way in (-1, 1):
                place = anchor
                while 0 <= place < len(c) and c[place] > c.mean() + k_span * c.std():
                    expected[place] = 1
                    place += way
        assert table.loc[table["sample_id"] == sample.id, "score"].tolist() == expected.tolist()
    assert table["score"].mean() > 0
    with pytest.raises(UserError, match="k_span must be at most k"):
        score_fixed(TaskContext(exact, few), ["span_gradient"], options={"span_gradient": {"k": 0.0, "k_span": 1.0}})


def test_a_retain_token_conflicts_with_itself(full: LanguageModel, few: Task) -> None:
    """Of one retain answer alone, the cosine of its own tokens is on average on the conflicting side."""
    one = replace(few.retain[0], id="the same", answer=few.retain[0].answer + ".")
    task = replace(few, sets={"forget": [one], "retain": few.retain[:1]})
    scores = score_fixed(TaskContext(full, task), ["gradient_cosine"])["score"]
    assert scores.mean() < 0


def test_relearn_residue_is_what_stays_lost(full: LanguageModel, small: Task) -> None:
    before = full.fingerprint()
    options = {"relearn_residue": {"forget_steps": 6, "relearn_steps": 12, "lr": 3e-4}}
    table = score_task(full, small, ["relearn_residue"], options=options)
    assert full.fingerprint() == before
    part = table[table["end"] > table["start"]]
    inside = part["span"].astype(bool)
    assert part.loc[inside, "score"].mean() > part.loc[~inside, "score"].mean()


def test_relearning_brings_retain_text_back(full: LanguageModel, small: Task) -> None:
    def retain_nll(relearn_steps: int) -> float:
        lm, _ = forget_then_relearn(full, small, forget_steps=20, relearn_steps=relearn_steps, lr=1e-3, seed=0)
        with torch.no_grad():
            return float(token_stats(lm, collate(lm, [encode(lm, s) for s in small.retain]), extras=False).nll.mean())

    assert retain_nll(30) < 0.5 * retain_nll(1)


def test_relearn_residue_without_a_trainer_says_so(full: LanguageModel, few: Task) -> None:
    with pytest.raises(UserError, match="workbench score"):
        score_fixed(TaskContext(full, few), ["relearn_residue"])
