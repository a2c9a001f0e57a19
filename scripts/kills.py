"""Kill real commands at random moments, go on, and compare the bits: python scripts/kills.py --single 50 --double 20.

Four kinds of run, an attack, a fine-tuning and a sweep, of few steps on the embedded model. Each is done once without a
kill. Then it is begun again and again and killed (SIGKILL) at a random moment, every third time while a file is being
written, in a double kill once more after it went on. Gone on with as a person would, it must leave the same files with
the same bits, and nothing beside them; only what counts time and cost may differ. A kill counts if it hit the process.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

KINDS = ("wga+surprisal", "atwu+atwu", "npo+lora", "simnpo+probes", "attack", "finetune", "sweep")
STEPS = ("steps=8", "batch_size=6", "checkpoint_every=2", "record_every=4")
OF_CLOCK = {"seconds", "time", "total_seconds", "total_flops", "flops"}  # lost steps are done, and paid for, again
UNCOMPARED = {".lock", "job.json", "cost.json", "manifest.json"}  # who works on it, what it cost, the files' sha256
TRIES = 5  # times that a kill may come too late


class Kind:
    """One kind of command: how it is begun and gone on with, and what it must leave."""

    def __init__(self, name: str, rows: dict[str, str], finished: Path | None) -> None:
        own = ["--forget", rows["forget"], "--retain", rows["retain"]]
        bio = ["--model", "bio-full", "--device", "cpu"]
        objective, _, weights = name.partition("+")
        pairs = [*STEPS, *(["train=lora"] if weights == "lora" else [])]
        common = [*own, *bio, "--probe-limit", "4"]
        self.name, self.source, self.seconds = name, finished if name == "attack" else None, 0.0
        self.words = {
            "attack": ["--attacks", "greedy,leak_at_k,relearning", "--limit", "4",
                       *_set("leak_at_k.tries=32", "leak_at_k.k=16")],
            "finetune": [*own, *bio, "--epochs", "3", *_set("batch_size=6")],
            "sweep": [*common, "--objective", "wga,simnpo", "--weights", "surprisal", "--workers", "2", *_set(*STEPS)],
        }.get(name) or [
            *common, "--objective", objective, *(["--probe-every", "2"] if weights == "probes" else []),
            *("--weights", {"lora": "uniform", "probes": "entropy"}.get(weights, weights)), *_set(*pairs),
        ]  # fmt: skip

    def prepare(self, out: Path) -> None:
        """Put in place what the command starts from."""
        if self.source:
            shutil.copytree(self.source, out)

    def command(self, out: Path) -> list[str]:
        """The command that begins it or, after a kill, goes on with it."""
        if self.name == "attack":
            return ["attack", str(out), *self.words]
        if self.name in ("finetune", "sweep"):
            return [self.name, *self.words, "--out", str(out)]
        begun = (out / "config.json").exists()
        return ["runs", "resume", str(out)] if begun else ["unlearn", *self.words, "--out", str(out)]

    def done(self, out: Path) -> bool:
        """Whether there is nothing to go on with."""
        if self.name in ("attack", "sweep"):
            return False  # the same command finds that out
        return out.exists() if self.name == "finetune" else (out / "run.json").exists()


def _set(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def begin(kind: Kind, out: Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, on one thread."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "false"}
    words = [sys.executable, "-m", "workbench", *kind.command(out)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)  # fmt: skip


def to_the_end(kind: Kind, out: Path) -> str:
    """Run a command to its end; what went wrong, or empty."""
    process = begin(kind, out)
    errors = process.communicate()[1]
    return f"exit {process.returncode}: {errors.strip()[-300:]}" if process.returncode else ""


def kill(kind: Kind, out: Path, chance: random.Random) -> bool:
    """Start a command and kill it, at times with the processes it started; False where it had ended before."""
    since, later, while_writing = time.monotonic(), chance.uniform(0.3, 1.0), chance.random() < 1 / 3
    process = begin(kind, out)
    try:
        while process.poll() is None:
            due = time.monotonic() - since > later * kind.seconds
            if due and not (while_writing and not any(out.parent.rglob(".*.part"))):
                hit = os.killpg if chance.random() < 0.5 else os.kill
                hit(process.pid, signal.SIGKILL)
                process.wait()
                return process.returncode == -signal.SIGKILL
            time.sleep(0.001 if due else 0.01)
    finally:
        process.stderr.close()  # type: ignore[union-attr]
    kind.seconds = min(kind.seconds, time.monotonic() - since)
    return False


def left(out: Path) -> dict[str, str]:
    """What a command left: each file beside or below `out`, and the digest of all in it that must not differ."""
    files = (path for path in out.parent.rglob("*") if path.is_file() and path.name not in UNCOMPARED)
    return {str(path.relative_to(out.parent)): digest(path) for path in sorted(files)}


def digest(path: Path) -> str:
    """The sha256 of a file, without clocks and costs and the place of the run."""
    import pandas as pd

    content = path.read_bytes()
    if path.name == "events.jsonl":
        events = [json.loads(line) for line in content.splitlines()]
        content = repr([{k: v for k, v in event.items() if k not in OF_CLOCK} for event in events]).encode()
    elif path.name == "summary.json":
        content = repr(_timeless(json.loads(content))).encode()
    elif path.suffix == ".parquet":
        table = pd.read_parquet(path)
        content = table.drop(columns={"run", *OF_CLOCK} & set(table)).to_json(double_precision=15).encode()
    elif path.name == "config.json":
        content = repr({k: v for k, v in sorted(json.loads(content).items()) if k != "versions"}).encode()
    return hashlib.sha256(content).hexdigest()


def _timeless(value: Any) -> Any:
    return {k: _timeless(v) for k, v in value.items() if k not in OF_CLOCK} if isinstance(value, dict) else value


def trial(kind: Kind, folder: Path, kills: int, expected: dict[str, str], chance: random.Random) -> str:
    """Kill so many times, go on to the end, and compare; what is wrong, or empty."""
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        out = folder / "out"
        folder.mkdir()
        kind.prepare(out)
        if all(not kind.done(out) and kill(kind, out, chance) for _ in range(kills)):
            break
    else:
        return "no kill came in time"
    if not kind.done(out) and (problem := to_the_end(kind, out)):
        return problem
    now = left(out)
    return ", ".join(sorted(name for name in {*now, *expected} if now.get(name) != expected.get(name)))


def own_files(folder: Path, count: int = 12) -> dict[str, str]:
    """A small task in files of one's own: their paths by set."""
    from workbench.tasks import TaskSpec

    sets, paths = TaskSpec("biographies").load().sets, {}
    for name in ("forget", "retain"):
        keys = ("id", "question", "answer", "spans")
        lines = [json.dumps({key: getattr(sample, key) for key in keys}) + "\n" for sample in sets[name][:count]]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(lines), encoding="utf-8")
        paths[name] = str(path)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Kill, and report by kind; the exit status is 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--single", type=int, default=50, help="kills of runs that are then left alone")
    parser.add_argument("--double", type=int, default=20, help="runs that are killed twice")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where it works; what differs is left there")
    options = parser.parse_args(arguments)
    work = options.work or Path(tempfile.mkdtemp(prefix="kills-"))
    work.mkdir(parents=True, exist_ok=True)
    rows, chance = own_files(work), random.Random(options.seed)
    names = options.kinds.split(",")
    expected: dict[str, dict[str, str]] = {}
    kinds = []
    finished = work / "wga+surprisal-whole" / "out"
    for name in [*(["wga+surprisal"] if "attack" in names and "wga+surprisal" not in names else []), *names]:
        kind, folder = Kind(name, rows, finished), work / f"{name}-whole"
        folder.mkdir()
        kind.prepare(folder / "out")
        since = time.monotonic()
        if problem := to_the_end(kind, folder / "out"):
            raise SystemExit(f"{name}: {problem}")
        kind.seconds, expected[name] = time.monotonic() - since, left(folder / "out")
        kinds += [kind] * (name in names)
        print(f"{name}: {kind.seconds:.1f} s, {len(expected[name])} files", flush=True)
    counts: Counter[tuple[str, int]] = Counter()
    wrong = []
    plan = [1] * options.single + [2] * options.double
    chance.shuffle(plan)
    for number, (kind, kills) in enumerate(zip(itertools.cycle(kinds), plan, strict=False)):
        folder = work / f"{number}-{kind.name}"
        if problem := trial(kind, folder, kills, expected[kind.name], chance):
            wrong.append(f"{kind.name}, {kills} kills ({folder}): {problem}")
            print("DIFFERENT", wrong[-1], flush=True)
        else:
            shutil.rmtree(folder)
            counts[kind.name, kills] += 1
            print(f"{number + 1} of {len(plan)}: {kind.name}, {kills} kill(s): the same", flush=True)
    for name in names:
        print(f"{name}: {counts[name, 1]} single and {counts[name, 2]} double kills, the same bits")
    print(f"{sum(counts.values())} of {len(plan)} the same, {len(wrong)} different")
    if not options.work and not wrong:
        shutil.rmtree(work)
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
