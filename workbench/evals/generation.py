"""Greedy generation: how the continuations of each probe set are made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from workbench.cost import Phase
from workbench.models import LanguageModel, count_generation, encode, end_of_turn
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


@torch.no_grad()
def greedy(
    lm: LanguageModel,
    samples: list[Sample],
    batch_size: int,
    max_new_tokens: int,
    *,
    stops: tuple[str, ...] = (),
    cost: Phase | None = None,
    progress: Progress = silent,
    what: str = "generate",
) -> list[str | None]:
    """Greedy continuation of each question, without the end token, cut at `stops`.

    It is None for plain text, and where the model's logits are not finite (the argmax would be an arbitrary token).
    Progress is reported under the name `what`, in questions.
    """
    order = [i for i, s in enumerate(samples) if s.question]
    encodings = {i: encode(lm, samples[i], answer=False) for i in order}
    prompts = {i: encoding.ids for i, encoding in encodings.items()}
    order.sort(key=lambda i: (len(prompts[i]), i))
    continuations: list[str | None] = [None] * len(samples)
    pad = lm.tokenizer.pad_token_id if lm.tokenizer.pad_token_id is not None else 0
    ends, end_text = end_of_turn(lm)
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        width = max(len(prompts[i]) for i in indices)
        room = min(max_new_tokens, lm.context - width)
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + prompts[i] for i in indices])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in indices])
        texts, finite = [""] * len(indices), [True] * len(indices)
        if room > 0:
            generated, finite = _generate(lm, ids.to(lm.device), mask.to(lm.device), room, pad, ends)
            if cost is not None:
                count_generation(cost, lm, mask, generated.shape[1])
            texts = lm.tokenizer.batch_decode(_until(generated, ends), skip_special_tokens=True)
        for index, text, known in zip(indices, texts, finite, strict=True):
            own = (end_text,) if end_text and end_text not in samples[index].answer else ()
            for stop in stops + own:
                text = text.partition(stop)[0]
            text = text.strip().removeprefix(encodings[index].left.strip()).strip()
            continuations[index] = text if known else None
        progress(what, start + len(indices), len(order))
    return continuations


def _until(generated: torch.Tensor, ends: set[int]) -> list[list[int]]:
    """Each row's tokens before its first end of a turn; not every such token is a special one, which decoding skips."""
    return [list(itertools.takewhile(lambda index: index not in ends, row)) for row in generated.tolist()]


def _generate(
    lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, room: int, pad: int, ends: set[int]
) -> tuple[torch.Tensor, list[bool]]:
    """New tokens (B, at most `room`) after left-padded prompts (B, T), and whether all logits of a row were finite."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=room, do_sample=False, pad_token_id=pad, eos_token_id=sorted(ends) or None)
    # What `config` leaves open, generate takes from the model's own defaults, which may penalise repetition.
    own, lm.module.generation_config = lm.module.generation_config, config
    width, finite = ids.shape[1], torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    stops = torch.tensor(sorted(ends), device=ids.device, dtype=ids.dtype)

    def watch(so_far: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        ended = torch.isin(so_far[:, width:], stops).any(-1)  # what follows is padding
        finite.logical_and_(ended | logits.sum(-1).isfinite())
        return logits

    try:
        with lm.autocast():
            output = lm.module.generate(
                input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[watch]
            )
    finally:
        lm.module.generation_config = own
    return output[:, width:], finite.tolist()
