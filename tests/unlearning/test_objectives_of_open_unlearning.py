"""Objectives and retain losses against that framework's formulas, in plain torch on padded batches of a real model.

What a setting undoes is equal; what docs/reference/objectives.md states instead differs by that and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.cost import Ledger, Phase
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.objectives import REFUSALS, objective
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.losses import ForgetLoss, RetainLoss, preferred_answers, steered_layer
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn
from workbench.unlearning.weights import prepare_weights

pytestmark = pytest.mark.oracle
Compare = Callable[..., None]
LAYER = 3


@dataclass
class Theirs:
    """A padded batch as their collator makes it, under the model as it is and as it was before the run."""

    ids: Tensor
    mask: Tensor
    labels: Tensor
    now: Any
    before: Any

    @classmethod
    def of(cls, lm: LanguageModel, samples: list[Sample], now: Any, before: Any) -> Theirs:
        encodings = [encode(lm, s) for s in samples]
        shape = len(encodings), max(len(e.ids) for e in encodings)
        ids, mask, labels = torch.full(shape, 0), torch.zeros(shape).long(), torch.full(shape, -100)
        for row, encoding in enumerate(encodings):
            length, places = len(encoding.ids), encoding.answer_positions
            ids[row, :length], mask[row, :length] = torch.tensor(encoding.ids), 1
            labels[row, places] = ids[row, places]
        return cls(ids, mask, labels, now, before)

    def logits(self, module: Any) -> Tensor:
        """(B, L, V)."""
        return module(input_ids=self.ids, attention_mask=self.mask).logits

    def losses(self, module: Any) -> Tensor:
        """(B, L - 1) cross-entropy, 0 where nothing is to be predicted."""
        logits = self.logits(module)[:, :-1]
        return F.cross_entropy(logits.transpose(1, 2), self.labels[:, 1:], ignore_index=-100, reduction="none")

    @property
    def predicts(self) -> Tensor:
        """(B, L - 1) positions whose next token is one of the answer's."""
        return self.labels[:, 1:] != -100

    def output(self, module: Any, layer: int) -> Tensor:
        """(B, L, d) what `model.layers.<layer>` puts out."""
        cache: list[Tensor] = []
        block = module.model.layers[layer]
        hook = block.register_forward_hook(lambda _m, _i, out: cache.append(out if torch.is_tensor(out) else out[0]))
        self.logits(module)
        hook.remove()
        return cache[0]


def mean(values: Tensor, where: Tensor) -> Tensor:
    return values[where].mean()


def ascent(factor: Callable[[Tensor], Tensor]) -> Callable[[Theirs], Tensor]:
    def loss(batch: Theirs) -> Tensor:
        losses = batch.losses(batch.now)
        return -mean(factor((-losses).exp()) * losses, batch.predicts)

    return loss


def preference(margin: Tensor, beta: float) -> Tensor:
    return -2 / beta * F.logsigmoid(beta * margin).mean()


def rise(batch: Theirs) -> Tensor:
    """(B,) how much less probable the answers have become, summed over their tokens."""
    return (batch.losses(batch.now) - batch.losses(batch.before)).sum(-1)


def simnpo(batch: Theirs) -> Tensor:
    per_token = batch.losses(batch.now).sum(-1) / batch.predicts.sum(-1)
    return preference(per_token, 4.5)


def ce_u(batch: Theirs, ignored: int) -> Tensor:
    answer = batch.labels != -100
    labels = batch.labels.masked_fill(answer & (answer.cumsum(-1) <= ignored), -100)[:, 1:]
    logits, labels = batch.logits(batch.now)[:, :-1][labels != -100], labels[labels != -100]
    target = logits.detach().scatter(-1, labels[:, None], float("-inf")).softmax(-1)
    return F.cross_entropy(logits, target)


def undial(batch: Theirs) -> Tensor:
    """(B, L - 1); they take the mean of all."""
    before = batch.logits(batch.before)[:, :-1]
    size = before.shape[-1]
    lowered = before - 10 * F.one_hot(batch.labels[:, 1:] % size, size)  # -100 is the 100th from the end
    return -(lowered.softmax(-1) * batch.logits(batch.now)[:, :-1].log_softmax(-1)).sum(-1)


def pdu(batch: Theirs) -> Tensor:
    """(B, L); they take the mean of all, or of those one token late."""
    logits = batch.logits(batch.now)
    return (logits.amax(-1) - logits.mean(-1)) ** 2


def kl(batch: Theirs) -> Tensor:
    """(B, L); they take the mean of all."""
    now, before = (batch.logits(each).log_softmax(-1) for each in (batch.now, batch.before))
    return F.kl_div(now, before, reduction="none", log_target=True).sum(-1)


def distance(batch: Theirs, target: Tensor, layer: int) -> Tensor:
    """(B, L) mean squared difference of a layer's output from a target."""
    return ((batch.output(batch.now, layer) - target) ** 2).mean(-1)


def by_sample(values: Tensor, where: Tensor) -> Tensor:
    """RMU's mean: over samples of each sample's mean."""
    return ((values * where).sum(-1) / where.sum(-1)).mean()


@pytest.fixture
def lm(full: LanguageModel) -> LanguageModel:
    return full.frozen_copy()


@pytest.fixture
def samples(bio: Task) -> list[Sample]:
    chosen = [bio.forget[i] for i in (0, 40, 99, 170)]
    assert len({len(s.answer) for s in chosen}) > 2
    return chosen


@torch.no_grad()
def move(lm: LanguageModel) -> None:
    """As if some steps had been done."""
    generator = torch.Generator().manual_seed(0)
    for parameter in lm.module.parameters():
        parameter += 0.06 * torch.randn(parameter.shape, generator=generator)


def ours(lm: LanguageModel, samples: list[Sample], name: str, **options: Any) -> tuple[Theirs, float]:
    """Their batch and our loss on it, after the model has moved; `options` are the objective's and the weights'."""
    before = lm.frozen_copy().module
    settings = Settings(batch_size=len(samples), steps=1, options={"objective": options.pop("objective", {})})
    task = Task("t", {"forget": samples, "retain": [Sample("r", "q", "a")]})
    given: dict[str, Any] = {"steps": 1, "seed": 0, "reference": None, "cost": Phase(), "trained": None}
    weights = prepare_weights(lm, task, "uniform", options=options, **given)
    term = ForgetLoss(lm, samples, name, weights, settings, Ledger())
    move(lm)
    (each,) = term.micro_batches(1, lambda step: pytest.fail("no live scorer"))
    loss, _, _ = term(each, token_stats(lm, each.batch, extras=False, **term.reads))
    return Theirs.of(lm, samples, lm.module, before), float(loss.detach())


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("grad_diff", ascent(torch.ones_like)),
        ("wga", ascent(lambda p: p.detach())),
        ("satimp", ascent(lambda p: p.detach() ** 5 * (1 - p.detach()))),
        ("npo", lambda batch: preference(rise(batch), 0.1)),
        ("simnpo", simnpo),
    ],
)
def test_these_are_theirs(
    name: str, theirs: Callable[[Theirs], Tensor], lm: LanguageModel, samples: list[Sample], compare: Compare
) -> None:
    batch, loss = ours(lm, samples, name)
    compare(f"{name} (open-unlearning)", loss, theirs(batch).item())


@pytest.mark.parametrize("name", ["dpo", "altpo"])
def test_preferences_are_theirs(name: str, lm: LanguageModel, samples: list[Sample], compare: Compare) -> None:
    batch, loss = ours(lm, samples, name)
    others = preferred_answers(objective[name], samples) or []
    assert name == "altpo" or others[1].answer == REFUSALS[1]
    win = Theirs.of(lm, others, batch.now, batch.before)
    compare(f"{name} (open-unlearning)", loss, preference(rise(batch) - rise(win), 0.1).item())


def test_ce_u_with_their_first_token_left_out(lm: LanguageModel, samples: list[Sample], compare: Compare) -> None:
    batch, loss = ours(lm.frozen_copy(), samples, "ce_u")
    compare("ce_u, all answer tokens", loss, ce_u(batch, 0).item())
    batch, switched = ours(lm.frozen_copy(), samples, "ce_u", ignore_first=1)
    compare("ce_u, weights.ignore_first=1 (open-unlearning)", switched, ce_u(batch, 1).item())
    assert switched != pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize(("name", "each"), [("undial", undial), ("pdu", pdu)])
def test_over_answer_tokens_only(
    name: str, each: Callable[[Theirs], Tensor], lm: LanguageModel, samples: list[Sample], compare: Compare
) -> None:
    """The mean of their losses over the positions that predict the answer; theirs is over prompt and padding too."""
    batch, loss = ours(lm, samples, name)
    values = each(batch)[:, : batch.predicts.shape[1]]
    compare(f"{name}, where the answer is predicted", loss, mean(values, batch.predicts).item())
    assert values.mean().item() != pytest.approx(loss, rel=1e-3)


def test_kl_is_over_retain_answers_only(lm: LanguageModel, samples: list[Sample], compare: Compare) -> None:
    before = lm.frozen_copy().module
    term = RetainLoss(lm, samples, Settings(batch_size=4, steps=1, retain_loss="kl"), Ledger())
    move(lm)
    (each,) = term.micro_batches(1)
    loss, _, _ = term(each, token_stats(lm, each.batch, extras=False, **term.reads))
    batch = Theirs.of(lm, samples, lm.module, before)
    values = kl(batch)
    compare("retain loss kl, where the answer is predicted", loss.item(), mean(values[:, :-1], batch.predicts).item())
    assert values.mean().item() != pytest.approx(loss.item(), rel=1e-3)


def test_rmu_is_one_token_earlier_and_a_mean_over_tokens(
    lm: LanguageModel, samples: list[Sample], compare: Compare
) -> None:
    options = {"coefficient": 2.0, "layer": LAYER}
    batch, loss = ours(lm, samples, "rmu", objective=options)
    u = torch.rand(lm.config.hidden_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = distance(batch, (2 * u / u.norm()).float(), LAYER - 1)  # hidden state 3 is what `model.layers.2` puts out
    compare("rmu, their loss one token earlier", loss, mean(values[:, :-1], batch.predicts).item())
    theirs, at_theirs = by_sample(values, batch.labels != -100), mean(values, batch.labels != -100)
    assert len({round(v, 4) for v in (loss, theirs.item(), at_theirs.item())}) == 3
    one, alone = ours(lm.frozen_copy(), samples[:1], "rmu", objective=options)
    values = distance(one, (2 * u / u.norm()).float(), LAYER - 1)[:, :-1]
    compare("rmu, one answer: both means are one", alone, by_sample(values, one.predicts).item())


def test_where_rmu_steers_by_default(full: LanguageModel) -> None:
    from types import SimpleNamespace

    assert objective["rmu"].options == {"coefficient": 20.0, "layer": 0}  # their class; 2 in their YAML file
    depth: Any = SimpleNamespace(config=SimpleNamespace(num_hidden_layers=16))
    assert steered_layer(depth, {}) == 7  # the output of `model.layers.6`; theirs is that of `model.layers.7`
    assert steered_layer(depth, {"layer": 8}) == 8


def test_undial_without_a_retain_loss(lm: LanguageModel, small: Task) -> None:
    """Their alpha is 0, ours 1; `--set alpha=0` leaves the forget loss alone."""
    values = objective["undial"].settings | {"steps": 1, "batch_size": 12}
    with_retain = unlearn(lm, small, "undial", "uniform", settings=Settings(**values)).events[0]
    assert with_retain["loss"] == pytest.approx(with_retain["forget_loss"] + with_retain["retain_loss"])
    alone = unlearn(lm, small, "undial", "uniform", settings=Settings(**values, alpha=0)).events[0]
    assert "retain_loss" not in alone
    assert alone["loss"] == pytest.approx(with_retain["forget_loss"])


@pytest.mark.parametrize("warmup", [0, 4])
def test_dual_ascent_begins_after_the_warm_up(warmup: int, lm: LanguageModel, small: Task, compare: Compare) -> None:
    """Theirs: from the first step after so many epochs, alpha <- max(0, alpha + eta (retain loss - eps))."""
    settings = Settings(**objective["pdu"].settings, steps=8, batch_size=12, lr=1e-3, dual_warmup=warmup)
    events = unlearn(lm, small, "pdu", "uniform", settings=settings).events
    alpha, expected = 1.0, []
    for step, event in enumerate(events, 1):
        expected.append(alpha)
        if step > warmup:
            alpha = max(0.0, alpha + 1.0 * (event["retain_loss"] - 0.05))
    compare(f"pdu's alpha, dual_warmup={warmup}", [e["alpha"] for e in events], expected)
    assert len(set(expected)) == 8 - warmup
