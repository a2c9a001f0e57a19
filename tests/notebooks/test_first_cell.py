"""Every notebook begins with one cell: it installs the wheel where there is none, and turns Colab's switch."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def first(path: Path) -> str:
    """The source of a notebook's first code cell."""
    return next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


def run_cell() -> list[tuple[str, str]]:
    """Run the cell; returns the magics that it called, as IPython would have filled them in."""
    magics: list[tuple[str, str]] = []
    names: dict[str, Any] = {}

    class Shell:
        def run_line_magic(self, name: str, line: str) -> None:
            magics.append((name, line.replace("{wheels[0]}", str(names["wheels"][0]))))

    names["get_ipython"] = Shell
    exec(TransformerManager().transform_cell(first(NOTEBOOKS[0])), names)
    return magics


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As where the package is not installed, in a folder of its own."""
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "workbench" else known(name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_the_same_in_every_notebook() -> None:
    assert len({first(path) for path in NOTEBOOKS}) == 1
    assert "unlearning_workbench-*.whl" in first(NOTEBOOKS[0])


def test_it_does_nothing_where_the_package_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cell() == []
    assert capsys.readouterr() == ("", "")


def test_it_installs_the_wheel_beside_the_notebook(missing: Path) -> None:
    wheel = missing / "a folder" / "unlearning_workbench-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    assert run_cell() == [("pip", f'install --quiet "{wheel.relative_to(missing)}"')]


@pytest.mark.usefixtures("missing")
def test_it_says_what_to_do_where_there_is_no_wheel() -> None:
    """It asks no index for the name: whoever registers it there would be run."""
    with pytest.raises(AssertionError, match=r"put its wheel, unlearning_workbench-\*\.whl, beside this notebook"):
        run_cell()


def test_it_turns_colabs_switch_for_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[bool] = []
    google, colab, output = (ModuleType(name) for name in ("google", "google.colab", "google.colab.output"))
    output.enable_custom_widget_manager = lambda: turned.append(True)  # type: ignore[attr-defined]
    google.colab, colab.output = colab, output  # type: ignore[attr-defined]
    for module in (google, colab, output):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert run_cell() == []
    assert turned == [True]
