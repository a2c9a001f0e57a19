"""The models a name can mean, and where their files are. Loads no torch, so that lists and forms open at once."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

from workbench.errors import UserError, one_line, unknown
from workbench.files import parse_json
from workbench.tasks import DATA

EMBEDDED = {name: DATA / "models" / name for name in ("bio-full", "bio-retain")}
SMOLLM2 = "smollm2"
BUILT_IN = (*EMBEDDED, SMOLLM2)
RECORD = "workbench.json"  # beside a model that the workbench saved: its prompt style; beside an adapter: its base too


def cache() -> Path:
    """The user's cache folder of the workbench."""
    from platformdirs import user_cache_path

    return user_cache_path("unlearning-workbench")


def available() -> list[dict[str, Any]]:
    """The built-in models: their names, whether each is here, and the path."""
    files = {name: folder / "model.safetensors" for name, folder in EMBEDDED.items()}
    files[SMOLLM2] = cache() / SMOLLM2 / RECORD
    return [{"name": name, "here": file.exists(), "path": str(file.parent)} for name, file in files.items()]


def locate(name: str) -> tuple[str, dict[str, Any]]:
    """Where a model's files are (a directory, or a hub name), and further arguments with which to read them.

    Raises:
        UserError: no such model.
    """
    if name in EMBEDDED:
        if not (EMBEDDED[name] / "model.safetensors").exists():
            raise UserError(f"built-in model '{name}' is missing from {EMBEDDED[name]}; run `make data`")
        return str(EMBEDDED[name]), {}
    if name == SMOLLM2:
        folder = cache() / SMOLLM2
        if not (folder / RECORD).exists():
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
        raise unknown("model", name, [*BUILT_IN, "a directory", "FILE.gguf", "a hub name (owner/name)"])
    return name, {}


def read_record(file: Path) -> dict[str, Any]:
    """The JSON object in a file beside a model.

    Raises:
        UserError: the file holds something else.
    """
    try:
        content = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {one_line(error, 200)}; the file is damaged") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no JSON object; the file is damaged")
    return content


def parameter_count(name: str) -> int | None:
    """Parameters of a model, read from its files without loading it; None for one that is not here as safetensors."""
    from safetensors import SafetensorError, safe_open

    source, _ = locate(name)
    count = 0
    with contextlib.suppress(OSError, SafetensorError):  # damaged; loading it will tell
        for file in Path(source).glob("*.safetensors"):
            with safe_open(file, "np") as stream:
                count += sum(math.prod(stream.get_slice(key).get_shape()) for key in stream.keys())  # noqa: SIM118
        return count or None
    return None


def layer_count(name: str) -> int | None:
    """Decoder layers of a model, by its `config.json`; None where that does not tell, as for a hub name or GGUF."""
    source, arguments = locate(name)
    if arguments or not (Path(source) / "config.json").is_file():
        return None
    try:
        record = parse_json((Path(source) / "config.json").read_bytes())
        record = record.get("text_config") or record
        return next((int(record[key]) for key in ("num_hidden_layers", "n_layer", "num_layers") if key in record), None)
    except (OSError, ValueError, AttributeError, TypeError, OverflowError):
        return None
