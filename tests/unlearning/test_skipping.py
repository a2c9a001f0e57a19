"""Saturation skipping leaves out what pulls no more, counts it, and changes nothing else; retain batches on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.cost import Ledger, Phase
from workbench.errors import UserError
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import TokenStats, token_stats
from workbench.runs.checkpoints import read_checkpoint, save_checkpoint
from workbench.tasks.samples import Task
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.losses import ForgetLoss, RetainLoss
from workbench.unlearning.settings import Settings
from workbench.unlearning.skipping import AGAIN, Skipping
from workbench.unlearning.unlearn import unlearn
from workbench.unlearning.weights import prepare_weights

SKIP = Settings(steps=14, batch_size=4, lr=2e-3, warmup=1, record_every=100, checkpoint_every=100, skip=0.2)


def term_of(
    lm: LanguageModel, task: Task, objective: str, settings: Settings, weights: str = "surprisal"
) -> ForgetLoss:
    given: dict[str, Any] = {"steps": 9, "seed": 0, "options": {}, "reference": None, "cost": Phase(), "trained": None}
    return ForgetLoss(lm, task.forget, objective, prepare_weights(lm, task, "surprisal", **given), settings, Ledger())


def whole_stats(step: int) -> TokenStats:
    raise AssertionError("only a live scorer needs them")


def gradient(term: ForgetLoss, step: int) -> torch.Tensor:
    term.lm.module.zero_grad()
    for each in term.micro_batches(step, whole_stats):
        loss, _, _ = term(each, token_stats(term.lm, each.batch, extras=False, **term.reads))
        loss.backward()
    return torch.cat([torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1)
                      for p in term.lm.module.parameters()])  # fmt: skip


@pytest.fixture
def trainable(full: LanguageModel) -> LanguageModel:
    lm = full.frozen_copy()
    lm.module.requires_grad_(True)
    return lm


def test_label_logp_in_pieces_tells_the_same_pulls(
    full: LanguageModel, small: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large vocabularies go in pieces, whose logit has no gradient where a loss reads log-probabilities alone."""
    plain = unlearn(full, small, "wga", "uniform", settings=SKIP).events
    monkeypatch.setattr("workbench.models.forward.LARGE", 0)
    pieces = unlearn(full, small, "wga", "uniform", settings=SKIP).events
    assert max(e["skipped"] for e in pieces) > 0
    for name in ("loss", "skipped"):
        assert [e[name] for e in pieces[:5]] == pytest.approx([e[name] for e in plain[:5]], rel=1e-3, abs=1e-3)


def test_a_tokens_pull_is_its_weight_times_its_saturation(trainable: LanguageModel, small: Task) -> None:
    term = term_of(trainable, small, "atwu", SKIP.replace(gamma=0.3))
    (each,) = term.micro_batches(1, whole_stats)
    stats = token_stats(trainable, each.batch, extras=False)
    loss, _, _ = term(each, stats)
    (0.3 * loss).backward()
    skipping = term.skipping
    assert skipping is not None
    skipping.step_done(each.indices)
    nll, at = stats.nll.detach(), 0
    for index in each.indices:
        weights = term.weights.fixed[index]  # type: ignore[index]
        mine = nll[at : at + len(weights)]
        at += len(weights)
        start = skipping.starts[index]
        found = skipping.pulls[start : start + len(weights)]
        torch.testing.assert_close(found, weights * (-5 * weights * mine).exp(), rtol=1e-4, atol=1e-6)
    assert skipping.greatest == skipping.pulls.max()


@pytest.mark.parametrize("objective", ["wga", "atwu", "grad_diff"])
def test_a_skipped_token_is_one_of_weight_zero(trainable: LanguageModel, small: Task, objective: str) -> None:
    """And what follows the last live token is not computed."""
    some, all_of_it = (term_of(trainable, small, objective, SKIP.replace(skip=s)) for s in (0.5, 0.0))
    skipping = some.skipping
    assert skipping is not None
    torch.manual_seed(0)
    skipping.greatest.fill_(1)
    skipping.due.fill_(2)
    skipping.pulls.copy_((torch.rand(len(skipping.pulls)) > 0.7).float())
    for index, weights in enumerate(all_of_it.weights.fixed):  # type: ignore[arg-type]
        weights[~skipping.mask(index)] = 0.0
    spare, plain = gradient(some, 1), gradient(all_of_it, 1)
    assert plain.norm() > 0
    torch.testing.assert_close(spare, plain, rtol=1e-4, atol=1e-6 * float(plain.abs().max()) + 1e-8)
    spared, whole = (sum(m.batch.tokens for m in t.micro_batches(1, whole_stats)) for t in (some, all_of_it))
    assert spared < whole
    assert 1 - some.computed > 0.4


@pytest.mark.parametrize("objective", ["npo", "simnpo"])
def test_a_loss_over_samples_keeps_or_leaves_whole_samples(
    trainable: LanguageModel, small: Task, objective: str
) -> None:
    some, all_of_it = (term_of(trainable, small, objective, SKIP.replace(skip=s)) for s in (0.5, 0.0))
    skipping = some.skipping
    assert skipping is not None
    first, *others = some.batches.indices(1)
    skipping.greatest.fill_(1)
    skipping.due.fill_(2)
    skipping.pulls.fill_(1)
    skipping._of(first).zero_()
    (micro_batch,) = some.micro_batches(1, whole_stats)
    assert micro_batch.indices == others
    assert micro_batch.places is None
    full_loss = gradient(all_of_it, 1)
    assert 0 < (full_loss - gradient(some, 1)).norm() < full_loss.norm()


def test_every_so_many_visits_a_sample_is_computed_whole() -> None:
    skipping = Skipping([3, 2], 0.5, whole=False)
    skipping.greatest.fill_(1)
    kept = []
    for _ in range(2 * AGAIN + 1):
        kept.append(bool(skipping.mask(0).any()))
        if kept[-1]:
            skipping.due[0] = AGAIN  # as `step_done` does after computing it whole
        skipping.step_done([0])
    assert kept == [i % AGAIN == 0 for i in range(2 * AGAIN + 1)]


@pytest.mark.parametrize("objective", ["wga", "npo"])
def test_skipping_saves_and_is_told(full: LanguageModel, small: Task, objective: str) -> None:
    runs = {s: unlearn(full, small, objective, "uniform", settings=SKIP.replace(steps=24, skip=s)) for s in (0.0, 0.3)}
    told = [e["skipped"] for e in runs[0.3].events]
    assert told[0] == 0.0
    assert max(told) > 0
    assert all(0 <= t <= 1 for t in told)
    assert "skipped" not in runs[0.0].events[0]
    assert runs[0.3].ledger.phases["forget"].flops < runs[0.0].ledger.phases["forget"].flops


def test_resuming_with_skipping_gives_the_same_bits(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    states: list[Checkpoint] = []
    whole = unlearn(full, small, "wga", "uniform", settings=SKIP)
    asked = iter([False] * 9 + [True])
    part = unlearn(
        full, small, "wga", "uniform", settings=SKIP, stop=lambda: next(asked),
        on_checkpoint=lambda state: states.append(state) or save_checkpoint(tmp_path, state, 1),  # type: ignore[func-returns-value]
    )  # fmt: skip
    state = read_checkpoint(tmp_path / "checkpoints" / "step-000009")
    assert state.skipping["pulls"].max() > 0
    rest = unlearn(full, small, "wga", "uniform", settings=SKIP, resume=state)
    assert [e["loss"] for e in part.events + rest.events] == [e["loss"] for e in whole.events]
    assert rest.lm.fingerprint() == whole.lm.fingerprint()
    for name in ("skipping.safetensors", "manifest.json"):  # as older versions left them
        (tmp_path / "checkpoints" / "step-000009" / name).unlink()
    assert read_checkpoint(tmp_path / "checkpoints" / "step-000009").skipping == {}


def test_skipping_refuses_what_it_cannot_do(full: LanguageModel, small: Task) -> None:
    for objective, weights, why in (
        ("rmu", "uniform", "objective of log-probabilities"),
        ("undial", "uniform", "objective of log-probabilities"),
        ("atwu", "atwu", "fixed before the run"),
    ):
        with pytest.raises(UserError, match=why):
            unlearn(full, small, objective, weights, settings=SKIP)
    with pytest.raises(UserError, match="skip must be below 1"):
        Settings(skip=1.0)


def test_retain_batches_of_another_size_and_rarer(full: LanguageModel, small: Task) -> None:
    settings = SKIP.replace(skip=0.0, steps=6, retain_batch=2, retain_every=2)
    run = unlearn(full, small, "wga", "uniform", settings=settings)
    assert ["retain_loss" in e for e in run.events] == [True, False] * 3
    assert run.ledger.phases["retain"].calls == 3
    retain = RetainLoss(full, small.retain, settings, Ledger())
    seen = [each.indices for step in range(1, 7) for each in retain.micro_batches(step)]
    assert seen == [retain.batches.indices(s) for s in (1, 2, 3)]
    assert all(len(indices) == 2 for indices in seen)


def test_one_forward_for_both_sets_gives_the_gradient_of_two(full: LanguageModel, small: Task) -> None:
    found = []
    for micro in (0, 4):  # 4 at once are not the 4 + 4 of a step
        lm = full.frozen_copy()
        lm.module.double()
        ledger, settings = Ledger(), SKIP.replace(skip=0.0, micro_batch_size=micro, steps=3)
        run = unlearn(lm, small, "atwu", "atwu", settings=settings, ledger=ledger, in_place=True)
        found.append(([e["loss"] for e in run.events], [e["grad_norm"] for e in run.events], ledger.phases))
    (loss_a, norm_a, one), (loss_b, norm_b, two) = found
    assert loss_a == pytest.approx(loss_b, rel=1e-9)
    assert norm_a == pytest.approx(norm_b, rel=1e-9)
    for name in ("forget", "retain"):
        assert one[name].tokens == two[name].tokens
        assert one[name].calls == two[name].calls == 3
        assert one[name].flops == pytest.approx(two[name].flops, rel=0.3)


def test_a_shared_phase_is_split_by_its_parts() -> None:
    ledger = Ledger()
    with ledger.shared({"a": 1, "b": 3}) as phase:
        phase.tokens += 4
        phase.flops += 8.0
    a, b = ledger.phases["a"], ledger.phases["b"]
    assert (a.tokens, b.tokens, a.flops, b.flops, a.calls, b.calls) == (1, 3, 2.0, 6.0, 1, 1)
    assert b.seconds == pytest.approx(3 * a.seconds)


def test_an_encoding_of_some_tokens_ends_with_the_last(full: LanguageModel, small: Task) -> None:
    whole = encode(full, small.forget[0])
    answer = whole.answer_positions
    keep = [i in (1, 3) for i in range(len(answer))]
    part = whole.only(keep)
    assert part.answer_positions == [answer[1], answer[3]]
    assert part.ids == whole.ids[: answer[3] + 1]
    assert whole.only([False] * len(answer)).ids == whole.ids[: answer[0]]
