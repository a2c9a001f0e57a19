"""A sample's log-probabilities by the model itself: the reference that attribution is tested against."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from workbench.models.encoding import ANSWER, PROMPT, encode
from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import Sample


class Direct:
    """A sample's log-probabilities by the model itself: no batch, no packing, nothing of the package but `encode`."""

    def __init__(self, lm: LanguageModel, sample: Sample, baseline: str = "eos") -> None:
        self.lm, self.encoding = lm, encode(lm, sample)
        self.table = lm.module.get_input_embeddings().weight.detach()
        self.x = self.table[self.encoding.ids][None]
        self.answer = [i for i, s in enumerate(self.encoding.segments) if s == ANSWER]
        self.free = [i for i, s in enumerate(self.encoding.segments) if s in (PROMPT, ANSWER) and i < self.answer[-1]]
        self.base = self.x.clone()
        vectors = {"eos": self.table[lm.tokenizer.eos_token_id], "zero": 0 * self.table[0], "mean": self.table.mean(0)}
        self.base[0, self.free] = vectors[baseline]
        self.x.requires_grad_()

    def logp(self, x: Tensor, place: int) -> Tensor:
        """Log p of the answer token at `place`, one number a row of x."""
        position = self.answer[place]
        logits = self.lm.module(inputs_embeds=x).logits[:, position - 1]
        return logits.log_softmax(-1)[:, self.encoding.ids[position]]

    def total(self, x: Tensor) -> Tensor:
        logp = self.lm.module(inputs_embeds=x).logits.log_softmax(-1)
        return torch.stack([logp[:, position - 1, self.encoding.ids[position]] for position in self.answer]).sum(0)

    def kept(self, mask: Tensor) -> Tensor:
        """The same where tokens are kept (1) or taken away (0), one row at a time."""
        out = []
        for row in mask:
            x = self.x.detach().clone()
            for keep, position in zip(row, self.free, strict=True):
                if not keep:
                    x[0, position] = self.base[0, position]
            out.append(self.total(x).detach())
        return torch.cat(out)

    def spread(self, values: Tensor) -> np.ndarray:
        """Values of all positions, or of those that may change, as the table has them."""
        full = torch.zeros(len(self.encoding.ids), dtype=torch.float64)
        full[self.free] = values.detach().double()[self.free if len(values) == len(full) else slice(None)]
        return full[[i for i, s in enumerate(self.encoding.segments) if s in (PROMPT, ANSWER)]].numpy()
