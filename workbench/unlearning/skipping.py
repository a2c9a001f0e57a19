"""Saturation skipping: forget tokens with a small gradient leave the batch, and whole samples with them."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.unlearning.batches import MicroBatch

AGAIN = 4  # compute a sample whole every 4th visit: the retain loss may have brought a token back


class Skipping:
    """Which answer tokens of the forget set are computed.

    A token's pull is |d loss / d log p|, times the batch's tokens (or samples): its weight times how far it is from
    saturation, whatever the objective's form. A token is skipped if its pull, when last computed, was below `threshold`
    times the largest pull seen in the run. Tokens after a sample's last computed one are not even read.
    In a sparse step only the `chosen` tokens count. A loss over samples (`whole`) needs all tokens of a sample, so that
    samples are computed or skipped as a whole.

    Attributes:
        pulls: (tokens of the set,) when last computed.
        due: (samples,) visits until a sample is computed whole again.
        greatest: (1,) largest pull seen.
    """

    def __init__(self, tokens: list[int], threshold: float, whole: bool, chosen: list[Tensor] | None = None) -> None:
        self.threshold, self.whole = threshold, whole
        self.chosen = chosen or [torch.ones(count, dtype=torch.bool) for count in tokens]
        self.starts = [sum(tokens[:i]) for i in range(len(tokens))]
        self.tokens = tokens
        self.pulls, self.due, self.greatest = torch.zeros(sum(tokens)), torch.zeros(len(tokens)), torch.zeros(1)
        self._watched: list[tuple[MicroBatch, float, list[Tensor]]] = []

    def mask(self, index: int) -> Tensor:
        """(T,) which answer tokens of a sample are computed."""
        mask = self._of(index) >= self.threshold * self.greatest
        if self.due[index] <= 0 or (self.whole and bool(mask.any())):
            return self.chosen[index]
        return mask & self.chosen[index]

    def watch(self, micro_batch: MicroBatch, scale: float, *values: Tensor | None) -> None:
        """Record the pulls of a micro-batch when its loss goes backward through these (N,) statistics."""
        gradients: list[Tensor] = []
        self._watched.append((micro_batch, scale, gradients))

        def record(gradient: Tensor | None) -> None:
            if gradient is not None:  # None where the loss does not read this statistic
                gradients.append(gradient.detach().abs())

        for value in values:
            if value is not None and value.requires_grad:
                value.register_hook(record)

    def begin(self) -> None:
        """Forget what was watched before: a step begins, or is computed again."""
        self._watched.clear()

    def step_done(self, visited: list[int]) -> None:
        """Take over a step's pulls; `visited` are the samples of its batch, computed or not."""
        for index in set(visited):
            self.due[index] -= 1
        for micro_batch, scale, gradients in self._watched:
            encodings, places = micro_batch.encodings, micro_batch.places
            counts = [len(e.answer_positions) for e in encodings]
            pulls = scale * torch.stack(gradients).sum(0).cpu() if gradients else torch.zeros(sum(counts))
            self.greatest = torch.maximum(self.greatest, pulls.max())
            for row, (index, values) in enumerate(zip(micro_batch.indices, pulls.split(counts), strict=True)):
                if len(values) == int(self.chosen[index].sum()):
                    self._of(index)[self.chosen[index]] = values
                    if self.due[index] < 0:
                        self.due[index] = AGAIN - 1
                elif places is not None:
                    self._of(index)[places[row]] = values
        self._watched.clear()

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {"pulls": self.pulls, "due": self.due, "greatest": self.greatest}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.pulls, self.due, self.greatest = state["pulls"], state["due"], state["greatest"]

    def _of(self, index: int) -> Tensor:
        return self.pulls[self.starts[index] : self.starts[index] + self.tokens[index]]
