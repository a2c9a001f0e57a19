"""Make the editions of the course from the notebooks, which are their masters.

python scripts/course.py [--out build/course]      exercises, solutions and the talk, each in a folder
python scripts/course.py --demos [--out build/demos]
                                                   what `make voila` serves: 01, 03 and the talk, with all that is
                                                   slow computed before
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from workbench.view.course.editions import COMPUTED, DEMOS, TALK, edition, masters, tags, write_edition

SHOWN = ("exercises", "solutions", "talk")


def write_all(out: Path) -> None:
    """All editions that people open in JupyterLab, in place of what is there, and what the talk shows."""
    for name in SHOWN:
        clear(out / name)
        if name == "talk":
            compute_missing(TALK, out / name)
        write_edition(out / name, name)


def clear(folder: Path) -> None:
    """A folder for notebooks, without those of an earlier version."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.ipynb"):
        path.unlink()


def compute(stem: str, folder: Path) -> None:
    """Run a notebook up to its last slow cell, so that what the demonstrations show is in `folder`/computed."""
    content = edition(masters()[stem], "exercises")
    slow = [place for place, cell in enumerate(content["cells"]) if "live" in tags(cell)]
    content["cells"] = content["cells"][: slow[-1] + 1]
    for cell in content["cells"]:
        if "settings" in tags(cell):
            cell["source"] = [*cell["source"], "\n", COMPUTED]
    notebook = nbformat.reads(nbformat.writes(nbformat.from_dict(content)), as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()


def compute_missing(stems: Iterable[str], folder: Path) -> None:
    """What notebooks show, in `folder`/computed; computed anew where it is missing, or of another text of theirs."""
    (folder / "computed").mkdir(parents=True, exist_ok=True)
    for stem in stems:
        done = folder / "computed" / f"{stem}.done"
        text = hashlib.sha256(json.dumps(masters()[stem], sort_keys=True).encode()).hexdigest()
        if not done.exists() or done.read_text() != text:
            print(f"computing what {stem} shows ...", flush=True)
            compute(stem, folder)
            done.write_text(text)


def write_demos(out: Path) -> None:
    """The demonstrations and what they show."""
    clear(out)
    compute_missing(dict.fromkeys((*DEMOS, *TALK)), out)
    write_edition(out, "demo", DEMOS)
    write_edition(out, "talk")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demos", action="store_true", help="what `make voila` serves")
    parser.add_argument("--out", type=Path, help="the folder")
    options = parser.parse_args()
    out = options.out or Path("build/demos" if options.demos else "build/course")
    write_demos(out) if options.demos else write_all(out)
    print(out)
