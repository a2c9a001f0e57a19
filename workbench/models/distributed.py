"""The processes of one run: alone by default; several on GPUs or nodes when started by `accelerate launch`."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from workbench.errors import UserError

T = TypeVar("T")
BUCKET = 1 << 24  # gradient elements per all-reduce


class Processes:
    """This process's place among a run's processes, and their communication, which is a no-op for a single process.

    A batch is split over the processes, and every process computes its share of the batch's loss: the sum of the
    gradients is the gradient of the whole batch, whatever the number of processes.

    Attributes:
        rank: this process's number, from 0.
        world: how many there are.
        sharded: whether each process holds a share of the model's weights (see `sharding`) instead of all.
    """

    def __init__(self) -> None:
        self.rank, self.world, self.sharded = 0, 1, False
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self.sharded = _asks_to_shard()
            from accelerate import PartialState

            state = PartialState(cpu=_true("ACCELERATE_USE_CPU") or not torch.cuda.is_available())
            self.rank, self.world = state.process_index, state.num_processes

    @property
    def main(self) -> bool:
        """Whether this process writes the files and the messages."""
        return self.rank == 0

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a batch.

        Raises:
            UserError: the batch cannot be split evenly.
        """
        if len(items) % self.world:
            fits = len(items) // self.world * self.world
            raise UserError(
                f"a batch of {len(items)} cannot be split evenly over {self.world} processes; "
                f"set batch_size to a multiple{f', such as {fits}' if fits else ''}"
            )
        size = len(items) // self.world
        return items[self.rank * size : (self.rank + 1) * size]

    def add_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over the processes; those of split weights are already summed."""
        if self.world == 1:
            return
        bucket: list[Tensor] = []
        for parameter in parameters:
            if hasattr(parameter, "full_tensor"):
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            bucket.append(parameter.grad)
            if sum(g.numel() for g in bucket) >= BUCKET:
                _sum_in_place(bucket)
                bucket = []
        _sum_in_place(bucket)

    def total(self, values: dict[str, float]) -> dict[str, float]:
        """The sum of each value over the processes."""
        if self.world == 1:
            return values
        sums = torch.tensor(list(values.values()), dtype=torch.float64, device=_device())
        torch.distributed.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.total({"flag": float(flag)})["flag"])

    def concatenated(self, value: Tensor) -> Tensor:
        """The tensors (n, ...) of all processes concatenated; their lengths may differ."""
        return value if self.world == 1 else torch.cat(self.gather(value.cpu())).to(value.device)

    def gather(self, value: Any) -> list[Any]:
        """The object of each process, in the order of their ranks."""
        if self.world == 1:
            return [value]
        out: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(out, value)
        return out

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.world > 1:
            torch.distributed.barrier()


@functools.cache
def processes() -> Processes:
    """This process's `Processes`, made once."""
    return Processes()


def _true(name: str) -> bool:
    """Whether an environment variable of accelerate is set to true."""
    return os.environ.get(name, "").lower() in ("1", "true", "yes")


def _asks_to_shard() -> bool:
    """Whether accelerate is configured to shard the model.

    Raises:
        UserError: it is configured in a way that a run does not support.
    """
    if _true("ACCELERATE_USE_DEEPSPEED"):
        raise UserError("accelerate is set to DEEPSPEED, which a run cannot use; set it to FSDP with fsdp_version 2")
    if not _true("ACCELERATE_USE_FSDP"):
        return False
    if os.environ.get("FSDP_VERSION") != "2":
        raise UserError("accelerate is set to FSDP of version 1, and a run shards by version 2; set fsdp_version to 2")
    # A run shards its model itself; with this variable accelerate and transformers would prepare for their own way.
    del os.environ["ACCELERATE_USE_FSDP"]
    return True


def _device() -> torch.device:
    """The device on which tensors must be to be communicated."""
    gpu = torch.distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def _sum_in_place(tensors: list[Tensor]) -> None:
    if tensors:
        flat = torch.cat([t.reshape(-1) for t in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
