"""The scorer `learned`: against a slow loop with plain sums and a general solver; its start; its life in a run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from workbench.errors import UserError
from workbench.evals.alignment import alignment
from workbench.models.batch import collate
from workbench.models.encoding import PROMPT, encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import TokenStats, token_stats
from workbench.runs.checkpoints import read_checkpoint, save_checkpoint
from workbench.scorers.base import TaskContext, scorer
from workbench.scorers.learned import WHERE, LearnedScorer
from workbench.scorers.saved import apply_scorer, load_scorer, save_scorer
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.checkpoint import Checkpoint
from workbench.unlearning.scoring import score_task
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn
from workbench.unlearning.weights import Weights, states_of

Array = np.ndarray


def begun(lm: LanguageModel, task: Task, **options: Any) -> LearnedScorer:
    ours = LearnedScorer(lm.config.hidden_size, **{"rows": 100} | options)
    ours.begin(TaskContext(lm, task), 10, resumed=False)
    return ours


def stats_of(lm: LanguageModel, task: Task, ours: LearnedScorer) -> TokenStats:
    with torch.no_grad():
        return token_stats(lm, collate(lm, [encode(lm, s) for s in task.forget]), **states_of(ours))


def moments(z: Array, y: Array) -> tuple[Array, Array]:
    """Token by token."""
    mean, square, cross = z.sum(0) / len(z), np.zeros((z.shape[1], z.shape[1])), np.zeros(z.shape[1])
    deviation = math.sqrt(sum((v - y.mean()) ** 2 for v in y) / len(y))
    for row, value in zip(z, y, strict=True):
        square += np.outer(row - mean, row - mean) / len(z)
        cross += (row - mean) * (value - y.mean()) / deviation / len(z)
    return square, cross


def g(s: Array) -> Array:
    return np.asarray(norm.cdf((s - s.mean()) / s.std()) ** 4)


def slow_signal(lm: LanguageModel, samples: list[Sample], alternatives: Array) -> Array:
    """(1 + u) r c, token by token; TF-IDF by counting, with scikit-learn's smoothed frequencies."""
    encodings = [encode(lm, s) for s in samples]
    questions = [[e.ids[p] for p in e.positions(PROMPT)] for e in encodings]
    answers = [[e.ids[p] for p in e.answer_positions] for e in encodings]
    spread = {t: math.log((1 + len(samples)) / (1 + sum(t in q for q in questions))) + 1 for q in questions for t in q}
    vectors = []
    for question in questions:
        vector = {t: (1 + math.log(question.count(t))) * spread[t] for t in question}
        vectors.append({t: v / math.sqrt(sum(x * x for x in vector.values())) for t, v in vector.items()})
    k = min(20, len(samples))
    out, u = [], iter((alternatives - alternatives.min()) / alternatives.std())
    for question, answer, vector in zip(questions, answers, vectors, strict=True):
        likeness = [sum(v * other.get(t, 0) for t, v in vector.items()) for other in vectors]
        nearest = sorted(range(len(samples)), key=lambda i, likeness=likeness: -round(likeness[i], 9))[:k]
        for token in answer:
            n = sum(token in answers[i] for i in nearest)
            rare = math.log((k + 1) / (n + 0.5)) / math.log((k + 1) / 0.5)
            out.append((1 + next(u)) * rare * (0.5 if token in question else 1))
    return np.array(out)


@pytest.mark.parametrize(("share", "memory", "every"), [(0.5, 10.0, 2), (1.0, 3.0, 1), (0.0, 10.0, 2)])
def test_steps_against_a_slow_loop(
    share: float, memory: float, every: int, full: LanguageModel, retained: LanguageModel, small: Task
) -> None:
    """Of random batches; the start from the model's own states."""
    ours = begun(full, small, share=share, memory=memory, every=every, ridge=2.0)
    text = replace(small, sets={"forget": small.retain[:100]})
    read = stats_of(full, text, ours)
    assert read.hidden is not None
    assert read.entropy is not None
    shift, scale = (ours.state[name].double().numpy() for name in ("shift", "scale"))
    np.testing.assert_allclose(shift, read.hidden.mean(0), atol=1e-4)
    y = slow_signal(full, small.retain[:100], read.entropy.exp().numpy())
    start = moments((read.hidden.numpy() - shift) / scale, y)
    ridge = 2.0 * np.eye(len(shift))
    first = np.linalg.solve(start[0] + ridge, start[1])
    now: list[Any] = [0.0, 0.0]
    random = np.random.default_rng(0)
    for step in range(1, 6):
        hidden, nll = random.normal(size=(40, len(shift))) * 2 + shift, random.exponential(0.3 * step, size=40)
        rows = torch.arange(40) % 4
        stats = TokenStats(rows, rows, -torch.tensor(nll), 4, hidden=torch.tensor(hidden).float())
        ours.learn(stats)
        new = max(1 / step, 1 - math.exp(-every / memory))
        z = (hidden - shift) / scale
        lost = g(z @ first) * np.array([sum(other < own for other in nll) for own in nll]) / 40
        now = [(1 - new) * a + new * b for a, b in zip(now, moments(z, lost), strict=True)]
        part = share * min(1.0, nll.mean())
        states, signal = ((1 - part) * a + part * b for a, b in zip(start, now, strict=True))
        w = np.linalg.solve(states + ridge, signal)
        np.testing.assert_allclose(ours.scores(stats), g(z @ w), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(("answers", "rows"), [(100, 10), (3840, 38), (10**6, 100)])
def test_the_start_is_a_small_part_of_the_run(
    answers: int, rows: int, full: LanguageModel, bio: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[int] = []
    monkeypatch.setattr(
        "workbench.scorers.learned.specific", lambda encodings, signal: texts.append(len(encodings)) or signal
    )
    LearnedScorer(full.config.hidden_size).begin(TaskContext(full, bio), 10, resumed=False, answers=answers)
    assert texts == [rows]


def test_the_start_is_a_map_of_other_text(full: LanguageModel, bio: Task) -> None:
    """It finds facts before any step, and reads states of two layers at the token and at the one before it."""
    ours = begun(full, bio)
    inner = round(0.75 * full.config.num_hidden_layers)
    assert (ours.hidden, ours.layer) == (WHERE, (-1, -1, inner, inner))
    stats = stats_of(full, bio, ours)
    parts = [
        token_stats(full, collate(full, [encode(full, s) for s in bio.forget]), hidden=at, layer=layer).hidden
        for at, layer in zip(ours.hidden, ours.layer, strict=True)
    ]
    torch.testing.assert_close(stats.hidden, torch.cat([part for part in parts if part is not None], 1))
    labels = np.concatenate([encode(full, s).span_labels() or [] for s in bio.forget]).astype(bool)
    scores = ours.scores(stats).numpy()
    assert np.mean(scores[labels][:, None] > scores[~labels]) > 0.9
    assert 0.3 < ours.factor * scores.mean() < 3  # not yet 1: it is of other text


def test_it_finds_facts_while_they_are_forgotten(full: LanguageModel, bio: Task) -> None:
    """On a quarter of the answers, with scores that move; docs/findings has the figures of all of them."""
    task = replace(bio, sets={"forget": bio.forget[::4], "retain": bio.retain[::8]})
    settings = Settings(steps=20, batch_size=16, record_every=10)
    run = unlearn(full, task, "wga", "learned", settings=settings)
    by_step = dict(iter(run.scores[run.scores["scorer"] == "learned"].groupby("step")))
    assert sorted(by_step) == [0, 10, 20]
    assert alignment(by_step[20])["learned"]["auroc"] > 0.95
    assert (by_step[20]["score"].to_numpy() != by_step[0]["score"].to_numpy()).any()
    phases = run.ledger.phases
    assert 0 < phases["scorer"].flops < 0.02 * run.ledger.total.flops
    assert phases["scoring"].flops > 0  # the pass over other text


def test_it_leaves_the_model_alone_where_it_scores_by_itself(full: LanguageModel, small: Task) -> None:
    before = full.fingerprint()
    table = score_task(full, small, ["learned"])
    assert full.fingerprint() == before
    assert table["score"].between(0, 1).all()


def test_a_file_of_it_scores_alike_and_serves_as_weights(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    run = unlearn(full, small, "wga", "learned", settings=Settings(steps=4, batch_size=6))
    save_scorer(run.scorer, tmp_path / "a.safetensors")
    again = load_scorer(tmp_path / "a.safetensors")
    assert again.layer == run.scorer.layer
    recorded = run.scores[(run.scores["scorer"] == "learned") & (run.scores["step"] == 4)]
    np.testing.assert_allclose(apply_scorer(again, run.lm, small.forget)["score"], recorded["score"], atol=1e-5)
    fixed = unlearn(full, small, "wga", str(tmp_path / "a.safetensors"), settings=Settings(steps=2, batch_size=6))
    assert all(torch.equal(fixed.scorer.state[name], again.state[name]) for name in again.state)


def test_a_file_for_a_deeper_model_says_so(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    ours = begun(full, small)
    deeper = replace(ours, layer=(-1, -1, 9, 9))
    save_scorer(deeper, tmp_path / "learned.safetensors")
    with pytest.raises(UserError, match="states of layer 9, and bio-full has 4"):
        apply_scorer(load_scorer(tmp_path / "learned.safetensors"), full, small.forget[:1])
    with pytest.raises(UserError, match="layer is 4 whole numbers"):
        replace(ours, layer=(-1, -1))


def test_a_run_goes_on_from_its_files_to_the_same_bits(full: LanguageModel, small: Task, tmp_path: Path) -> None:
    """From before its first step of learning, and from between two."""
    settings = Settings(steps=6, batch_size=6, record_every=6, checkpoint_every=2, options={"weights": {"every": 3}})

    def keep(state: Checkpoint) -> None:
        save_checkpoint(tmp_path, state, keep=9)

    whole = unlearn(full, small, "wga", "learned", settings=settings, on_checkpoint=keep)
    for step in (2, 4):
        state = read_checkpoint(tmp_path / "checkpoints" / f"step-{step:06d}")
        assert state.step == step
        rest = unlearn(full, small, "wga", "learned", settings=settings, resume=state)
        assert rest.scores.equals(whole.scores)
        assert rest.lm.fingerprint() == whole.lm.fingerprint()
        assert all(torch.equal(rest.scorer.state[name], tensor) for name, tensor in whole.scorer.state.items())
        assert rest.ledger.phases["scoring"].flops == whole.ledger.phases["scoring"].flops  # no second start


def test_as_weights_its_scores_have_mean_one(full: LanguageModel, bio: Task) -> None:
    ours = begun(full, bio)
    ours.learn(stats_of(full, bio, ours))
    weights = Weights("learned", None, ours, [])
    assert float(weights.of([], stats_of(full, bio, ours)).mean()) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5}, "share must be from 0 to 1, not 1.5"),
        ({"every": -1}, "every must be at least 0"),
        ({"memory": 0.0}, "memory must be at least 1"),
        ({"power": float("nan")}, "power must be at least 0.01 and finite"),
        ({"ridge": -1.0}, "ridge must be at least 0"),
    ],
)
def test_options_that_cannot_be_say_so(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LearnedScorer(4, **options)


def test_it_is_a_live_scorer_that_needs_other_text() -> None:
    assert (scorer["learned"].kind, scorer["learned"].needs) == ("live", ("text",))
