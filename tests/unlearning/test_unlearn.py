"""The loop: deterministic, resumable to the bit, and equal to a plain training loop."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from workbench.errors import UserError
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.scorers.score import score_samples
from workbench.tasks.samples import Task
from workbench.unlearning.batches import BatchSampler
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.settings import Settings, schedule
from workbench.unlearning.unlearn import finetune, unlearn

QUICK = Settings(steps=6, batch_size=4, lr=1e-3, warmup=2, record_every=2, checkpoint_every=2)


def losses(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    return [(e["loss"], e["grad_norm"]) for e in events]


def test_equals_a_plain_loop(full: LanguageModel, small: Task) -> None:
    """grad_diff with uniform weights, written out with torch and one sample at a time.

    In float64: AdamW divides by the gradient's size, so that rounding of small gradients would show in float32.
    """
    plain = full.frozen_copy()
    plain.module.double()
    ours = unlearn(plain, small, "grad_diff", "uniform", settings=QUICK.replace(gamma=0.5, alpha=2.0))
    plain.module.requires_grad_(True)
    optimizer = torch.optim.AdamW(plain.module.parameters(), lr=QUICK.lr, weight_decay=0.0)
    forget = BatchSampler(plain, [encode(plain, s) for s in small.forget], 4, QUICK.seed)
    retain = BatchSampler(plain, [encode(plain, s) for s in small.retain], 4, QUICK.seed + 7919)
    for step in range(1, QUICK.steps + 1):
        for batcher, factor in ((forget, -0.5), (retain, 2.0)):
            chosen = [batcher.encodings[i] for i in batcher.indices(step)]
            tokens = sum(len(e.answer_positions) for e in chosen)
            for encoding in chosen:
                stats = token_stats(plain, collate(plain, [encoding]))
                (factor * stats.nll.sum() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(plain.module.parameters(), QUICK.clip)
        optimizer.param_groups[0]["lr"] = schedule(step, QUICK)
        optimizer.step()
        optimizer.zero_grad()
    for (name, a), b in zip(ours.lm.module.named_parameters(), plain.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8, msg=name)


def test_the_model_given_is_left_alone_unless_in_place(full: LanguageModel, small: Task) -> None:
    before = full.fingerprint()
    run = unlearn(full, small, "wga", "uniform", settings=QUICK)
    assert full.fingerprint() == before != run.lm.fingerprint()


@pytest.mark.parametrize(("weights", "retain"), [("atwu", "nll"), ("learned", "nll"), ("surprisal", "kl")])
def test_resuming_gives_the_same_bits(full: LanguageModel, small: Task, weights: str, retain: str) -> None:
    settings = QUICK.replace(retain_loss=retain, options={"weights": {"every": 2}} if weights != "surprisal" else {})
    states: list[Checkpoint] = []

    def keep(state: Checkpoint) -> None:
        states.append(replace(state, parameters={k: v.clone() for k, v in state.parameters.items()}))

    whole = unlearn(full, small, "atwu", weights, settings=settings)
    asked = iter([False, False, False, True])
    part = unlearn(full, small, "atwu", weights, settings=settings, on_checkpoint=keep, stop=lambda: next(asked))
    assert not part.finished
    assert states[-1].step == 3
    rest = unlearn(full, small, "atwu", weights, settings=settings, resume=states[-1])
    assert losses(part.events) + losses(rest.events) == losses(whole.events)
    assert rest.lm.fingerprint() == whole.lm.fingerprint()
    assert rest.scores.equals(whole.scores)


def test_uniform_table_equals_uniform_by_name(full: LanguageModel, small: Task) -> None:
    table = score_samples(full, small.forget, ["uniform"])
    a = unlearn(full, small, "wga", table, settings=QUICK)
    b = unlearn(full, small, "wga", "uniform", settings=QUICK)
    assert losses(a.events) == losses(b.events)


def test_seeds_matter_and_repeat(full: LanguageModel, small: Task) -> None:
    runs = [unlearn(full, small, "wga", "random", settings=QUICK.replace(seed=s)) for s in (0, 0, 1)]
    assert losses(runs[0].events) == losses(runs[1].events) != losses(runs[2].events)


def test_recorded_scores_follow_the_run(full: LanguageModel, small: Task) -> None:
    run = unlearn(full, small, "atwu", "atwu", settings=QUICK.replace(lr=3e-3))
    assert sorted(run.scores["step"].unique()) == [0, 2, 4, 6]
    mean = run.scores[run.scores["scorer"] == "probability"].groupby("step")["score"].mean()
    assert mean[6] < mean[0]


def test_every_sample_is_seen_once_an_epoch(full: LanguageModel, small: Task) -> None:
    batcher = BatchSampler(full, [encode(full, s) for s in small.forget], 5, seed=3)
    seen = [i for step in range(1, 13) for i in batcher.indices(step)]
    for epoch in range(5):
        assert sorted(seen[epoch * 12 : (epoch + 1) * 12]) == list(range(12))


def test_finetune_learns_what_it_is_shown(retained: LanguageModel, small: Task) -> None:
    lm = retained.frozen_copy()
    run = finetune(lm, small.forget, settings=Settings(steps=30, batch_size=12, lr=1e-3))
    assert run.events[-1]["retain_nll"] < 0.5 * run.events[0]["retain_nll"]


@pytest.mark.parametrize(
    "changes",
    [{"steps": 0}, {"lr": 0.0}, {"batch_size": -1}, {"lr": float("nan")}, {"clip": 0.0}, {"alpha": -1.0}],
)
def test_settings_that_cannot_work(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Settings(**changes)


def test_a_loss_that_explodes_says_at_which_step(full: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="at step"):
        unlearn(full, small, "grad_diff", "uniform", settings=QUICK.replace(steps=60, lr=1e30, clip=1e30))


def test_dropout_depends_on_seed_and_step_alone(full: LanguageModel, small: Task) -> None:
    """Two runs give the same numbers, resumed ones too, whatever the process drew before; another seed does not."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256}
    module = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(full.tokenizer), **size, resid_pdrop=0.5, bos_token_id=0, eos_token_id=0)
    ).eval()
    lm = replace(full, module=module)
    states: list[Checkpoint] = []

    def losses(**changes: Any) -> list[float]:
        torch.rand(len(states) + 1)
        settings = QUICK.replace(seed=changes.pop("seed", 0))
        return [e["loss"] for e in unlearn(lm, small, "wga", "uniform", settings=settings, **changes).events]

    first = losses(on_checkpoint=lambda state: states.append(copy.deepcopy(state)))
    assert losses() == first
    assert losses(resume=states[0]) == first[states[0].step :]
    assert losses(seed=1) != first
