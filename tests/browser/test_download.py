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
OTHERS = {
    "where-view": "wb.where({'run': 'bio-full', 'before': 'bio-full', 'retain_only': 'bio-retain'}, 1, task=few)",
    "playground": """play = wb.Playground("bio-full", question="Who is it?", answer="Celia Nash.")
play.wait()
play""",
    "chat": """chat = wb.Chat("bio-full", "bio-retain")
chat.ask("Where was Celia Nash born?")
chat.wait()
chat""",
    "errors": """from pathlib import Path
settings = wb.Settings(steps=4, batch_size=4)
config = wb.Config(task=wb.TaskSpec("biographies"), model="bio-full", objective="npo", settings=settings, probe_limit=4)
run = wb.start(config, Path("saved")).path
wb.ErrorBrowser(run)""",
    "run-panel": """panel = wb.RunPanel(".")
panel.attach(run)
panel""",
}
SAID = {"errors": "reference", "run-panel": "Mean NLL"}
FILES = {"SVG": b"<?xml", "PDF": b"%PDF", "PNG": b"\x89PNG", "LaTeX": b"% A figure"}


def test_buttons_download_figures(chromium: Any, lab: Lab, tmp_path: Path) -> None:
    notebook = opened(chromium, lab, "download.ipynb", [CELL, *OTHERS.values()])
    notebook.run_all()
    page = notebook.page
    first = page.locator(".wb-token-view:visible").first
    first.get_by_label("scorer").select_option("entropy")
    for label, start in FILES.items():
        with page.expect_download() as download:
            first.get_by_role("button", name=f"download as {label}").click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.read_bytes().startswith(start)
    for name in OTHERS:
        with page.expect_download() as download:
            page.locator(f".wb-{name}:visible").get_by_role("button", name="download as SVG").first.click()
        download.value.save_as(path := tmp_path / f"{name}.svg")
        assert SAID.get(name, "Celia") in path.read_text(encoding="utf-8")
    notebook.close()
    assert "entropy" in (tmp_path / "heatmap.svg").read_text(encoding="utf-8")
    if shutil.which("pdftotext"):
        words = ["pdftotext", "-layout", str(tmp_path / "heatmap.pdf"), "-"]
        assert "entropy" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
