"""An objective's options tried on a few tokens, so that what cannot be computed is refused before a model is loaded."""

from __future__ import annotations

from typing import Any

import torch

from workbench.errors import UserError
from workbench.models import TokenStats
from workbench.objectives import ForgetTokens, objective


def check_options(name: str, options: dict[str, Any]) -> None:
    """Raise for options of an objective with which its loss is no finite number.

    Raises:
        UserError: no such objective, an option that it does not take, or a value that cannot be.
    """
    entry = objective[name]
    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    try:
        loss = float(entry.function(_tokens(), **options))
    except UserError:
        raise
    except Exception as error:  # a division by zero, a number too large, an option of another type
        raise UserError(f"objective '{name}' cannot be computed with {shown}: {error}; choose another value") from None
    if options and not torch.isfinite(torch.tensor(loss)):
        raise UserError(f"objective '{name}' with {shown} is {loss}, not a finite number; choose another value")


def _tokens() -> ForgetTokens:
    """Three answer tokens of two samples, with all that an objective may need."""

    def stats(shift: float) -> TokenStats:
        logits = torch.arange(21.0).reshape(3, 7).sin() + shift * torch.eye(3, 7)
        labels, rows = torch.tensor([1, 4, 2]), torch.tensor([0, 0, 1])
        logit = logits.gather(-1, labels[:, None])[:, 0]
        logp = logit - logits.logsumexp(-1)
        return TokenStats(rows, labels, logp, 2, logits=logits, logit=logit, states=logits[:, :4])

    now, before = stats(0.0), stats(0.5)
    refusal = torch.tensor([3, 5])
    return ForgetTokens(now, torch.tensor([1.0, 0.5, 1.5]), before, now, before, refusal)
