"""What a token view sends to the browser: texts as JSON, scores of every scorer and step as 16-bit numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import UserError, unknown
from workbench.evals import disagreement
from workbench.view.html import (
    LEVELS,
    Samples,
    Scale,
    alternatives,
    as_scores,
    as_texts,
    bool_spans,
    changes,
    colour,
    cuts,
    default_threshold,
    parts,
    trusts,
)

TOP = 65534  # a probability of 1 as a 16-bit number
NONE = 65535  # no score there
BOOK = 16384  # size of a scorer's book where it has more values than 16 bits can number
CHANGE = "change in probability"
ALTERNATIVES = 5


@dataclass(frozen=True)
class Payload:
    """A token view as the browser receives it.

    Attributes:
        head: texts, scorers with their scales and steps, and all else that is small; JSON.
        codes: (layers, T) little-endian uint16: every scorer's steps in order, each for all T tokens; a code is an
            index into the scorer's book of values.
        books: the sorted values of each scorer, float32, one book after the other.
        details: (2, 12, T) uint16 where probabilities before and after a run are known: probability, rank, of the five
            most probable tokens the places in `head["vocabulary"]`, and then their probabilities.
        scores: (layers, T) the same scores as floats, for Python.
        index: (sample id, position) of each token.
        tokens: its text.
    """

    head: dict[str, Any]
    codes: bytes
    books: bytes
    details: bytes
    scores: np.ndarray
    index: list[tuple[Any, int]]
    tokens: list[str]

    def row(self, name: str, step: int | None = None) -> tuple[int, int]:
        """The row of a scorer's scores that are shown at `step` (by default the last), and the step that they are of.

        They are the newest up to it, or the first.
        """
        before = 0
        for layer in self.head["layers"]:
            steps = layer["steps"]
            if layer["name"] == name:
                newest = max((i for i, s in enumerate(steps) if step is None or s <= step), default=0)
                return before + newest, steps[newest]
            before += len(steps)
        raise unknown("scorer", name, [layer["name"] for layer in self.head["layers"]])

    def scores_at(self, name: str, step: int) -> np.ndarray:
        """(T,) scores of a scorer at its newest step up to `step`."""
        return self.scores[self.row(name, step)[0]]

    def at(self, step: int, token: int) -> tuple[dict[str, float | None], dict[str, int]]:
        """A token's score by each scorer at its newest step up to `step`, None where it has none; and those steps."""
        rows = {layer["name"]: self.row(layer["name"], step) for layer in self.head["layers"]}
        scores = {name: _finite(self.scores[row, token]) for name, (row, _) in rows.items()}
        return scores, {name: own for name, (_, own) in rows.items()}


def payload(
    scores: pd.DataFrame,
    samples: Samples,
    tokens: pd.DataFrame | None = None,
    curve: Sequence[Mapping[str, Any]] = (),
    phases: tuple[str, str] = ("before", "after"),
) -> Payload:
    """Everything a token view shows.

    The answer tokens of `scores` are shown; an answer that `samples` lack is drawn from its tokens. `tokens` is a run's
    token table, of which the forget set counts, or all where it has none; `phases` are the names of its two phases.
    `curve` are the events of a run.

    Raises:
        UserError: no answer tokens.
    """
    scores = as_scores(scores)
    scores = scores[scores["segment"] == "answer"] if "segment" in scores else scores
    scores = scores if "step" in scores else scores.assign(step=0)
    if scores.empty:
        raise UserError("the score table has no answer tokens; score a task first")
    table, place = _tokens(scores)
    layers, values = _layers(scores, place, len(table))
    head: dict[str, Any] = {"vocabulary": [], "curve": _curve(curve), "orders": _orders(scores)}
    head["phases"] = list(phases)
    details = b""
    if tokens is not None and len(tokens):
        changed = _changed(tokens, table)
        if changed is not None:
            layers.append({"name": CHANGE, "steps": [int(scores["step"].max())], "falls": True})
            values = np.vstack([values, changed["change"].to_numpy(dtype=float)[None]])
            details, head["vocabulary"] = _details(changed)
            damage = changed["change"].groupby(table["sample_id"].to_numpy(), sort=False).mean()
            head["orders"]["damage"] = {str(k): _finite(v) for k, v in damage.items()}
    spans = bool_spans(table)["span"].tolist()
    labels = np.array([bool(s) for s in spans])
    row, books, trust = 0, [], trusts(scores)
    codes = np.full(values.shape, NONE, dtype="<u2")
    for layer in layers:
        chosen = slice(row, row + len(layer["steps"]))
        known = np.isfinite(values[chosen])
        finite = values[chosen][known]
        ordered = np.sort(finite)
        codes[chosen][known], book = _coded(finite, ordered)
        layer |= {"size": len(book), "trust": trust.get(layer["name"], "")}
        _describe(layer, values[chosen][-1][known[-1]], ordered, int((labels & known[-1]).sum()))
        books.append(book)
        row += len(layer["steps"])
    head |= {
        "samples": list(_samples(table, as_texts(samples))),
        "spans": "".join("-" if s is None else "01"[s] for s in spans),
        "layers": layers,
        "palette": [colour(level) for level in range(-LEVELS, LEVELS + 1)],
    }
    index = list(zip(table["sample_id"], table["position"], strict=True))
    joined = np.concatenate(books).tobytes()
    return Payload(head, codes.tobytes(), joined, details, values, index, [str(t) for t in table["token"]])


def _tokens(scores: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """One row a token, samples in the table's order, and which of them each row of `scores` is about."""
    ids, _ = pd.factorize(scores["sample_id"])
    positions = scores["position"].to_numpy(dtype=int)
    place, keys = pd.factorize(ids.astype(np.int64) * (positions.max() + 1) + positions, sort=True)
    first = np.empty(len(keys), dtype=int)
    first[place[::-1]] = np.arange(len(place))[::-1]
    columns = [c for c in ("sample_id", "position", "token", "start", "end", "span") if c in scores]
    table = scores[columns].iloc[first].reset_index(drop=True)
    # Texts as Python's own: they are read one by one below.
    return table.astype({"sample_id": object, "token": object}), place


def _layers(scores: pd.DataFrame, place: np.ndarray, count: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The scorers with their steps, and their scores, a row a step; NaN where a token has none."""
    which, names = pd.factorize(scores["scorer"])
    when, known = pd.factorize(scores["step"].to_numpy(dtype=int), sort=True)
    there = np.zeros((len(names), len(known)), dtype=bool)
    there[which, when] = True
    rows = np.cumsum(there).reshape(there.shape) - 1  # of the result: one for each scorer and step that is there
    layers = [
        {"name": str(name), "steps": known[mine].tolist(), "falls": False}
        for name, mine in zip(names, there, strict=True)
    ]
    score = scores["score"].to_numpy()
    values = np.full((there.sum(), count), np.nan, dtype=score.dtype if score.dtype.kind == "f" else float)
    values[rows[which, when], place] = score
    return layers, values


def _coded(finite: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores as indices into a book of their values; `ordered` are the same scores, ascending.

    Where 16 bits cannot number all values, the book holds BOOK / 2 quantiles and BOOK / 2 evenly spaced values, and
    each score becomes the nearest: off by less than 2 / BOOK of the range, with less than 2 / BOOK of all scores
    between the two.
    """
    book = np.unique(ordered)
    if len(book) > TOP:
        even = np.linspace(book[0], book[-1], BOOK // 2)
        book = np.unique(np.concatenate([even, book[np.linspace(0, len(book) - 1, BOOK // 2).astype(int)]]))
    if not len(book):
        return np.empty(0, dtype=int), book.astype("<f4")
    above = np.searchsorted(book, finite).clip(1, max(1, len(book) - 1))
    nearer = finite - book[above - 1] <= book[above % len(book)] - finite
    return above - nearer, book.astype("<f4")


def _describe(layer: dict[str, Any], last: np.ndarray, ordered: np.ndarray, labelled: int) -> None:
    """Put a scorer's scale and its default threshold, of the `last` step, into its description.

    The scale is of all its scores; of a change in probability, of all that it can be.
    """
    scale = Scale.of(ordered, scorer=layer["name"])
    if scale is not None and layer["name"] == CHANGE:  # not the range of what is shown: .0006 would be painted full
        scale = Scale.between(-1.0, 1.0, ordered)
    layer |= {"scale": None, "threshold": None}
    if scale is not None:
        layer["scale"] = {name: getattr(scale, name) for name in ("low", "high", "flat", "quantiles", "floor", "top")}
    if scale is not None and not scale.flat and len(last):
        sign = -1 if layer["falls"] else 1
        layer["threshold"] = sign * default_threshold(sign * last, labelled)[0]


def _samples(table: pd.DataFrame, pairs: Mapping[Any, tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Each sample: the index of its first token, the texts, the gaps that no token covers, and where words begin."""
    sizes = table.groupby("sample_id", sort=False).size()
    first = 0
    for sample, size in sizes.items():
        question, answer = pairs.get(sample, ("", None))
        own = table.iloc[first : first + size]
        texts: list[Any] = [None] * size
        gaps: dict[str, Any] = {}
        for i, gap, text in cuts(own, answer):
            if gap:
                gaps[str(i)] = parts(gap)
            if i >= 0:
                texts[i] = parts(text)
        words = _words([str(t) for t in own["token"]])
        ask = parts(" ".join(question.split()))
        yield {"id": str(sample), "ask": ask, "first": first, "texts": texts, "gaps": gaps, "words": words}
        first += size


def _words(texts: list[str]) -> str:
    """A 1 for every token that begins a word, a 0 for the others; a word is the text between spaces."""
    out, space = [], True
    for text in texts:
        out.append("1" if space or text[:1].isspace() else "0")
        space = text[-1:].isspace()
    return "".join(out)


def _curve(events: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Steps of a run with the batch's mean NLL of forget and retain answers."""
    names = {"step": "step", "forget": "forget_nll", "retain": "retain_nll"}
    return {name: [_finite(e.get(key)) for e in events] for name, key in names.items()}


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _orders(scores: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """What samples can be sorted by."""
    if scores["scorer"].nunique() < 2:
        return {}
    table = disagreement(scores[scores["step"] == scores.groupby("scorer")["step"].transform("max")])
    values = zip(table["sample_id"], table["disagreement"], strict=True)
    return {"disagreement": {str(name): _finite(value) for name, value in values}}


def _changed(tokens: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame | None:
    """For each token of `table`, its probabilities and the most probable tokens before and after."""
    if "probe_set" in tokens and (tokens["probe_set"] == "forget").any():
        tokens = tokens[tokens["probe_set"] == "forget"]
    if not {"before", "after"} <= set(tokens["phase"]):
        return None
    key = ["sample_id", "position"]
    before = tokens[tokens["phase"] == "before"].set_index(key)["alternatives"].rename("alternatives_before")
    changed = changes(tokens).set_index(key).join(before)
    return changed.reindex(pd.MultiIndex.from_frame(table[key])).reset_index(drop=True)


def _details(changed: pd.DataFrame) -> tuple[bytes, list[Any]]:
    """Probabilities, ranks and alternatives before and after, and the texts of the alternatives."""
    vocabulary: dict[str, int] = {}
    out = np.full((2, 2 + 2 * ALTERNATIVES, len(changed)), NONE, dtype="<u2")
    for phase, (name, column) in enumerate((("before", "alternatives_before"), ("after", "alternatives"))):
        chance, rank = (changed[f"{c}_{name}"].to_numpy(dtype=float) for c in ("p", "rank"))
        known = np.isfinite(chance)
        out[phase, 0, known] = np.rint(chance[known] * TOP)
        out[phase, 1, known] = np.minimum(rank[known] + 1, TOP)
        for i, text in enumerate(changed[column]):
            for j, (word, p) in enumerate(alternatives(text)[:ALTERNATIVES]):
                place = vocabulary.setdefault(word, len(vocabulary))
                if place < NONE:
                    out[phase, 2 + j, i], out[phase, 2 + ALTERNATIVES + j, i] = place, round(p * TOP)
    return out.tobytes(), [parts(word) for word in list(vocabulary)[:NONE]]
