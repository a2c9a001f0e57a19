"""A model's weights split over the processes of a run (FSDP2), for models that one device does not hold."""

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
    """The model with every weight split over the processes, in place.

    Each decoder layer is gathered while it computes, and the rest (embeddings, last norm, head) while `lm.run` does.

    Args:
        lm: the whole model, on the CPU: a layer at a time goes to the device, so that it never has to hold all.
        device: "cpu" or "cuda"; a GPU where there is one by default.
        precision: as `models.load`; chosen for the device by default.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

    kind = (device or default_device()).partition(":")[0]
    precision = precision or choose_precision(kind, lm.module.config.hidden_size)
    # Autocast keeps a bfloat16 copy of each whole weight for the backward pass, in every process. Layers are gathered
    # in bfloat16 instead, so that there is nothing to copy; the head stays float32, as measured logits are.
    half = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    inner = half if precision == "bfloat16" else MixedPrecisionPolicy()
    mesh = init_device_mesh(kind, (processes().world,))
    for part in [*decoder_layers(lm), lm.module]:
        policy = MixedPrecisionPolicy() if part is lm.module else inner
        # The root too gives its weights back after a forward: kept, they would be those from before the next update.
        fully_shard(part, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        # Each process adds its share of one loss: the sum is meant, not the mean; a plain one, which gloo has too.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    lm.module.run_inside = types.MethodType(_run, lm.module)
    register_fsdp_forward_method(lm.module, "run_inside")
    return replace(lm, precision=precision)


def _run(module: torch.nn.Module, compute: Callable[[], T]) -> T:
    return compute()


def split_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's share of a whole tensor, where `like` is split and of that shape; else the tensor itself."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def collected(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whole and on the CPU. All processes must ask for them; of a sharded run the main one alone gets them."""
    keeps = processes().main or not processes().sharded
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keeps:
            found[name] = full.cpu().contiguous()
    return found


def whole_weights(lm: LanguageModel) -> dict[str, Tensor] | None:
    """A sharded model's state dict, whole and on the main process's CPU; None where the model is not sharded.

    All processes must ask for it. Tied weights stay one tensor.
    """
    if not processes().sharded:
        return None
    named = lm.module.state_dict(keep_vars=True)
    full = collected({str(id(tensor)): tensor for tensor in named.values()})
    return {name: full[str(id(tensor))] for name, tensor in named.items() if str(id(tensor)) in full}
