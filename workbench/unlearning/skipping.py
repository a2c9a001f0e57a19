"""Saturation skipping: forget tokens that pull no more leave the batch, and whole samples with them."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.unlearning.batches import Part

AGAIN = 4  # every so-manieth visit a sample is computed whole: what repair brought back pulls again


class Skipping:
    """Which answer tokens of the forget set are computed.

    A token's pull is |d loss / d log p|, times the batch's tokens (or samples): its weight times how far it is from
    saturation, whatever the objective's form. Tokens whose pull, when last computed, was below `threshold` times the
    greatest pull seen in the run are left out, and what follows a sample's last pulling token is not computed at all.
    A loss over samples (`whole`) needs all of a sample's tokens: there a sample stays or leaves.

    Attributes:
        pulls: (tokens of the set,) when last computed.
        due: (samples,) visits until a sample is computed whole again.
        greatest: (1,) greatest pull seen.
    """

    def __init__(self, tokens: list[int], threshold: float, whole: bool) -> None:
        self.threshold, self.whole = threshold, whole
        self.starts = [sum(tokens[:i]) for i in range(len(tokens))]
        self.tokens = tokens
        self.pulls, self.due, self.greatest = torch.zeros(sum(tokens)), torch.zeros(len(tokens)), torch.zeros(1)
        self._seen: list[tuple[Part, float, list[Tensor]]] = []

    def kept(self, index: int) -> Tensor:
        """(T,) which answer tokens of a sample are computed."""
        mask = self._of(index) >= self.threshold * self.greatest
        if self.due[index] <= 0 or (self.whole and bool(mask.any())):
            return torch.ones_like(mask)
        return mask

    def watch(self, part: Part, scale: float, *values: Tensor | None) -> None:
        """Learn a part's pulls when its loss goes backward through these (N,) statistics of its tokens."""
        found: list[Tensor] = []
        self._seen.append((part, scale, found))

        def note(gradient: Tensor | None) -> None:
            if gradient is not None:  # as it is where a loss does not read what was computed along with the rest
                found.append(gradient.detach().abs())

        for value in values:
            if value is not None and value.requires_grad:
                value.register_hook(note)

    def begin(self) -> None:
        """A step begins, or is computed anew: what was watched before does not count."""
        self._seen.clear()

    def step_done(self, visited: list[int]) -> None:
        """Take over what a step's parts pulled; `visited` are the samples of its batch, computed or not."""
        for index in set(visited):
            self.due[index] -= 1
        for part, scale, found in self._seen:
            pulls = scale * torch.stack(found).sum(0).cpu() if found else torch.zeros(len(part.batch.rows))
            self.greatest = torch.maximum(self.greatest, pulls.max())
            counts = [len(e.answer_positions) for e in part.encodings]
            for place, (index, values) in enumerate(zip(part.indices, pulls.split(counts), strict=True)):
                if len(values) == self.tokens[index]:
                    self._of(index).copy_(values)
                    if self.due[index] < 0:
                        self.due[index] = AGAIN - 1
                elif part.kept is not None:
                    self._of(index)[part.kept[place]] = values
        self._seen.clear()

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        return {"pulls": self.pulls, "due": self.due, "greatest": self.greatest}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.pulls, self.due, self.greatest = state["pulls"], state["due"], state["greatest"]

    def _of(self, index: int) -> Tensor:
        return self.pulls[self.starts[index] : self.starts[index] + self.tokens[index]]
