"""The demos that `make voila` serves: notebooks 01 and 03 and the talk, with widgets that answer, and no internet."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from course import write_demos
from lab import left_this_machine, voila, voila_options, write_notebook

pytestmark = pytest.mark.browser
KEEPING = "r.setData is not a function"  # plotly, of a chart already drawn: it keeps a picture of it in JupyterLab only
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, with what is slow computed before."""
    pytest.importorskip("voila", reason="the optional extra [demos] is not installed")
    folder = tmp_path_factory.mktemp("voila") / "demos"
    write_demos(folder)
    return folder


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_demos(chromium: Any, demos: Path, theme: str) -> None:
    with voila(demos, theme, NOTEBOOKS.parent / "docs") as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(500_000)  # a page comes when its notebook has run
        outside, broken = [], []
        page.on("request", lambda r: outside.append(r.url) if left_this_machine(r.url) else None)
        page.goto(address.replace("NAME", ""))
        page.get_by_text("03_unlearn_and_probe.ipynb").wait_for()
        page.get_by_text("talk.ipynb").wait_for()
        page.on("pageerror", lambda error: broken.append(str(error)) if str(error) != KEEPING else None)

        page.goto(address.replace("NAME", "voila/render/01_see_importance.ipynb"))
        view = page.locator(".wb-token-view").first
        view.get_by_label("scorer").select_option("entropy")
        view.locator("[role=option]").first.hover()
        page.locator(".wb-card").first.wait_for()
        for name in (".wb-compare", ".wb-before-after"):  # they come one after the other
            page.locator(name).first.wait_for(timeout=120_000)
        assert page.locator(".wb-still:visible").count() == 0  # no twin beside its widget
        assert page.locator("pre", has_text="import workbench").count() == 0  # pages without code

        page.goto(address.replace("NAME", "voila/render/03_unlearn_and_probe.ipynb"))
        panel = page.locator(".wb-run-panel")
        page.locator(".js-plotly-plot").first.wait_for()
        panel.get_by_label("steps", exact=True).first.fill("many")
        panel.get_by_role("button", name="Start").click()  # a kernel is behind the page, and answers
        panel.get_by_text("steps: 'many' is not a whole number").wait_for()

        page.goto(address.replace("NAME", "voila/render/talk.ipynb"))
        screens = page.locator(".wb-talk")
        page.get_by_role("heading", name="Which tokens must a model forget?").wait_for()
        screens.get_by_role("button", name="Next").click()
        assert not page.get_by_role("heading", name="Which tokens must a model forget?").is_visible()
        page.locator(".wb-token-view").first.wait_for()
        page.keyboard.press("Tab")
        screens.get_by_role("button", name="Back").click()
        page.get_by_role("heading", name="Which tokens must a model forget?").wait_for()
        assert screens.get_by_role("status").inner_text().startswith("1 / ")
        page.close()
    assert outside == broken == []


def answer(address: str, host: str = "") -> tuple[int, str]:
    """The status of a request and where it ends, with another `Host` where one is given."""
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.url
    except urllib.error.HTTPError as error:
        return error.code, error.url or address


def test_only_who_has_the_token_is_served(tmp_path: Path) -> None:
    pytest.importorskip("voila", reason="the optional extra [demos] is not installed")
    folder = tmp_path / "demos"
    folder.mkdir()
    write_notebook(folder / "a.ipynb", ["1 + 1"])
    with voila(folder, "light", NOTEBOOKS.parent / "docs") as address:
        bare = address.partition("?")[0]
        for name in ("", "voila/render/a.ipynb"):
            for host in ("", "evil.example", "evil.example:80"):
                status, end = answer(bare.replace("NAME", name), host)
                assert status >= 400 or "/login?" in end, (name, host)
        assert answer(address.replace("NAME", "")) == (200, address.replace("NAME", ""))


def test_it_listens_to_this_machine_only() -> None:
    options = voila_options()
    assert "--Voila.ip=127.0.0.1" in options
    assert "--token" in options
