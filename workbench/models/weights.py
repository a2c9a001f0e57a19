"""Weights from files: each tensor of a model comes from its file, or one line says which do not.

transformers fills what a checkpoint lacks with random numbers and says so in a log. A model like that looks perfectly
forgotten, so here it is an error.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch

from workbench.errors import UserError, note, printable
from workbench.models.catalog import read_record

INDEX = "model.safetensors.index.json"
# What training libraries put around a module (DDP, torch.compile, FSDP, checkpointing, Fabric and DeepSpeed), and PEFT.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
PEFT_PREFIX = "base_model.model"
# Buffers that older checkpoints hold and that models now compute.
COMPUTED = re.compile(
    r"(rotary\w*\.(inv_freq|cos_cached|sin_cached)|(attn|attention)\.((masked_)?bias|causal_mask|embed_positions))$"
)
UNFIT = "its weights do not fit its configuration"
SHOWN = 3  # keys named of each kind


def read_module(name: str, source: str, arguments: dict[str, Any]) -> Any:
    """The transformers model in a directory, or in a GGUF file there, in float32.

    Prefixes that training libraries leave in the names of tensors are taken off, and standard error says so.

    Raises:
        UserError: tensors are missing, left over or of another shape; the index names files outside the directory.
    """
    if not arguments:
        _check_index(name, Path(source))
    module, report = _read(name, source, arguments)
    own = set(module.state_dict())
    wrappers = wrappers_in(report["unexpected_keys"], {part for key in own for part in key.split(".")})
    plain = {re.sub(wrapper_pattern(wrappers), "", key) for key in report["unexpected_keys"]} if wrappers else set()
    if report["missing_keys"] and plain and not plain & (own - report["missing_keys"]):  # else it would be there twice
        say_stripped(name, wrappers)
        del module
        # One renaming takes off what stands in one place; names like model._orig_mod.layers.0._orig_mod need several.
        renaming = {wrapper_pattern(wrappers) + "(?:)" * place: "" for place in range(4)}
        module, report = _read(name, source, arguments, key_mapping=renaming)
        # transformers would put the prefixes back when it saves the model.
        kept = [each for each in module._weight_conversions if not set(each.source_patterns) & set(renaming)]
        module._weight_conversions = kept
    if arguments.get("gguf_file"):
        report["unexpected_keys"] = _gguf_left_over(Path(source, arguments["gguf_file"]), bool(report["missing_keys"]))
    misfits(f"model '{name}': {UNFIT}", report, "give a whole checkpoint of this model")
    return module


def _read(name: str, source: str, arguments: dict[str, Any], **more: Any) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModelForCausalLM

    # Never code from a repository, never pickles. By default transformers asks about code in the terminal.
    safe = {} if arguments.get("gguf_file") else {"use_safetensors": True}
    options = {"dtype": torch.float32, "trust_remote_code": False, "ignore_mismatched_sizes": True}
    reader: Any = AutoModelForCausalLM
    try:
        module, report = reader.from_pretrained(
            source, output_loading_info=True, **options, **safe, **arguments, **more
        )
    except RuntimeError as error:
        unfit = _some(_unconverted(error), "cannot be put together from the file")
        if not unfit:
            raise
        raise UserError(f"model '{name}': {UNFIT}: {unfit}") from error
    return module, report


def _unconverted(error: RuntimeError) -> list[str]:
    """Tensors that could not be made of those in the file (experts, split projections).

    transformers logs their names and raises an error without them; the frame that raised it still has them.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        unconverted = getattr(frame.f_locals.get("loading_info"), "conversion_errors", None)
        if unconverted:
            return list(unconverted)
    return []


def _gguf_left_over(file: Path, all_of_them: bool) -> list[str]:
    """Tensors of a GGUF file in layers that it should not have, or all that its architecture does not know.

    transformers passes over them. The second list may name what only a newer gguf knows, so it is not an error itself.
    """
    from gguf import MODEL_ARCH_NAMES, GGUFReader, get_tensor_name_map

    reader = GGUFReader(file)
    kind = reader.fields["general.architecture"].contents()
    layers = int(reader.fields[f"{kind}.block_count"].contents())
    architecture = next((each for each, name in MODEL_ARCH_NAMES.items() if name == kind), None)
    if architecture is None:
        return []
    known = {name for _, name in get_tensor_name_map(architecture, layers).mapping.values()}
    left = [tensor.name for tensor in reader.tensors if tensor.name.rpartition(".")[0] not in known]
    deeper = re.compile(r"blk\.(\d+)\.")
    return [name for name in left if all_of_them or ((at := deeper.match(name)) and int(at[1]) >= layers)]


def wrapper_pattern(wrappers: Iterable[str]) -> str:
    """A regular expression for wrappers' names, one or several together, between the dots of a tensor's name."""
    return rf"(?:^|(?<=\.))(?:(?:{'|'.join(re.escape(each) for each in wrappers)})\.)+"


def wrappers_in(keys: Collection[str], own: Collection[str]) -> list[str]:
    """The wrappers that occur in names of tensors, without those that the model itself uses as names."""
    candidates = [each for each in (*WRAPPERS, PEFT_PREFIX) if each not in own]
    return [each for each in candidates if any(f".{each}." in f".{key}" for key in keys)]


def say_stripped(name: str, wrappers: Iterable[str]) -> None:
    """Say which wrappers' names do not count."""
    line = f"workbench: model '{name}': {', '.join(wrappers)} taken off the names of its tensors"
    note(line)


def misfits(what: str, report: dict[str, Any], advice: str) -> None:
    """Raise where tensors are missing, left over, or of another shape; `report` is transformers' loading info."""
    left = [key for key in report["unexpected_keys"] if not COMPUTED.search(key)]
    shapes = [f"{key} {list(file)}, not {list(model)}" for key, file, model in report["mismatched_keys"]]
    parts = [_some(report["missing_keys"], "missing"), _some(left, "unexpected"), _some(shapes, "of another shape")]
    if any(parts):
        raise UserError(f"{what}: {'; '.join(part for part in parts if part)}; {advice}")


def _some(keys: Collection[str], what: str) -> str:
    if not keys:
        return ""
    names = [printable(key, 120) for key in sorted(keys)]
    return f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"


def _check_index(name: str, folder: Path) -> None:
    """Raise where the index of a checkpoint in several files cannot be used, or names a file that is not beside it."""
    own = read_record(folder / "config.json").get("transformers_weights")  # another name for the weights or their index
    for file in (folder / INDEX, folder / str(own)):
        if not file.name.endswith(".index.json") or not file.exists():
            continue
        record = read_record(file)
        files = record.get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(each, str) for each in files.values()):
            raise UserError(f"model '{name}': {file.name} has no weight_map of tensors and files; it is damaged")
        if not isinstance(record.get("metadata"), dict):
            raise UserError(f"model '{name}': {file.name} has no metadata; an empty object there will do")
        outside = sorted({each for each in files.values() if Path(each).is_absolute() or ".." in Path(each).parts})
        if outside:
            where = printable(outside[0], 120)
            raise UserError(f"model '{name}': {file.name} names files outside its directory ({where}); none is read")
