"""Suites: the set-level metrics that a benchmark reports, each with its parts, or the reason why it has no value.

A summary reads an `Evaluation` (what was probed, and what it is compared with), fills its parts and returns a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import NotAvailable, missing, unknown
from workbench.evals.metrics import MetricSpec, convention_options
from workbench.evals.mia import attack, auc, members, membership_scores, nonmembers
from workbench.evals.probes import Probed, probe, probed_samples, truth_ratios
from workbench.models import LanguageModel
from workbench.registry import Registry
from workbench.tasks import Task

summary = Registry("summary", MetricSpec)
Parts = dict[str, Any]


@dataclass
class Evaluation:
    """A model on a task, as the summaries read it.

    Attributes:
        lm: the model.
        task: the task.
        probed: its probe rows and per-set metrics.
        reference: a model that never saw the forget set, if one is given.
        earlier: the results of an earlier suite instead (what `run_suite` returned, or `RUN/suites/<suite>.json`).
        limit: at most so many samples a set.
        batch_size: samples a forward pass.
        convention: "ours" or "open-unlearning".
        attacks: the membership attacks that will be asked for, so that they share their forward passes.
    """

    lm: LanguageModel
    task: Task
    probed: Probed
    reference: LanguageModel | None = None
    earlier: dict[str, Any] | None = None
    limit: int | None = None
    batch_size: int = 64
    convention: str = "ours"
    attacks: tuple[str, ...] = ()
    _scores: dict[bool, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)

    def value(self, name: str, metric: str) -> float:
        """A per-answer metric's value over a set."""
        if name not in self.probed.metrics:
            raise NotAvailable(f"the task has no set '{name}'")
        found = self.probed.metrics[name][metric]
        if isinstance(found, dict):
            raise NotAvailable(f"{name} {metric}: {found['reason']}")
        return float(found)

    def scores(self, of_reference: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Membership scores of the forget set and of nonmember text, by the model or by the reference (min-k alone)."""
        if of_reference not in self._scores:
            lm, names, beside = self.lm, list(self.attacks), self.reference
            if of_reference:
                assert self.reference is not None
                lm, names, beside = self.reference, ["mia_min_k"], None
            elif self.reference is None:
                names = [n for n in names if "reference" not in attack[n].needs]
            asked: dict[str, Any] = {"reference": beside, "limit": self.limit, "convention": self.convention}
            asked["batch_size"] = min(16, self.batch_size)
            sets = (members(self.task), nonmembers(self.task))
            forget, unseen = (membership_scores(lm, samples, names, **asked) for samples in sets)
            self._scores[of_reference] = forget, unseen
        return self._scores[of_reference]

    def auc(self, name: str, parts: Parts) -> float:
        """An attack's AUC; its parts are how many texts it compares."""
        nonmembers(self.task)
        if "reference" in attack[name].needs and self.reference is None:
            raise NotAvailable("needs a reference model")
        forget, unseen = self.scores()
        parts |= {"forget_samples": len(forget), "nonmember_samples": len(unseen)}
        return auc(forget[name], unseen[name])

    def earlier_part(self, name: str, part: str) -> Any:
        """A part of an earlier suite's results."""
        found = (self.earlier or {}).get("parts", {}).get(name, {}).get(part)
        if found is None:
            raise NotAvailable(f"the earlier results have no {name} with its {part}")
        return found


UTILITY = {
    "retain": ("probability", "rouge_l_recall", "truth_ratio"),
    "neighbours": ("probability_with_options", "rouge_l_recall", "truth_ratio"),
    "general": ("probability_with_options", "rouge_l_recall", "truth_ratio"),
}
NO_REFERENCE = "needs a retain-only model"


@summary(
    "model_utility",
    better="higher",
    range=(0, 1),
    unit="",
    split="retain, neighbours, general",
    source="TOFU, arXiv 2401.06121, open-unlearning",
    certainty="sure",
    differs="they take the 400 retain rows that have wrong answers alone, and a part that is 0 makes the value 0",
)
def model_utility(given: Evaluation, parts: Parts) -> float:
    """Harmonic mean of nine: on each of three sets the probability, ROUGE-L recall and truth ratio, max(0, 1 - R).

    Off the retain set the probability is the one with options. In TOFU neighbours are the real authors and general the
    world facts.
    """
    missing = []
    for name, metrics in UTILITY.items():
        for each in metrics:
            try:
                parts[f"{name} {each}"] = given.value(name, each)
            except NotAvailable as reason:
                parts[f"{name} {each}"] = None
                missing.append(str(reason))
    if missing:
        raise NotAvailable("; ".join(dict.fromkeys(missing)))
    zero = [name for name, value in parts.items() if value <= 0]
    if zero:
        raise NotAvailable(f"a harmonic mean needs parts above 0; {', '.join(zero)} is 0")
    return len(parts) / sum(1 / value for value in parts.values())


@summary(
    "forget_quality",
    better="higher",
    range=(0, 1),
    unit="p-value",
    split="forget",
    source="TOFU, arXiv 2401.06121, open-unlearning",
    certainty="sure",
    needs=("reference",),
)
def forget_quality(given: Evaluation, parts: Parts) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test of R on forget against a retain-only model's R.

    Near 1 the two models cannot be told apart by it; below 0.05 they can.
    """
    from scipy.stats import ks_2samp

    samples = probed_samples(given.task.forget, given.limit, given.convention)
    own = given.probed.rows
    own = own[(own["probe_set"] == "forget") & np.isfinite(own["truth_ratio"])]
    if own.empty:
        raise NotAvailable("forget truth_ratio: needs wrong answers")
    parts["truth_ratios"] = dict(zip(own["sample_id"], own["truth_ratio"].tolist(), strict=True))
    if given.reference is not None:
        other = truth_ratios(given.reference, samples, batch_size=given.batch_size, convention=given.convention)
    elif given.earlier is not None:
        other = given.earlier_part("forget_quality", "truth_ratios")
    else:
        raise NotAvailable(NO_REFERENCE)
    if not other:
        raise NotAvailable("the reference has no finite truth ratio")
    test = ks_2samp(list(parts["truth_ratios"].values()), list(other.values()))
    parts |= {"statistic": float(test.statistic), "samples": len(own), "reference_samples": len(other)}
    return float(test.pvalue)


def _add_attack(name: str) -> None:
    def function(given: Evaluation, parts: Parts) -> float:
        return given.auc(name, parts)

    entry = attack[name]
    told = (entry.function.__doc__ or "").splitlines()[0]
    function.__doc__ = f"AUC of telling nonmember text (1) from the forget set (0) by: {told}"
    summary(
        name, better="near 0.5", range=(0, 1), unit="AUC", split="forget, nonmembers",
        source=entry.source, certainty=entry.certainty, needs=entry.needs, differs=entry.differs,
    )(function)  # fmt: skip


for _name in attack:
    _add_attack(_name)


@summary(
    "privleak",
    better="near 0",
    range=(-100, None),
    unit="%",
    split="forget, nonmembers",
    source="MUSE, arXiv 2407.06460, open-unlearning",
    certainty="sure",
    needs=("reference",),
    differs="they fall back on a fixed reference AUC of 0.5, and add 1e-10 to the denominator",
)
def privleak(given: Evaluation, parts: Parts) -> float:
    """((1 - AUC) - (1 - AUC_ref)) / (1 - AUC_ref) * 100, AUC of min-k, AUC_ref a retain-only model's.

    Below 0: the forget set is still recognised as learned; above 0: it is conspicuously absent. Both AUCs are among the
    parts, since the value explodes as AUC_ref nears 1.
    """
    parts["auc"] = given.auc("mia_min_k", {})
    if given.reference is not None:
        forget, unseen = given.scores(of_reference=True)
        parts["auc_reference"] = auc(forget["mia_min_k"], unseen["mia_min_k"])
    elif given.earlier is not None:
        parts["auc_reference"] = float(given.earlier_part("privleak", "auc"))
    else:
        raise NotAvailable(NO_REFERENCE)
    rest = 1 - parts["auc_reference"]
    if rest <= 0:
        raise NotAvailable("the reference's AUC is 1, and the value is relative to 1 - AUC")
    return ((1 - parts["auc"]) - rest) / rest * 100


def _add_set(name: str, metric: str, better: str, source: tuple[str, str], told: str, differs: str = "") -> None:
    def function(given: Evaluation, parts: Parts) -> float:
        return given.value(name, metric)

    function.__doc__ = told
    summary(
        name, better=better, range=(0, 1), unit="", split=name, source=source[0], certainty=source[1], differs=differs
    )(function)


_MUSE, _RWKU = ("MUSE, arXiv 2407.06460", "sure"), ("RWKU, arXiv 2406.10890", "likely")
_STEMMED = {"differs": "they stem words; MUSE's own evaluation does not"}
_F1 = "ROUGE-L F1 of {} against the answer, words not stemmed."
_PASSAGES, _QUESTIONS = (
    _F1.format("128 greedy tokens after a passage's beginning"),
    _F1.format("32 tokens to questions"),
)
_RECALL = "ROUGE-L recall of 30 greedy tokens against the answer, on {}."
_add_set("verbmem", "rouge_l_f1", "lower", _MUSE, _PASSAGES, **_STEMMED)
_add_set("knowmem", "rouge_l_f1", "lower", _MUSE, _QUESTIONS, **_STEMMED)
_add_set("retain_knowmem", "rouge_l_f1", "higher", _MUSE, _QUESTIONS, **_STEMMED)
_add_set("fill_blank", "rouge_l_recall", "lower", _RWKU, _RECALL.format("sentences with a blank"))
_add_set("qa", "rouge_l_recall", "lower", _RWKU, _RECALL.format("questions about the subject"))
_add_set("adversarial", "rouge_l_recall", "lower", _RWKU, _RECALL.format("adversarial wordings of them"))
_add_set("neighbours", "rouge_l_recall", "higher", _RWKU, _RECALL.format("what is near the subject and to be kept"))


@summary(
    "fluency", better="higher", range=(0, None), unit="bits", split="neighbours", source=_RWKU[0], certainty=_RWKU[1]
)
def fluency(given: Evaluation, parts: Parts) -> float:
    """Weighted entropy of the 2- and 3-grams of the greedy continuations: low when they repeat.

    On the answers about neighbours, where RWKU's own evaluation has the model follow instructions of another data set.
    """
    return given.value("neighbours", "fluency")


@summary(
    "perplexity",
    better="lower",
    range=(1, None),
    unit="",
    split="general, plain text",
    source="standard",
    certainty="sure",
)
def perplexity(given: Evaluation, parts: Parts) -> float:
    """Perplexity: exp of the mean NLL over all tokens of plain text."""
    if any(s.question for s in given.task.sets.get("general", [])):
        raise NotAvailable("the general set has questions; this is of plain text")
    return given.value("general", "perplexity")


SUITES: dict[str, tuple[str, ...]] = {
    "basic": (),
    "tofu": ("model_utility", "forget_quality", "privleak", *attack),
    "muse": ("verbmem", "knowmem", "retain_knowmem", "privleak", *attack, "perplexity"),
    "rwku": ("fill_blank", "qa", "adversarial", "neighbours", "fluency", *attack, "perplexity"),
}


def suite_names(suite: str) -> tuple[str, ...]:
    """The summaries of a suite; `basic` has none, only the metrics of `probe`."""
    if suite not in SUITES:
        raise unknown("suite", suite, list(SUITES))
    return SUITES[suite]


def run_suite(
    lm: LanguageModel,
    task: Task,
    suite: str,
    reference: LanguageModel | dict[str, Any] | None = None,
    *,
    probed: Probed | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    convention: str = "ours",
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, Any]:
    """Probe a model as a benchmark does.

    Args:
        lm: the model; unchanged.
        task: the task.
        suite: a name of `SUITES`.
        reference: what the model is compared with: a retain-only model, or the results of an earlier suite.
        probed: what `probe` found for this model with these options, if that was done already.
        limit: at most so many samples a set.
        batch_size: samples a forward pass.
        convention: "ours" or "open-unlearning"; see `probe`.
        progress: called with the set's name, answers done and their number.

    Returns:
        `suite`; `summary`, by name a number or `{"value": None, "reason": why}`; `parts`, by name what it was made of.
    """
    names = suite_names(suite)
    convention_options(convention, "")
    if probed is None:
        probed = probe(lm, task, limit=limit, batch_size=batch_size, convention=convention, progress=progress)
    given = Evaluation(
        lm,
        task,
        probed,
        reference if isinstance(reference, LanguageModel) else None,
        reference if isinstance(reference, dict) else None,
        limit,
        batch_size,
        convention,
        tuple(name for name in attack if name in names),
    )
    values: dict[str, Any] = {}
    parts: dict[str, Parts] = {}
    for name in names:
        parts[name] = {}
        try:
            values[name] = summary[name].function(given, parts[name])
        except NotAvailable as reason:
            values[name] = missing(str(reason))
    return {"suite": suite, "summary": values, "parts": parts}
