"""What a run costs beside its steps: events, ledger, and the recording of token scores; and whether the ledger adds up.

    python benchmarks/overhead.py --data-dir DIR [--steps 20]

One run on TOFU forget01 and SmolLM2 (as it comes; nothing has to be planted for a timing) with the default batch and
recording. `overhead` is the time of `recording` between the first and the last step and of `tracking`, plus the
ledger's own (measured by the call, in the same process), as a share of the steps' time; at the start and at the end the
whole forget set is recorded once, which is `ends`. `ledger_of_wall`: the ledger's total over the clock's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

STEP = ("forget", "retain", "backward", "scorer", "reference", "optimizer")


def ledger_seconds(calls: int) -> float:
    """What so many timed phases take by themselves."""
    from workbench.cost import Ledger

    ledger = Ledger()
    started = time.perf_counter()
    for _ in range(1000):
        with ledger.phase("nothing"):
            pass
    return (time.perf_counter() - started) / 1000 * calls


def main() -> None:
    """One run; the last line is one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--task", default="tofu/forget01")
    options.add_argument("--data-dir")
    options.add_argument("--model", default="smollm2")
    options.add_argument("--objective", default="atwu")
    options.add_argument("--weights", default="atwu")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--probe-limit", type=int, default=2)
    args = options.parse_args()

    from workbench.runs import Config, start
    from workbench.tasks import TaskSpec
    from workbench.unlearning import Settings

    task = TaskSpec(args.task, data_dir=args.data_dir, retain_rows=160)
    settings = Settings(steps=args.steps, checkpoint_every=10**6)
    config = Config(
        task=task, model=args.model, objective=args.objective, weights=args.weights, settings=settings,
        probe_limit=args.probe_limit,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = start(config, Path(folder) / "run")
        wall = time.perf_counter() - started
        cost = run.json("cost.json")
    phases = cost["phases"]
    steps = sum(phases[name]["seconds"] for name in STEP if name in phases)
    records = phases["recording"]
    each = records["seconds"] / records["calls"]
    # Timed alike: a record of at most `record_samples` answers takes no more than the mean of all.
    between = each * (records["calls"] - 2)
    own = ledger_seconds(sum(p["calls"] for p in phases.values()))
    tracking = phases["tracking"]["seconds"]
    result = {
        "overhead": (between + tracking + own) / steps,
        "recording": between / steps,
        "events": tracking / steps,
        "ledger": own / steps,
        "ends": 2 * each / steps,
        "ledger_of_wall": cost["total"]["seconds"] / wall,
        "step_seconds": steps / args.steps,
        "seconds": {name: round(p["seconds"], 2) for name, p in phases.items()},
        "settings": vars(args),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
