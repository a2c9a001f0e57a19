"""Texts that are code, in a real run: its report and the twins of its widgets show them, and nothing runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pages import HOSTILE
from runs_of import config_of, own_files

from workbench.runs import execution
from workbench.unlearning.settings import Settings
from workbench.view.html.text import plain
from workbench.view.report import run_report
from workbench.view.widgets import BeforeAfter, ErrorBrowser, TokenView


@pytest.mark.browser
def test_the_pages_of_a_run(bio: Any, chromium: Any, tmp_path: Path) -> None:
    own = own_files(bio, tmp_path, 8)
    texts = [*HOSTILE, "</script><script>document.title='run'</script>", "x" * 90]
    rows = [{"id": f"<i>{n}</i>", "question": text, "answer": text} for n, text in enumerate(texts)]
    Path(own["forget"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(steps=2, batch_size=2, lr=1e-3, record_every=1)
    run = execution.start(config_of(own, settings, probe_limit=20), tmp_path / "run").path
    pages = {"report": run_report(run)}
    for widget in (TokenView.of_run(run), BeforeAfter(run), ErrorBrowser(run)):
        pages[type(widget).__name__] = tmp_path / f"{type(widget).__name__}.html"
        twin = f'<!doctype html><meta charset="utf-8"><title>x</title><link rel="icon" href="data:,">{widget.to_html()}'
        pages[type(widget).__name__].write_text(twin, encoding="utf-8")
    for name, path in pages.items():
        page, seen = chromium.new_page(), []
        page.on("dialog", lambda dialog, seen=seen: (seen.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message, seen=seen: seen.append(message.text))
        page.on("request", lambda r, seen=seen: seen.append(r.url) if r.url.startswith(("http", "ws")) else None)
        page.goto(path.as_uri())
        shown = page.locator("body").evaluate("n => n.textContent")
        assert page.title() != "run"
        assert page.locator("img, iframe, object").count() == 0, name
        assert page.locator("script").count() == (name == "report")  # its own, for hovering
        assert all(part in shown for part in ("<script>alert(1)</script>", "onerror=alert(1)", "</style></span><b>"))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), name
        assert seen == [], name
        page.close()
    assert plain(texts[0]) in pages["report"].read_text(encoding="utf-8")
