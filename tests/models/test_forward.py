"""The spare forward against the plain one: label log-probabilities in pieces, compiled steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import UserError
from workbench.models import forward
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.load import load
from workbench.models.token_stats import token_stats
from workbench.tasks.samples import Sample, Task
from workbench.unlearning.settings import Settings
from workbench.unlearning.trainer import prepare
from workbench.unlearning.unlearn import unlearn


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load("bio-full", precision="float32")


SAMPLES = [
    Sample(f"s{i}", f"Where was {'A ' * (i % 5)}born?", "He was born in Oslo. " * (1 + i * i % 7)) for i in range(12)
]


@pytest.mark.parametrize("tokens", [1, forward.PIECE, 2 * forward.PIECE + 3])
def test_label_logp_equals_autograds_own_softmax(lm: LanguageModel, tokens: int) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(24, 300, bias=False)
    rows, labels = torch.randn(tokens, 24), torch.randint(300, (tokens,))
    pull, lift = torch.randn(tokens), torch.randn(tokens)
    results = []
    for spare in (True, False):
        head.zero_grad()
        x = rows.clone().requires_grad_()
        if spare:
            logp, logit = forward.label_logp(lm, head, x, labels)
        else:
            scores = head(x)
            logp, logit = -F.cross_entropy(scores, labels, reduction="none"), scores[torch.arange(tokens), labels]
        ((pull * logp).sum() + (lift * logit).sum()).backward()
        assert head.weight.grad is not None
        results.append((logp.detach(), logit.detach(), x.grad, head.weight.grad.clone()))
    for spare_value, plain_value in zip(*results, strict=True):
        torch.testing.assert_close(spare_value, plain_value, rtol=1e-4, atol=1e-5)


def test_label_logp_passes_gradcheck_twice_over_one_graph(lm: LanguageModel) -> None:
    torch.manual_seed(1)
    head = torch.nn.Linear(5, 11, bias=False).double()
    rows = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(11, (7,))
    assert torch.autograd.gradcheck(lambda x: forward.label_logp(lm, head, x, labels), (rows,))
    logp, _ = forward.label_logp(lm, head, rows, labels)
    (first,) = torch.autograd.grad(logp.sum(), rows, retain_graph=True)
    (second,) = torch.autograd.grad(logp.sum(), rows)
    assert torch.equal(first, second)


def test_label_logp_under_autocast_is_as_near_as_the_plain_product(lm: LanguageModel) -> None:
    half = load("bio-full", precision="bfloat16")
    half.module.train()
    torch.manual_seed(2)
    head = torch.nn.Linear(64, 500, bias=False).to(half.device)
    rows, labels = (x.to(half.device) for x in (torch.randn(40, 64), torch.randint(500, (40,))))
    exact = head(rows).log_softmax(-1)[torch.arange(40), labels]
    with half.autocast():
        plain = head(rows).float().log_softmax(-1)[torch.arange(40), labels]
    spare, _ = forward.label_logp(half, head, rows, labels)
    assert spare.dtype == torch.float32
    assert (spare - exact).abs().max() <= 1.01 * (plain - exact).abs().max()


def test_label_logp_keeps_small_gradients_of_a_text_known_by_heart() -> None:
    """In bfloat16 1 - p has no digits left where p is near 1; its gradient must have them."""
    torch.manual_seed(3)
    weight = torch.randn(300, 64, dtype=torch.float64)
    labels = torch.randint(300, (40,))
    rows = (weight[labels] * torch.rand(40, 1) / 3).bfloat16()  # p from a little to 1 - 1e-8
    results = []
    for format in (torch.bfloat16, torch.float64):
        x, w = rows.to(format).requires_grad_(), weight.bfloat16().to(format).requires_grad_()
        if format == torch.float64:
            logp = (x @ w.T).log_softmax(-1)[torch.arange(40), labels]
        else:
            logp, _ = forward._LabelLogp.apply(x, w, labels)
        results.append((logp, *torch.autograd.grad(logp.sum(), (x, w))))
    logp, exact = results[0][0], results[1][0]
    known = exact > -0.01
    assert known.sum() > 5
    assert (logp - exact).abs().max() < 0.2  # logits of 20 are 1/8 apart
    error = (results[0][1].double() - results[1][1]).norm(dim=-1) / results[1][1].norm(dim=-1)
    assert error[known].max() < 0.3
    assert (results[0][2].double() - results[1][2]).norm() < 0.05 * results[1][2].norm()


def test_pieces_are_for_large_plain_heads() -> None:
    plain, biased = torch.nn.Linear(4, 1 << 12, bias=False), torch.nn.Linear(4, 1 << 12)
    assert forward.in_pieces(plain, 1 << 10)
    assert not forward.in_pieces(plain, (1 << 10) - 1)
    assert not forward.in_pieces(biased, 1 << 10)
    assert not forward.in_pieces(None, 1 << 10)


def test_a_step_in_pieces_is_the_plain_step(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = collate(lm, [encode(lm, s) for s in SAMPLES])
    gradients = []
    for large in (0, 1 << 60):
        monkeypatch.setattr(forward, "LARGE", large)
        model = lm.frozen_copy()
        model.module.requires_grad_(True).train()
        stats = token_stats(model, batch, extras=False)
        (stats.nll.mean() + stats.logit.mean()).backward()
        gradients.append([p.grad for p in model.module.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_compiled_step_is_the_plain_step(lm: LanguageModel) -> None:
    task = Task("t", {"forget": SAMPLES[:6], "retain": SAMPLES[7:]})
    settings = Settings(steps=3, batch_size=4, lr=1e-3, record_every=100)
    plain, fast = (
        unlearn(lm, task, "wga", "uniform", settings=settings.replace(compile=compile)) for compile in (False, True)
    )
    for a, b in zip(plain.events, fast.events, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3, abs=1e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)


def test_without_a_compiler_it_says_so(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        def decoder(**_: Any) -> None:
            raise RuntimeError("no C++ compiler\nand more")

        return decoder

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.raises(UserError, match=r"does not work here \(no C\+\+ compiler\); use compile=false"):
        prepare(lm.frozen_copy(), Settings(compile=True))


def test_pieces_are_for_training_steps_alone(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scorers ask a model at rest for gradients of gradients, which they cannot give."""

    class Used(Exception):
        pass

    def used(*_: Any) -> None:
        raise Used

    monkeypatch.setattr(forward, "LARGE", 0)
    monkeypatch.setattr(forward, "label_logp", used)
    model = lm.frozen_copy()
    model.module.requires_grad_(True)
    batch = collate(model, [encode(model, SAMPLES[0])])
    assert token_stats(model, batch, extras=False).logp.requires_grad
    model.module.train()
    with pytest.raises(Used):
        token_stats(model, batch, extras=False)
