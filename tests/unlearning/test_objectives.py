"""Forget and retain losses against slow per-sample references in numpy, and the invariants every objective keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from workbench.cost import Ledger, Phase
from workbench.errors import UserError
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import TokenStats, token_stats
from workbench.objectives import ForgetTokens, objective, retain_loss
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.losses import ForgetLoss, preferred_answers
from workbench.unlearning.settings import Settings
from workbench.unlearning.weights import Weights, prepare_weights

LENGTHS, VOCABULARY, WIDTH, PREFERRED = (3, 1, 4), 6, 5, (2, 2, 1)
REFUSAL = [2, 5]
Array = np.ndarray


class Numbers:
    """What an objective may read, as numpy arrays a sample: the answer's, the reference's, the preferred answer's."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)

        def draw(lengths: tuple[int, ...], *shape: int) -> list[Array]:
            return [random.normal(size=(n, *shape)) * 1.5 for n in lengths]

        self.logits, self.reference = draw(LENGTHS, VOCABULARY), draw(LENGTHS, VOCABULARY)
        self.labels = [random.integers(VOCABULARY, size=n) for n in LENGTHS]
        self.weights = [random.random(n) * 2 for n in LENGTHS]
        self.states = draw(LENGTHS, WIDTH)
        self.preferred, self.preferred_reference = draw(PREFERRED, VOCABULARY), draw(PREFERRED, VOCABULARY)
        self.preferred_labels = [random.integers(VOCABULARY, size=n) for n in PREFERRED]

    def tokens(self, *, weights: list[Array] | None = None) -> tuple[ForgetTokens, dict[str, torch.Tensor]]:
        """The same as an objective is given them, and the tensors that carry gradient."""
        leaves = {
            name: torch.tensor(np.concatenate(getattr(self, name))).requires_grad_(True)
            for name in ("logits", "states", "preferred")
        }

        def stats(logits: torch.Tensor, labels: list[Array], states: torch.Tensor | None = None) -> TokenStats:
            ids = torch.tensor(np.concatenate(labels))
            rows = torch.tensor([i for i, each in enumerate(labels) for _ in each])
            logit = logits.gather(1, ids[:, None])[:, 0]
            logp = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
            return TokenStats(rows, ids, logp, len(labels), logits=logits, logit=logit, states=states)

        given = ForgetTokens(
            stats(leaves["logits"], self.labels, leaves["states"]),
            torch.tensor(np.concatenate(weights or self.weights)),
            stats(torch.tensor(np.concatenate(self.reference)), self.labels),
            stats(leaves["preferred"], self.preferred_labels),
            stats(torch.tensor(np.concatenate(self.preferred_reference)), self.preferred_labels),
            torch.tensor(REFUSAL),
        )
        return given, leaves


def softmax(row: Array) -> Array:
    e = np.exp(row - row.max())
    return e / e.sum()


def logp(logits: list[Array], labels: list[Array], i: int) -> list[float]:
    return [math.log(softmax(row)[y]) for row, y in zip(logits[i], labels[i], strict=True)]


def tokenwise(each: Callable[[Numbers, Numbers, int, int], float]) -> Callable[[Numbers, Numbers], float]:
    """The mean over all tokens of w times a value, one token at a time."""

    def value(now: Numbers, at: Numbers) -> float:
        found = [now.weights[i][t] * each(now, at, i, t) for i in range(len(LENGTHS)) for t in range(LENGTHS[i])]
        return sum(found) / len(found)

    return value


def samplewise(each: Callable[[Numbers, int], float]) -> Callable[[Numbers, Numbers], float]:
    return lambda now, at: sum(each(now, i) for i in range(len(LENGTHS))) / len(LENGTHS)


def ascent(factor: Callable[[float, float], float]) -> Callable[[Numbers, Numbers], float]:
    """-w f l, f a function of p and w where the loss is taken: it is not differentiated."""

    def each(now: Numbers, at: Numbers, i: int, t: int) -> float:
        fixed = factor(math.exp(logp(at.logits, at.labels, i)[t]), at.weights[i][t])
        return fixed * logp(now.logits, now.labels, i)[t]

    return tokenwise(each)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def drop(now: Numbers, i: int) -> float:
    pairs = zip(logp(now.logits, now.labels, i), logp(now.reference, now.labels, i), now.weights[i], strict=True)
    return sum(w * (before - after) for after, before, w in pairs)


def rise(now: Numbers, i: int) -> float:
    both = (logp(each, now.preferred_labels, i) for each in (now.preferred, now.preferred_reference))
    after, before = (sum(each) for each in both)
    return after - before


def simnpo(now: Numbers, i: int) -> float:
    nll = -sum(w * p for w, p in zip(now.weights[i], logp(now.logits, now.labels, i), strict=True)) / LENGTHS[i]
    return -2 / 4.5 * log_sigmoid(4.5 * (nll - 0.2))


def tpo(now: Numbers, i: int) -> float:
    marked = [w >= now.weights[i].mean() - 1e-9 for w in now.weights[i]]
    falls = [now.reference[i][t][y] - now.logits[i][t][y] for t, y in enumerate(now.labels[i]) if marked[t]]
    rest = [-p for p, m in zip(logp(now.logits, now.labels, i), marked, strict=True) if not m]
    return -2 / 0.3 * log_sigmoid(0.3 * sum(falls) / len(falls)) + (sum(rest) / len(rest) if rest else 0.0)


def palu(first: int, k: int) -> Callable[[Numbers, Numbers], float]:
    def value(now: Numbers, at: Numbers) -> float:
        total = 0.0
        for i, weights in enumerate(now.weights):
            place = 0  # in the present stretch, from 1
            for t, w in enumerate(weights):
                place = place + 1 if w > 0 and w >= weights.mean() - 1e-9 else 0
                z, target = now.logits[i][t], softmax(now.reference[i][t])
                if 1 <= place <= first:
                    likely = sorted(range(VOCABULARY), key=lambda v, target=target: -target[v])[:k]
                    total += sum((z[v] - z.mean()) ** 2 for v in likely) / k
                else:
                    total += sum(p * math.log(p / q) for p, q in zip(target, softmax(z), strict=True))
        return total / sum(LENGTHS)

    return value


def cross_entropy(target: Array, row: Array) -> float:
    return -sum(q * math.log(p) for q, p in zip(target, softmax(row), strict=True) if q > 0)


def undial(now: Numbers, at: Numbers, i: int, t: int) -> float:
    lowered = now.reference[i][t].copy()
    lowered[now.labels[i][t]] -= 10
    return cross_entropy(softmax(lowered), now.logits[i][t])


def ce_u(now: Numbers, at: Numbers, i: int, t: int) -> float:
    target = softmax(at.logits[i][t])
    target[at.labels[i][t]] = 0
    return cross_entropy(target / target.sum(), now.logits[i][t])


def jensun(now: Numbers, at: Numbers, i: int, t: int) -> float:
    p, q = softmax(now.logits[i][t]), np.zeros(VOCABULARY)
    q[REFUSAL[t % len(REFUSAL)]] = 1
    middle = (p + q) / 2
    return sum(0.5 * a * math.log(a / m) for x in (p, q) for a, m in zip(x, middle, strict=True) if a > 0)


def rmu(now: Numbers, at: Numbers, i: int, t: int) -> float:
    u = torch.rand(WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    return float(((now.states[i][t] - 20 * u / np.linalg.norm(u)) ** 2).mean())


REFERENCES: dict[str, tuple[dict[str, Any], Callable[[Numbers, Numbers], float]]] = {
    "grad_ascent": ({}, ascent(lambda p, w: 1)),
    "grad_diff": ({}, ascent(lambda p, w: 1)),
    "wga": ({"beta": 1.5}, ascent(lambda p, w: p**1.5)),
    "satimp": ({}, ascent(lambda p, w: p**5 * (1 - p))),
    "atwu": ({}, ascent(lambda p, w: math.exp(w * math.log(p)) ** 5)),
    "atwu probability": ({"saturation": "probability"}, ascent(lambda p, w: p**5)),
    "atwu none": ({"saturation": "none"}, ascent(lambda p, w: 1)),
    "npo": ({}, samplewise(lambda now, i: -2 / 0.1 * log_sigmoid(0.1 * drop(now, i)))),
    "simnpo": ({"delta": 0.2}, samplewise(simnpo)),
    "dpo": ({}, samplewise(lambda now, i: -2 / 0.1 * log_sigmoid(0.1 * (rise(now, i) + drop(now, i))))),
    "altpo": ({}, samplewise(lambda now, i: -2 / 0.1 * log_sigmoid(0.1 * (rise(now, i) + drop(now, i))))),
    "tpo": ({}, samplewise(tpo)),
    "palu": ({}, palu(1, 1)),
    "palu longer": ({"first": 2, "k": 3}, palu(2, 3)),
    "undial": ({}, tokenwise(undial)),
    "ce_u": ({}, tokenwise(ce_u)),
    "pdu": ({}, tokenwise(lambda now, at, i, t: (now.logits[i][t].max() - now.logits[i][t].mean()) ** 2)),
    "jensun": ({}, tokenwise(jensun)),
    "rmu": ({}, tokenwise(rmu)),
}


def test_every_objective_has_a_reference() -> None:
    assert {name.split()[0] for name in REFERENCES} == set(objective)


@pytest.mark.oracle
@pytest.mark.parametrize("name", list(REFERENCES))
def test_value_and_gradient_against_a_slow_reference(name: str, compare: Callable[..., None]) -> None:
    """The reference goes token by token in numpy; its gradient is a central difference, entry by entry."""
    options, reference = REFERENCES[name]
    now, at = Numbers(), Numbers()
    given, leaves = now.tokens()
    value = objective[name.split()[0]].function(given, **options)
    value.backward()
    compare(f"objective {name}", value.item(), reference(now, at), rel=1e-10)
    for kind, leaf in leaves.items():
        expected = []
        for array in getattr(now, kind):
            for place in np.ndindex(array.shape):
                kept, ends = array[place], []
                for step in (1e-5, -1e-5):
                    array[place] = kept + step
                    ends.append(reference(now, at))
                array[place] = kept
                expected.append((ends[0] - ends[1]) / 2e-5)
        found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        compare(f"objective {name}, gradient", found.numpy(), expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", list(objective))
def test_uniform_weights_equal_no_weights_and_weight_zero_is_no_gradient(name: str) -> None:
    """Uniform weights are the objective without weights (a reference that has none); a weight of zero masks a token."""
    now = Numbers()
    now.weights = [np.ones(n) for n in LENGTHS]
    given, leaves = now.tokens()
    objective[name].function(given).backward()
    assert leaves["logits"].grad is not None or leaves["states"].grad is not None
    masked = [np.ones(n) for n in LENGTHS]
    masked[0][1] = masked[2][3] = 0
    given, leaves = now.tokens(weights=masked)
    objective[name].function(given).backward()
    if name in ("tpo", "palu"):  # there a weight of zero means keep: by the token's own NLL, which lowers the others
        assert leaves["logits"].grad is not None
        assert name == "palu" or leaves["logits"].grad[1, now.labels[0][1]] < 0
        if name == "palu":  # by KL(q || p), whose gradient is p - q
            fall = softmax(leaves["logits"].detach()[1].numpy()) - softmax(now.reference[0][1])
            np.testing.assert_allclose(leaves["logits"].grad[1], fall / sum(LENGTHS))
        return
    for leaf in (leaves["logits"], leaves["states"]):
        if leaf.grad is not None:
            assert leaf.grad[1].abs().max() == leaf.grad[7].abs().max() == 0
            assert leaf.grad[0].abs().max() > 0


@pytest.mark.parametrize("name", list(objective))
def test_a_batch_equals_its_parts(name: str) -> None:
    """A batch of three is its samples one by one, each counted by its tokens or as one sample, as the entry says."""
    now = Numbers()
    given, leaves = now.tokens()
    whole = objective[name].function(given)
    whole.backward()
    total, parts = 0.0, {kind: [] for kind in leaves}
    for i, count in enumerate(LENGTHS):
        one = Numbers()
        for kind in vars(one):
            setattr(one, kind, [getattr(now, kind)[i]])
        given, single = one.tokens()
        share = count / sum(LENGTHS) if objective[name].over == "tokens" else 1 / len(LENGTHS)
        value = share * objective[name].function(given)
        value.backward()
        total += value.item()
        for kind, leaf in single.items():
            parts[kind].append(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
    assert total == pytest.approx(whole.item(), rel=1e-12)
    for kind, leaf in leaves.items():
        found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        torch.testing.assert_close(found, torch.cat(parts[kind]))


def test_constants_at_the_reference() -> None:
    """NPO, DPO and AltPO are (2/beta) log 2 where nothing has moved; KL, JSD and states are 0 there."""
    now = Numbers()
    now.reference, now.preferred_reference = now.logits, now.preferred
    given, _ = now.tokens()
    for name in ("npo", "dpo", "altpo"):
        assert objective[name].function(given).item() == pytest.approx(20 * math.log(2), rel=1e-12)
    given.reference = replace(given.stats, states=given.stats.states)
    for name in ("kl", "jsd", "states"):
        assert retain_loss[name].function(given.stats, given.reference).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.oracle
def test_retain_losses_against_scipy_and_torch(compare: Callable[..., None]) -> None:
    from scipy.spatial.distance import jensenshannon

    now = Numbers()
    given, _ = now.tokens()
    rows = list(zip(np.concatenate(now.reference), np.concatenate(now.logits), strict=True))
    both = [(softmax(a), softmax(b)) for a, b in rows]
    expected = {
        "nll": -np.mean([p for i in range(len(LENGTHS)) for p in logp(now.logits, now.labels, i)]),
        "kl": np.mean([np.sum(p * np.log(p / q)) for p, q in both]),
        "jsd": np.mean([jensenshannon(p, q) ** 2 for p, q in both]),
    }
    for name, value in expected.items():
        found = retain_loss[name].function(given.stats, given.reference)
        compare(f"retain loss {name}", found.item(), value, rel=1e-9)
    given.reference = replace(given.stats, states=given.stats.states.detach() + 0.5)  # type: ignore[union-attr]
    assert retain_loss["states"].function(given.stats, given.reference).item() == pytest.approx(0.25)


def test_an_unknown_saturation_says_so() -> None:
    given, _ = Numbers().tokens()
    with pytest.raises(UserError, match="weighted, probability or none"):
        objective["atwu"].function(given, saturation="some")


# On a model ---------------------------------------------------------------------------------------------------------


def uniform(lm: LanguageModel, samples: list[Sample]) -> Weights:
    """Weights of 1."""
    task = Task("t", {"forget": samples, "retain": [Sample("r", "q", "a")]})
    given: dict[str, Any] = {"steps": 1, "seed": 0, "options": {}, "reference": None, "cost": Phase(), "trained": None}
    return prepare_weights(lm, task, "uniform", **given)


def whole_stats(step: int) -> TokenStats:
    raise AssertionError("only a live scorer needs them")


def only_part(term: ForgetLoss, step: int) -> torch.Tensor:
    """The loss of a step's batch, which is one micro-batch."""
    (each,) = term.micro_batches(step, whole_stats)
    loss, _, _ = term(each, token_stats(term.lm, each.batch, extras=False, **term.reads))
    return loss


def gradient(lm: LanguageModel, name: str, samples: list[Sample], batch_size: int, place: int = 0) -> torch.Tensor:
    """All parameters' gradient of an objective, on these samples in one batch or on one of them alone."""
    settings = Settings(batch_size=batch_size, steps=len(samples))
    term = ForgetLoss(lm, samples, name, uniform(lm, samples), settings, Ledger())
    step = next(s for s in range(1, len(samples) + 1) if place in term.batches.indices(s))
    lm.module.zero_grad()
    only_part(term, step).backward()
    return torch.cat([p.grad.reshape(-1) for p in lm.module.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", list(objective))
def test_four_samples_equal_one_by_one_on_a_model(name: str, full: LanguageModel, bio: Task) -> None:
    """Padding, the shift and what the loop prepares are right: a batch of 4 has the gradient of 1 x 4 accumulated."""
    lm = full.frozen_copy()
    lm.module.requires_grad_(True)
    samples = [bio.forget[i] for i in (0, 40, 99, 170)]
    counts = [len(encode(lm, s).answer_positions) for s in samples]
    assert len({len(encode(lm, s).ids) for s in samples}) > 1
    whole = gradient(lm, name, samples, batch_size=4)
    parts = torch.zeros_like(whole)
    for i, count in enumerate(counts):
        share = count / sum(counts) if objective[name].over == "tokens" else 1 / len(samples)
        parts += share * gradient(lm, name, samples, batch_size=1, place=i)
    assert whole.norm() > 0
    assert (parts - whole).norm() <= 1e-5 * whole.norm()


def test_grad_ascent_is_minus_cross_entropy(full: LanguageModel, small: Task) -> None:
    batch = collate(full, [encode(full, s) for s in small.forget])
    logits = full.module(batch.input_ids, attention_mask=batch.attention_mask).logits
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.rows, batch.columns] = batch.input_ids[batch.rows, batch.columns]
    expected = -torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    term = ForgetLoss(full, small.forget, "grad_ascent", uniform(full, small.forget), Settings(steps=1), Ledger())
    torch.testing.assert_close(only_part(term, 1), expected)


def test_preferred_answers_need_questions_or_wrong_answers() -> None:
    plain, asked = Sample("p", "", "Some text."), Sample("a", "Who?", "Ann.", wrong_answers=("Bob.", "Cleo."))
    assert preferred_answers(objective["npo"], [plain]) is None
    assert [s.answer for s in preferred_answers(objective["altpo"], [asked]) or []] == ["Bob."]
    refused = preferred_answers(objective["dpo"], [asked, asked]) or []
    assert refused[0].answer != refused[1].answer
    for name, sample, what in (("dpo", plain, "a question"), ("altpo", plain, "wrong answers")):
        with pytest.raises(UserError, match=f"'{name}' needs {what}.*sample 'p'"):
            preferred_answers(objective[name], [sample])
