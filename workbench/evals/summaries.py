"""Summaries: metrics of whole sets, as the benchmarks report them.

A summary is a function of an `Evaluation` that returns a number; it also writes what the number is made of into `parts`
(AUCs, counts, the nine values of a mean), or raises `NotAvailable`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbench.errors import NotAvailable, is_missing, note
from workbench.evals.answers import truth_ratios
from workbench.evals.mia import attack, auc, members, membership_scores, nonmembers
from workbench.evals.probes import Probed, probed_samples
from workbench.evals.spec import MetricSpec
from workbench.models import LanguageModel
from workbench.registry import Registry
from workbench.scorers import MEMORISED
from workbench.tasks import Task

summary = Registry("summary", MetricSpec)
KNOWN = 0.1  # nats per token below which any text has been learned; other text of one form can be at 0.4
Parts = dict[str, Any]


@dataclass
class Evaluation:
    """One model under evaluation on one task: its probes, and what it is compared with.

    Attributes:
        lm: the model.
        task: the task.
        probed: its probe rows and the metrics of each set.
        reference: a model that never saw the forget set, if there is one.
        earlier: the results of an earlier suite instead (what `run_suite` returned, or `RUN/suites/<suite>.json`).
        limit: at most so many samples a set.
        batch_size: samples a forward pass.
        convention: "ours" or "open-unlearning".
        attacks: the membership attacks of the suite; they share their forward passes.
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
        value = self.probed.metrics[name][metric]
        if is_missing(value):
            raise NotAvailable(f"{name} {metric}: {value['reason']}")
        return float(value)

    def scores(self, of_reference: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Membership scores of members and of nonmembers, by the model or by the reference (min-k alone)."""
        if of_reference not in self._scores:
            lm, names, reference = self.lm, list(self.attacks), self.reference
            if of_reference:
                assert self.reference is not None
                lm, names, reference = self.reference, ["mia_min_k"], None
            elif self.reference is None:
                names = [n for n in names if "reference" not in attack[n].needs]
            options: dict[str, Any] = {"reference": reference, "limit": self.limit, "convention": self.convention}
            options["batch_size"] = min(16, self.batch_size)
            sets = (members(self.task), nonmembers(self.task))
            names = list(dict.fromkeys([*names, "mia_loss"]))
            forget, unseen = (membership_scores(lm, samples, names, **options) for samples in sets)
            self._scores[of_reference] = forget, unseen
            if not of_reference and self._knows(nll := float(unseen["mia_loss"].mean())):
                note(
                    f"workbench: {lm.name} seems to know the text that stands for unseen text (mean NLL {nll:.2f}), so "
                    "that its membership attacks say little; give text that it was not trained on (--unlabelled)"
                )
        return self._scores[of_reference]

    def _knows(self, nll: float) -> bool:
        """Whether a mean NLL is that of known text: next to nothing, or low and no higher than twice retain text's."""
        perplexity = self.probed.metrics["retain"]["perplexity"]
        kept = 0.0 if is_missing(perplexity) else math.log(perplexity)
        return nll < max(KNOWN, min(MEMORISED, 2 * kept))

    def auc(self, name: str, parts: Parts) -> float:
        """An attack's AUC; its parts are how many texts it compares."""
        nonmembers(self.task)
        if "reference" in attack[name].needs and self.reference is None:
            raise NotAvailable("needs a reference model")
        forget, unseen = self.scores()
        parts |= {"forget_samples": len(forget), "nonmember_samples": len(unseen)}
        if math.isfinite(nll := float(unseen["mia_loss"].mean())):
            parts["nonmember_nll"] = nll  # near 0: the model knows them, and the AUC says little
        return auc(forget[name], unseen[name])

    def earlier_part(self, name: str, part: str) -> Any:
        """A part of an earlier suite's results, which must be there if there is no reference model."""
        if self.earlier is None:
            raise NotAvailable("needs a retain-only model")
        value = self.earlier.get("parts", {}).get(name, {}).get(part)
        if value is None:
            raise NotAvailable(f"the earlier results have no {name} with its {part}")
        return value


UTILITY = {
    "retain": ("probability", "rouge_l_recall", "truth_ratio"),
    "neighbours": ("probability_with_options", "rouge_l_recall", "truth_ratio"),
    "general": ("probability_with_options", "rouge_l_recall", "truth_ratio"),
}


@summary(
    "model_utility",
    split="retain, neighbours, general",
    source="TOFU, arXiv 2401.06121, open-unlearning",
    certainty="sure",
    differs="they take the 400 retain rows that have wrong answers alone, and a part that is 0 makes the value 0",
)
def model_utility(evaluation: Evaluation, parts: Parts) -> float:
    """Harmonic mean of nine: on each of three sets the probability, ROUGE-L recall and truth ratio, max(0, 1 - R).

    Off the retain set the probability is the one with options. In TOFU neighbours are the real authors and general the
    world facts.
    """
    reasons = []
    for name, metrics in UTILITY.items():
        for each in metrics:
            try:
                parts[f"{name} {each}"] = evaluation.value(name, each)
            except NotAvailable as error:
                parts[f"{name} {each}"] = None
                reasons.append(str(error))
    if reasons:
        raise NotAvailable("; ".join(dict.fromkeys(reasons)))
    zero = [name for name, value in parts.items() if value <= 0]
    if zero and evaluation.convention == "open-unlearning":
        return 0.0
    if zero:
        raise NotAvailable(f"a harmonic mean needs parts above 0; {', '.join(zero)} is 0")
    return len(parts) / sum(1 / value for value in parts.values())


@summary(
    "forget_quality",
    split="forget",
    unit="p-value",
    source="TOFU, arXiv 2401.06121, open-unlearning",
    certainty="sure",
    needs=("reference",),
)
def forget_quality(evaluation: Evaluation, parts: Parts) -> float:
    """p-value of the two-sample Kolmogorov-Smirnov test of R on forget against a retain-only model's R.

    Near 1 the test cannot tell the two models apart; below 0.05 it can.
    """
    from scipy.stats import ks_2samp

    own = evaluation.probed.rows
    own = own[(own["probe_set"] == "forget") & own["truth_ratio"].notna()]
    evaluation.value("forget", "truth_ratio")  # raises where there is none
    parts["truth_ratios"] = dict(zip(own["sample_id"], own["truth_ratio"].tolist(), strict=True))
    if evaluation.reference is not None:
        options: dict[str, Any] = {"batch_size": evaluation.batch_size, "convention": evaluation.convention}
        samples = probed_samples(evaluation.task.forget, evaluation.limit, evaluation.convention)
        other = truth_ratios(evaluation.reference, samples, **options)
    else:
        other = evaluation.earlier_part("forget_quality", "truth_ratios")
    if not other:
        raise NotAvailable("the reference has no finite truth ratio")
    test = ks_2samp(list(parts["truth_ratios"].values()), list(other.values()))
    parts |= {"statistic": float(test.statistic), "samples": len(own), "reference_samples": len(other)}
    return float(test.pvalue)


def _add_attack(name: str) -> None:
    def function(evaluation: Evaluation, parts: Parts) -> float:
        return evaluation.auc(name, parts)

    spec = attack[name]
    score = (spec.function.__doc__ or "").splitlines()[0]
    function.__doc__ = f"AUC of telling nonmember text (1) from the forget set (0) by: {score}"
    summary(
        name, better="near 0.5", unit="AUC", split="forget, nonmembers",
        source=spec.source, certainty=spec.certainty, needs=spec.needs, differs=spec.differs,
    )(function)  # fmt: skip


for _name in attack:
    _add_attack(_name)


@summary(
    "privleak",
    split="forget, nonmembers",
    better="near 0",
    range=(-100, None),
    unit="%",
    source="MUSE, arXiv 2407.06460, open-unlearning",
    certainty="sure",
    needs=("reference",),
    differs="they fall back on a fixed reference AUC of 0.5, and add 1e-10 to the denominator",
)
def privleak(evaluation: Evaluation, parts: Parts) -> float:
    """((1 - AUC) - (1 - AUC_ref)) / (1 - AUC_ref) * 100, AUC of min-k, AUC_ref a retain-only model's.

    Below 0: the forget set is still recognised as learned; above 0: it is conspicuously absent. Both AUCs are among the
    parts, since the value explodes as AUC_ref nears 1.
    """
    theirs = evaluation.convention == "open-unlearning"
    parts["auc"] = evaluation.auc("mia_min_k", {})
    if evaluation.reference is not None:
        forget, unseen = evaluation.scores(of_reference=True)
        parts["auc_reference"] = auc(forget["mia_min_k"], unseen["mia_min_k"])
    elif theirs and evaluation.earlier is None:
        parts["auc_reference"] = 0.5
    else:
        parts["auc_reference"] = float(evaluation.earlier_part("privleak", "auc"))
    rest = 1 - parts["auc_reference"]
    if rest <= 0 and not theirs:
        raise NotAvailable("the reference's AUC is 1, and the value is relative to 1 - AUC")
    return float(((1 - parts["auc"]) - rest) / (rest + 1e-10 * theirs) * 100)


def _add_value(name: str, metric: str, doc: str, **fields: Any) -> None:
    """Register a summary that is a metric's value over the set of its name."""

    def function(evaluation: Evaluation, parts: Parts) -> float:
        return evaluation.value(name, metric)

    function.__doc__ = doc
    summary(name, split=name, **fields)(function)


_MUSE: dict[str, Any] = {
    "source": "MUSE, arXiv 2407.06460",
    "certainty": "sure",
    "differs": "they stem words; MUSE's own evaluation does not",
}
_RWKU: dict[str, Any] = {"source": "RWKU, arXiv 2406.10890", "certainty": "likely"}
_F1 = "ROUGE-L F1 of {} against the answer, words not stemmed."
_BEGINNINGS = _F1.format("128 greedy tokens after a passage's beginning")
_QUESTIONS = _F1.format("32 tokens to questions")
_RECALL = "ROUGE-L recall of 30 greedy tokens against the answer, on {}."
_add_value("verbmem", "rouge_l_f1", _BEGINNINGS, better="lower", **_MUSE)
_add_value("knowmem", "rouge_l_f1", _QUESTIONS, better="lower", **_MUSE)
_add_value("retain_knowmem", "rouge_l_f1", _QUESTIONS, **_MUSE)
_add_value("fill_blank", "rouge_l_recall", _RECALL.format("sentences with a blank"), better="lower", **_RWKU)
_add_value("qa", "rouge_l_recall", _RECALL.format("questions about the subject"), better="lower", **_RWKU)
_add_value("adversarial", "rouge_l_recall", _RECALL.format("adversarial wordings of them"), better="lower", **_RWKU)
_add_value("neighbours", "rouge_l_recall", _RECALL.format("what is near the subject and to be kept"), **_RWKU)


@summary("fluency", split="neighbours", range=(0, None), unit="bits", **_RWKU)
def fluency(evaluation: Evaluation, parts: Parts) -> float:
    """Weighted entropy of the 2- and 3-grams of the greedy continuations: low when they repeat.

    On the answers about neighbours, where RWKU's own evaluation has the model follow instructions of another data set.
    """
    return evaluation.value("neighbours", "fluency")


@summary(
    "perplexity", split="general, plain text", better="lower", range=(1, None), source="standard", certainty="sure"
)
def perplexity(evaluation: Evaluation, parts: Parts) -> float:
    """Perplexity: exp of the mean NLL over all tokens of plain text."""
    if any(s.question for s in evaluation.task.sets.get("general", [])):
        raise NotAvailable("the general set has questions; this is of plain text")
    return evaluation.value("general", "perplexity")
