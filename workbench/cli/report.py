"""Commands that show runs: the report, and JupyterLab."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from workbench import runs
from workbench.files import writable
from workbench.view import run_report


def report(given: Namespace) -> dict[str, Any]:
    """The page of a run."""
    out = writable(Path(given.out))
    run_report(runs.RunDirectory(Path(given.run)).path, out=out)
    print(out)
    return {"report": str(out)}


def lab(given: Namespace) -> dict[str, Any]:
    """JupyterLab on the notebooks."""
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    done = subprocess.run([sys.executable, "-m", "jupyter", "lab", "--notebook-dir", str(folder)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return {"exit": 0}
