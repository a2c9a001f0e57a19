"""What JupyterLab does to what is shown in it: formulas, rings round what has the focus."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Lab, opened

pytestmark = pytest.mark.browser
DOLLARS = "Rents went from $300 to $400, or from $$1$$ to \\(2\\) and \\[3\\]."
MATHS = [
    f"""from IPython.display import Markdown
Markdown({DOLLARS!r} + " Typeset.")""",
    f"""import workbench as wb
from workbench.scorers import score_samples
from workbench.view import html
task = wb.TaskSpec("biographies").load()
model = wb.load("bio-full")
sample = wb.Sample("rent", "What was the rent?", {DOLLARS!r}, spans=((16, 20),))
scores = score_samples(model, [sample, *task.forget[:2]], ["surprisal", "entropy"])
texts = {{s.id: (s.question, s.answer) for s in [sample, *task.forget[:2]]}}
wb.TokenView(scores, texts)""",
    "wb.CompareView(scores, texts)",
    "from IPython.display import HTML, display\ndisplay(HTML(html.token_view(scores, texts)))",
    "display(HTML(html.compare_view(scores, texts)))",
    "display(HTML(html.token_matrix(scores, 'rent')))",
    """import json
from pathlib import Path
for name, samples in (("forget", [sample]), ("retain", task.retain[:3])):
    lines = [json.dumps({"id": s.id, "question": s.question, "answer": s.answer}) for s in samples]
    Path(f"{name}.jsonl").write_text(chr(10).join(lines))
own = wb.TaskSpec(forget="forget.jsonl", retain="retain.jsonl")
config = wb.Config(task=own, model="bio-full", objective="wga", weights="surprisal", settings=wb.Settings(steps=2))
run = wb.start(config, Path("dollars"))
wb.ErrorBrowser(run)""",
    "wb.BeforeAfter(run)",
]
FORMULA = "mjx-container, .MathJax"


def test_dollars_are_no_formulas(chromium: Any, lab: Lab) -> None:
    """Markdown of the same text is typeset, so that JupyterLab's MathJax is there; no view of ours is."""
    notebook = opened(chromium, lab, "dollars.ipynb", MATHS)
    notebook.run_all(240)
    cells = notebook.page.locator(".jp-CodeCell")
    cells.first.locator(FORMULA).first.wait_for()
    for index in range(1, len(MATHS)):
        output = cells.nth(index).locator(".jp-OutputArea-child").last
        output.scroll_into_view_if_needed()
        output.locator("[class*=wb]").first.wait_for()
        notebook.page.wait_for_timeout(300)
        assert output.locator(FORMULA).count() == 0, MATHS[index]
        shown = "".join(output.inner_text().split())
        assert "from$300to$400,or" in shown or index == 5, MATHS[index]
    notebook.close()


RINGS = [
    MATHS[1],
    "wb.RunPanel('runs')",
    MATHS[6].replace('"dollars"', '"rings"'),
    "wb.BeforeAfter(run)",
]
WIDGETS = (".wb-token-view", ".wb-run-panel", ".wb-errors", ".wb-before-after")
RING = """(widget) => [...widget.querySelectorAll("select, input, textarea, button, summary, [tabindex='0']")]
    .filter((n) => n.checkVisibility() && !n.disabled).flatMap((n) => {
        n.focus();
        const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(n);
        const ring = outlineStyle === "solid" && parseFloat(outlineWidth) >= 2;
        return document.activeElement !== n || ring ? [] : [[n.tagName, n.className, outlineStyle, outlineWidth]];
    })"""


def test_what_has_the_focus_has_a_ring(chromium: Any, lab: Lab) -> None:
    notebook = opened(chromium, lab, "rings.ipynb", RINGS)
    notebook.run_all(240)
    page = notebook.page
    for widget in WIDGETS:
        shown = page.locator(f"{widget}:visible").first  # not the still beside it
        shown.locator("select, input, button").first.focus()
        page.keyboard.press("Tab")  # from here on the browser takes the focus to be the keyboard's
        assert shown.evaluate(RING) == [], widget
    notebook.close()
