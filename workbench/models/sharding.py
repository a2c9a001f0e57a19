"""A model's weights split over the processes of a run (FSDP2), for models too large for one device."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from workbench.models.adapters import decoder_layers
from workbench.models.distributed import processes
from workbench.models.language_model import LanguageModel, whole
from workbench.models.load import choose_precision, default_device

T = TypeVar("T")


def shard(lm: LanguageModel, device: str | None = None, precision: str | None = None) -> LanguageModel:
    """Split every weight of the model over the processes, in place.

    Each decoder layer is gathered while it computes; the rest (embeddings, last norm, head) while `lm.run` runs.

    Args:
        lm: the whole model, on the CPU: its layers go to the device one by one, which never has to hold all of it.
        device: "cpu" or "cuda"; by default a GPU if there is one.
        precision: as for `models.load`; chosen for the device by default.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    kind = (device or default_device()).partition(":")[0]
    precision = precision or choose_precision(kind, lm.config.hidden_size)
    # Autocast would keep a bfloat16 copy of each whole weight for the backward pass, in every process. Gathering layers
    # in bfloat16 avoids the copy. The head stays float32, since measured logits must be float32.
    half = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    inner = half if precision == "bfloat16" else MixedPrecisionPolicy()
    mesh = init_device_mesh(kind, (processes().world,))
    for part in [*decoder_layers(lm), lm.module]:
        policy = MixedPrecisionPolicy() if part is lm.module else inner
        # The root is resharded after a forward pass too: kept weights would be outdated after the next update.
        fully_shard(part, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        # Each process adds its share of one loss, so gradients are summed, not averaged; gloo has only the plain sum.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    lm.module.run_inside = types.MethodType(_run, lm.module)
    register_fsdp_forward_method(lm.module, "run_inside")
    return replace(lm, precision=precision)


def _run(module: torch.nn.Module, compute: Callable[[], T]) -> T:
    """A method of the sharded module; FSDP gathers the root's weights around it."""
    return compute()


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's share of a whole tensor if `like` is split and has the same shape; else the tensor itself."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def collected(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors on the CPU. All processes must call this; in a sharded run only the main one gets the tensors."""
    keeps = processes().main or not processes().sharded
    tensors_here = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keeps:
            tensors_here[name] = full.cpu().contiguous()
    return tensors_here


def whole_weights(lm: LanguageModel) -> dict[str, Tensor] | None:
    """A sharded model's whole state dict, on the main process's CPU; None where the model is not sharded.

    All processes must call this. Tied weights stay one tensor.
    """
    if not processes().sharded:
        return None
    named = lm.module.state_dict(keep_vars=True)
    full = collected({str(id(tensor)): tensor for tensor in named.values()})
    return {name: full[str(id(tensor))] for name, tensor in named.items() if str(id(tensor)) in full}
