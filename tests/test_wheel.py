"""The wheel, installed far from the repository: commands, embedded data, notebooks and widgets are all there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("workbench", "data", "notebooks", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed into; made from a copy, so that the repository stays clean."""
    pytest.importorskip("setuptools", minversion="77", reason="the wheel is built by setuptools of this environment")
    source, wheels, site = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "site"))
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, source], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    return site


def run(site: Path, folder: Path, *command: str, **environment: str) -> str:
    """What a command prints that runs in `folder`, where Python sees the wheel and not the repository."""
    # -S leaves out this environment's .pth files, which name the repository; its libraries come by PYTHONPATH
    paths = os.pathsep.join([str(site), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return subprocess.run(
        [sys.executable, "-S", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_every_file_of_the_package_travels(installed: Path) -> None:
    package = ROOT / "workbench"
    expected = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
    expected = {path for path in expected if "__pycache__" not in path.parts}
    expected |= {path.relative_to(ROOT) for path in (ROOT / "data").rglob("*") if path.is_file()}
    expected |= {path.relative_to(ROOT) for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert sorted(str(path) for path in expected if not (installed / "workbench" / path).is_file()) == []


def test_commands_find_the_embedded_data(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(run(installed, tmp_path, "-m", "workbench", "models", "list", "--json").splitlines()[-1])
    full = next(row for row in listed["models"] if row["name"] == "bio-full")
    assert full["here"]
    assert Path(full["path"]).is_relative_to(installed)
    words = ["score", "biographies", "--model", "bio-full", "--scorer", "uniform", "--out", "s.parquet", "--json"]
    scored = json.loads(run(installed, tmp_path, "-m", "workbench", *words).splitlines()[-1])
    assert scored["tokens"] > 0
    assert (tmp_path / "s.parquet").is_file()


def test_widgets_find_their_static_files(installed: Path, tmp_path: Path) -> None:
    names = "TokenView CompareView BeforeAfter RunPanel ErrorBrowser Playground Chat"
    code = f"import workbench as wb; print([n for n in '{names}'.split() if not getattr(getattr(wb, n), '_esm', True)])"
    assert run(installed, tmp_path, "-c", code) == "[]\n"


def test_lab_copies_the_notebooks_and_keeps_changed_ones(installed: Path, tmp_path: Path) -> None:
    fake = tmp_path / "jupyter.py"  # stands in front of the real one
    fake.write_text("import sys; print(sys.argv[1:])")
    paths = os.pathsep.join([str(tmp_path), str(installed), sysconfig.get_path("purelib")])
    words = ["-m", "workbench", "lab", "--dir", "mine", "--no-browser", "--port", "8899"]
    printed = run(installed, tmp_path, *words, PYTHONPATH=paths)
    assert printed == "['lab', '--notebook-dir', 'mine', '--no-browser', '--port', '8899']\n"
    names = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {path.name for path in (tmp_path / "mine").iterdir()} == names
    (tmp_path / "mine" / "00_tour.ipynb").write_text("changed")
    run(installed, tmp_path, *words, PYTHONPATH=paths)
    assert (tmp_path / "mine" / "00_tour.ipynb").read_text() == "changed"
