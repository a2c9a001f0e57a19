"""A widget's buttons in JupyterLab: the kernel draws the figure, and the browser keeps the file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, opened

pytestmark = pytest.mark.browser
CELL = """import workbench as wb
task, model = wb.TaskSpec("biographies").load(), wb.load("bio-full")
few = wb.Task("few", {"forget": task.forget[:4], "retain": task.retain[:4]})
wb.TokenView(wb.score_task(model, few, ["surprisal", "entropy"]), few)"""
FILES = {"SVG": b"<?xml", "PDF": b"%PDF", "PNG": b"\x89PNG", "LaTeX": b"% A figure"}


def test_buttons_download_figures(chromium: Any, lab: Lab, tmp_path: Path) -> None:
    notebook = opened(chromium, lab, "download.ipynb", [CELL])
    notebook.run_all()
    page = notebook.page
    page.locator(".wb-live").get_by_label("scorer").select_option("entropy")
    for label, start in FILES.items():
        with page.expect_download() as download:
            page.get_by_role("button", name=f"download as {label}").click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.read_bytes().startswith(start)
    notebook.close()
    assert "entropy" in (tmp_path / "heatmap.svg").read_text(encoding="utf-8")
    if shutil.which("pdftotext"):
        words = ["pdftotext", "-layout", str(tmp_path / "heatmap.pdf"), "-"]
        assert "entropy" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
