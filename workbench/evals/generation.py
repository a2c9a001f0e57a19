"""Generation, greedy and sampled: how the continuations of each probe set are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from workbench.cost import Phase
from workbench.models import (
    Draws,
    LanguageModel,
    count_generation,
    draw,
    encode,
    end_of_turn,
    generate,
    in_batches,
    padded,
    until,
)
from workbench.progress import Progress, silent
from workbench.tasks import Sample, Task


@dataclass(frozen=True)
class Continuation:
    """How the greedy continuations of a probe set are made.

    Attributes:
        tokens: at most so many new tokens; None: as many as the set's longest answer has, and 4 more.
        stops: a continuation is cut where the first of these strings begins.
        cut_answer: whether it is compared with the answer's first `tokens` tokens only.
    """

    tokens: int | None = None
    stops: tuple[str, ...] = ()
    cut_answer: bool = False


PLAIN = Continuation()
_MUSE_QUESTIONS = Continuation(32, ("\n\n", "\nQuestion", "Question:"))  # few-shot: what follows is the next question
_RWKU = Continuation(30)
CONTINUATIONS = {
    "verbmem": Continuation(128, cut_answer=True),  # as MUSE's own evaluation; knowmem too
    "knowmem": _MUSE_QUESTIONS,
    "retain_knowmem": _MUSE_QUESTIONS,
    "fill_blank": _RWKU,
    "qa": _RWKU,
    "adversarial": _RWKU,
}


def continuation(task: Task, name: str, convention: str = "ours") -> Continuation:
    """How a set's continuations are made: as its benchmark does; open-unlearning generates 200 tokens elsewhere."""
    if name in CONTINUATIONS:
        return CONTINUATIONS[name]
    if name == "neighbours" and task.name.startswith("rwku"):
        return _RWKU
    return Continuation(200 if convention == "open-unlearning" else None)


def greedy(
    lm: LanguageModel,
    samples: list[Sample],
    batch_size: int,
    max_new_tokens: int,
    *,
    openings: Sequence[str] | None = None,
    stops: tuple[str, ...] = (),
    cost: Phase | None = None,
    progress: Progress = silent,
    what: str = "generate",
) -> list[str | None]:
    """Greedy continuation of each question, without the end token, cut at `stops`.

    It is None for plain text, and where the model's logits are not finite (the argmax would be an arbitrary token).
    Progress is reported under the name `what`, in questions. Where there are `openings`, one a sample, each answer is
    begun with its own, and what is returned is what follows.
    """
    prompts = _prompts(lm, samples, openings)
    order = sorted(prompts, key=lambda i: (len(prompts[i][0]), i))
    out: list[str | None] = [None] * len(samples)
    ends, _ = end_of_turn(lm)
    done = 0
    for some, room in in_batches(order, batch_size, lambda i: min(max_new_tokens, lm.context - len(prompts[i][0]))):
        texts, finite = [""] * len(some), [True] * len(some)
        if room > 0:
            ids, mask = padded(lm, [prompts[i][0] for i in some])
            with torch.no_grad():
                generated, finite = generate(lm, ids, mask, room, ends)
            if cost is not None:
                count_generation(cost, lm, mask, generated.shape[1])
            texts = lm.tokenizer.batch_decode(until(generated, ends), skip_special_tokens=True)
        for i, text, known in zip(some, texts, finite, strict=True):
            out[i] = cleaned(text, _stops(lm, samples[i], stops), prompts[i][1]) if known else None
        done += len(some)
        progress(what, done, len(order))
    return out


def sampled(
    lm: LanguageModel,
    samples: list[Sample],
    batch_size: int,
    max_new_tokens: int,
    *,
    tries: int,
    temperature: float = 1.0,
    seed: int = 0,
    stops: tuple[str, ...] = (),
    progress: Progress = silent,
    what: str = "sample",
) -> list[list[str] | None]:
    """`tries` continuations of each question, drawn from all of softmax(logits / temperature); None as in `greedy`.

    What is drawn depends on the seed, the sample's id and the try's number, not on the other samples or on the batch.
    A batch has at most `batch_size` tries. Progress is in questions, or parts of them where `tries` is larger.
    """
    prompts = _prompts(lm, samples)
    block = max(1, min(tries, batch_size))
    order = sorted(prompts, key=lambda i: (len(prompts[i][0]), i))
    jobs = [(i, range(first, min(first + block, tries))) for i in order for first in range(0, tries, block)]
    texts_of: list[list[str] | None] = [[] if i in prompts else None for i in range(len(samples))]
    ends, _ = end_of_turn(lm)
    done = 0
    for some, length in in_batches(jobs, max(1, batch_size // block), lambda job: len(prompts[job[0]][0])):
        rows = [(row, i, number) for row, (i, numbers) in enumerate(some) for number in numbers]
        tokens: list[list[int]] = [[] for _ in rows]
        finite = [True] * len(rows)
        if (room := min(max_new_tokens, lm.context - length)) > 0:
            draws = Draws(lm.device, temperature, [f"{seed} {number} {samples[i].id}" for _, i, number in rows], room)
            ids = torch.tensor([prompts[i][0] for i, _ in some], device=lm.device)
            tokens, finite = draw(lm, ids, torch.tensor([row for row, *_ in rows], device=lm.device), draws, ends)
        different = [*dict.fromkeys(map(tuple, tokens))]
        text_of = dict(zip(different, lm.tokenizer.batch_decode(different, skip_special_tokens=True), strict=True))
        for (_, i, _), own, known in zip(rows, tokens, finite, strict=True):
            text = cleaned(text_of[tuple(own)], _stops(lm, samples[i], stops), prompts[i][1])
            so_far = texts_of[i]
            texts_of[i] = [*so_far, text] if known and so_far is not None else None
        done += len(some)
        progress(what, done, len(jobs))
    return texts_of


def _stops(lm: LanguageModel, sample: Sample, stops: tuple[str, ...]) -> tuple[str, ...]:
    """Where the continuation of a sample is cut: at the text that ends a turn too, unless its answer has that."""
    _, end_text = end_of_turn(lm)
    return stops + ((end_text,) if end_text and end_text not in sample.answer else ())


def cleaned(text: str, stops: tuple[str, ...], left: str) -> str:
    """A generated text up to where one of `stops` begins, without what it repeats of its prompt (`left`)."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text.strip().removeprefix(left.strip()).strip()


def _prompts(
    lm: LanguageModel, samples: Sequence[Sample], openings: Sequence[str] | None = None
) -> dict[int, tuple[list[int], str]]:
    """Of each sample with a question the ids that an answer continues, and of them what stands before in the text.

    An opening begins the answer.
    """

    def prompt(sample: Sample, opening: str) -> tuple[list[int], str]:
        if not opening:
            encoding = encode(lm, sample, answer=False)
            return encoding.ids, encoding.left
        encoding = encode(lm, replace(sample, answer=opening))
        return encoding.ids[: len(encoding.ids) - encoding.ends], ""

    return {i: prompt(s, openings[i] if openings else "") for i, s in enumerate(samples) if s.question}
