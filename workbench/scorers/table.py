"""What a scorer gets, and the score table that comes out.

There are four kinds of scorer. A plain one is a function of a `Scoring`, one batch at a time. One of kind "task" needs
more than a batch (retain text, a fit, a gradient) and is a function of a `TaskScoring`. One of kind "input" is too, and
scores the tokens of the question beside those of the answer. One of kind "live" is a class that learns along in a run.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from workbench.cost import Phase
from workbench.models import LanguageModel
from workbench.registry import NotHere, Registry, UserError
from workbench.tasks import Sample, Task
from workbench.tokens import ANSWER, PROMPT, Encoding, TokenBatch, TokenStats, batches, encode, token_stats

scorer = Registry("scorer")

COLUMNS = [
    *("task", "sample_id", "position", "token_id", "token", "start", "end"),
    *("segment", "scorer", "step", "score", "span"),
]


@dataclass
class Scoring:
    """One batch as a scorer sees it: N answer tokens, packed. A forward is computed when a scorer first reads it.

    Attributes:
        lm: the model.
        batch: the samples.
        other: the reference model, where one was given.
        seed: of every random source.
        cost: where the costs go.
    """

    lm: LanguageModel
    batch: TokenBatch
    other: LanguageModel | None
    seed: int
    cost: Phase

    @functools.cached_property
    def stats(self) -> TokenStats:
        """The samples' statistics under the model, with entropy and rank."""
        self.cost.count(self.lm, self.batch)
        return token_stats(self.lm, self.batch)

    @functools.cached_property
    def reference(self) -> TokenStats | None:
        """The same under the reference model."""
        if self.other is None:
            return None
        self.cost.count(self.other, self.batch)
        return token_stats(self.other, self.batch)


@dataclass
class TaskScoring:
    """A whole task as a scorer of kind "task" sees it.

    Attributes:
        lm: the model.
        task: whose forget set is scored.
        reference: the reference model, where one was given.
        seed: of every random source.
        batch_size: samples a forward pass.
        cost: where the costs go.
        trained: makes a model by a short run on a copy; see `unlearn.forget_then_relearn`.
        learned: where scorers that learn a map leave it, by name.
        notes: what is to be said of each scorer's scores, by name: what was attributed, which samples have no score and
            why ("not_available": sample id -> reason), ...
        tell: called with the number of forget samples done.
    """

    lm: LanguageModel
    task: Task
    reference: LanguageModel | None = None
    seed: int = 0
    batch_size: int = 16
    cost: Phase = field(default_factory=Phase)
    trained: Callable[..., tuple[LanguageModel, Phase]] | None = None
    learned: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    tell: Callable[[int], None] = lambda done: None

    def passes(
        self, lm: LanguageModel, samples: Sequence[Sample | Encoding], **asked: Any
    ) -> Iterator[tuple[list[int], TokenBatch, TokenStats]]:
        """Forward passes over samples: their indices, the batch, and its statistics as `asked` of `token_stats`."""
        coded = [s if isinstance(s, Encoding) else encode(lm, s) for s in samples]
        for indices, batch in batches(lm, coded, self.batch_size):
            self.cost.count(lm, batch)
            yield indices, batch, token_stats(lm, batch, **asked)

    def per_sample(self, lm: LanguageModel, values: Callable[[TokenStats], torch.Tensor], **asked: Any) -> list[Any]:
        """A packed value of every forget sample's answer tokens, as one float64 array a sample."""
        found: list[Any] = [None] * len(self.task.forget)
        for indices, _, stats in self.passes(lm, self.task.forget, **asked):
            for index, part in zip(indices, split(values(stats), stats), strict=True):
                found[index] = part
        return found


def check_needs(names: Iterable[str], reference: bool) -> None:
    """Raise for an unknown scorer, or one whose reference model is missing; nothing need be loaded for it."""
    for name in names:
        if "reference" in scorer[name].facts.get("needs", ()) and not reference:
            raise UserError(f"scorer '{name}' needs a reference model; name one as reference (--reference)")


def check_reference(lm: LanguageModel, reference: LanguageModel | None, names: Iterable[str]) -> None:
    """Raise for a reference model that a scorer needs and nobody gave, or one with other tokens than the model's."""
    check_needs(names, reference is not None)
    if reference is not None and reference.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
        raise UserError(f"{reference.name} has other tokens than {lm.name}; a reference must share its tokenizer")


def plain_scorers() -> list[str]:
    """Scorers of one batch at a time."""
    return [name for name in scorer if not scorer[name].kind]


def random_source(seed: int, sample: str) -> torch.Generator:
    """Random numbers of one sample: they depend on the seed and the sample's id, not on what was scored before."""
    key = hashlib.sha256(f"{seed} {sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))


def score_each(
    given: TaskScoring,
    names: Iterable[str],
    *,
    options: dict[str, dict[str, Any]] | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    failed: Callable[[str, UserError], None] | None = None,
) -> Iterator[pd.DataFrame]:
    """The score table of each scorer over a task's forget answers, as soon as it is finished.

    Plain scorers share one forward pass and come first, together.

    Args:
        given: the task and the models.
        names: scorers by name, of every kind but "live".
        options: keyword arguments by scorer.
        progress: called with what is done, how many samples of it, and of how many.
        failed: told of a scorer that cannot be had here, and the others go on; without it the error is raised.
    """
    names, total = list(names), len(given.task.forget)
    check_reference(given.lm, given.reference, names)
    plain = [name for name in names if name in plain_scorers()]
    if plain:
        what = plain[0] if len(plain) == 1 else f"{plain[0]} and {len(plain) - 1} more"
        yield score_samples(
            given.lm,
            given.task.forget,
            plain,
            task=given.task.name,
            reference=given.reference,
            seed=given.seed,
            batch_size=given.batch_size,
            options=options,
            cost=given.cost,
            progress=lambda done: progress(what, done, total),
        )
    encodings = [encode(given.lm, s) for s in given.task.forget]
    for name in names:
        kind = scorer[name].kind
        if kind not in {"task", "input"}:
            continue
        told = [-1]

        def tell(done: int, name: str = name, told: list[int] = told) -> None:
            if done > told[0]:
                told[0] = done
                progress(name, done, total)

        given.tell = tell
        given.tell(0)
        try:
            scores = scorer[name].function(given, **(options or {}).get(name, {}))
        except NotHere as error:
            if failed is None:
                raise
            failed(name, error)
            continue
        given.tell(total)
        yield score_table(encodings, scores, task=given.task.name, scorer=name, step=0, prompt=kind == "input")


def score_fixed(
    given: TaskScoring,
    names: Iterable[str],
    *,
    options: dict[str, dict[str, Any]] | None = None,
) -> pd.DataFrame:
    """The score table of scorers of every kind but "live" over a task's forget answers, in the order given."""
    names = list(names)
    return in_order(list(score_each(given, names, options=options)), names)


def in_order(tables: list[pd.DataFrame], names: list[str]) -> pd.DataFrame:
    """Score tables as one, their scorers in this order."""
    parts = {str(name): part for table in tables for name, part in table.groupby("scorer", sort=False)}
    return pd.concat([parts[name] for name in names if name in parts], ignore_index=True)


@torch.no_grad()
def score_samples(
    lm: LanguageModel,
    samples: list[Sample],
    names: Iterable[str],
    *,
    task: str = "",
    reference: LanguageModel | None = None,
    seed: int = 0,
    batch_size: int = 16,
    options: dict[str, dict[str, Any]] | None = None,
    cost: Phase | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """The score table of fixed scorers over the answer tokens of `samples`.

    Args:
        lm: the model.
        samples: what to score.
        names: scorers by name.
        task: the task's name, for the table.
        reference: the reference model, for scorers that need one.
        seed: of every random source.
        batch_size: samples a forward pass.
        options: keyword arguments by scorer.
        cost: where the costs go.
        progress: called with the number of samples done.
    """
    names = list(names)
    check_reference(lm, reference, names)
    entries = [scorer[name] for name in names]
    encodings = [encode(lm, sample) for sample in samples]
    found: dict[str, list[np.ndarray]] = {name: [np.empty(0)] * len(samples) for name in names}
    done = 0
    for indices, batch in batches(lm, encodings, batch_size):
        scoring = Scoring(lm, batch, reference, seed, cost or Phase())
        ends = np.cumsum([len(e.answer_positions) for e in batch.encodings])[:-1]
        for entry in entries:
            values = entry.function(scoring, **(options or {}).get(entry.name, {}))
            for index, part in zip(indices, np.split(values.detach().double().cpu().numpy(), ends), strict=True):
                found[entry.name][index] = part
        done += len(indices)
        progress(done)
    return pd.concat(
        [score_table(encodings, found[name], task=task, scorer=name, step=0) for name in names], ignore_index=True
    )


def read_scores(path: Path) -> pd.DataFrame:
    """A score table from disk.

    Raises:
        UserError: no such file, not parquet, or columns missing.
    """
    if not path.is_file():
        what = "a directory" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {what}; give a score table, made by `workbench score`")
    try:
        table = pd.read_parquet(path)
    except Exception as error:
        raise UserError(f"{path}: not parquet ({type(error).__name__}); make one with `workbench score`") from error
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(f"{path}: no score table, for want of {', '.join(missing)}; make one with `workbench score`")
    return table


def split(values: torch.Tensor, stats: TokenStats) -> list[np.ndarray]:
    """Packed (N,) values as one float64 array a sample."""
    return np.split(values.detach().double().cpu().numpy(), np.cumsum(stats.counts.cpu().numpy())[:-1])


def token_columns(encodings: list[Encoding], *, prompt: bool = False) -> dict[str, Any]:
    """Columns that describe the samples' answer tokens in order; with `prompt` the question's before them."""
    names = ("sample_id", "position", "token_id", "token", "start", "end", "segment", "span")
    out: dict[str, list[Any]] = {name: [] for name in names}
    for encoding in encodings:
        for segment, name in ((PROMPT, "prompt"), (ANSWER, "answer")):
            if segment == PROMPT and not prompt:
                continue
            labels = encoding.span_labels() if segment == ANSWER else None
            for place, position in enumerate(encoding.positions(segment)):
                start, end = encoding.ranges[position]
                out["sample_id"].append(encoding.sample.id)
                out["position"].append(place)
                out["token_id"].append(encoding.ids[position])
                out["token"].append(encoding.text_of(position))
                out["start"].append(start)
                out["end"].append(end)
                out["segment"].append(name)
                out["span"].append(None if labels is None else labels[place])
    return {**out, "span": pd.array(out["span"], dtype="boolean")}


def score_table(
    encodings: list[Encoding], scores: list[np.ndarray], *, task: str, scorer: str, step: int, prompt: bool = False
) -> pd.DataFrame:
    """The score table (schema in DESIGN) of one scorer: one row a token, in the samples' order.

    `scores` are of the answer tokens; with `prompt`, of the question's tokens and then the answer's.
    """
    columns = token_columns(encodings, prompt=prompt)
    values = np.concatenate(scores)
    if len(values) != len(columns["token_id"]):
        raise ValueError(f"scorer '{scorer}' gave {len(values)} scores for {len(columns['token_id'])} tokens")
    return pd.DataFrame({**columns, "task": task, "scorer": scorer, "step": step, "score": values})[COLUMNS]


def weights_from(table: pd.DataFrame, encodings: list[Encoding]) -> list[np.ndarray]:
    """Token weights out of a score table of one scorer: negative scores become 0, the mean over all tokens 1.

    So uniform scores leave a loss as it is, and every weighting pulls with the same total weight.

    Raises:
        UserError: a sample is missing, its tokens differ, a score is not finite, or nothing is positive.
    """
    answers = table[table["segment"] == "answer"]
    by_sample = {key: part.sort_values("position") for key, part in answers.groupby("sample_id", sort=False)}
    weights = []
    for encoding in encodings:
        part = by_sample.get(encoding.sample.id)
        ids = [encoding.ids[p] for p in encoding.answer_positions]
        if part is None or list(part["token_id"]) != ids:
            raise UserError(
                f"the score table does not fit sample '{encoding.sample.id}'; score this task with this model"
            )
        weights.append(part["score"].to_numpy(dtype=float))
    everything = np.concatenate(weights)
    if not np.isfinite(everything).all():
        raise UserError("the score table has scores that are not finite; they cannot be weights")
    mean = np.clip(everything, 0, None).mean()
    if mean <= 0:
        raise UserError("no score is above zero, so no token would be forgotten; choose other weights")
    return [np.clip(w, 0, None) / mean for w in weights]
