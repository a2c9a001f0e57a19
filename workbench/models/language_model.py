"""A causal language model with its tokenizer, prompt style and number format."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from workbench.errors import UserError
from workbench.models.catalog import RECORD
from workbench.models.chat_template import DATE

Prompt = Literal["chat", "plain"]
T = TypeVar("T")


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer, prompt style and number format.

    Attributes:
        module: the transformers model, weights in float32.
        tokenizer: a fast tokenizer (offsets are needed).
        name: what the user called it.
        prompt: "chat" uses the tokenizer's template, "plain" is `Question: ... Answer:`.
        precision: the number format of matrix products; "float32", or "bfloat16" by autocast.
        path: the directory or hub name that it was loaded from.
        system: the system message before every question of a chat; None for what the template does without one.
        date: ISO, what a chat template that writes the day's date writes instead.
        compiled: the decoder compiled by `torch.compile`, for training steps.
    """

    module: Any
    tokenizer: Any
    name: str
    prompt: Prompt = "plain"
    precision: str = "float32"
    path: str = ""
    system: str | None = None
    date: str = DATE
    compiled: Callable[..., Any] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    @property
    def config(self) -> Any:
        """The configuration of the text decoder, which is a part of a multimodal model's."""
        return self.module.config.get_text_config(decoder=True)

    @property
    def context(self) -> int:
        """Longest sequence in tokens."""
        return int(getattr(self.config, "max_position_embeddings", 0) or 1 << 30)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def generate(
        self,
        prompts: str | Iterable[str],
        *,
        max_new_tokens: int = 64,
        temperature: float | None = None,
        seed: int = 0,
        continues: bool = False,
        batch_size: int = 16,
    ) -> Any:
        """What the model answers: a text for one prompt, a list for several.

        Args:
            prompts: questions, each of which is put into the model's template.
            max_new_tokens: at most so many tokens an answer.
            temperature: draw from softmax(logits / temperature); None takes the likeliest token each time.
            seed: of what is drawn.
            continues: take the prompts for beginnings of texts, without a template.
            batch_size: prompts at once.

        Raises:
            UserError: no text, one that leaves no room in the context, or logits that are not finite.
        """
        from workbench.models.asking import replies  # it needs this class

        if not isinstance(prompts, Iterable):
            raise UserError(f"prompts are a text or a list of texts, not {prompts!r:.40}")
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        more: dict[str, Any] = {"temperature": temperature, "seed": seed, "continues": continues}
        answers = replies(self, texts, max_new_tokens=max_new_tokens, batch_size=batch_size, **more)
        return answers[0] if isinstance(prompts, str) else answers

    def run(self, compute: Callable[[], T]) -> T:
        """Call `compute` inside the module's forward: only there are the parts of a sharded module whole."""
        inside = getattr(self.module, "run_inside", None)
        return compute() if inside is None else inside(compute)

    def frozen_copy(self) -> LanguageModel:
        """A copy of the model as it is now, for use as a reference: adapters merged in, no gradient.

        Raises:
            UserError: the model is sharded.
        """
        if hasattr(self.module, "run_inside"):
            raise UserError(f"{self.name} is sharded, and this needs a copy of it; train=lora needs none")
        module = merge_adapter(copy.deepcopy(self.module)).eval().requires_grad_(False)
        return replace(self, module=module, compiled=None)

    def like(self) -> dict[str, Any]:
        """Arguments of `load` for a second model to compare with this one: same device, number format and prompts."""
        return {"device": str(self.device), "precision": self.precision} | self.style()

    def style(self) -> dict[str, Any]:
        """Arguments of `load` that say how prompts are written."""
        return {"prompt": self.prompt, "system": self.system, "date": self.date}

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write model, tokenizer and prompt style as safetensors and JSON; `weights` are those of a sharded model."""
        with quiet():
            self.module.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)
        self.record(folder)

    def record(self, folder: Path, **more: str) -> None:
        """Write beside a saved model how its prompts are written, and more."""
        usual = {"system": None, "date": DATE}
        own = {name: value for name, value in self.style().items() if value != usual.get(name)}
        (folder / RECORD).write_text(json.dumps(own | more) + "\n")

    def fingerprint(self) -> str:
        """sha256 of the weights, in the order of their names."""
        return fingerprint(self.module.state_dict())


def fingerprint(weights: dict[str, Tensor]) -> str:
    """sha256 of named tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(whole(tensor).detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is split over processes, made whole (all of them must call this); any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def merge_adapter(module: Any) -> Any:
    """Add an adapter, if there is one, to the module's weights in place, so that it is a plain model again.

    Modules that peft trained whole (`modules_to_save`) take the place of the originals.
    """
    if not getattr(module, "_hf_peft_config_loaded", False):
        return module
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    layers = {n: m for n, m in module.named_modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)}
    for layer in layers.values():
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
    for name, layer in layers.items():
        parent, _, leaf = name.rpartition(".")
        # Layers for expert weights are nested. Only the outermost is replaced: the base would become its own part.
        if any(name.startswith(f"{other}.") for other in layers):
            continue
        if isinstance(layer, AuxiliaryTrainingWrapper):
            plain = layer.unload_and_optionally_merge_module(merge=False, safe_merge=False, adapter_names=None)
        else:
            plain = layer.get_base_layer()
        setattr(module.get_submodule(parent), leaf, plain)
    module._hf_peft_config_loaded = False
    del module.peft_config
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Switch off transformers' progress bars and advice for a while; errors are still raised."""
    from transformers.utils import logging as hf

    level, bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
    hf.set_verbosity(logging.ERROR)
    hf.disable_progress_bar()
    try:
        yield
    finally:
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()
