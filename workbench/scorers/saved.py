"""Learned scorers on disk: safetensors with the scorer's kind and options as metadata."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.files import parse_json
from workbench.models import LanguageModel, TokenStats, encode, in_sample_order, split
from workbench.scorers.amortised import LinearMap
from workbench.scorers.atwu import AtwuScorer
from workbench.scorers.base import passes
from workbench.scorers.learned import LearnedScorer
from workbench.scorers.table import score_table
from workbench.tasks import Sample


class Learned(Protocol):
    """A scorer that is a function of hidden states."""

    name: Any
    hidden: Any
    layer: Any
    state: dict[str, Tensor]

    def scores(self, stats: TokenStats) -> Tensor:
        """(N,) scores of a batch's answer tokens, from `stats.hidden`."""


KINDS: dict[str, Any] = {"atwu": AtwuScorer, "learned": LearnedScorer, "amortised": LinearMap}


def save_scorer(learned: Any, path: Path) -> None:
    """Write a learned scorer: its tensors, with its kind and options as metadata."""
    from safetensors.torch import save_file

    kind = next(name for name, made in KINDS.items() if isinstance(learned, made))
    options = {f.name: getattr(learned, f.name) for f in fields(learned) if f.name not in ("state", "device")}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in learned.state.items()}
    # In one entry, since safetensors writes several in a random order: the same scorer is the same file.
    save_file(tensors, path, metadata={"scorer": json.dumps({"kind": kind, "options": options})})


def load_scorer(path: Path, device: str = "cpu") -> Any:
    """Read a learned scorer; UserError for no such file, or not one that `save_scorer` wrote."""
    from safetensors import safe_open

    if not path.is_file():
        raise UserError(f"{path}: no such file; give a learned scorer, made by `workbench score --save`")
    try:
        with safe_open(path, framework="pt", device=device) as stream:
            metadata = stream.metadata() or {}
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
        older = "scorer" not in metadata  # it had an entry for each
        record = metadata | {"options": parse_json(metadata["options"])} if older else parse_json(metadata["scorer"])
        made = KINDS[record["kind"]](**record["options"], state=state, device=device)
        made.scores(_nothing(state["shift"].numel(), device))  # every tensor is there and fits
        return made
    except Exception as error:  # whatever a scorer raises for options that mean nothing
        raise UserError(
            f"{path}: no learned scorer ({type(error).__name__}); make one with `workbench score --save`"
        ) from error


def _nothing(width: int, device: str) -> TokenStats:
    """Statistics of one token whose state is zero."""
    one = torch.zeros(1, dtype=torch.long, device=device)
    return TokenStats(one, one, torch.zeros(1, device=device), 1, hidden=torch.zeros(1, width, device=device))


def check_fits(learned: Learned, lm: LanguageModel) -> None:
    """Raise where a scorer was made for states of another width than the model's, or of layers that it lacks."""
    layers = (learned.layer,) if isinstance(learned.layer, int) else learned.layer
    width, own = learned.state["shift"].numel() // len(layers), lm.config.hidden_size
    if width != own:
        raise UserError(f"the scorer reads states of {width} numbers, and {lm.name} has {own}; use its own model")
    count = lm.config.num_hidden_layers
    if not all(isinstance(layer, int) and -count - 1 <= layer <= count for layer in layers):
        raise UserError(f"the scorer reads states of layer {layers[-1]}, and {lm.name} has {count}; use its own model")


@torch.no_grad()
def apply_scorer(learned: Learned, lm: LanguageModel, samples: list[Sample], *, task: str = "") -> pd.DataFrame:
    """The score table of a learned scorer applied to states of any samples; UserError for a model of another width."""
    check_fits(learned, lm)
    encodings = [encode(lm, s) for s in samples]
    each = passes(lm, encodings, 16, extras=False, hidden=learned.hidden, layer=learned.layer)
    scores = in_sample_order((indices, split(learned.scores(stats), stats)) for indices, _, stats in each)
    return score_table(encodings, scores, task=task, scorer=learned.name, step=0)
