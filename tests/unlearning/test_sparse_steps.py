"""Sparse steps: what they compute, that all of them together are a plain step, that they resume, what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.cost import Ledger, Phase
from workbench.errors import UserError
from workbench.models.encoding import Encoding, encode
from workbench.models.language_model import LanguageModel
from workbench.models.packing import padding
from workbench.models.token_stats import token_stats
from workbench.runs.checkpoints import read_checkpoint, save_checkpoint
from workbench.tasks.samples import Sample, Task
from workbench.unlearning import sparse
from workbench.unlearning.batches import BatchSampler
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.choosing import by_weight, largest, shared_names
from workbench.unlearning.losses import ForgetLoss
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import Run, unlearn
from workbench.unlearning.weights import prepare_weights

PLAIN = Settings(steps=6, batch_size=4, lr=1e-3, warmup=1, record_every=100, checkpoint_every=100)
SPARSE = PLAIN.replace(share=0.3, retain_share=0.3)


def run(lm: LanguageModel, task: Task, settings: Settings, objective: str = "wga", weights: Any = "surprisal") -> Run:
    return unlearn(lm, task, objective, weights, settings=settings)


def weights_after(result: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in result.lm.module.parameters()])


def test_the_largest_share_is_chosen_at_least_one_and_the_first_of_equal_ones() -> None:
    values = torch.tensor([1.0, 3.0, 2.0, 3.0])
    assert largest(values, 0.5).tolist() == [False, True, False, True]
    assert largest(values, 0.25).tolist() == [False, True, False, False]
    assert largest(values, 0.01).sum() == 1
    assert by_weight(values, 0.25, 2.0).tolist() == [False, True, True, True]
    assert by_weight(values, 0.25, 9.0).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("question", "answer", "names"),
    [
        ("Where was Celia Nash born?", "Celia Nash was born in Oslo in 1901.", ["Celia", "Nash", "Celia", "Nash"]),
        ("where was nash born?", "nash was born in Oslo.", ["was", "nash", "born", "nash", "was", "born"]),
        ("What happened in 1901?", "In 1901 the town burnt.", ["1901", "1901"]),
        ("", "Celia Nash was born.", []),
    ],
)
def test_names_are_the_words_that_question_and_answer_share(
    full: LanguageModel, question: str, answer: str, names: list[str]
) -> None:
    encoding = encode(full, Sample("a", question, answer))
    texts = "".join(encoding.text_of(i) for i in shared_names(encoding))
    assert texts.replace(" ", "") == "".join(names)


@pytest.mark.parametrize("retain_by", ["surprise", "random"])
@pytest.mark.parametrize(
    ("objective", "train", "padded"),
    [("wga", "all", False), ("wga", "all", True), ("wga", "lora", False), ("wga", "lora", True),
     ("npo", "all", False), ("simnpo", "all", False), ("ce_u", "all", False)],
)  # fmt: skip
def test_with_all_positions_a_sparse_step_is_a_plain_one(
    full: LanguageModel,
    small: Task,
    objective: str,
    train: str,
    padded: bool,
    retain_by: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through the sparse path: a share so near to 1 that it rounds up to all tokens, and every position chosen.

    By surprise the retain side's contexts are computed before; at random both sides are computed in one pass.
    """
    monkeypatch.setattr(sparse.SparseSide, "positions", lambda self, i, e: list(range(len(e.ids) - 1)))
    settings = PLAIN.replace(steps=3, train=train)
    lm = full.frozen_copy()
    if padded:
        with padding(lm):
            results = [run(lm, small, each, objective) for each in near_plain(settings, retain_by)]
    else:
        results = [run(lm, small, each, objective) for each in near_plain(settings, retain_by)]
    plain, other = results
    for name in ("loss", "grad_norm", "forget_nll", "retain_nll"):
        assert [e[name] for e in other.events] == pytest.approx([e[name] for e in plain.events], rel=1e-4, abs=1e-5)
    assert ("context" in other.ledger.phases) == (retain_by == "surprise")
    assert "context" not in plain.ledger.phases
    passes = [each.ledger.phases["backward"].calls for each in results]
    assert passes[1] == (6 if retain_by == "surprise" else passes[0])


def near_plain(settings: Settings, retain_by: str) -> list[Settings]:
    return [settings, settings.replace(share=0.9999, retain_share=0.9999, retain_by=retain_by)]


def test_a_share_of_1_is_the_plain_step_to_the_bit(full: LanguageModel, small: Task) -> None:
    plain = weights_after(run(full, small, PLAIN))
    more = PLAIN.replace(share=1.0, retain_share=1.0, reuse=4, before=2, names=False)
    assert torch.equal(plain, weights_after(run(full, small, more)))


@pytest.mark.parametrize(
    ("train", "more"),
    [("all", {"reuse": 3, "drift": 0.0}), ("all", {"retain_by": "conflict", "before": 1, "reuse": 8}),
     ("all", {"share_by": "random", "retain_by": "random"}), ("lora", {"reuse": 3}), ("layers:2-3", {"skip": 0.1})],
)  # fmt: skip
def test_a_run_resumes_to_the_same_bits(
    full: LanguageModel, small: Task, tmp_path: Path, train: str, more: dict[str, Any]
) -> None:
    settings = SPARSE.replace(train=train, checkpoint_every=4, **more)
    saved: list[Checkpoint] = []

    def keep(state: Checkpoint) -> None:
        if state.step == 4:
            save_checkpoint(tmp_path, state, 2)
            saved.append(read_checkpoint(tmp_path / "checkpoints" / "step-000004"))

    whole = unlearn(full, small, "wga", "surprisal", settings=settings, on_checkpoint=keep)
    again = unlearn(full, small, "wga", "surprisal", settings=settings, resume=saved[0])
    assert torch.equal(weights_after(whole), weights_after(again))
    assert [e["loss"] for e in whole.events[4:]] == [e["loss"] for e in again.events]


def test_kept_contexts_cost_nothing_until_they_are_old_or_the_model_has_moved(full: LanguageModel, small: Task) -> None:
    def contexts(**more: Any) -> int:
        settings = PLAIN.replace(steps=8, batch_size=12, retain_batch=4, share=0.3, **more)
        phases = run(full, small, settings).ledger.phases
        return phases["context"].calls if "context" in phases else 0

    assert contexts() == 0  # they are computed along with the rest
    assert contexts(reuse=4, drift=0.0) == 2
    assert contexts(reuse=8, drift=0.0) == 1
    assert contexts(reuse=8, drift=1e-9) == 8


def test_micro_batches_add_up_to_the_step(full: LanguageModel, small: Task) -> None:
    whole = run(full, small, SPARSE).events
    parts = run(full, small, SPARSE.replace(micro_batch_size=2)).events
    for name in ("loss", "grad_norm", "forget_nll", "retain_nll"):
        assert [e[name] for e in parts] == pytest.approx([e[name] for e in whole], rel=1e-3, abs=1e-5)


def test_a_sparse_step_computes_less(full: LanguageModel, small: Task) -> None:
    plain, some = (run(full, small, each).ledger.phases for each in (PLAIN, SPARSE))
    assert some["forget"].tokens < plain["forget"].tokens  # all up to the last one needed, few of them with gradient
    assert some["backward"].tokens < 0.5 * plain["backward"].tokens
    assert some["backward"].flops < 0.6 * plain["backward"].flops


@pytest.mark.parametrize("objective", ["wga", "npo", "simnpo", "grad_diff", "undial"])
def test_what_follows_the_last_weight_is_not_computed_and_changes_nothing(
    full: LanguageModel, small: Task, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def term() -> tuple[ForgetLoss, torch.Tensor, int]:
        lm = full.frozen_copy()
        lm.module.requires_grad_(True)
        values: dict[str, Any] = {"steps": 9, "seed": 0, "options": {}, "reference": None, "cost": Phase()}
        weights = prepare_weights(lm, small, "spans", trained=None, **values)
        loss_term = ForgetLoss(lm, small.forget, objective, weights, PLAIN, Ledger())
        tokens = 0
        for each in loss_term.micro_batches(1, None):  # type: ignore[arg-type]
            loss, _, _ = loss_term(each, token_stats(lm, each.batch, extras=False, **loss_term.reads))
            loss.backward()
            tokens += each.tokens
        return loss_term, torch.cat([p.grad.flatten() for p in lm.module.parameters() if p.grad is not None]), tokens

    cut, of_cut, fewer = term()
    monkeypatch.setattr("workbench.unlearning.losses.cut_prefixes", lambda *_: None)
    _, of_whole, tokens = term()
    assert cut.batches.token_mask is not None
    assert fewer < tokens
    torch.testing.assert_close(of_cut, of_whole, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("objective", ["tpo", "palu"])
def test_where_a_weight_of_zero_means_keep_nothing_is_cut(full: LanguageModel, small: Task, objective: str) -> None:
    values: dict[str, Any] = {"steps": 9, "seed": 0, "options": {}, "reference": None, "cost": Phase()}
    weights = prepare_weights(full, small, "spans", trained=None, **values)
    assert ForgetLoss(full, small.forget, objective, weights, PLAIN, Ledger()).batches.token_mask is None


@pytest.mark.parametrize("seed", [2**40, -(2**40)])
def test_tokens_are_drawn_from_any_seed(full: LanguageModel, small: Task, seed: int) -> None:
    drawn = PLAIN.replace(steps=1, seed=seed, share=0.3, share_by="random", retain_share=0.3, retain_by="random")
    assert run(full, small, drawn).events


@pytest.mark.parametrize(
    ("objective", "weights", "more", "why"),
    [
        ("rmu", "surprisal", {}, "'rmu' steers states"),
        ("tpo", "surprisal", {}, "trains tokens of weight 0 too"),
        ("palu", "surprisal", {}, "trains tokens of weight 0 too"),
        ("jensun", "surprisal", {}, "counts an answer's tokens"),
        ("atwu", "atwu", {}, "learns along"),
        ("wga", "surprisal", {"share_by": "random", "skip": 0.1}, "goes with share alone"),
        ("wga", "surprisal", {"retain_loss": "states"}, "keeps states"),
        ("wga", "surprisal", {"compile": True}, "are not compiled"),
    ],
)
def test_what_sparse_steps_cannot_serve_is_refused(
    full: LanguageModel, small: Task, objective: str, weights: str, more: dict[str, Any], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        run(full, small, SPARSE.replace(**more), objective, weights)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(UserError, match="retain_by must be 'surprise', 'conflict' or 'random', not 'luck'"):
        Settings(retain_by="luck")


def test_neighbours_and_names_are_among_the_positions(full: LanguageModel, small: Task) -> None:
    seen: list[tuple[Encoding, list[int]]] = []
    original = sparse.SparseSide.positions

    def spy(self: sparse.SparseSide, index: int, encoding: Encoding) -> list[int]:
        seen.append((encoding, original(self, index, encoding)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparse.SparseSide, "positions", spy)
        run(full, small, PLAIN.replace(steps=1, share=0.2, before=1))
    for encoding, own in seen:
        predicting = {p - 1 for p in encoding.answer_positions}
        assert predicting | {p - 1 for p in predicting} <= set(own)
        assert set(shared_names(encoding)) & set(range(max(predicting))) <= set(own)


def test_a_share_beside_a_least_weight_is_refused(full: LanguageModel, small: Task) -> None:
    with pytest.raises(UserError, match="share and least_weight both choose"):
        run(full, small, PLAIN.replace(share=0.3, least_weight=1.0))
    assert run(full, small, PLAIN.replace(steps=1, least_weight=1.0)).events


@pytest.mark.parametrize(
    ("more", "held"),
    [
        ({"reuse": 1}, 0),
        ({"reuse": 9, "drift": 0.0}, 12),
        ({"reuse": 9, "drift": 1e-9}, 0),  # the model has moved away from all of them
        ({"reuse": 9, "drift": 0.0, "retain_share": 0.3, "retain_batch": 1, "retain_every": 3}, 12),
    ],
)
def test_a_checkpoint_holds_contexts_that_can_be_used_again_alone(
    full: LanguageModel, small: Task, more: dict[str, Any], held: int
) -> None:
    """12 forget answers, each in every step. A retain answer of one visit each is not come back to."""
    seen: list[int] = []

    def count(state: Checkpoint) -> None:
        seen.append(sum(name.endswith(".age") for name in state.skipping))
        assert state.step < 6 or not state.skipping

    settings = PLAIN.replace(steps=6, batch_size=12, share=0.3, checkpoint_every=3, **more)
    unlearn(full, small, "wga", "surprisal", settings=settings, on_checkpoint=count)
    assert len(small.retain) > 2  # more than steps with a retain batch
    assert seen == [held, 0]


def test_the_last_visits_are_those_of_all_steps(full: LanguageModel, small: Task) -> None:
    encodings = [encode(full, s) for s in small.retain]
    for size, steps in ((1, 3), (3, 40), (5, 17), (len(encodings), 4)):
        batches = BatchSampler(full, encodings, size, seed=3)
        every = {i: step for step in range(1, steps + 1) for i in batches.indices(step)}
        assert BatchSampler(full, encodings, size, seed=3).last_visits(steps) == every
