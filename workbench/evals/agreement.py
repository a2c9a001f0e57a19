"""Scores against scores: agreement of scorers, and the samples where they disagree."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations, combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from workbench.errors import UserError, missing
from workbench.evals.alignment import answer_tokens, check_share, membership

FEWEST = 3  # a rank correlation is taken over at least so many tokens
MOST_SIGNS = 200  # up to so many tokens, all pairs of tokens are compared at once

Pairs = list[tuple[int, int]]
Measure = Callable[[np.ndarray, Pairs], list[float]]


class Scores(NamedTuple):
    """Scores (T, n) of T tokens by n scorers, NaN where there is none, and the row indices of each sample."""

    scorers: list[str]
    values: np.ndarray
    rows: dict[Any, np.ndarray]


def agreement(table: pd.DataFrame, *, top: float = 0.2) -> dict[str, Any]:
    """How similarly every two scorers rank the answer tokens that stand for text.

    A pair is compared over the tokens where both scores are finite; of several steps the last counts. `spearman`: the
    correlation of ranks, those of ties averaged; `kendall`: tau-b, (concordant - discordant) / sqrt(n_a n_b) with n the
    pairs of tokens not tied (Kendall 1945); `top_k_overlap`: of the k = ceil(top T) highest tokens of each, the share
    common to both, sum m_a m_b / k with m as in `membership`: expected under random tie-breaking, so that chance is
    about `top`. `pooled` is over all tokens, `per_sample` the mean over the samples where it is defined. A value that
    is undefined is `errors.Missing`.

    Raises:
        UserError: fewer than two scorers, a token scored twice, or `top` no share.
    """
    check_share("top", top)
    scores = _scores(table)
    measures: dict[str, Measure] = {
        "spearman": _spearman,
        "kendall": _kendall,
        "top_k_overlap": partial(_overlap, share=top),
    }
    pooled = _matrices(scores.values, measures)
    parts = [_matrices(scores.values[rows], measures) for rows in scores.rows.values()]
    result: dict[str, Any] = {
        "scorers": scores.scorers,
        "samples": len(scores.rows),
        "tokens": len(scores.values),
        "top": top,
    }
    for name in measures:
        each = np.stack([part[name] for part in parts])
        defined = ~np.isnan(each)
        mean = np.where(defined, each, 0).sum(0) / np.where(defined.any(0), defined.sum(0), np.nan)
        result[name] = {"pooled": _named(scores, pooled[name]), "per_sample": _named(scores, mean)}
    return result


def disagreement(table: pd.DataFrame) -> pd.DataFrame:
    """One row a sample, the most disputed first: 1 - the mean Spearman correlation of the pairs where it is defined.

    `pairs` is their number, `most_apart` the pair with the lowest correlation; NaN, 0 and "" where there is none.

    Raises:
        UserError: fewer than two scorers, or a token scored twice.
    """
    scores = _scores(table)
    pairs, rows = list(combinations(range(len(scores.scorers)), 2)), []
    for sample, tokens in scores.rows.items():
        matrix = _matrices(scores.values[tokens], {"spearman": _spearman})["spearman"]
        defined = sorted((matrix[pair], pair) for pair in pairs if not np.isnan(matrix[pair]))
        rows.append(
            {
                "sample_id": sample,
                "disagreement": 1 - float(np.mean([value for value, _ in defined])) if defined else np.nan,
                "pairs": len(defined),
                "most_apart": " / ".join(scores.scorers[i] for i in defined[0][1]) if defined else "",
            }
        )
    return pd.DataFrame(rows).sort_values("disagreement", ascending=False, kind="stable", ignore_index=True)


def _scores(table: pd.DataFrame) -> Scores:
    tokens = answer_tokens(table)
    names = list(tokens["scorer"].unique())
    if len(names) < 2:
        has = f"only '{names[0]}'" if names else "no answer token"
        raise UserError(f"the table has {has}; agreement takes two scorers or more: `workbench score --scorer a,b`")
    samples, ids = pd.factorize(tokens["sample_id"])
    positions = tokens["position"].to_numpy(dtype=int)
    width = int(positions.max()) + 1
    index, places = np.unique(samples * width + positions, return_inverse=True)
    values = np.full((len(index), len(names)), np.nan)
    values[places, pd.factorize(tokens["scorer"])[0]] = tokens["score"].to_numpy(dtype=float)
    return Scores(names, values, {sample: np.flatnonzero(index // width == i) for i, sample in enumerate(ids)})


def _matrices(scores: np.ndarray, measures: dict[str, Measure]) -> dict[str, np.ndarray]:
    """Every measure of every two columns (n, n) over the rows where both are finite; NaN where it is undefined."""
    count, finite = scores.shape[1], np.isfinite(scores)
    matrices = {name: np.full((count, count), np.nan) for name in measures}
    by_rows: dict[bytes, Pairs] = {}  # pairs by the rows they share, so that each column is ranked once for all of them
    for i, j in combinations_with_replacement(range(count), 2):
        by_rows.setdefault((finite[:, i] & finite[:, j]).tobytes(), []).append((i, j))
    for rows, pairs in by_rows.items():
        part = scores[np.frombuffer(rows, dtype=bool)]
        if len(part) < FEWEST:
            continue
        varied = (part != part[0]).any(axis=0)
        pairs = [(i, j) for i, j in pairs if varied[i] and varied[j]]
        columns = sorted({i for pair in pairs for i in pair})
        places = {column: place for place, column in enumerate(columns)}
        within = [(places[i], places[j]) for i, j in pairs if i != j]
        for name, measure in measures.items():
            values = iter(measure(part[:, columns], within) if within else [])
            for i, j in pairs:
                matrices[name][i, j] = matrices[name][j, i] = 1.0 if i == j else next(values)
    return matrices


def _spearman(scores: np.ndarray, pairs: Pairs) -> list[float]:
    # pandas is loaded already; scipy would take half a second, for this alone.
    ranks = pd.DataFrame(scores).rank().to_numpy(copy=True)
    ranks -= ranks.mean(axis=0)
    ranks /= np.sqrt((ranks**2).sum(axis=0))
    matrix = np.clip(ranks.T @ ranks, -1, 1)
    return [float(matrix[pair]) for pair in pairs]


def _kendall(scores: np.ndarray, pairs: Pairs) -> list[float]:
    """Tau-b: for few tokens by the signs of all pairs of tokens, all scorers at once; for many by scipy."""
    if len(scores) <= MOST_SIGNS:
        left, right = np.triu_indices(len(scores), 1)
        signs = np.sign(scores[left] - scores[right])
        both = signs.T @ signs
        untied = np.sqrt(np.diag(both))
        matrix = np.clip(both / np.outer(untied, untied), -1, 1)
        return [float(matrix[pair]) for pair in pairs]
    from scipy.stats import kendalltau

    return [float(kendalltau(scores[:, i], scores[:, j], method="asymptotic").statistic) for i, j in pairs]


def _overlap(scores: np.ndarray, pairs: Pairs, *, share: float) -> list[float]:
    taken = [membership(column, share) for column in scores.T]
    return [float((taken[i] * taken[j]).sum() / taken[i].sum()) for i, j in pairs]


def _named(scores: Scores, matrix: np.ndarray) -> dict[str, dict[str, Any]]:
    """A matrix by the names of its scorers, with the reason where a value is undefined."""
    named: dict[str, dict[str, Any]] = {name: {} for name in scores.scorers}
    for i, j in combinations_with_replacement(range(len(scores.scorers)), 2):
        value: Any = float(matrix[i, j])
        if math.isnan(value):
            value = missing(_reason(scores, i, j))
        named[scores.scorers[i]][scores.scorers[j]] = named[scores.scorers[j]][scores.scorers[i]] = value
    return named


def _reason(scores: Scores, i: int, j: int) -> str:
    pair = scores.values[:, [i, j]]
    common = pair[np.isfinite(pair).all(axis=1)]
    if not len(common):
        return "no token has a finite score of both"
    if len(common) < FEWEST:
        return f"fewer than {FEWEST} tokens have a finite score of both"
    for k, column in zip((i, j), common.T, strict=True):
        if (column == column[0]).all():
            return f"all scores of '{scores.scorers[k]}' are equal"
    return f"no sample has {FEWEST} tokens over which both vary"
