"""Pictures of the widgets in JupyterLab, in both themes: python scripts/screenshots.py [NAME ...].

They are written to docs/images; names are those of `CELLS`, and heatmap (a static view, light); by default all.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]
HEATMAP = "heatmap"
LIMIT = 300_000  # bytes a picture
CELLS = {
    "token-view": """import workbench as wb
from pathlib import Path
task, model = wb.TaskSpec("biographies").load(), wb.load("bio-full")
texts = {s.id: (s.question, s.answer) for s in task.forget}
settings = wb.Settings(steps=40, lr=5e-4, record_every=2, record_samples=96)
names = {"task": wb.TaskSpec("biographies"), "model": "bio-full", "objective": "wga", "weights": "atwu"}
config = wb.Config(**names, settings=settings, probe_limit=96)
run = wb.start(config, Path("run")).path
wb.TokenView.of_run(run)""",
    "compare": """task.sets["forget"] = task.forget[::12]
scores = wb.score_task(model, task, ["specificity", "surprisal", "integrated_gradients", "spans"])
wb.CompareView(scores, texts, max_samples=3)""",
    "before-after": "wb.BeforeAfter(run)",
    "where-view": "wb.where(run, 'celia-nash-town-0', reference='bio-retain')",
    "errors": "wb.ErrorBrowser(run)",
    "playground": """import workbench as wb
play = wb.Playground("bio-full", question="What does Celia Nash do for a living?")
play.answer = "Celia Nash works as a baker and likes the early hours."
play.wait(), play.view.select("typed", 5), play.greedy(), play.wait()
play""",
    "chat": """import workbench as wb
chat = wb.Chat("bio-full", "bio-retain")
chat.ask("What does Celia Nash do for a living?")
chat.wait()
chat.box.needle = "cartographer"
chat.more()
chat.wait()
chat.heatmap(0, 0)
chat.wait()
chat""",
    "run-panel": "panel = wb.RunPanel('.')\npanel.attach(run)\npanel",
}


def hover(page: Any, name: str) -> None:
    """Where a picture says more with the pointer on a token."""
    if name == "token-view":
        view = page.locator(".wb-token-view").first
        view.get_by_label("scorer").select_option("atwu")
        view.locator(".wb-row").nth(1).locator(".wb-s").first.hover()
    if name == "where-view":
        page.locator(".wb-where-view .wb-fact td").nth(6).hover()
    if name == "compare":
        page.locator(".wb-compare .wb-a > .wb-s").first.hover()


def heatmap(chromium: Any, path: Path) -> None:
    """The first picture of the README: answers of the embedded task."""
    import workbench as wb
    from workbench.view.html import page, token_view

    task, model = wb.TaskSpec("biographies").load(), wb.load("bio-full")
    scores = wb.score_task(
        model, task, ["specificity", "surprisal", "entropy", "gap", "spans"], reference=wb.load("bio-retain")
    )
    sheet = chromium.new_page(viewport={"width": 940, "height": 900}, device_scale_factor=1.5)
    sheet.set_content(page("", token_view(scores, task, max_samples=5, css=False)))
    sheet.add_style_tag(content=".wb-theme { display: none }")
    sheet.locator(".wb").first.screenshot(path=path)
    sheet.close()


def main() -> None:
    """One notebook a theme, one picture a widget."""
    from lab import Notebook, jupyter, write_notebook  # type: ignore[import-not-found]
    from widget_page import browser  # type: ignore[import-not-found]

    names = sys.argv[1:] or [*CELLS, HEATMAP]
    cells = {name: CELLS[name] for name in names if name != HEATMAP}
    out = ROOT / "docs" / "images"
    out.mkdir(exist_ok=True)
    with browser() as chromium, tempfile.TemporaryDirectory() as place:
        if HEATMAP in names:
            heatmap(chromium, out / f"{HEATMAP}.png")
        for theme in ("light", "dark") if cells else ():
            folder = Path(place) / theme
            folder.mkdir()
            write_notebook(folder / "shots.ipynb", list(cells.values()))
            with jupyter(folder, theme) as address:
                notebook = Notebook(chromium, address, "shots.ipynb")
                notebook.run_all(400)
                notebook.page.set_viewport_size({"width": 1500, "height": 1400})
                for name in cells:
                    widget = notebook.page.locator(f".wb-{name}:visible").first
                    widget.evaluate("node => node.scrollIntoView({ block: 'start' })")
                    hover(notebook.page, name)
                    notebook.page.wait_for_timeout(500)
                    path = out / f"{name}-{theme}.png"
                    box = widget.bounding_box()
                    assert box is not None, f"{name} is not to be seen"
                    clip = box | {"height": min(box["height"], 900, 1400 - box["y"])}
                    notebook.page.screenshot(path=path, clip=clip)
                    assert path.stat().st_size <= LIMIT, f"{path} has {path.stat().st_size} bytes"
                notebook.close()


if __name__ == "__main__":
    main()
