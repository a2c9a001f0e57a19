"""A widget's own script in a real browser, on a bare page: the Python object's traits, and no kernel behind them."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--font-render-hinting=none",
    "--force-color-profile=srgb",
]  # fmt: skip
HOST = """
const state = %s;
for (const [name, text] of Object.entries(%s)) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  state[name] = new DataView(bytes.buffer);
}
const heard = {};
window.model = {
  get: (name) => state[name],
  set: (name, value) => {
    if (state[name] === value) return;
    state[name] = value;
    for (const call of heard[`change:${name}`] ?? []) call();
  },
  on: (name, call) => (heard[name] ??= []).push(call),
  off: (name, call) => (heard[name] = (heard[name] ?? []).filter((c) => c !== call)),
  send: (content) => (window.sent ??= []).push(content),
  save_changes: () => (window.saved = (window.saved ?? 0) + 1),
};
window.answer = (...message) => (heard["msg:custom"] ?? []).forEach((call) => call(...message));
window.began = performance.now();
const module = await import(URL.createObjectURL(new Blob([%s], { type: "text/javascript" })));
module.default.render({ model: window.model, el: document.querySelector("main") });
window.ready = performance.now();
await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
window.painted = performance.now(); // the frame after the script has been drawn
"""


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium; skips the test where it is not here."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def open_widget(chromium: Any, widget: Any, folder: Path, theme: str = "light") -> Any:
    """A page that shows `widget`; `page.messages` collects console messages, script errors and requests."""
    buffers, plain = {}, {}
    for name, value in widget.get_state().items():
        if isinstance(value, bytes):
            buffers[name] = base64.b64encode(value).decode()
        elif not name.startswith("_"):
            plain[name] = value
    state = {k: v for k, v in plain.items() if k not in ("layout", "tabbable", "tooltip", "comm")}
    script = HOST % tuple(json.dumps(x) for x in (state, buffers, str(widget._esm)))
    ground = {"light": "#fff", "dark": "#111"}[theme]
    path = folder / "page.html"
    path.write_text(
        f'<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8"><title>widget</title>'
        f'<style>body{{background:{ground}}}{widget._css}</style><link rel="icon" href="data:,"><body><main></main>'
        f'<script type="module">{script.replace("</", "<" + chr(92) + "/")}</script></body></html>',
        encoding="utf-8",
    )
    page = chromium.new_page(viewport={"width": 1000, "height": 900})
    page.messages = []
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "blob:", "data:")) else page.messages.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_function("window.painted", timeout=60_000)
    return page
