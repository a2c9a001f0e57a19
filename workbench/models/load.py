"""Language models by hub name, directory, `.gguf` file or built-in name; device, number format and prompt style."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench import cores
from workbench.errors import UserError, one_line, printable
from workbench.models.adapters import base_of, is_adapter, load_adapter
from workbench.models.catalog import locate
from workbench.models.checks import check_directory, check_tokenizer, guard_embedding
from workbench.models.hub import fetch
from workbench.models.language_model import LanguageModel, Prompt, quiet
from workbench.models.prompt_style import decided_style, describe, recorded_style
from workbench.models.weights import read_module

LONGEST = 255  # characters that a file's name may have


def default_device() -> str:
    """The GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 products (AVX-512 bf16 or AMX); others emulate them."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def choose_precision(device: str, width: int) -> str:
    """The number format of a model's matrix products on a device, by what the processor can do: never by a stopwatch.

    "bfloat16" on a GPU that has it, and on a CPU that has it for models at least 256 wide, below which the conversions
    cost more than the products save; else "float32".
    """
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if width >= 256 and has_bfloat16() else "float32"


def load(
    name: str,
    *,
    device: str | None = None,
    precision: str | None = None,
    prompt: Prompt | None = None,
    system: str | None = None,
    date: str | None = None,
) -> LanguageModel:
    """Load a model for reading and training.

    Args:
        name: built-in name (`bio-full`, `bio-retain`, `smollm2`), directory (of a model, or of an adapter from a run or
            from peft, which names its base model), `.gguf` file, or hub name.
        device: "cpu", "cuda", "cuda:1", ...; by default a GPU if there is one.
        precision: "float32" or "bfloat16" (autocast, weights stay float32); chosen by default.
        prompt: "chat" or "plain"; by default what the model's directory says, else chat if there is a template.
        system: the system message of chats; by default what the model's directory says, else none.
        date: ISO, what chat templates that write the day's date write; by default what the model's directory says,
            else 2024-07-26, so that a prompt is the same tomorrow.

    Raises:
        UserError: no such model, or files or a chat template that cannot be used.
    """
    style: dict[str, Any] = {"prompt": prompt, "system": system, "date": date}
    if max(map(len, name.split("/"))) > LONGEST:
        raise UserError(
            f"a model is a name or a directory, not a text of {len(name)} characters: {printable(name, 40)}"
        )
    if is_adapter(name):
        folder = Path(name).expanduser()
        style = recorded_style(style, folder)
        return load_adapter(load(base_of(folder), device=device, precision=precision, **style), folder)
    device = _device(device or default_device())
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:  # torch knows nothing of a container's quota
        torch.set_num_threads(min(torch.get_num_threads(), cores.usable_cores()))
    source, arguments = locate(name)
    if not Path(source).is_dir():
        source = fetch(name)
        if is_adapter(source):
            base_of(Path(source), name)
            return replace(load(source, device=device, precision=precision, **style), name=name)
    if not arguments:
        check_directory(name, Path(source))
    with quiet():
        module, tokenizer = _from_pretrained(name, source, arguments)
    guard_embedding(name, module, tokenizer)
    module = _own_memory(module.float()).to(device).eval()
    style = decided_style(name, recorded_style(style, Path(source)), has_template=bool(tokenizer.chat_template))
    lm = LanguageModel(module, tokenizer, name, path=str(source), **style)
    lm = replace(lm, precision=precision or choose_precision(device, lm.config.hidden_size))
    describe(lm)
    return lm


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = one_line(error, 200)
        raise UserError(f"device '{name}' cannot be used here: {reason}; leave --device out, or give cpu") from error
    return name


def _from_pretrained(name: str, source: str, arguments: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **arguments)
        check_tokenizer(name, tokenizer)
        module = read_module(name, source, arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"model '{name}' cannot be loaded: {one_line(error)}") from error
    if arguments.get("gguf_file"):  # transformers refuses to save a model that was quantised; the weights are plain now
        if hasattr(module.config, "quantization_config"):
            del module.config.quantization_config
        for name, value in (("hf_quantizer", None), ("is_quantized", False)):
            setattr(module, name, value)
    return module, tokenizer


def _own_memory(module: Any) -> Any:
    """The module with every parameter copied into its own memory.

    Weights mapped from a file start at an arbitrary address, copies at a multiple of 64 bytes, and vectorised kernels
    may round differently by alignment: without this, a copy of the model would train to other last bits.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module
