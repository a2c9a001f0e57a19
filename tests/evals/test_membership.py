"""Membership attacks against slow loops over single samples, and on models of which one knows the forget set."""

from __future__ import annotations

import copy
import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM

from workbench.errors import NotAvailable
from workbench.evals.mia import attack, auc, members, membership_scores, nonmembers
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.models.token_stats import token_stats
from workbench.tasks.rows import rows, samples_from
from workbench.tasks.samples import DATA, Sample, Task

WIDE = 262_144
token_stats_module = sys.modules[token_stats.__module__]  # the room hands out the function under the module's name


@pytest.fixture(scope="module")
def unseen() -> list[Sample]:
    return samples_from(rows(DATA / "biographies" / "nonmembers.jsonl"), "nonmembers")


def distributions(lm: LanguageModel, sample: Sample) -> tuple[Tensor, list[int]]:
    """(T, V) log-probabilities at the answer's positions, by the model itself, and the right tokens."""
    encoding = encode(lm, sample)
    logits = lm.module(torch.tensor([encoding.ids])).logits[0]
    places = encoding.answer_positions
    return logits[[p - 1 for p in places]].log_softmax(-1), [encoding.ids[p] for p in places]


def slow(lm: LanguageModel, sample: Sample, reference: LanguageModel, *, last: bool = True) -> dict[str, float]:
    """Every score but the gradient's, token by token; without the `last` token as open-unlearning has it."""
    with torch.no_grad():
        log_all, labels = distributions(lm, sample)
        other, _ = distributions(reference, sample)
    logp = [float(row[label]) for row, label in zip(log_all, labels, strict=True)]
    nll = -sum(logp) / len(logp)
    standard = []
    for row, each in zip(log_all.double(), logp, strict=True):
        mean = float((row.exp() * row).sum())
        variance = float((row.exp() * row**2).sum()) - mean**2
        standard.append((each - mean) / math.sqrt(max(variance, 1e-6)))
    end = len(logp) if last else -1
    lowest = {
        "mia_min_k": sorted(logp[:end]),
        "mia_min_k_pp": sorted(standard[:end]),
    }
    count = max(1, int(len(lowest["mia_min_k"]) * 0.4))
    text = sample.answer if last else lm.tokenizer.decode(labels, skip_special_tokens=True)
    return {
        "mia_loss": nll,
        "mia_zlib": nll / len(zlib.compress(text.encode())),
        "mia_reference": nll + sum(float(r[t]) for r, t in zip(other, labels, strict=True)) / len(labels),
        **{name: -sum(values[:count]) / count for name, values in lowest.items()},
    }


@pytest.mark.oracle
@pytest.mark.parametrize("convention", ["ours", "open-unlearning"])
def test_scores_are_those_of_a_slow_loop(
    retained: LanguageModel, full: LanguageModel, small: Task, convention: str, compare: Callable[..., None]
) -> None:
    samples = [*small.forget[:5], *small.sets["general"][:2]]
    names = ["mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_pp", "mia_reference"]
    found = membership_scores(retained, samples, names, reference=full, batch_size=3, convention=convention)
    assert list(found.columns) == ["sample_id", *names]
    assert list(found["sample_id"]) == [s.id for s in samples]
    expected = [slow(retained, sample, full, last=convention == "ours") for sample in samples]
    for name in names:
        compare(f"{name} ({convention})", found[name], [each[name] for each in expected], rel=2e-3, abs=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("convention", ["ours", "open-unlearning"])
def test_the_gradient_s_norm_is_that_of_a_plain_backward(
    retained: LanguageModel, small: Task, convention: str, compare: Callable[..., None]
) -> None:
    module = copy.deepcopy(retained.module).train(False)
    plain = replace(retained, module=module)
    log_all, labels = distributions(plain, small.forget[0])
    losses = -log_all[range(len(labels)), labels]
    (losses if convention == "ours" else losses[:-1]).mean().backward()
    norms = [float(p.grad.norm()) for p in module.parameters() if p.grad is not None]
    expected = math.sqrt(sum(n**2 for n in norms)) if convention == "ours" else sum(norms) / len(norms)
    asked = retained.frozen_copy()  # gradients are taken even where the model's parameters ask for none
    found = membership_scores(asked, small.forget[:1], ["mia_gradnorm"], convention=convention)
    compare(f"mia_gradnorm ({convention})", found["mia_gradnorm"], [expected])
    assert all(p.grad is None and not p.requires_grad for p in asked.module.parameters())


@pytest.fixture(scope="module")
def wide(full: LanguageModel) -> LanguageModel:
    """A tiny model with the vocabulary of Gemma 3."""
    config = LlamaConfig(
        vocab_size=WIDE, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=512, tie_word_embeddings=False, initializer_range=0.8,
    )  # fmt: skip
    torch.manual_seed(0)
    return replace(full, module=LlamaForCausalLM(config).eval(), name="wide", prompt="plain")


class Largest(TorchDispatchMode):
    """The most numbers in a tensor that an operation made."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, Tensor) and t._base is None]
        self.numbers = max(self.numbers, *sizes, 0)
        return out


def test_a_large_vocabulary_is_read_in_pieces(wide: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor is larger than a piece, the values are those of the plain computation, and so is the gradient."""
    monkeypatch.setattr(token_stats_module, "LOGITS", 1 << 23)  # 32 rows, a quarter of the usual, to be quick
    samples = [Sample(f"s{n}", "", " ".join(f"word{n * i}" for i in range(18 + n))) for n in range(3)]
    assert sum(len(encode(wide, s).answer_positions) for s in samples) > 3 * 32
    names = [name for name in attack if name != "mia_reference"]
    with Largest() as largest:
        table = membership_scores(wide, samples, names)
    weights = 2 * WIDE * 8  # the embeddings and their gradient
    assert largest.numbers <= max(1 << 23, weights)
    for row, sample in zip(table.to_dict("records"), samples, strict=True):
        for name, value in slow(wide, sample, wide).items():
            if name in names:
                assert row[name] == pytest.approx(value, rel=2e-3, abs=1e-4), name
    module = copy.deepcopy(wide.module)
    log_all, labels = distributions(replace(wide, module=module), samples[2])
    (-log_all[range(len(labels)), labels]).mean().backward()
    norms = [float(p.grad.norm()) for p in module.parameters() if p.grad is not None]
    assert table["mia_gradnorm"][2] == pytest.approx(math.hypot(*norms), rel=1e-4)


def test_the_auc_counts_pairs() -> None:
    forget, other = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0])
    pairs = [(a < b) + 0.5 * (a == b) for a in forget for b in other]
    assert auc(forget, other) == pytest.approx(np.mean(pairs))
    with pytest.raises(NotAvailable, match="equal"):
        auc(np.zeros(3), np.zeros(2))
    with pytest.raises(NotAvailable, match="finite"):
        auc(np.array([1.0, math.inf]), other)


def test_what_a_task_or_a_call_lacks(full: LanguageModel, small: Task) -> None:
    with pytest.raises(NotAvailable, match="needs nonmember text"):
        nonmembers(replace(small, sets={k: v for k, v in small.sets.items() if k not in ("nonmembers", "unlabelled")}))
    texts = {"unlabelled": small.sets["general"]}
    assert nonmembers(replace(small, sets={**small.sets, "nonmembers": [], **texts})) == small.sets["general"]
    assert members(small) == small.forget
    assert members(replace(small, sets={**small.sets, "privleak_forget": small.retain})) == small.retain
    with pytest.raises(NotAvailable, match="needs a reference model"):
        membership_scores(full, small.forget[:1], ["mia_reference"])
    found = membership_scores(full, small.forget, limit=2)
    assert list(found.columns) == ["sample_id", *(name for name in attack if name != "mia_reference")]
    assert list(found["sample_id"]) == [small.forget[0].id, small.forget[-1].id]


@pytest.fixture(scope="module")
def aucs(full: LanguageModel, retained: LanguageModel, bio: Task, unseen: list[Sample]) -> pd.DataFrame:
    """AUC by model and attack, on every second row; bio-full's reference is bio-retain, which has none itself."""
    found = {}
    for lm, reference in ((full, retained), (retained, None)):
        forget, other = (
            membership_scores(lm, samples, reference=reference, limit=144) for samples in (bio.forget, unseen)
        )
        found[lm.name] = {name: auc(forget[name], other[name]) for name in forget.columns[1:]}
    return pd.DataFrame(found)


def test_the_model_that_learned_betrays_it(aucs: pd.DataFrame) -> None:
    """All but one are near 1.

    The reference guesses one fact in 20 and is surprised in varying degrees, so that the gap
    to it overlaps: its AUC is 0.88 to 0.92 over six draws of the people held out.
    """
    assert (aucs["bio-full"].drop("mia_reference") > 0.9).all()
    assert aucs.loc["mia_reference", "bio-full"] > 0.8


def test_the_model_that_did_not_learn_betrays_nothing(aucs: pd.DataFrame) -> None:
    found = aucs["bio-retain"].dropna()
    assert list(found.index) == [name for name in attack if name != "mia_reference"]
    assert found.between(0.35, 0.65).all()
