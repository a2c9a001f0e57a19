"""The reference: kept once, the same as asked anew, and computed only where it is declared."""

from __future__ import annotations

import pytest
import torch

from workbench.cost import Phase
from workbench.models.adapters import choose_trained
from workbench.models.batch import collate
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.objectives import objective
from workbench.tasks.samples import Task
from workbench.unlearning import reference
from workbench.unlearning.reference import Reference
from workbench.unlearning.settings import Settings
from workbench.unlearning.unlearn import unlearn

QUICK = Settings(steps=2, batch_size=4, warmup=1, record_every=2)


@pytest.mark.parametrize("lora", [False, True])
def test_kept_statistics_equal_those_computed_anew(
    lora: bool, full: LanguageModel, small: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept equals what is computed at the step, and neither moves with the model."""
    lm = full.frozen_copy()
    if lora:
        choose_trained(lm, "lora")
    encodings = [encode(lm, s) for s in small.forget]
    arguments = {"seen": range(len(encodings)), "layer": 2, "batch_size": 5}
    kept = Reference(lm, encodings, ("teacher", "states"), Phase(), **arguments)  # type: ignore[arg-type]
    monkeypatch.setattr(reference, "STORED_BYTES", 0)
    again = Reference(lm, encodings, ("teacher", "states"), Phase(), **arguments)  # type: ignore[arg-type]
    assert kept.stored
    assert not again.stored
    assert (again.lm is lm) == lora
    for name, parameter in lm.module.named_parameters():
        if "lora_B" in name or not lora:
            torch.nn.init.normal_(parameter, std=0.1)
    indices = [7, 2, 11]
    batch = collate(lm, [encodings[i] for i in indices])
    a, b = kept.of(indices, batch), again.of(indices, batch)
    assert torch.equal(a.rows, b.rows)
    for name in ("logp", "logit", "logits", "states"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-4)
        assert not getattr(b, name).requires_grad


@pytest.mark.parametrize("name", list(objective))
def test_a_reference_is_computed_where_it_is_declared_only(name: str, full: LanguageModel, small: Task) -> None:
    settings = QUICK.replace(alpha=1.0)
    ledger = unlearn(full, small, name, "uniform", settings=settings).ledger
    needs = set(objective[name].needs)
    assert (ledger.phases["reference"].tokens > 0 if "reference" in ledger.phases else False) == bool(
        needs & {"reference", "teacher"}
    )


def test_samples_that_are_not_seen_are_not_computed(full: LanguageModel, small: Task) -> None:
    cost = Phase()
    encodings = [encode(full, s) for s in small.forget]
    Reference(full, encodings, ("reference",), cost, seen=[3, 3, 5], layer=None, batch_size=4)
    assert cost.tokens == len(encodings[3].ids) + len(encodings[5].ids)
