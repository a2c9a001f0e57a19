"""The convention `open-unlearning` against that framework's formulas, written down plainly: one text at a time.

Nothing of the package is used but the token ids of a sample.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from scipy.stats import hmean, ks_2samp
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import CrossEntropyLoss
from transformers import GenerationConfig

from workbench.errors import NotAvailable, is_missing
from workbench.evals import probe, run_suite
from workbench.evals.mia import attack
from workbench.evals.summaries import Evaluation, model_utility
from workbench.models.encoding import encode
from workbench.models.language_model import LanguageModel
from workbench.tasks.rows import rows, samples_from
from workbench.tasks.samples import DATA, Sample, Task

pytestmark = pytest.mark.oracle
Compare = Callable[..., None]
ROUGE = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
EPS = 1e-10


def ids_and_labels(lm: LanguageModel, sample: Sample) -> tuple[Tensor, Tensor]:
    """(1, L) ids, and labels that are -100 on the prompt."""
    encoding = encode(lm, sample)
    labels = torch.full((1, len(encoding.ids)), -100)
    places = encoding.answer_positions
    labels[0, places] = torch.tensor([encoding.ids[p] for p in places])
    return torch.tensor([encoding.ids]), labels


def mean_loss(lm: LanguageModel, sample: Sample) -> float:
    """Their `evaluate_probability`: summed cross-entropy over the answer's tokens, over their number."""
    ids, labels = ids_and_labels(lm, sample)
    logits = lm.module(input_ids=ids).logits
    losses = CrossEntropyLoss(ignore_index=-100, reduction="none")(logits[0, :-1], labels[0, 1:])
    return float(losses.sum() / (labels != -100).sum())


def without_end(lm: LanguageModel, sample: Sample) -> tuple[Tensor, Tensor]:
    """Their `tokenwise_vocab_logprobs`: (T - 1, V) log-probabilities and right tokens, the last left out."""
    ids, labels = ids_and_labels(lm, sample)
    log_all = lm.module(input_ids=ids).logits.log_softmax(-1)[0, :-1]
    actual = (labels[0] != -100).nonzero()[:-1, 0]
    return log_all[actual - 1], ids[0, actual]


def generated(lm: LanguageModel, sample: Sample) -> str:
    """Their `eval_text_similarity`: greedy, at most 200 new tokens."""
    ids = torch.tensor([encode(lm, sample, answer=False).ids])
    config = GenerationConfig(
        max_new_tokens=min(200, lm.context - ids.shape[1]), do_sample=False, pad_token_id=lm.tokenizer.pad_token_id,
        eos_token_id=lm.tokenizer.eos_token_id,
    )  # fmt: skip
    out = lm.module.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return str(lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


def extraction_strength(log_all: Tensor, labels: Tensor) -> float:
    guesses = log_all.argmax(-1)
    for k in range(len(labels)):
        if torch.equal(guesses[k:], labels[k:]):
            break
    return 1 - k / len(labels)


def right_and_wrong(lm: LanguageModel, sample: Sample) -> tuple[float, list[float]]:
    true = mean_loss(lm, replace(sample, answer=sample.paraphrased_answer or sample.answer, spans=None))
    return true, [mean_loss(lm, replace(sample, answer=a, spans=None)) for a in sample.wrong_answers]


def truth_ratio(lm: LanguageModel, sample: Sample) -> float:
    true, wrong = right_and_wrong(lm, sample)
    return float(np.exp(-np.mean(wrong)) / (np.exp(-true) + EPS))


@torch.no_grad()
def their_metrics(lm: LanguageModel, sample: Sample) -> dict[str, float]:
    loss = mean_loss(lm, sample)
    log_all, labels = without_end(lm, sample)
    values = {
        "probability": float(np.exp(-loss)),
        "exact_memorization": float((log_all.argmax(-1) == labels).float().mean()),
        "extraction_strength": extraction_strength(log_all, labels),
    }
    if sample.question:
        scores = ROUGE.score(sample.answer, generated(lm, sample))["rougeL"]
        values |= {"rouge_l_recall": scores.recall, "rouge_l_f1": scores.fmeasure}
    if sample.wrong_answers:
        wrong = sum(np.exp(-nll) for nll in right_and_wrong(lm, sample)[1])
        values["probability_with_options"] = values["probability"] / (values["probability"] + wrong + EPS)
        values["truth_ratio"] = truth_ratio(lm, sample)
    return values


def their_attacks(lm: LanguageModel, sample: Sample, reference: LanguageModel) -> dict[str, float]:
    """Scores that rise for text that the model was not trained on."""
    with torch.no_grad():
        log_all, labels = without_end(lm, sample)
        loss, other = mean_loss(lm, sample), mean_loss(reference, sample)
        text = lm.tokenizer.decode(ids_and_labels(lm, sample)[1][0, -len(labels) - 1 :], skip_special_tokens=True)
        logp = log_all.gather(-1, labels[:, None])[:, 0].numpy()
        p = log_all.double().exp()
        mean = (p * log_all).sum(-1)
        sigma = (p * (log_all - mean[:, None]).square()).sum(-1).sqrt().clamp(min=1e-3)
        standard = ((torch.from_numpy(logp) - mean) / sigma).numpy()
    k = max(1, int(len(logp) * 0.4))
    lm.module.zero_grad()
    log_all, labels = without_end(lm, sample)
    (-log_all.gather(-1, labels[:, None]).mean()).backward()
    norms = [p.grad.norm(p=2) for p in lm.module.parameters() if p.grad is not None]
    return {
        "mia_loss": loss,
        "mia_zlib": loss / len(zlib.compress(text.encode("utf-8"))),
        "mia_reference": loss - other,
        "mia_min_k": -float(np.sort(logp)[:k].mean()),
        "mia_min_k_pp": -float(np.sort(standard)[:k].mean()),
        "mia_gradnorm": float(torch.stack(norms).mean()),
    }


@pytest.fixture(scope="module")
def task(small: Task) -> Task:
    sets = {"forget": small.forget[:6], "retain": small.retain[:5], "neighbours": small.sets["neighbours"][:4]}
    unseen = samples_from(rows(DATA / "biographies" / "nonmembers.jsonl"), "nonmembers")
    return replace(small, sets=sets | {"general": small.sets["neighbours"][2:], "nonmembers": unseen[:6]})


@pytest.mark.parametrize("name", ["bio-full", "bio-retain"])
def test_metrics(name: str, full: LanguageModel, retained: LanguageModel, task: Task, compare: Compare) -> None:
    lm = {"bio-full": full, "bio-retain": retained}[name]
    ours = probe(lm, task, convention="open-unlearning").rows
    for probe_set in ("forget", "retain", "neighbours"):
        part = ours[ours["probe_set"] == probe_set].reset_index(drop=True)
        theirs = [their_metrics(lm, s) for s in task.sets[probe_set]]
        for metric in theirs[0]:
            compare(metric, part[metric], [each[metric] for each in theirs])


def test_attacks_and_their_aucs(full: LanguageModel, retained: LanguageModel, task: Task, compare: Compare) -> None:
    lm = replace(full, module=full.frozen_copy().module.requires_grad_(True))
    ours = run_suite(full, task, "tofu", retained, convention="open-unlearning")
    scores = {n: [their_attacks(lm, s, retained) for s in task.sets[n]] for n in ("forget", "nonmembers")}
    labels = [0] * len(scores["forget"]) + [1] * len(scores["nonmembers"])
    aucs = {}
    for name in attack:
        values = [each[name] for each in (*scores["forget"], *scores["nonmembers"])]
        aucs[name] = roc_auc_score(labels, values)
        compare(f"AUC of {name}", ours["summary"][name], aucs[name], abs=1e-9)
    assert aucs["mia_gradnorm"] > 0.9
    other = replace(retained, module=retained.frozen_copy().module.requires_grad_(True))
    plain = [their_attacks(other, s, retained)["mia_min_k"] for n in ("forget", "nonmembers") for s in task.sets[n]]
    reference = 1 - roc_auc_score(labels, plain)
    privleak = ((1 - aucs["mia_min_k"]) - reference) / (reference + EPS) * 100
    compare("privleak", ours["summary"]["privleak"], privleak)


def test_model_utility_and_forget_quality(
    full: LanguageModel, retained: LanguageModel, task: Task, compare: Compare
) -> None:
    ours = run_suite(full, task, "tofu", retained, convention="open-unlearning")
    nine: list[float] = []
    for name, probability in (
        ("retain", "probability"),
        *((n, "probability_with_options") for n in ("neighbours", "general")),
    ):
        theirs = [their_metrics(full, s) for s in task.sets[name] if s.wrong_answers]
        nine += [float(np.mean([each[m] for each in theirs])) for m in (probability, "rouge_l_recall")]
        nine.append(float(np.mean([max(0.0, 1 - each["truth_ratio"]) for each in theirs])))
    compare("model_utility", ours["summary"]["model_utility"], hmean(nine))
    with torch.no_grad():
        ratios = [[truth_ratio(lm, s) for s in task.forget] for lm in (full, retained)]
    compare("forget_quality", ours["summary"]["forget_quality"], ks_2samp(*ratios).pvalue)
    nearness = [min(r, 1 / (r + EPS)) for r in ratios[0]]
    metrics = probe(full, task, convention="open-unlearning").metrics["forget"]
    compare("truth_ratio of the forget set", metrics["truth_ratio"], np.mean(nearness))


# What the convention does not undo; docs/reference/conventions.md states each ----------------- -----------------------
def test_their_mask_hides_end_tokens_where_they_are_the_padding(full: LanguageModel, small: Task) -> None:
    """Ours reads every token of a chat prompt; theirs, `ids != pad`, hides the end of turn, and says other numbers."""
    import copy

    tokenizer = copy.deepcopy(full.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    lm = replace(full, tokenizer=tokenizer, prompt="chat")
    sample = small.forget[0]
    ids, labels = ids_and_labels(lm, sample)
    assert tokenizer.eos_token_id in ids[0, : int((labels != -100).nonzero()[0, 1])]
    with torch.no_grad():
        losses = []
        for mask in (torch.ones_like(ids), (ids != tokenizer.eos_token_id).long()):
            logits = lm.module(input_ids=ids, attention_mask=mask).logits
            losses.append(float(CrossEntropyLoss()(logits[0, :-1], labels[0, 1:])))
    own = probe(lm, replace(small, sets={"forget": [sample], "retain": small.retain[:1]})).metrics["forget"]
    assert own["probability"] == pytest.approx(np.exp(-losses[0]), rel=1e-4)
    assert abs(losses[0] - losses[1]) > 1e-3


def test_their_newer_truth_ratio_is_a_function_of_ours(full: LanguageModel, task: Task, compare: Compare) -> None:
    """Its `prob_mean` is the mean of p_true / (p_true + p_wrong): 1 / (1 + R) of the R in `probes.parquet`."""
    rows = probe(full, replace(task, sets={n: task.sets[n] for n in ("forget", "retain")})).rows
    for name in ("forget", "retain"):
        own = 1 / (1 + rows.loc[rows["probe_set"] == name, "truth_ratio"])
        with torch.no_grad():
            pairs = [right_and_wrong(full, s) for s in task.sets[name]]
        shares = [np.exp(-true) / (np.exp(-true) + np.exp(-np.mean(wrong)) + EPS) for true, wrong in pairs]
        compare("prob_mean, from truth_ratio", own, shares)


def test_generation_is_greedy_whatever_the_model_s_own_settings_are(full: LanguageModel, task: Task) -> None:
    """Theirs gives `max_new_tokens` and `do_sample` alone, so that a repetition penalty of the model's stays."""
    lm, samples = full.frozen_copy(), task.forget
    plain = [generated(lm, s) for s in samples]
    lm.module.generation_config.repetition_penalty = 5.0
    with torch.no_grad():
        theirs = []
        for sample in samples:
            ids = torch.tensor([encode(lm, sample, answer=False).ids])
            out = lm.module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=200, do_sample=False)
            theirs.append(lm.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
    assert theirs != plain
    rows = probe(lm, replace(task, sets={"forget": samples, "retain": task.retain[:1]})).rows
    assert [text.strip() for text in rows["generation"][: len(samples)]] == [text.strip() for text in plain]


def test_weights_are_float32_where_theirs_are_bfloat16(full: LanguageModel, task: Task, compare: Compare) -> None:
    rounded = replace(full, module=full.frozen_copy().module.to(torch.bfloat16))
    own = probe(full, replace(task, sets={n: task.sets[n] for n in ("forget", "retain")})).rows["probability"][:6]
    with torch.no_grad():
        exact, theirs = ([np.exp(-mean_loss(lm, s)) for s in task.forget] for lm in (full, rounded))
    compare("probability, float32", own, exact)
    assert np.abs(own - np.array(theirs)).max() > 1e-4


def test_what_theirs_makes_of_no_reference_and_of_a_part_of_0(
    full: LanguageModel, task: Task, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    convention = {"convention": "open-unlearning"}
    ours, theirs = (run_suite(full, task, "tofu", **how) for how in ({}, convention))
    assert is_missing(ours["summary"]["privleak"])
    score, reference = 1 - theirs["summary"]["mia_min_k"], 0.5
    compare(
        "privleak without a reference", theirs["summary"]["privleak"], (score - reference) / (reference + EPS) * 100
    )
    monkeypatch.setattr(Evaluation, "value", lambda self, name, metric: 0.0 if metric == "rouge_l_recall" else 0.5)
    nine = [0.5, 0.0, 0.5] * 3
    evaluation = Evaluation(full, task, None)  # type: ignore[arg-type]
    with pytest.raises(NotAvailable, match="parts above 0"):
        model_utility(evaluation, {})
    compare("model_utility of a part of 0", model_utility(replace(evaluation, **convention), {}), hmean(nine))
