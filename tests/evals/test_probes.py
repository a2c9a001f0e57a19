"""Probes: greedy answers are greedy, whatever the model's own defaults say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from workbench.errors import UserError
from workbench.evals.answers import answers_of, truth_ratios
from workbench.evals.generation import continuation, greedy
from workbench.evals.probes import probe, probe_sets, probed_samples
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.tasks.samples import Task


@pytest.mark.oracle
def test_greedy_is_the_argmax_loop(full: LanguageModel, small: Task) -> None:
    lm = full.frozen_copy()
    lm.module.generation_config = GenerationConfig(repetition_penalty=5.0, temperature=0.3, do_sample=True, top_k=5)
    expected = []
    with torch.no_grad():
        for sample in small.forget[:4]:
            ids = encode(lm, sample, answer=False).ids
            said: list[int] = []
            while len(said) < 12 and (not said or said[-1] != lm.tokenizer.eos_token_id):
                said.append(int(lm.module(torch.tensor([ids + said])).logits[0, -1].argmax()))
            expected.append(lm.tokenizer.decode(said, skip_special_tokens=True).strip())
    assert greedy(lm, small.forget[:4], 64, 12) == expected
    assert lm.module.generation_config.repetition_penalty == 5.0


def with_sets(task: Task, **sets: str) -> Task:
    """The task with further probe sets, each a copy of one that it has."""
    return replace(task, sets=task.sets | {name: task.sets[source] for name, source in sets.items()})


def test_benchmarks_sets_are_probed_as_they_say(full: LanguageModel, small: Task) -> None:
    task = with_sets(small, verbmem="forget", knowmem="neighbours", qa="neighbours", nonmembers="general")
    assert probe_sets(task) == ["forget", "retain", "neighbours", "general", "verbmem", "knowmem", "qa"]
    lengths = [continuation(task, name).tokens for name in ("forget", "verbmem", "knowmem", "retain_knowmem", "qa")]
    assert lengths == [None, 128, 32, 32, 30]
    assert continuation(task, "neighbours").tokens is None
    assert continuation(replace(task, name="rwku/Stephen King"), "neighbours").tokens == 30
    assert continuation(task, "retain", "open-unlearning").tokens == 200
    assert continuation(task, "knowmem", "open-unlearning").tokens == 32
    found = probe(full, task, limit=3)
    assert list(found.metrics) == probe_sets(task)
    assert set(found.rows["probe_set"]) == set(probe_sets(task))


def test_continuations_are_cut(full: LanguageModel, small: Task) -> None:
    whole = greedy(full, small.forget[:2], 2, 24)
    assert all(text and "works" in text for text in whole[:1])
    cut = greedy(full, small.forget[:2], 2, 24, stops=("works", " a "))
    assert cut[0] == (whole[0] or "").split("works")[0].split(" a ")[0].strip()
    how = replace(continuation(small, "verbmem"), tokens=3)
    answers, _ = answers_of(full, small.forget[:2], how)
    assert [a.text for a in answers] == [" ".join(s.answer.split(" ")[:3]) for s in small.forget[:2]]
    assert [len((a.generation or "").split()) for a in answers] == [3, 3]


@torch.no_grad()
def test_the_other_convention_is_open_unlearning_s(retained: LanguageModel, small: Task) -> None:
    """Against a plain loop by their definitions: no end token, 1/T at least, 1e-10 in denominators, 200 tokens."""
    ours = probe(retained, small).rows
    theirs = probe(retained, small, convention="open-unlearning").rows
    rows = theirs[theirs["probe_set"] == "forget"].reset_index(drop=True)
    for n, sample in enumerate(small.forget):
        encoding = encode(retained, sample)
        places = encoding.answer_positions
        logits = retained.module(torch.tensor([encoding.ids])).logits[0].double()
        right = [int(logits[p - 1].argmax()) == encoding.ids[p] for p in places[:-1]]
        k = next((k for k in range(len(right)) if all(right[k:])), len(right) - 1)
        assert rows.loc[n, "extraction_strength"] == pytest.approx(1 - k / len(right))
        assert rows.loc[n, "exact_memorization"] == pytest.approx(np.mean(right))
    shared = ["probability", "perplexity", "fact_accuracy"]
    assert theirs[shared].equals(ours[shared])
    assert (theirs["extraction_strength"].dropna() > 0).all()
    with pytest.raises(UserError, match="unknown convention 'mine'"):
        probe(retained, small, convention="mine")


def test_every_reason_why_a_metric_is_missing(full: LanguageModel, small: Task) -> None:
    """Not the last answer's alone: a set may mix questions without labels and plain text."""
    bare = [replace(s, spans=None, wrong_answers=()) for s in small.forget[:2]]
    task = replace(small, sets={**small.sets, "forget": [*bare, small.sets["general"][0]]})
    reason = probe(full, task).metrics["forget"]["fact_accuracy"]
    assert reason == {"value": None, "reason": "needs labelled spans; plain text has no question to answer"}


def test_truth_ratios_are_those_of_the_probe(full: LanguageModel, small: Task) -> None:
    rows = probe(full, small, limit=8).rows
    rows = rows[rows["probe_set"] == "neighbours"]
    found = truth_ratios(full, small.sets["neighbours"])
    assert found == dict(zip(rows["sample_id"], rows["truth_ratio"], strict=True))
    assert truth_ratios(full, small.sets["general"]) == {}


def test_a_limit_keeps_the_samples_that_have_wrong_answers(small: Task) -> None:
    samples = [replace(s, wrong_answers=()) if n % 3 else s for n, s in enumerate(small.retain)]  # 4 of 12 have some
    assert probed_samples(samples, None) == samples
    assert probed_samples(samples, 3) == [samples[0], samples[6], samples[9]]
    assert probed_samples(samples, 6) == [samples[i] for i in (0, 2, 4, 7, 9, 11)]
    assert probed_samples(samples, None, "open-unlearning") == samples[::3]
    bare = [replace(s, wrong_answers=()) for s in samples]
    assert probed_samples(bare, None, "open-unlearning") == bare
