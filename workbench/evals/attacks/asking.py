"""Asking a model, and whether what it says has the fact: the steps that the attacks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import NOT_FINITE, NotAvailable
from workbench.evals.attacks.spec import Outcome, Target
from workbench.evals.generation import continuation, greedy
from workbench.evals.metrics import metric
from workbench.evals.outcomes import RIGHT_ROUGE
from workbench.evals.spec import Answer
from workbench.models import LanguageModel, encode, generation_flops
from workbench.tasks import Sample

FACT, ROUGE = "fact match", "ROUGE-L recall"


def measure_of(sample: Sample) -> str:
    """How texts are compared with a sample: by its labelled facts as whole words, else by ROUGE-L recall."""
    return FACT if sample.spans else ROUGE


def recall(sample: Sample, text: str) -> float:
    """How much of a sample a text tells: 1 or 0 where the fact is labelled, else ROUGE-L recall."""
    nothing = np.zeros(1)
    answer = Answer(nothing, nothing, sample.answer, sample.values or None, text)
    return float(metric["fact_accuracy" if sample.spans else "rouge_l_recall"].function(answer))


def tells(sample: Sample, text: str) -> bool:
    """Whether a text tells the fact: labelled, or at least RIGHT_ROUGE of the reference."""
    return recall(sample, text) >= (1.0 if sample.spans else RIGHT_ROUGE)


def ask(
    target: Target,
    samples: Sequence[Sample],
    *,
    lm: LanguageModel | None = None,
    openings: Sequence[str] | None = None,
    what: str,
) -> list[str]:
    """Greedy answers of the target's model, or of a copy of it that an attack has changed.

    What an attack asks again, the same batch of the same model, has been answered.

    Raises:
        NotAvailable: the model's logits are not finite.
    """
    batch = (tuple((s.question, s.history, s.answer, s.continues) for s in samples), tuple(openings or ()))
    if lm is None and batch in target.asked:
        return target.asked[batch]
    how = continuation(target.task, target.probe_set)
    options: dict[str, Any] = {"openings": openings, "stops": how.stops, "progress": target.progress, "what": what}
    answers = greedy(lm or target.lm, list(samples), target.batch_size, how.tokens or target.new_tokens, **options)
    if None in answers:
        raise NotAvailable(NOT_FINITE)
    texts = [answer or "" for answer in answers]
    if lm is None:
        target.asked[batch] = texts
    return texts


def rows_of(samples: Sequence[Sample], tries: Sequence[Sequence[tuple[str, str]]]) -> pd.DataFrame:
    """One row a sample of its tries, each (prompt, text): the one that tells most, and how many tell the fact."""
    rows = []
    for sample, pairs in zip(samples, tries, strict=True):
        values = [recall(sample, text) for _, text in pairs]
        best = int(np.argmax(values))
        rows.append(
            {"sample_id": sample.id, "prompt": pairs[best][0], "answer": sample.answer, "text": pairs[best][1]}
            | {"value": values[best], "measure": measure_of(sample), "tries": len(pairs)}
            | {"hits": sum(tells(sample, text) for _, text in pairs)}
        )
    return pd.DataFrame(rows)


def beside_plain(
    target: Target,
    samples: Sequence[Sample],
    what: str,
    *,
    asked: Sequence[Sample] | None = None,
    prompts: Sequence[str] | None = None,
    lm: LanguageModel | None = None,
    openings: Sequence[str] | None = None,
    **parts: Any,
) -> Outcome:
    """The outcome of one attacked answer a sample: whoever attacks has the plain answer too.

    What the attack asks is the samples themselves, or what stands for them in `asked`; `prompts` are that in words,
    and `lm` and `openings` are as of `ask`. The outcome's parts are the mean of the attacked answers `alone`, of the
    plain ones, and more.
    """
    asked = asked or samples
    attacked = ask(target, asked, lm=lm, openings=openings, what=what)
    plain = ask(target, samples, what=what)
    prompts = prompts or [s.question for s in asked]
    tries = zip(samples, plain, prompts, attacked, strict=True)
    rows = rows_of(samples, [[(s.question, text), (prompt, other)] for s, text, prompt, other in tries])
    alone = float(np.mean([recall(s, text) for s, text in zip(samples, attacked, strict=True)]))
    greedy_value = float(np.mean([recall(s, text) for s, text in zip(samples, plain, strict=True)]))
    return Outcome(rows, float(rows["value"].mean()), {"alone": alone, "greedy": greedy_value, **parts})


def with_question(sample: Sample, question: str, history: tuple[tuple[str, str], ...] = ()) -> Sample:
    """The sample with another question in place of its own, after earlier turns."""
    return replace(sample, question=question, history=history)


def generating(target: Target, times: float = 1.0, more: float = 0.0) -> float:
    """FLOPs of answering each question `times` times, after prompts that are `more` tokens longer."""
    length = float(np.mean([len(encode(target.lm, s, answer=False).ids) for s in target.questions])) + more
    return times * generation_flops(target.lm, len(target.questions), round(length), target.new_tokens)
