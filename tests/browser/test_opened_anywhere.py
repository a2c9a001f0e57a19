"""A notebook that has been run, opened where nothing runs: every view and chart is there, and nothing of an error."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab import Lab, Notebook, opened, write_notebook

pytestmark = pytest.mark.browser
RUN = """import workbench as wb
from workbench.scorers import score_samples
from workbench.view.charts import distribution_chart, slope_chart
task = wb.TaskSpec("biographies").load()
scores = score_samples(wb.load("bio-full"), task.forget[:6], ["surprisal", "entropy", "spans"])
settings = wb.Settings(steps=4, batch_size=8, lr=1e-3, record_every=2)
config = wb.Config(
    task=wb.TaskSpec("biographies"), model="bio-full", objective="wga", weights="surprisal", settings=settings,
    probe_limit=4,
)
run = wb.start(config, "runs/here")"""
PANEL = "panel = wb.RunPanel('runs')\npanel.attach(run)\npanel"
VIEWS = {
    "wb.TokenView(scores, task)": "Celia Nash",
    "wb.CompareView(scores, task)": "Do they agree?",
    "wb.BeforeAfter(run)": "first choices changed",
    "wb.ErrorBrowser(run)": "still remembered",
    PANEL: "finished, step 4 of 4",
}
CHARTS = {
    "distribution_chart(scores)": "Scores of answer tokens",
    "slope_chart(run.table('probes.parquet'))": "forget",
}
# The text that is seen below each cell, and whether that is a widget that runs.
SEEN = """() => [...document.querySelectorAll(".jp-CodeCell")].map((cell) => {
    const seen = [...cell.querySelectorAll(".jp-OutputArea-child")].filter((n) => n.checkVisibility());
    const part = (name) => seen.some((n) => n.querySelector(name));
    return { text: seen.map((n) => n.innerText).join(" "), live: part(".wb-widget"), still: part(".wb-still"),
             chart: part(".js-plotly-plot .main-svg, svg, img") };
})"""
BROKEN = ("Error displaying widget", "Loading widget", "run the notebook")


def cells() -> list[str]:
    return [RUN, *VIEWS, *CHARTS]


def check(page: Any, *, live: bool) -> None:
    """Every view is seen once, as the widget or as its twin; every chart; and no error."""
    page.wait_for_function("n => document.querySelectorAll('.jp-CodeCell').length >= n", arg=len(cells()))
    if live:
        page.wait_for_function("n => document.querySelectorAll('.wb-widget').length >= n", arg=len(VIEWS))
    page.wait_for_timeout(2000)
    shown = page.evaluate(SEEN)[1 : len(cells())]
    for cell, words in zip(shown, [*VIEWS.values(), *CHARTS.values()], strict=True):
        assert not any(part in cell["text"] for part in BROKEN), cell["text"][:300]
        if words in VIEWS.values():
            assert (cell["live"], cell["still"]) == (live, not live), words
            assert words in " ".join(cell["text"].split()) or live
        else:
            assert cell["chart"], words


def look(page: Any, name: str, folder: Path) -> None:
    """A picture of the whole page, for people: in the test's folder."""
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def test_a_saved_notebook_in_jupyterlab(chromium: Any, lab: Lab) -> None:
    """Run and saved; then opened again without a kernel, with a new one, and from elsewhere, which is not trusted."""
    notebook = opened(chromium, lab, "saved.ipynb", cells())
    notebook.run_all(240)
    check(notebook.page, live=True)
    notebook.page.keyboard.press("Escape")
    notebook.page.keyboard.press("Control+s")
    notebook.page.wait_for_timeout(2000)
    notebook._menu("Kernel", "kernelmenu:shutdown")
    notebook.page.wait_for_timeout(1000)
    notebook.close()
    saved = nbformat.read(lab.folder / "saved.ipynb", as_version=4)
    assert all(cell.outputs for cell in saved.cells)

    page = chromium.new_page(viewport={"width": 1280, "height": 1500})
    page.goto(lab.address.replace("NAME", "saved.ipynb"))
    page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=60_000)
    check(page, live=False)  # before a kernel is there
    page.get_by_text("| Idle").first.wait_for(timeout=60_000)
    check(page, live=False)  # there is a kernel, which knows of no widget
    page.set_viewport_size({"width": 1280, "height": 9000})
    look(page, "reopened", lab.folder)
    page.close()

    saved.cells.append(nbformat.v4.new_markdown_cell("changed elsewhere, so that JupyterLab does not trust it"))
    nbformat.write(saved, lab.folder / "sent.ipynb")
    sent = Notebook(chromium, lab.address, "sent.ipynb")
    check(sent.page, live=False)
    sent.close()


OFFLINE = [
    "--ExecutePreprocessor.store_widget_state=False",
    "--HTMLExporter.require_js_url=",
    "--HTMLExporter.mathjax_url=",
]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook as `jupyter nbconvert --execute --to html` makes a page of it, and one as the guide has it."""
    folder = tmp_path_factory.mktemp("nbconvert")
    (folder / "plain").mkdir()
    (folder / "bare").mkdir()
    for name, words in {"plain": [], "bare": OFFLINE}.items():
        write_notebook(folder / name / "all.ipynb", cells())
        nbconvert = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", *words, "all.ipynb"]
        done = subprocess.run(nbconvert, cwd=folder / name, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "not able to be represented" not in done.stderr
    return folder


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("name", ["plain", "bare"])
def test_a_page_of_nbconvert(chromium: Any, converted: Path, name: str, scripts: bool, theme: str) -> None:
    """Without internet; with its scripts and without; those of nbconvert are the only ones."""
    size = {"width": 1100, "height": 900}
    context = chromium.new_context(java_script_enabled=scripts, color_scheme=theme, viewport=size)
    outside: list[str] = []

    def refuse(route: Any) -> None:
        outside.append(route.request.url)
        route.abort()

    context.route(re.compile("^(?!file:|data:|blob:)"), refuse)
    page = context.new_page()
    page.goto((converted / name / "all.html").as_uri())
    page.wait_for_timeout(500)
    if scripts:
        check(page, live=False)
    look(page, f"{name}-{theme}-{scripts}", converted)
    assert outside == [] or name == "plain"
    context.close()


MARIMO = """() => [...document.querySelectorAll("[id^=output-]")].map((cell) => {
    const roots = (node) => [...node.querySelectorAll("*")].filter((n) => n.shadowRoot).map((n) => n.shadowRoot);
    const all = (node) => [node, ...roots(node).flatMap(all)];
    const parts = all(cell);
    return { text: parts.map((n) => n.innerText ?? n.textContent).join(" "),
             height: cell.getBoundingClientRect().height };
})"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same notebook as `marimo export html` makes a page of it."""
    if find_spec("marimo") is None:
        pytest.skip("marimo is not installed")
    folder = tmp_path_factory.mktemp("marimo")
    write_notebook(folder / "all.ipynb", cells())
    for words in (["convert", "all.ipynb", "-o", "all.py"], ["export", "html", "all.py", "-o", "all.html"]):
        done = subprocess.run(
            [sys.executable, "-m", "marimo", *words], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_of_marimo(chromium: Any, exported: Path, theme: str) -> None:
    """What the page asks of a network, marimo's own frontend, is served from its package."""
    static = Path(str(find_spec("marimo").origin)).parent / "_static"  # type: ignore[union-attr]
    page = chromium.new_page(viewport={"width": 1200, "height": 9000}, color_scheme=theme)
    outside: list[str] = []

    def serve(route: Any) -> None:
        _, own, path = route.request.url.partition("/@marimo-team/frontend@")
        if own:
            path = path.partition("/dist/")[2].partition("?")[0]
            route.fulfill(path=static / path, headers={"Access-Control-Allow-Origin": "*"})
        else:
            outside.append(route.request.url)
            route.abort()

    page.route(re.compile("^(?!file:|data:|blob:)"), serve)
    page.goto((exported / "all.html").as_uri())
    page.locator(".main-svg").first.wait_for(state="attached", timeout=60_000)
    page.wait_for_timeout(3000)
    shown = page.evaluate(MARIMO)
    look(page, f"marimo-{theme}", exported)
    assert len(shown) == len(VIEWS) + len(CHARTS)
    for cell, words in zip(shown, [*VIEWS.values(), *CHARTS.values()], strict=True):
        assert words in " ".join(cell["text"].split()), cell
        assert cell["height"] > 100
    assert [url for url in outside if "mathjax" not in url] == []
    page.close()
