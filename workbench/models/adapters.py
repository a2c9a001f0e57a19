"""Which parameters a run trains: all of them, LoRA adapters (peft), or a chosen set of layers."""

from __future__ import annotations

import collections
import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench.errors import UserError, one_line
from workbench.files import write_json
from workbench.models.catalog import BUILT_IN, RECORD, read_record
from workbench.models.language_model import LanguageModel, fingerprint, merge_adapter, quiet
from workbench.models.layer_names import layers_of
from workbench.models.weights import PEFT_PREFIX, misfits, say_stripped, wrapper_pattern, wrappers_in

ADAPTER = "adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # peft's
# What models with experts call the parts of an MLP.
MLP = ("gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")
# The projections by which attention reads its input.
READERS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value")


def choose_trained(lm: LanguageModel, train: str, *, rank: int = 8, scale: float = 16.0, seed: int = 0) -> None:
    """Switch the gradient on for the parameters that a run trains, and off for all others.

    LoRA adds adapters at the decoder's linear layers; experts, and the MLPs beside them, stay as they are.

    Args:
        lm: the model, changed in place.
        train: "all"; "lora" for new adapters; or decoder layers: "layers:4-6,9".
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
    count = lm.config.num_hidden_layers
    lists = [m for m in lm.module.get_decoder().modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    if not lists:
        raise UserError(f"{lm.name}: its decoder has no list of {count} layers; use train=all or train=lora")
    return list(lists[0])


def _add_lora(lm: LanguageModel, rank: int, scale: float, seed: int) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=scale, target_modules=_lora_targets(lm), task_type="CAUSAL_LM")  # type: ignore[arg-type]
    with torch.random.fork_rng([lm.device] if lm.device.type == "cuda" else []), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that GPT-2's layers are transposed, as peft has noticed itself
        torch.manual_seed(seed)
        lm.module.add_adapter(config)


def _lora_targets(lm: LanguageModel) -> list[str]:
    """The decoder's linear layers that an adapter can stand beside, so that merging it changes no other result.

    Left out are weights that layers share, and layers that do more than multiply (some routers). A state-space mixer
    (it has a convolution) calls only its input projection: its kernels take the other weights past any adapter. In a
    model with experts, which are tensors and no layers, all of the MLP is left out: peft would take its layers' names
    for those of experts, as they were called before transformers 5.
    """
    decoder, head = lm.module.get_decoder(), lm.module.get_output_embeddings()
    inside = {id(module) for module in decoder.modules()} - {id(head)}
    uses = collections.Counter(id(p) for m in lm.module.modules() for p in m.parameters(recurse=False))
    experts = any(".experts." in name for name, _ in decoder.named_parameters())
    targets = []
    for owner, module in lm.module.named_modules():
        mixer = any(isinstance(child, torch.nn.Conv1d) for child in module.children())
        for name, child in module.named_children():
            skipped = (experts and name in MLP) or (mixer and not name.startswith("in_proj"))
            if id(child) in inside and not skipped and _multiplies(child) and uses[id(child.weight)] == 1:
                targets.append(f"{owner}.{name}")
    if not targets:
        raise UserError(f"{lm.name}: its decoder has no layers for LoRA; use train=all or train=layers:...")
    return targets


def _multiplies(module: torch.nn.Module) -> bool:
    """Whether a module is a linear layer, or computes what one would."""
    from transformers.pytorch_utils import Conv1D

    if type(module) in (torch.nn.Linear, Conv1D) or not isinstance(module, torch.nn.Linear):
        return type(module) in (torch.nn.Linear, Conv1D)
    with torch.no_grad():
        probe = module.weight.new_ones(1, module.in_features)
        out = module(probe)
        plain = torch.nn.functional.linear(probe, module.weight, module.bias)
    return isinstance(out, torch.Tensor) and out.shape == plain.shape and torch.allclose(out, plain, rtol=1e-3)


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
    """Write the adapter alone, with name and hash of its base model, as safetensors and JSON."""
    with quiet():
        lm.module.save_pretrained(folder)
    settings = read_record(folder / CONFIG)  # peft keeps the layers as a set, whose order is another in every process
    write_json(folder / CONFIG, settings | {"target_modules": sorted(settings["target_modules"])})
    base = lm.name if lm.name in BUILT_IN else str(_place(lm.name) or lm.name)
    record = {"base": base}
    # Merged weights differ in their last bits between machines, and a sharded model is not whole here.
    if not is_adapter(base) and not hasattr(lm.module, "run_inside"):
        record["base_sha256"] = _base_hash(lm)
    lm.record(folder, **record)


def _base_hash(lm: LanguageModel) -> str:
    """The fingerprint that the model had without its adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[tuple[str, Any]] = [(n, m) for n, m in lm.module.named_modules() if isinstance(m, BaseTunerLayer)]
    own = {f"{n}.{part}" for n, m in layers for part in m.state_dict() if not part.startswith("base_layer.")}
    weights = {n: tensor for n, tensor in lm.module.state_dict().items() if n not in own}
    return fingerprint({name.replace(".base_layer.", "."): tensor for name, tensor in weights.items()})


def is_adapter(name: str | Path) -> bool:
    """Whether a name is the directory of an adapter."""
    return str(name) not in BUILT_IN and (Path(name).expanduser() / CONFIG).is_file()


def base_of(folder: Path, hub_name: str | None = None) -> str:
    """The name of an adapter's base model: for an adapter from elsewhere, the one that peft wrote.

    Args:
        folder: of the adapter.
        hub_name: its name on the hub, if it is from there.

    Raises:
        UserError: there is none, it is not here, or it is the adapter itself; or the directory holds a model too.
    """
    passed, at = {folder.resolve()}, folder
    name = _next_base(at)
    while is_adapter(name) or name == hub_name:
        at = Path(name).expanduser()
        if name == hub_name or at.resolve() in passed:
            raise UserError(f"model '{folder}': an adapter whose base model is itself; name a whole model as its base")
        passed.add(at.resolve())
        name = _next_base(at)
    return _next_base(folder)


def _next_base(folder: Path) -> str:
    if any(folder.glob("model*.safetensors")):
        raise UserError(f"model '{folder}': the directory holds a model and an adapter; move one of them elsewhere")
    record = read_record(folder / RECORD) if (folder / RECORD).exists() else {}
    file = RECORD if record.get("base") else CONFIG
    base = record.get("base") or read_record(folder / CONFIG).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        raise UserError(
            f"model '{folder}': the adapter does not name its base model; write it into {CONFIG} as "
            "base_model_name_or_path (a directory or a hub name)"
        )
    if base in BUILT_IN:
        return base
    place = _place(str(folder / base)) or _place(base)
    if place is None and (Path(base).expanduser().is_absolute() or base.count("/") != 1 or base.startswith(".")):
        raise UserError(
            f"model '{folder}': its base model '{base}' is not here; put it there, or write its new place into {file}"
        )
    return str(place or base)


def _place(name: str) -> Path | None:
    """The absolute path of a file or directory; None if it does not exist."""
    path = Path(name).expanduser()
    return path.resolve() if path.exists() else None


def _key(key: str, wrappers: list[str]) -> str:
    """A tensor's name in an adapter's file as transformers wants it: no wrappers; peft leaves out DoRA's `.weight`."""
    plain = re.sub(wrapper_pattern(wrappers), "", key) if wrappers else key
    return re.sub(r"lora_magnitude_vector$", "lora_magnitude_vector.weight", plain)


def load_adapter(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The model with a saved adapter merged into its weights, in place.

    Raises:
        UserError: the adapter is damaged, does not fit the model, or was trained on other weights.
    """
    from safetensors.torch import load_file

    record = read_record(folder / RECORD) if (folder / RECORD).exists() else {}
    expected = record.get("base_sha256")
    if expected is not None and expected != lm.fingerprint():
        raise UserError(f"model '{folder}': the weights of {lm.name} are not those on which the adapter was trained")
    read_record(folder / CONFIG)
    # Its tensors are read here: transformers would take adapter_model.bin too, a pickle.
    conversions = getattr(lm.module, "_weight_conversions", None)
    try:
        tensors = load_file(folder / WEIGHTS)
        wrappers = [each for each in wrappers_in(tensors, ()) if each != PEFT_PREFIX]
        tensors = {_key(key, wrappers): tensor for key, tensor in tensors.items()}
        if wrappers:
            say_stripped(str(folder), wrappers)
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice for those who train it
            report = lm.module.load_adapter(str(folder), adapter_state_dict=tensors, ignore_mismatched_sizes=True)
    except Exception as error:
        raise UserError(f"model '{folder}': the adapter cannot be loaded: {one_line(error)}") from error
    lm.module._weight_conversions = conversions  # else the merged model would be saved under peft's names
    misfits(
        f"model '{folder}': the adapter does not fit {lm.name}", report.to_dict(), "name the base it was trained on"
    )
    try:
        merge_adapter(lm.module).eval()
    except Exception as error:  # kinds of adapters that peft only applies beside the weights, such as aLoRA
        raise UserError(f"model '{folder}': the adapter cannot be merged: {one_line(error)}") from error
    return replace(lm, name=str(folder))
