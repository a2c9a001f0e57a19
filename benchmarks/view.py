"""How quick the token view is in a browser, and how large, at 200 answers x 100 tokens x 8 scorers x 20 steps.

    python benchmarks/view.py [--samples N] [--tokens N] [--scorers N] [--steps N]

Chromium shows the widget's own script and payload. `build_s` is Python's part; `first_paint_s` runs from the script's
start (payload decoded from base64 before) to the first frame with coloured tokens; a scorer switch, a step and a
threshold from the control's event to the frame that shows it (median and worst of 20); `frame_ms` are frames while the
text scrolls. The table is random.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

CHANGE = """async ([selector, value, kind]) => {
  const node = document.querySelector(selector);
  node.value = value;
  const began = performance.now();
  node.dispatchEvent(new Event(kind, { bubbles: true }));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - began;
}"""
SCROLL = """async () => {
  const box = document.querySelector(".wb-text");
  const times = [];
  let last = performance.now();
  for (let i = 0; i < 60; i++) {
    box.scrollTop += 160;
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - last);
    last = performance.now();
  }
  return times;
}"""


def table(args: argparse.Namespace) -> pd.DataFrame:
    """A random score table, its tokens words of six characters."""
    rng = np.random.default_rng(0)
    count = args.samples * args.tokens
    positions = np.tile(np.arange(args.tokens), args.samples)
    words = pd.Series([" " + "".join(w) for w in rng.choice(list("abcdefghijklmnop"), (count, 5))])
    one = pd.DataFrame(
        {
            "sample_id": np.repeat([f"sample-{i}" for i in range(args.samples)], args.tokens),
            "position": positions, "token": words, "start": positions * 6, "end": positions * 6 + 6,
            "segment": "answer", "span": rng.random(count) < 0.15,
        }
    )  # fmt: skip
    parts = [
        one.assign(scorer=f"scorer {k}", step=step * 5, score=rng.random(count).astype("float32"))
        for k in range(args.scorers)
        for step in range(args.steps)
    ]
    return pd.concat(parts, ignore_index=True)


def measure(page: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Times of the page, in milliseconds where the name says so."""
    figures: dict[str, Any] = {"first_paint_s": page.evaluate("window.painted - window.began") / 1000}
    controls = {
        "scorer_switch": (".wb-bar select", [f"scorer {i % args.scorers}" for i in range(1, 21)], "change"),
        "step_change": (".wb-strip input", [str(i % args.steps) for i in range(20)], "input"),
        "threshold": (".wb-bar input[type=range]", [str(0.3 + i / 40) for i in range(20)], "input"),
    }
    for name, (selector, values, kind) in controls.items():
        times = [page.evaluate(CHANGE, [selector, value, kind]) for value in values]
        figures |= {f"{name}_ms": median(times), f"{name}_worst_ms": max(times)}
    frames = page.evaluate(SCROLL)
    return figures | {"frame_ms": median(frames), "frame_worst_ms": max(frames)}


def main() -> None:
    """Build, show, measure; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("samples", 200), ("tokens", 100), ("scorers", 8), ("steps", 20)):
        options.add_argument(f"--{name}", type=int, default=default)
    args = options.parse_args()
    from widget_page import browser, open_widget

    from workbench.view import scores_page
    from workbench.view.widgets import TokenView

    scores = table(args)
    texts = scores.drop_duplicates(["sample_id", "position"]).groupby("sample_id", sort=False)["token"].sum()
    samples = {name: (f"What is written about {name}?", text) for name, text in texts.items()}
    began = time.perf_counter()
    view = TokenView(scores, samples)
    built = time.perf_counter() - began
    size = (
        len(json.dumps(view.head, ensure_ascii=False).encode()) + len(view.codes) + len(view.books) + len(view.details)
    )
    figures = {"build_s": built, "payload_mb": size / 1e6}
    with browser() as chromium, tempfile.TemporaryDirectory() as folder:
        page = open_widget(chromium, view, Path(folder))
        figures |= measure(page, args)
        figures["first_paint_with_python_s"] = built + figures["first_paint_s"]
        if page.messages:
            sys.exit("\n".join(page.messages))
    figures["report_mb"] = len(scores_page(scores, samples, max_samples=args.samples).encode()) / 1e6
    print(json.dumps({k: round(v, 4) for k, v in figures.items()} | vars(args)))


if __name__ == "__main__":
    main()
