"""Two passes through one model, layer by layer in turn, each of which attends to the keys and values of both.

One is computed with gradient and one without. So a position whose gradient nobody needs is computed once, forward only,
and the others see it as it is now.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import Tensor


def inserted(base: Tensor, index: Tensor, fresh: Tensor) -> Tensor:
    """Keys or values of all positions, with fresh ones in their places.

    Args:
        base: (B, H, all, D).
        index: (B, S) places of the fresh ones.
        fresh: (B, H, S, D).
    """
    base = base.to(fresh.dtype)
    if len(index) == 1:
        return base.index_copy(2, index[0], fresh)
    return base.scatter(2, index[:, None, :, None].expand_as(fresh), fresh)


@functools.cache
def _meeting() -> type:
    """The cache by which the two passes meet; defined on demand, since transformers' takes seconds to import."""
    from transformers import DynamicCache

    class Meeting(DynamicCache):
        """Where the passes leave their keys and values; which of them calls is told by the greenlet it runs in."""

        def __init__(self, run: Callable[[Any], Any], index: Tensor, other_index: Tensor, places: int) -> None:
            super().__init__()
            self.index, self.other_index, self.places = index, other_index, places
            self.main = getcurrent()
            self.base: list[Tensor] = []  # of the layer: keys and values of the other pass, in their places
            self.every: tuple[Tensor, Tensor]  # of the layer: those of both passes, without gradient
            self.other = greenlet(lambda: run(self))

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            fresh = (key_states, value_states)
            if getcurrent() is self.other:
                self.base = [inserted(self._empty(each), self.other_index, each) for each in fresh]
                self.main.switch()  # until the main pass comes to the next layer
                return self.every
            # Autocast casts a weight once for both: this pass comes to each first, so that the cast has a gradient.
            with torch.no_grad():
                self.other.switch()  # until the other pass comes to this layer's attention
            if self.other.dead:
                raise RuntimeError("two passes in lockstep do not meet in every layer")
            keys, values = (inserted(old, self.index, now) for old, now in zip(self.base, fresh, strict=True))
            self.every = keys.detach(), values.detach()
            return keys, values

        def _empty(self, fresh: Tensor) -> Tensor:
            samples, heads, _, size = fresh.shape
            return fresh.new_zeros(samples, heads, self.places, size)

    return Meeting


def meeting(run: Callable[[Any], Any], index: Tensor, other_index: Tensor, places: int) -> Any:
    """A cache for a pass with gradient, which lets another pass without gradient go along with it.

    The other pass stands still after the last layer's keys and values, and ends with the cache. An error in it
    is raised in the pass with gradient.

    Args:
        run: the other pass, with the cache that it is to use.
        index: (B, S) places of the positions with gradient among those of all.
        other_index: (B, R) places of the others; where both have one, the position with gradient counts.
        places: how many places there are in a row.
    """
    return _meeting()(run, index, other_index, places)
