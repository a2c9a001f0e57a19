"""The learned scorer: against a slow loop with torch's own optimisers; its options; its life in a run."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.errors import UserError
from workbench.evals.alignment import alignment
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import TokenStats
from workbench.scorers.atwu import PRESETS, AtwuScorer
from workbench.scorers.base import scorer
from workbench.scorers.saved import apply_scorer, load_scorer, save_scorer
from workbench.tasks.samples import Task
from workbench.unlearning.scoring import score_task
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn

ROWS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])


def stats_of(nll: torch.Tensor, rows: torch.Tensor, hidden: torch.Tensor) -> TokenStats:
    return TokenStats(rows, torch.zeros_like(rows), -nll, int(rows.max()) + 1, hidden=hidden)


class SlowLoop:
    """The same training, written token by token, with torch's own layers and optimisers."""

    def __init__(self, ours: AtwuScorer) -> None:
        self.o = ours
        self.out = torch.nn.Linear(ours.units or ours.width, 1)
        torch.nn.init.zeros_(self.out.weight)
        torch.nn.init.zeros_(self.out.bias)
        layers: list[torch.nn.Module] = [self.out]
        if ours.units:
            first = torch.nn.Linear(ours.width, ours.units)
            with torch.no_grad():
                first.weight.copy_(ours.state["w1"].T)
                first.bias.zero_()
            layers = [first, torch.nn.ReLU(), self.out]
        self.net = torch.nn.Sequential(*layers)
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(self.net.parameters(), ours.lr, ours.momentum, weight_decay=ours.weight_decay)
            if ours.optimizer == "sgd"
            else torch.optim.Adam(self.net.parameters(), ours.lr, weight_decay=ours.weight_decay)
        )
        self.frame: tuple[torch.Tensor, torch.Tensor] | None = None

    def inputs(self, h: torch.Tensor) -> torch.Tensor:
        if self.o.inputs == "unit":
            return h / h.square().sum().sqrt()
        if self.o.inputs == "standard":
            assert self.frame is not None
            return (h - self.frame[0]) / self.frame[1]
        return h

    def g(self, hidden: torch.Tensor) -> list[torch.Tensor]:
        logits = [self.net(self.inputs(h))[0] for h in hidden]
        if self.o.output == "sigmoid":
            return [torch.sigmoid(x) for x in logits]
        shares = []
        for t, row in enumerate(ROWS):
            same = [x.exp() for x, r in zip(logits, ROWS, strict=True) if r == row]
            shares.append(logits[t].exp() / torch.stack(same).sum())
        return shares

    def learn(self, nll: torch.Tensor, hidden: torch.Tensor, step: int) -> float:
        o = self.o
        if self.frame is None:
            spread = hidden.std(0)
            self.frame = (hidden.mean(0), spread + 1e-3 * spread.mean() + 1e-12)
        terms, entropy = [], []
        selected: dict[int, list[torch.Tensor]] = {0: [], 1: [], 2: []}
        for t, g in enumerate(self.g(hidden)):
            pull = nll[t] / nll.mean() if o.unit == "mean" else nll[t]
            fade = {"none": 1.0, "weighted": float((-g.detach() * nll[t]).exp()) ** o.beta,
                    "probability": float((-nll[t]).exp()) ** o.beta}[o.saturation]  # fmt: skip
            terms.append((1 - g) * pull if o.loss == "A" else -g * pull * fade)
            entropy.append(-(g * g.log() + (1 - g) * (1 - g).log()))
            selected[int(ROWS[t])].append(float(g > 0.5) + g - g.detach())
        shares = [torch.stack(values).mean() for values in selected.values()]
        population = torch.stack([(share - o.budget) ** 2 for share in shares]).mean()
        value = torch.stack(terms).mean() + o.lam_ent * torch.stack(entropy).mean() + o.lam_pop * population
        value = value + o.lam_l2 * ((self.out.weight**2).sum() + float(o.l2_bias) * self.out.bias[0] ** 2)
        self.optimizer.zero_grad()
        value.backward()
        if o.clip:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), o.clip)
        self.optimizer.param_groups[0]["lr"] = o.lr * (1 - step / o.steps if o.decay == "linear" else 1)
        self.optimizer.step()
        return float(value.detach())


VARIANTS: list[dict[str, Any]] = [
    *({"loss": loss, "saturation": s} for loss, s in itertools.product("AB", ("weighted", "probability", "none"))),
    {"unit": "nats"},
    {"inputs": "raw"},
    {"inputs": "unit"},
    {"output": "softmax", "loss": "B", "lam_ent": 0.3},
    {"units": 5, "loss": "B", "saturation": "probability"},
    {"optimizer": "sgd", "lr": 0.05, "weight_decay": 1e-2},
    {"decay": "linear", "clip": 0.0, "weight_decay": 1e-2},
    {"lam_ent": 2.0, "lam_pop": 10.0, "budget": 0.4, "lam_l2": 0.5},
    {"lam_l2": 0.5, "l2_bias": True, "units": 5, "loss": "B"},
    *({**PRESETS[name]} for name in PRESETS),
]


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items())[:60])
def test_scorer_step_against_a_slow_loop(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    data = [(torch.rand(9) * 3, torch.randn(9, 4)) for _ in range(6)]
    ours = AtwuScorer(4, steps=6, **options)
    slow = SlowLoop(ours)
    for step, (nll, hidden) in enumerate(data):
        stats = stats_of(nll, ROWS, hidden)
        assert ours.learn(stats) == pytest.approx(slow.learn(nll, hidden, step), rel=1e-4, abs=1e-6)
        expected = torch.cat([slow.out.weight.detach()[0], slow.out.bias.detach()])
        matters = 4 if ours.output == "softmax" else 5  # softmax does not see the bias: its gradient is rounding noise
        torch.testing.assert_close(ours.state["v"][:matters], expected[:matters], rtol=1e-3, atol=2e-5)
        torch.testing.assert_close(ours.scores(stats), torch.stack(slow.g(hidden)).detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_scorer_from_its_file_learns_on_to_the_same_bits(optimizer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = [stats_of(torch.rand(9), ROWS, torch.randn(9, 4)) for _ in range(6)]
    whole = AtwuScorer(4, units=3, optimizer=optimizer)  # type: ignore[arg-type]
    for stats in data[:3]:
        whole.learn(stats)
    before = dict(whole.state)
    save_scorer(whole, tmp_path / "scorer.safetensors")
    again = load_scorer(tmp_path / "scorer.safetensors")
    for stats in data[3:]:
        whole.learn(stats)
        again.learn(stats)
    assert whole.state.keys() == again.state.keys()
    assert all(torch.equal(whole.state[name], again.state[name]) for name in whole.state)
    whole.state = before  # a step that is tried again finds the earlier tensors unchanged
    whole.learn(data[3])
    assert whole.state["step"] == 4
    third = load_scorer(tmp_path / "scorer.safetensors")
    third.learn(data[3])
    assert torch.equal(whole.state["v"], third.state["v"])


def test_every_score_is_one_half_at_the_start() -> None:
    assert (AtwuScorer(6).scores(stats_of(torch.ones(9), ROWS, torch.randn(9, 6))) == 0.5).all()


def test_scores_over_a_sample_sum_to_one_under_softmax() -> None:
    ours = AtwuScorer(4, output="softmax")
    stats = stats_of(torch.rand(9), ROWS, torch.randn(9, 4))
    ours.learn(stats)
    torch.testing.assert_close(stats.sample_sum(ours.scores(stats)), torch.ones(3))


def test_softmax_that_has_settled_on_one_token_still_learns() -> None:
    ours = AtwuScorer(2, output="softmax", inputs="raw", lam_ent=1.0)
    ours.state["v"] = torch.tensor([200.0, 0.0, 0.0])
    hidden = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]] * 3)
    ours.learn(stats_of(torch.rand(9), ROWS, hidden))
    assert ours.state["v"].isfinite().all()


def test_hidden_units_start_from_the_runs_seed(full: LanguageModel, small: Task) -> None:
    def first(run_seed: int, **options: int) -> torch.Tensor:
        settings = Settings(
            steps=1,
            batch_size=4,
            seed=run_seed,
            options={"weights": {"units": 3, "pretrain": 1, "every": 0, "lr": 0.0, **options}},
        )
        return unlearn(full, small, "atwu", "atwu", settings=settings).scorer.state["w1"]

    assert not torch.equal(first(0), first(1))
    assert torch.equal(first(0, seed=5), first(1, seed=5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "C"}, "loss is A or B"),
        ({"every": -1}, "every must be at least 0"),
        ({"every": 0}, "give pretrain=N"),
        ({"inputs": "white"}, "inputs is raw or unit or standard"),
        ({"clip": -1.0}, "clip must be at least 0"),
        ({"lr": float("nan")}, "lr must be at least 0 and finite"),
    ],
)
def test_options_that_cannot_be_say_so(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AtwuScorer(4, **options)


def test_presets_name_options_of_the_scorer() -> None:
    for preset in PRESETS.values():
        assert set(preset) <= set(scorer["atwu"].options)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"every": 3}, [1, 4, 7, 10]),
        ({"every": 3, "at": "last"}, [3, 6, 9]),
        ({"at": "last"}, list(range(1, 11))),
        (PRESETS["published"], [10]),
        (PRESETS["tofu-1b"], [5, 10]),
        ({"every": 0, "pretrain": 1}, []),
    ],
)
def test_model_steps_at_which_the_scorer_learns(options: dict[str, Any], steps: list[int]) -> None:
    ours = AtwuScorer(4, **options)
    assert [step for step in range(1, 11) if ours.learns_at(step)] == steps
    assert ours.turns(10) == len(steps)


def test_a_run_with_the_published_preset_learns_at_its_tenth_step(full: LanguageModel, small: Task) -> None:
    settings = Settings(steps=11, batch_size=2, record_every=1, options={"weights": PRESETS["published"]})
    run = unlearn(full, small, "atwu", "atwu", settings=settings)
    spread = run.scores[run.scores["scorer"] == "atwu"].groupby("step")["score"].std()
    assert (spread[:9] == 0).all()
    assert (spread[10:] > 0).all()
    assert int(run.scorer.state["step"]) == 1


def test_a_scorer_frozen_after_pretraining_does_not_move(full: LanguageModel, small: Task) -> None:
    settings = Settings(steps=4, batch_size=6, record_every=2, options={"weights": {"pretrain": 3, "every": 0}})
    run = unlearn(full, small, "atwu", "atwu", settings=settings)
    assert int(run.scorer.state["step"]) == 3
    scores = run.scores[run.scores["scorer"] == "atwu"]
    assert scores.loc[scores["step"] == 0, "score"].std() > 0  # it had learned before the first step


def test_scores_are_recorded_over_steps(full: LanguageModel, small: Task) -> None:
    run = unlearn(full, small, "atwu", "atwu", settings=Settings(steps=4, batch_size=6, record_every=2))
    scores = run.scores[run.scores["scorer"] == "atwu"]
    assert sorted(scores["step"].unique()) == [0, 2, 4]
    assert (scores.loc[scores["step"] == 0, "score"] == 0.5).all()


def test_a_saved_scorer_scores_new_text_alike(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    run = unlearn(full, small, "atwu", "atwu", settings=Settings(steps=3, batch_size=6))
    save_scorer(run.scorer, tmp_path / "scorer.safetensors")
    again = load_scorer(tmp_path / "scorer.safetensors")
    assert again.hidden == run.scorer.hidden
    recorded = run.scores[(run.scores["scorer"] == "atwu") & (run.scores["step"] == 3)]
    np.testing.assert_allclose(apply_scorer(again, run.lm, small.forget)["score"], recorded["score"], atol=1e-5)
    assert np.isfinite(apply_scorer(again, full, small.retain)["score"]).all()


def test_a_file_that_is_no_scorer_says_so(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "a.safetensors").write_bytes(b"not a scorer")
    save_file({"w": torch.ones(3)}, tmp_path / "c.safetensors", metadata={"kind": "amortised", "options": "{}"})
    for name in ("a.safetensors", "c.safetensors", "missing.safetensors"):
        with pytest.raises(UserError, match="learned scorer"):
            load_scorer(tmp_path / name)
    with pytest.raises(UserError, match="states of 3 numbers"):
        apply_scorer(AtwuScorer(3), full, small.forget)
    save_scorer(AtwuScorer(3), tmp_path / "b.safetensors")
    for _ in range(8):  # the same scorer is the same file
        save_scorer(AtwuScorer(3), tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    state, options = AtwuScorer(3).state, json.dumps({"width": 3, "beta": 2.0})  # as an older version wrote it
    save_file(state, tmp_path / "older.safetensors", metadata={"kind": "atwu", "options": options})
    assert load_scorer(tmp_path / "older.safetensors").beta == 2.0
    with pytest.raises(UserError, match="states of 3 numbers"):
        unlearn(full, small, "atwu", str(tmp_path / "b.safetensors"), settings=Settings(steps=1))


def test_learned_scores_leave_the_model_alone(full: LanguageModel, small: Task) -> None:
    before = full.fingerprint()
    table = score_task(full, small, ["uniform", "atwu"])
    assert full.fingerprint() == before
    assert list(table["scorer"].unique()) == ["uniform", "atwu"]
    assert table.loc[table["scorer"] == "atwu", "score"].std() > 0


def test_the_projects_preset_finds_facts_and_the_published_one_does_not(full: LanguageModel, bio: Task) -> None:
    """On a quarter of the answers; docs/findings has the figures of all of them."""
    task = replace(bio, sets={"forget": bio.forget[::4], "retain": bio.retain[::8]})
    ours = alignment(score_task(full, task, ["atwu"]))["atwu"]["auroc"]
    published = score_task(full, task, ["atwu"], options={"atwu": PRESETS["published"]})
    assert ours > 0.9
    assert alignment(published)["atwu"]["auroc"] < 0.7
