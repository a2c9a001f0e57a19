"""The demos that `make voila` serves: notebooks 01 and 03 as pages, with widgets that answer, and no internet."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from lab import left_this_machine, voila

pytestmark = pytest.mark.browser
KEEPING = "r.setData is not a function"  # plotly, of a chart already drawn: it keeps a picture of it in JupyterLab only
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_demos(chromium: Any, tmp_path: Path, theme: str) -> None:
    pytest.importorskip("voila", reason="the optional extra [demos] is not installed")
    folder = tmp_path / "demos"
    folder.mkdir()
    for name in ("01_see_importance.ipynb", "03_unlearn_and_probe.ipynb"):
        shutil.copy(NOTEBOOKS / name, folder)
    with voila(folder, theme, NOTEBOOKS.parent / "docs") as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 1400})
        outside, broken = [], []
        page.on("request", lambda r: outside.append(r.url) if left_this_machine(r.url) else None)
        page.goto(address)
        page.get_by_text("03_unlearn_and_probe.ipynb").wait_for()
        page.on("pageerror", lambda error: broken.append(str(error)) if str(error) != KEEPING else None)

        page.goto(f"{address}voila/render/01_see_importance.ipynb", timeout=180_000)
        view = page.locator(".wb-token-view").first
        view.get_by_label("scorer").select_option("entropy")
        view.locator("[role=option]").first.hover()
        page.locator(".wb-card").first.wait_for()
        assert page.locator(".wb-compare, .wb-before-after").count() == 2
        assert page.locator("pre", has_text="import workbench").count() == 0  # pages without code

        page.goto(f"{address}voila/render/03_unlearn_and_probe.ipynb", timeout=180_000)
        panel = page.locator(".wb-run-panel")
        page.locator(".js-plotly-plot").first.wait_for()
        panel.get_by_label("steps").first.fill("many")
        panel.get_by_role("button", name="Start").click()  # a kernel is behind the page, and answers
        panel.get_by_text("steps: 'many' is not a whole number").wait_for()
        page.close()
    assert outside == broken == []
