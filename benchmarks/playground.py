"""How soon after the last key the playground shows colours.

    python benchmarks/playground.py [--model NAME] [--tokens N] [--keys N] [--threads N]

A text of `--tokens` tokens is typed on, a character a time, each once the one before is shown. `python_ms` runs from
the browser's message to all traits being set; `pause_ms` is how long the browser waits for another key before it;
`paint_ms` is how long Chromium takes from the new traits to the frame with the colours; `key_to_colour_ms` is their sum
(medians, and the worst of each), without the few milliseconds of Jupyter's messages. Measure on a quiet machine;
`python_cpu_ms`, the processor time of all threads, tells what a busy one would have needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

WORDS = "Basil was born in the old town near the river and he writes long French novels about the sea and its birds "
PAINT = """async () => {
  const began = performance.now();
  model.set("head", { ...model.get("head") });
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - began;
}"""


def text_of(lm: Any, count: int) -> str:
    """So many tokens of text."""
    from workbench.models import encode
    from workbench.tasks import Sample

    words = (WORDS * (count // 8 + 1)).split()
    for size in range(1, len(words)):
        text = " ".join(words[:size])
        if len(encode(lm, Sample("x", "Who is Basil?", text)).answer_positions) >= count:
            return text
    raise SystemExit("too many tokens")


def typed(play: Any, keys: int) -> tuple[list[float], list[float], list[int]]:
    """Milliseconds from a message to what it changes, processor time of these, and the pauses before the next."""
    shown, times, spent, pauses = threading.Event(), [], [], []
    play.box.observe(lambda _: shown.set(), "shown")
    for key in "abcdefghij" * (keys // 10 + 1):
        shown.clear()
        began, before = time.perf_counter(), time.process_time()
        play.answer += key
        assert shown.wait(60), play.box.problem
        times.append(1000 * (time.perf_counter() - began))
        spent.append(1000 * (time.process_time() - before))
        pauses.append(play.box.pause)
        play.wait()
    return times[:keys], spent[:keys], pauses[:keys]


def main() -> None:
    """Type, paint, measure; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", default="bio-full")
    for name, default in (("tokens", 60), ("keys", 20), ("threads", 2)):
        options.add_argument(f"--{name}", type=int, default=default)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    from widget_page import browser, open_widget

    from workbench.models import load
    from workbench.view.widgets import Playground

    lm = load(args.model)
    play = Playground(lm, question="Who is Basil?", answer=text_of(lm, args.tokens))
    play.wait()
    typed(play, 3)  # the first passes of a model take longer
    times, spent, pauses = typed(play, args.keys)
    with browser() as chromium, tempfile.TemporaryDirectory() as folder:
        page = open_widget(chromium, play.view, Path(folder))
        paints = [page.evaluate(PAINT) for _ in range(20)]
        if page.messages:
            sys.exit("\n".join(page.messages))
    parts = {"pause": pauses, "python": times, "paint": paints}
    figures = {f"{name}_ms": median(values) for name, values in parts.items()}
    figures |= {"python_cpu_ms": median(spent), "python_worst_ms": max(times), "paint_worst_ms": max(paints)}
    figures["key_to_colour_ms"] = sum(median(values) for values in parts.values())
    print(json.dumps({k: round(v, 1) for k, v in figures.items()} | vars(args) | {"precision": lm.precision}))


if __name__ == "__main__":
    main()
