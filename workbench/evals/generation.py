"""Generation, greedy and sampled: how the continuations of each probe set are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from workbench.cost import Phase
from workbench.models import (
    LanguageModel,
    Noise,
    count_generation,
    encode,
    end_of_turn,
    generate,
    in_batches,
    padded,
    until,
)
from workbench.progress import Progress, silent
from workbench.tasks import Sample, Task

BLOCK = 32  # tries that are drawn by one generator


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
    how = _How(batch_size, max_new_tokens, openings, stops, cost, progress, what)
    return [texts[0] if texts else None for texts in _continuations(lm, samples, how)]


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
    cost: Phase | None = None,
    progress: Progress = silent,
    what: str = "sample",
) -> list[list[str] | None]:
    """`tries` continuations of each question, drawn from all of softmax(logits / temperature); None as in `greedy`.

    Tokens are drawn by Gumbel noise from generators that belong to a seed, a sample's id and a block of tries, so that
    what is drawn does not depend on the other samples or on the batch. Progress is in blocks.
    """
    how = _How(batch_size, max_new_tokens, None, stops, cost, progress, what, tries, temperature, seed)
    return _continuations(lm, samples, how)


@dataclass(frozen=True)
class _How:
    """The options of `greedy` and `sampled`; greedy is one try without a temperature."""

    batch_size: int
    max_new_tokens: int
    openings: Sequence[str] | None
    stops: tuple[str, ...]
    cost: Phase | None
    progress: Progress
    what: str
    tries: int = 1
    temperature: float | None = None
    seed: int = 0


@torch.no_grad()
def _continuations(lm: LanguageModel, samples: list[Sample], how: _How) -> list[list[str] | None]:
    """All tries of each sample; None for plain text, and where a try met logits that are not finite."""
    prompts = {i: _prompt(lm, s, how.openings[i] if how.openings else "") for i, s in enumerate(samples) if s.question}
    order = sorted(prompts, key=lambda i: (len(prompts[i][0]), i))
    block = min(how.tries, BLOCK)
    jobs = [(i, first) for i in order for first in range(0, how.tries, block)]
    texts_of: list[list[str] | None] = [[] if i in prompts else None for i in range(len(samples))]
    ends, end_text = end_of_turn(lm)
    done, at_once = 0, max(1, how.batch_size // block)

    def room_of(job: tuple[int, int]) -> int:
        return min(how.max_new_tokens, lm.context - len(prompts[job[0]][0]))

    for some, room in in_batches(jobs, at_once, room_of):
        blocks = [(i, first, min(block, how.tries - first)) for i, first in some]
        indices = [i for i, _, size in blocks for _ in range(size)]
        ids, mask = padded(lm, [prompts[i][0] for i in indices])
        texts, finite = [""] * len(indices), [True] * len(indices)
        if room > 0:
            noise = None
            if how.temperature is not None:
                names = [f"{how.seed} {first} {samples[i].id}" for i, first, _ in blocks]
                noise = Noise(lm.device, how.temperature, names, [size for *_, size in blocks])
            generated, finite = generate(lm, ids, mask, room, ends, noise)
            if how.cost is not None:
                count_generation(how.cost, lm, mask, generated.shape[1])
            texts = lm.tokenizer.batch_decode(until(generated, ends), skip_special_tokens=True)
        for index, text, known in zip(indices, texts, finite, strict=True):
            own = (end_text,) if end_text and end_text not in samples[index].answer else ()
            text = cleaned(text, how.stops + own, prompts[index][1])
            so_far = texts_of[index]
            texts_of[index] = [*so_far, text] if known and so_far is not None else None
        done += len(some)
        how.progress(how.what, done, len(jobs))
    return texts_of


def cleaned(text: str, stops: tuple[str, ...], left: str) -> str:
    """A generated text up to where one of `stops` begins, without what it repeats of its prompt (`left`)."""
    for stop in stops:
        text = text.partition(stop)[0]
    return text.strip().removeprefix(left.strip()).strip()


def _prompt(lm: LanguageModel, sample: Sample, opening: str) -> tuple[list[int], str]:
    """The ids that an answer continues, and of it what stands before in the text; `opening` begins the answer."""
    if not opening:
        encoding = encode(lm, sample, answer=False)
        return encoding.ids, encoding.left
    encoding = encode(lm, replace(sample, answer=opening))
    return encoding.ids[: len(encoding.ids) - encoding.ends], ""
