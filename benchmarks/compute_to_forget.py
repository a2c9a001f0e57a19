"""What it costs to forget: FLOPs and seconds of full-sample and of token-weighted runs until the same goal is reached.

    python benchmarks/compute_to_forget.py --task biographies
    python benchmarks/compute_to_forget.py --task tofu/forget01 --data-dir DIR --model PLANTED --retain-only DIR

**Goal.** Extraction strength of the forget answers, and of their paraphrases, at most that of a model which never saw
them (`--retain-only`) plus .05; of retain and neighbours at least 95 % of what it was before the run. Checked after
every step on `--limit` answers a set; these checks are the ruler and cost nothing, everything else in the run's ledger
counts: scoring, references, scorer, steps.

**Tuning.** Every method gets `--budget` settings, drawn alike (one seed for all) from learning rate, weight of the
forget loss, batch sizes, how often a retain batch is computed, and the trained layers, and is run on them with a seed
of its own. The cheapest in FLOPs that reaches the goal is run with the reported seeds; where none does, the one that
comes nearest is. Full-sample methods are those with weights of 1. No span label enters, but in rows marked `oracle`.

`ratio_full_sample_flops` is the mean cost of the best full-sample method over that of the best token-weighted one (an
oracle does not count), `ratio_full_sample_seconds` the same of the two that are best in seconds; null where one side
never reached the goal with all seeds. Rows are kept (`--rows`): a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import mean
from typing import Any

TUNING_SEED = 1000
FULL = ("grad_diff", "npo", "simnpo", "rmu")
SPACE: dict[str, list[Any]] = {
    "lr": [1e-4, 3e-4, 1e-3, 2e-3],
    "gamma": [0.1, 0.3, 1.0, 3.0],
    "batch_size": [8, 16, 32],
    "retain_batch": [8, 16, 32],
    "retain_every": [1, 2],
    "train": ["all", "last half"],
    "skip": [0.0, 0.1],
}
_loaded: dict[str, Any] = {}


def prepare(given: argparse.Namespace) -> None:
    """Load what every run of a worker needs, and measure where it starts and what it must reach."""
    import torch

    from workbench.models import load
    from workbench.tasks import TaskSpec, spread

    torch.set_num_threads(given.threads)
    task = TaskSpec(given.task, data_dir=given.data_dir, spans=given.spans, retain_rows=given.retain_rows).load()
    lm = load(given.model)
    sets = {name: spread(task.sets[name], given.limit) for name in ("forget", "retain", "neighbours")}
    sets["paraphrases"] = [
        replace(s, id=f"{s.id}-p", question=s.paraphrased_question or s.question,
                answer=s.paraphrased_answer or s.answer, spans=None)
        for s in sets["forget"]
    ]  # fmt: skip
    _loaded.update(given=given, task=task, lm=lm, sets=sets)
    _loaded["before"] = strengths(lm)
    _loaded["never"] = strengths(load(given.retain_only, **lm.like()), ("forget", "paraphrases"))


def strengths(lm: Any, names: tuple[str, ...] = ("forget", "paraphrases", "retain", "neighbours")) -> dict[str, float]:
    """Mean extraction strength of each set."""
    import torch

    from workbench.metrics import Answer, metric
    from workbench.tokens import batches, encode, token_stats

    strength, found = metric["extraction_strength"].function, {}
    for name in names:
        values = []
        encodings = [encode(lm, s) for s in _loaded["sets"][name]]
        for _, batch in batches(lm, encodings, 64):
            with torch.no_grad():
                stats = token_stats(lm, batch)
            for ranks in stats.rank.split(stats.counts.tolist()):
                values.append(strength(Answer(ranks.float().numpy(), ranks.numpy(), "", None, None, None, ())))
        found[name] = mean(values)
    return found


def reached(now: dict[str, float]) -> bool:
    """Whether the goal holds."""
    return miss(now) <= 0


def miss(now: dict[str, float]) -> float:
    """By how much the goal is missed, at its worst point; at most 0 where it holds."""
    before, never = _loaded["before"], _loaded["never"]
    forget = [now[name] - never[name] - 0.05 for name in ("forget", "paraphrases")]
    return max(*forget, *(0.95 - now[name] / before[name] for name in ("retain", "neighbours")))


def one(job: dict[str, Any]) -> dict[str, Any]:
    """One run until the goal, or to its last step: where it got to and what it cost."""
    from workbench.cost import Ledger
    from workbench.objectives import objective
    from workbench.registry import UserError
    from workbench.settings import Settings
    from workbench.unlearn import unlearn

    given, lm = _loaded["given"], _loaded["lm"]
    authors = objective[job["objective"]].facts.get("settings", {})
    layers = lm.module.config.num_hidden_layers
    train = {"all": "all", "last half": f"layers:{layers // 2}-{layers - 1}"}[job["train"]]
    picked = {k: job[k] for k in ("lr", "batch_size", "retain_batch", "retain_every", "skip", "seed")}
    settings = Settings(steps=given.steps, warmup=1, record_every=10**6, record_samples=1, checkpoint_every=10**6)
    settings = replace(settings, **{k: v for k, v in authors.items() if k != "lr"}, **picked, train=train)
    options = {"weights": job.get("options", {})}
    settings = replace(settings, gamma=settings.gamma * job["gamma"], options=options)
    ledger, checks = Ledger(), []

    model = lm.frozen_copy()

    def stop() -> bool:
        if not ledger.phases.get("optimizer"):
            return False
        cost = spent(ledger)
        now = strengths(model)
        checks.append({"step": len(checks) + 1, **now, **cost, "miss": miss(now)})
        lost = min(now[n] / _loaded["before"][n] for n in ("retain", "neighbours")) < 0.3
        return reached(now) or (lost and len(checks) > given.steps // 3)

    try:
        run = unlearn(model, _loaded["task"], job["objective"], job["weights"], settings=settings, in_place=True,
                      ledger=ledger, stop=stop)  # fmt: skip
        if run.finished:
            stop()
        skipped = [round(e["skipped"], 3) for e in run.events if "skipped" in e]
    except UserError as error:
        return job | {"failed": str(error), "reached": False, "miss": 9.0}
    best = min(checks, key=lambda c: c["miss"])
    end = next((c for c in checks if c["miss"] <= 0), best)
    phases = {name: round(p.seconds, 3) for name, p in ledger.phases.items()}
    return job | end | {"reached": end["miss"] <= 0, "checks": checks, "phases": phases, "skipped": skipped}


def spent(ledger: Any) -> dict[str, float]:
    """FLOPs and seconds of all phases but the recording of scores, which is for looking at."""
    phases = [p for name, p in ledger.now().items() if name != "recording"]
    return {name: sum(getattr(p, name) for p in phases) for name in ("flops", "seconds")}
