"""After a restart of the kernel, an old panel says that it is old, and none of its controls seems to work."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Lab, opened

pytestmark = pytest.mark.browser
CELLS = [
    """import workbench as wb
settings = wb.Settings(steps=2, batch_size=4, record_every=1)
config = wb.Config(task=wb.TaskSpec("biographies"), model="bio-full", objective="npo", settings=settings, probe_limit=3)
run = wb.start(config, "gone/here")""",
    "panel = wb.RunPanel('gone')\npanel.attach(run)\npanel",
    "wb.ErrorBrowser(run)",
]


def test_a_panel_whose_kernel_has_restarted(chromium: Any, lab: Lab) -> None:
    notebook = opened(chromium, lab, "gone.ipynb", CELLS)
    notebook.run_all()
    page = notebook.page
    assert page.locator(".wb-lost").count() == 0
    notebook.restart()
    for part in (".wb-run-panel", ".wb-errors"):
        page.locator(f"{part} .wb-lost").wait_for()
        assert page.locator(f"{part} :is(button,select,input,textarea):not(:disabled)").count() == 0
    notebook.close()
