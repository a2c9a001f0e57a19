"""Which parameters a run trains: all of them, LoRA adapters (peft), or a chosen set of layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workbench.errors import UserError
from workbench.models.language_model import LanguageModel, quiet
from workbench.models.layer_names import layers_of

ADAPTER = "adapter"
# The projections by which attention reads its input.
READERS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")


def choose_trained(lm: LanguageModel, train: str, *, rank: int = 8, scale: float = 16.0, seed: int = 0) -> None:
    """Switch the gradient on for the parameters that a run trains, and off for all others.

    Args:
        lm: the model, changed in place.
        train: "all"; "lora" for new adapters at every linear layer of the decoder; or decoder layers: "layers:4-6,9".
        rank: of LoRA's two factors.
        scale: LoRA's alpha: the product of the factors is multiplied by alpha / rank.
        seed: of LoRA's first factor; the second is zero, so that the model starts unchanged.

    Raises:
        UserError: `train` is none of these, or names layers that the model does not have.
    """
    if has_adapter(lm):
        raise UserError(f"{lm.name} has an adapter; train a copy (frozen_copy), into which the adapter is merged")
    if train == "lora":
        _add_lora(lm, rank, scale, seed)
        return
    if train == "all":
        lm.module.requires_grad_(True)
        return
    layers = decoder_layers(lm)
    lm.module.requires_grad_(False)
    for chosen in layers_of(train, len(layers)):
        layers[chosen].requires_grad_(True)


def decoder_layers(lm: LanguageModel) -> list[Any]:
    """The decoder's layers, first to last, whatever the architecture calls the list."""
    count = lm.module.config.num_hidden_layers
    lists = [m for m in lm.module.get_decoder().modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if not lists:
        raise UserError(f"{lm.name}: its decoder has no list of {count} layers; use train=all or train=lora")
    return list(lists[0])


def _add_lora(lm: LanguageModel, rank: int, scale: float, seed: int) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=scale, target_modules="all-linear", task_type="CAUSAL_LM")  # type: ignore[arg-type]
    with torch.random.fork_rng([lm.device] if lm.device.type == "cuda" else []):
        torch.manual_seed(seed)
        lm.module.add_adapter(config)


def has_adapter(lm: LanguageModel) -> bool:
    """Whether the model has a LoRA adapter."""
    return bool(getattr(lm.module, "_hf_peft_config_loaded", False))


@contextlib.contextmanager
def without_adapter(lm: LanguageModel) -> Iterator[None]:
    """Switch the model's adapter off for a while."""
    if not has_adapter(lm):
        yield
        return
    lm.module.disable_adapters()
    try:
        yield
    finally:
        lm.module.enable_adapters()


def save_adapter(lm: LanguageModel, folder: Path) -> None:
    """Write the adapter alone, with the name of its base model, as safetensors and JSON."""
    with quiet():
        lm.module.save_pretrained(folder)
    base = str(Path(lm.name).resolve()) if Path(lm.name).exists() else lm.name
    lm.record(folder, base=base)
