"""The damage at a level of forgetting: where a run crosses it, and what a weighting closes of a gap."""

from __future__ import annotations

import argparse
import math

import damage as bench
import pandas as pd
import pytest

ARGS = {"task": "biographies", "data_dir": None, "spans": None, "retain_rows": None, "model": "bio-full"}
ARGS |= {"retain_only": "bio-retain", "threads": 1, "objective": "wga", "every": 1, "limit": 8, "unrehearsed": 288}


def test_the_damage_is_read_where_the_run_crosses_the_level() -> None:
    checks = [{"forget": 1.0, "generic_nll": 0.0}, {"forget": 0.7, "generic_nll": 0.2}]
    checks.append({"forget": 0.3, "generic_nll": 1.0})
    assert bench.at_level({"reached": 1.0, "checks": checks}, 0.5) == pytest.approx(0.6)
    assert bench.at_level({"reached": 1.0, "checks": checks}, 0.3) == pytest.approx(1.0)
    assert math.isnan(bench.at_level({"reached": 0.0, "checks": checks}, 0.2))


def test_a_weighting_closes_a_part_of_the_gap_to_the_labels() -> None:
    damage = pd.Series({"uniform": 0.5, "learned": 0.2, "spans": 0.1})
    assert bench.closed_of(damage) == pytest.approx({"uniform": 0, "learned": 0.75, "spans": 1})
    assert bench.closed_of(damage.drop("spans")) == {}


def test_labelled_and_other_tokens_are_told_apart() -> None:
    tokens = pd.DataFrame({"start": [0, 2, 4, 6], "end": [2, 4, 6, 6], "span": [True, False, False, False]})
    tokens = tokens.assign(logp=[-2.0, -0.5, -1.5, -9.0], rank=[1, 0, 3, 7])  # the last one stands for no text
    found = bench.of_tokens(tokens)
    assert found == {"forget": 0.0, "fact_nll": 2.0, "generic_nll": 1.0, "generic_lost": 0.5}


@pytest.mark.parametrize("by", ["tokens", "greedy"])
def test_a_run_ends_at_the_level(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_loaded", {})
    more = {"by": by, "level": 0.9, "steps": 6, "set": ["lr=1e-2", "warmup=0", "batch_size=8"]}
    bench.prepare(argparse.Namespace(**ARGS, **more))
    row = bench.one({"weights": "learned:rows=20", "seed": 0})
    assert row["reached"] == 1.0
    assert row["steps"] < 6
    assert row["checks"][-1]["forget"] <= 0.9 < row["checks"][-2]["forget"]
    assert {"generic_nll", "retain", "unrehearsed", "flops"} <= set(row)
    assert row["found"]["auroc"] > 0.8
    fixed = bench.fixed("su_ngram", "su_ngram", {})
    assert bench.fixed("su_ngram", "su_ngram", {}) is fixed  # scored once
