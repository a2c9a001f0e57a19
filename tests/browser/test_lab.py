"""What users touch, in JupyterLab: run through the menu, click, drag and type, and read the Python side."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab import Lab, Notebook, jupyter, opened

from workbench.view.course import write_edition

WIDGETS = {
    "TokenView": ".wb-token-view",
    "CompareView": ".wb-compare",
    "BeforeAfter": ".wb-before-after",
    "RunPanel": ".wb-run-panel",
    "ErrorBrowser": ".wb-errors",
}
VIEW = [
    """import workbench as wb
from workbench.scorers import score_samples
task = wb.TaskSpec("biographies").load()
scores = score_samples(wb.load("bio-full"), task.forget[:12], ["surprisal", "entropy", "spans"])
view = wb.TokenView(scores, {s.id: (s.question, s.answer) for s in task.forget})
view""",
    "view.scorer, round(view.threshold, 6), view.unit, [each['token'] for each in view.selected]",
]
RUN = [
    """import workbench as wb
settings = wb.Settings(steps=12, batch_size=8, record_every=3)
config = wb.Config(task=wb.TaskSpec("biographies"), model="bio-full", objective="npo", settings=settings, probe_limit=6)
run = wb.start(config, __import__("pathlib").Path("recorded")).path
view = wb.TokenView.of_run(run)
view""",
    "view.step, [each['scores']['atwu'] for each in view.selected]",
]
PANEL = [
    """import workbench as wb
panel = wb.RunPanel("runs")
panel.form.objective.value, panel.form.weights.value = "wga", "surprisal"
panel""",
    "str(panel)",
]


def test_smoke(chromium: Any, tmp_path: Path) -> None:
    """The token view in JupyterLab: shown, switched, a token chosen and read in Python."""
    folder = tmp_path / "work"
    folder.mkdir()
    with jupyter(folder, "light") as address:
        seen = choose_and_read(opened(chromium, Lab(address, folder, "light"), "view.ipynb", VIEW))
    assert seen["python"] == seen["page"]


@pytest.mark.browser
def test_token_view(chromium: Any, lab: Lab) -> None:
    seen = choose_and_read(opened(chromium, lab, "view.ipynb", VIEW))
    assert seen["python"] == seen["page"]
    assert seen["bar_moved"], "the arrow keys did not reach the slider: JupyterLab takes them for folding"
    assert seen["card"]
    assert seen["cells"] == 2  # no key has made or removed a cell


def choose_and_read(notebook: Notebook) -> dict[str, Any]:
    """Choose a scorer, drag the threshold, move it by keys, click a token: what page and Python then say."""
    notebook.run_all()
    view = notebook.page.locator(".wb-token-view").first
    view.get_by_label("scorer").select_option("entropy")
    slider = view.get_by_label("threshold")
    box = slider.bounding_box()
    notebook.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    notebook.page.mouse.down()
    notebook.page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=5)
    notebook.page.mouse.up()
    bar = view.locator(".wb-bar .wb-last").first
    before = bar.inner_text()
    slider.focus()
    for _ in range(120):
        notebook.page.keyboard.press("ArrowLeft")
    token = view.locator("[role=option]").nth(4)
    token.click()
    card = view.locator(".wb-card").is_visible()  # it goes when the pointer leaves
    scorer, threshold, unit, chosen = ast.literal_eval(notebook.run_cell(1))
    seen = {
        "page": ("entropy", slider_value(view), "token", token.inner_text().strip()),
        "python": (scorer, f"{threshold:.2f}", unit, "".join(chosen).strip()),
        "bar_moved": bar.inner_text() != before,
        "card": card,
        "cells": notebook.page.locator(".jp-Cell").count(),
    }
    notebook.close()
    return seen


def slider_value(view: Any) -> str:
    return str(view.locator(".wb-control b").first.inner_text())


@pytest.mark.browser
def test_replay(chromium: Any, lab: Lab) -> None:
    notebook = opened(chromium, lab, "run.ipynb", RUN)
    assert not (lab.folder / "recorded").exists()
    notebook.run_all()
    view = notebook.page.locator(".wb-token-view").first
    slider = view.get_by_label("step of the run")
    slider.focus()
    colours = []
    token = view.locator("[role=option]").nth(5)
    token.click()
    slider.focus()
    for _ in range(4):
        colours.append(token.evaluate("n => n.style.backgroundColor"))
        notebook.page.keyboard.press("ArrowLeft")
    assert len(set(colours)) > 1
    notebook.page.wait_for_timeout(200)  # the view tells Python at most every 80 ms
    step, score = ast.literal_eval(notebook.run_cell(1))
    assert step == 0
    assert score == [0.5]  # what every token has before the scorer has learned
    view.get_by_role("button", name="Play").click()
    notebook.page.wait_for_function("document.querySelector('.wb-step-now').textContent === 'step 12 of 12'")
    notebook.close()


@pytest.mark.browser
def test_panel_start_stop_resume_and_attach_after_a_restart(chromium: Any, lab: Lab) -> None:
    notebook = opened(chromium, lab, "panel.ipynb", PANEL)
    notebook.run_all()
    panel, page = notebook.page.locator(".wb-run-panel.wb-widget").first, notebook.page
    chooser = panel.get_by_label("objective").first
    chooser.focus()
    page.keyboard.press("ArrowDown")
    assert "satimp" in chooser.evaluate("n => n.selectedOptions[0].textContent")
    page.keyboard.press("ArrowUp")
    steps = panel.get_by_label("steps").first
    steps.fill("many")
    steps.press("Tab")
    panel.get_by_role("button", name="Start").click()
    assert "steps: 'many' is not a whole number" in panel.locator(".wb-error").inner_text()
    steps.fill("80")
    steps.press("Tab")
    panel.get_by_role("button", name="Start").click()
    curve = panel.locator(".wb-chart path.wb-l0").first
    curve.wait_for()
    drawn = curve.get_attribute("d")
    page.wait_for_function("d => document.querySelector('.wb-chart path.wb-l0').getAttribute('d') !== d", arg=drawn)
    panel.get_by_role("button", name="Stop").click()
    panel.get_by_text("stopped at step").first.wait_for()
    panel.get_by_role("button", name="Resume").click()
    panel.locator(".wb-state", has_text="running").wait_for()
    notebook.restart()
    notebook.run_all()
    panel = page.locator(".wb-run-panel.wb-widget").first  # attached by itself: the only run that goes on
    panel.locator(".wb-state", has_text="finished").wait_for(timeout=120_000)
    assert "finished, step 80 of 80" in notebook.run_cell(1)
    notebook.close()


ERRORS = [
    RUN[0].replace('"recorded"', '"judged"').replace("view = wb.TokenView.of_run(run)\nview", "")
    + "browser = wb.ErrorBrowser(run)\nbrowser",
    "browser.selected['probe_set'], len(browser.shown), browser.rows['note'].max()",
]


@pytest.mark.browser
def test_errors_are_filtered_opened_and_noted(chromium: Any, lab: Lab) -> None:
    notebook = opened(chromium, lab, "errors.ipynb", ERRORS)
    notebook.run_all()
    panel, page = notebook.page.locator(".wb-errors").first, notebook.page
    panel.get_by_label("set", exact=True).select_option("retain")
    answers = panel.locator(".wb-list select")
    answers.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    shown = answers.evaluate("n => n.selectedOptions[0].textContent").replace("\xa0", " ")
    chosen = shown.split(" · ")[-1]
    panel.locator(".wb-q", has_text=chosen).first.wait_for()
    panel.locator(".wb-text [role=option]").first.wait_for()  # its tokens
    note = panel.get_by_label("note")
    note.fill("seen <b>here</b>")
    note.press("Tab")
    panel.get_by_role("button", name="Save tags and note").click()
    panel.get_by_text("saved in").wait_for()
    assert ast.literal_eval(notebook.run_cell(1)) == ("retain", answers.locator("option").count(), "seen <b>here</b>")
    notebook.close()


CLIPPED = """() => [...document.querySelectorAll(".wb-run-panel .widget-html, .wb-errors .widget-html")]
    .filter((n) => n.scrollHeight > n.clientHeight + 1).map((n) => n.innerText.slice(0, 80))"""


@pytest.mark.browser
@pytest.mark.parametrize("name", ["01_see_importance", "03_unlearn_and_probe", "04_error_analysis"])
def test_the_notebooks_themselves(chromium: Any, lab: Lab, name: str) -> None:
    """Opened and run through the menu; every widget and chart is there, nothing lies over anything else."""
    write_edition(lab.folder, "exercises", [name])
    notebook = opened(chromium, lab, f"{name}.ipynb")
    notebook.run_all(300)
    page = notebook.page
    assert page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]').count() == 0
    cells = nbformat.read(lab.folder / f"{name}.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for widget, shown in WIDGETS.items():
        assert page.locator(shown).count() >= code.count(f"wb.{widget}")
    assert page.locator(".js-plotly-plot").count() >= code.count("_chart(")
    assert page.evaluate(CLIPPED) == []
    notebook.close()
