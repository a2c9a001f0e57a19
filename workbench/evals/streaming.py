"""One answer token by token, for whoever watches it come; and passes that another thread can stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from workbench.errors import NOT_FINITE, UserError, check_least
from workbench.evals.generation import cleaned
from workbench.models import Draws, LanguageModel, encode, end_of_turn, next_logits, until
from workbench.tasks import Sample

NEXT_QUESTION = ("\nQuestion:",)  # what a model with plain prompts may write after its answer


class Stopped(BaseException):
    """Somebody has stopped this thread's work. No `Exception`, so that nothing takes it for an error of the model."""


@dataclass(frozen=True)
class Reply:
    """An answer as far as it is: its text, and how it ended: "end", "length", or "" while it goes on."""

    text: str
    ended: str = ""


@contextlib.contextmanager
def interruptible(lm: LanguageModel, stopped: Callable[[], bool]) -> Iterator[None]:
    """Within it, this thread's passes through the model raise `Stopped` at a layer once `stopped()` is true."""
    own = threading.get_ident()

    def look(*_: object) -> None:
        if threading.get_ident() == own and stopped():
            raise Stopped

    decoder = lm.module.get_decoder()
    lists = [each for each in decoder.modules() if isinstance(each, torch.nn.ModuleList)]
    with contextlib.ExitStack() as hooks:
        for part in (decoder, *(layer for each in lists for layer in each)):
            hooks.enter_context(part.register_forward_pre_hook(look))
        yield


def streamed(
    lm: LanguageModel, sample: Sample, max_new_tokens: int, *, temperature: float | None = None, seed: int = 0
) -> Iterator[Reply]:
    """The answer to a sample's question, after each of its tokens; the last one has `ended`.

    Without a temperature it is `greedy`'s text; with one it is drawn as by `sampled`, one try. Between two tokens the
    model is free for others. With plain prompts it ends before a next question.

    Raises:
        UserError: the question does not fit the model's context, or leaves no room for an answer; the model's logits
            are not finite.
    """
    check_least(1, max_new_tokens=max_new_tokens)
    encoding = encode(lm, sample, answer=False)
    room = min(max_new_tokens, lm.context - len(encoding.ids))
    if room < 1:
        raise UserError(f"the question fills the context of {lm.name}, {lm.context} tokens; begin a new chat")
    ends, end_text = end_of_turn(lm)
    stops = (NEXT_QUESTION if lm.prompt == "plain" else ()) + ((end_text,) if end_text else ())
    draws = None if temperature is None else Draws(lm.device, temperature, [f"{seed} 0 {sample.id}"], room)
    tokens: list[int] = []
    for token in _tokens(lm, encoding.ids, draws):
        tokens.append(token)
        text = lm.tokenizer.batch_decode(until(torch.tensor([tokens]), ends), skip_special_tokens=True)[0]
        done = token in ends or any(stop in text for stop in stops)
        ended = "end" if done else "length" if len(tokens) == room else ""
        # A character of several tokens is shown once it is whole.
        yield Reply(cleaned(text if ended else text.rstrip("\ufffd"), stops, encoding.left), ended)
        if ended:
            return


def _tokens(lm: LanguageModel, ids: list[int], draws: Draws | None) -> Iterator[int]:
    """New tokens one after the other, each the most probable (or drawn, with `draws`), without an end."""
    whole = torch.tensor([ids], device=lm.device)
    row = torch.zeros(1, dtype=torch.long, device=lm.device)
    cache, new = None, whole
    while True:
        logits, cache = next_logits(lm, whole, new, cache)
        if not bool(logits.sum().isfinite()):
            raise UserError(f"{NOT_FINITE} ({lm.name}): it cannot answer")
        step = whole.shape[1] - len(ids)
        token = logits.argmax(-1) if draws is None else draws.take(logits, step, row, row)
        token = token[:, None]
        whole = torch.cat([whole, token], dim=1)
        new = token if cache is not None else whole
        yield int(token)
