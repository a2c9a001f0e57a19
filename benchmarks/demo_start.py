"""How long the pages of `make voila` take, from the start of voila's process until the last output is in the page.

    python benchmarks/demo_start.py [PAGE ...] [--demos build/demos] [--browser]

Voila is started anew for each page, with the options of the Makefile. It writes a page while the notebook runs, so the
page is there when the response ends: `wall_s` is the time until then, `cpu_s` what voila and its kernel have used of
the processors by then. On a free core the wall time is at most the CPU time and some waiting for files; on a busy
machine only the CPU time says something. With --browser, Chromium opens the page: `drawn_s` is the time until every
output of the page has been drawn, widgets and charts too, and `cpu_s` includes the process that draws it. What the
pages show is computed first where it is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser"), str(ROOT / "scripts")]
PAGES = ("01_see_importance", "03_unlearn_and_probe", "talk")
DRAWN = """() => {
  const outputs = [...document.querySelectorAll("#rendered_cells .jp-OutputArea-output")];
  const charts = outputs.filter((node) => node.matches(".jp-RenderedPlotly, .js-plotly-plot"));
  return !document.querySelector("#loading")?.checkVisibility() && outputs.length > 0
    && outputs.every((node) => node.childNodes.length > 0)
    && charts.every((node) => node.querySelector(".main-svg"));
}"""


def used(processes: set[psutil.Process]) -> float:
    """The CPU seconds of processes that still run, and of their children that have ended."""
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def measure(demos: Path, page: str, chromium: Any = None) -> dict[str, Any]:
    """The times of one page."""
    from lab import voila  # type: ignore[import-not-found]

    others, began = set(psutil.Process().children(recursive=True)), time.perf_counter()
    with voila(demos, "light", ROOT / "docs") as address:
        address, server_s = address.replace("NAME", f"voila/render/{page}.ipynb"), time.perf_counter() - began
        if chromium is None:
            with urllib.request.urlopen(address, timeout=600) as response:
                size = len(response.read())
            name = "wall_s"
        else:
            sheet = chromium.new_page(viewport={"width": 1280, "height": 1400})
            sheet.goto(address, timeout=600_000, wait_until="commit")
            sheet.wait_for_function(DRAWN, timeout=600_000)
            size, name = len(sheet.content()), "drawn_s"
        seconds = time.perf_counter() - began
        cpu_s = used(set(psutil.Process().children(recursive=True)) - others)
    return {"page": page, name: seconds, "cpu_s": cpu_s, "server_s": server_s, "page_mb": size / 1e6}


def main() -> None:
    """One line a page; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("pages", nargs="*", metavar="PAGE", default=PAGES, help=", ".join(PAGES))
    options.add_argument("--demos", type=Path, default=Path("build/demos"), help="where the pages are, or will be")
    options.add_argument("--browser", action="store_true", help="open the pages in Chromium")
    args = options.parse_args()
    from course import write_demos  # type: ignore[import-not-found]
    from widget_page import browser  # type: ignore[import-not-found]

    write_demos(args.demos)

    rows = []
    with tempfile.TemporaryDirectory() as place:
        demos = shutil.copytree(args.demos, Path(place) / "demos")
        for page in args.pages:
            if args.browser:
                with browser() as chromium:
                    rows.append(measure(demos, page, chromium))
            else:
                rows.append(measure(demos, page))
            print(" ".join(f"{k} {v:.2f}" if isinstance(v, float) else v for k, v in rows[-1].items()), flush=True)
    print(json.dumps({"pages": rows, "cores": os.cpu_count(), "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
