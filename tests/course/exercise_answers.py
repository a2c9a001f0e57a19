"""Right answers to each exercise, written differently, and plausible wrong ones with words of their verdicts."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from exercise_inputs import (
    ABLATION,
    ASKED,
    ATTACKS,
    DAMAGE,
    ERRORS,
    GOOD,
    GRID,
    HURT,
    LEDGER,
    LEFT,
    MASKED,
    MATRIX,
    PEOPLE,
    RETENTION,
    RUNS,
    SCORES,
    SETS,
    SURPRISAL,
    P,
    RunNamed,
    probed,
    scores_of,
)

from workbench.unlearning import Settings
from workbench.view.course.faults import FAULTS, differences


def tokens(*places: tuple[str, int]) -> list[dict[str, Any]]:
    """As `view.selected` gives them."""
    return [{"sample_id": sample, "position": position} for sample, position in places]


def doubts(values: np.ndarray) -> pd.DataFrame:
    return scores_of({"mine": list(values)}, [0, 0, 1, 0, 0, 1, 1, 0])


def reversal_by_loop(matrix: Any, requests: int) -> float:
    total = 0.0
    for j in range(1, requests):
        total += float(matrix[requests][j - 1]) - float(matrix[j][j - 1])
    return total / (requests - 1)


def chosen(rule: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> Callable[..., float]:
    """A rule of means and deviations that says which penalties may be taken; the strongest of them is."""

    def choose(penalties: Any, errors: Any) -> float:
        mean, deviation = np.mean(errors, 1), np.std(errors, 1, ddof=1)
        return float(np.max(np.asarray(penalties)[rule(mean, deviation, errors.shape[1])]))

    return choose


def by_loop(penalties: Any, errors: Any) -> float:
    rows = [list(map(float, row)) for row in errors]
    means = [sum(row) / len(row) for row in rows]
    least = means.index(min(means))
    variance = sum((x - means[least]) ** 2 for x in rows[least]) / (len(rows[least]) - 1)
    limit = means[least] + (variance / len(rows[least])) ** 0.5
    return max(p for p, m in zip(penalties, means, strict=True) if m <= limit)


# name -> what the check reads, right answers, (wrong answer, words of the verdict)
CASES: dict[str, tuple[dict[str, Any], list[Any], list[tuple[Any, str]]]] = {
    "00.1": (
        {"before": probed([1, 1, 1, 0, 1, 1], SETS), "after": probed([1, 0, 0, 0, 1, 0], SETS)},
        [(3, 1), np.array([3.0, 1.0])],
        [((1, 3), "order"), ((0.75, 0.25), "count"), ((5, 2), "all sets"), ((3, 0), "after"), (3, "2 numbers")],
    ),
    "00.2": (
        {"run": SimpleNamespace(ledger=SimpleNamespace(as_dict=lambda: LEDGER))},
        [200 / 350, "0.57"],
        [(0.4, "seconds"), (200, "between"), (100 / 350, "forward"), (0.7, "too much"), ("most", "number")],
    ),
    "01.1": (
        {"scores": SCORES},
        [tokens(("s0", 2), ("s1", 1), ("s1", 2)), SimpleNamespace(selected=tokens(("s1", 2), ("s0", 2), ("s1", 1)))],
        [
            (tokens(("s0", 2), ("s1", 1)), "2 of three"),
            (tokens(("s0", 2), ("s0", 2), ("s1", 1)), "2 of three"),
            (tokens(("s0", 2), ("s1", 1), ("s1", 3)), "2 of your 3 tokens are dark"),
            (["Celia"], "blank.selected"),
            (tokens(("s0", 0), ("s0", 1), ("s0", 9)), "end of an answer"),
        ],
    ),
    "01.2": (
        {"scores": SCORES},
        [0.7, 0.65, SimpleNamespace(threshold=0.7, scorer="specificity")],
        [
            (0.8, "down"),
            (0.2, "higher threshold"),
            (SimpleNamespace(threshold=0.7, scorer="surprisal"), "choose"),
            ("high", "number"),
        ],
    ),
    "01.3": (
        {"run": RunNamed("good")},
        [tokens(("a", 3)), SimpleNamespace(selected=tokens(("a", 9)))],
        [
            (tokens(("a", 0)), "label"),
            (tokens(("a", 20)), "place"),
            (tokens(("a", 29)), "did not lower"),
            (tokens(("a", 3), ("a", 4)), "choose one"),
            (tokens(("b", 1)), "no change"),
            ([], "click one"),
            ("Abel", "replay.selected"),
        ],
    ),
    "02.2": (
        {"masked": MASKED},
        [["gap", "surprisal"], {"surprisal", "gap"}, pd.Index(["gap", "surprisal"])],
        [
            (["gap", "saliency"], "sufficiency"),
            (["saliency"], "beat chance"),
            (["random", "gap"], "random"),
            (["gap"], "1 that do worse"),
            ("gap", "list"),
            (["gaps"], "no scorer"),
        ],
    ),
    "02.1": (
        {"scores": SCORES},
        [lambda p: -np.log(p), lambda p: np.log1p(1 / p - 1)],
        [
            (lambda p: np.log(p), "sign"),
            (lambda p: 1 - p, "order is right"),
            (lambda p: -np.log2(p), "base"),
            (lambda p: np.exp(-p), "other way"),
            (lambda p: print(), "returns nothing"),
            (lambda p, q: p, "fails"),
            (-np.log(0.5), "without calling"),
        ],
    ),
    "02.3": (
        {"scores": SCORES},
        [doubts(P * (1 - P)), doubts(0.25 - (P - 0.5) ** 2).sample(frac=1, random_state=0)],
        [
            (doubts(1 - P), "surely wrong"),
            (doubts(-np.log(P)), "surprisal"),
            (doubts(-P * np.log(P)), "shape"),
            (doubts(P + 1), "off"),
            (SCORES, "alone"),
            (P, "table"),
            (doubts(P).assign(sample_id="other"), "not of these answers"),
        ],
    ),
    "03.1": (
        {"settings": Settings(checkpoint_every=10), "killed_after": 17},
        [(10, 7), [10.0, 7.0]],
        [
            ((17, 0), "stopped"),
            ((0, 17), "anew"),
            ((20, 3), "never"),
            ((10, 3), "count"),
            ((12, 5), "newest"),
            (10, "2 numbers"),
        ],
    ),
    "03.2": (
        {"good": RunNamed("good"), "broken": RunNamed("alpha")},
        ["alpha", next(iter(differences(GOOD, RUNS["alpha"]) & set(FAULTS)))],
        [("seed", "no such harm"), ("lr", "same"), ("model", "same"), ("loss", "no setting"), (0.0, "text")],
    ),
    "03.3": (
        {},
        [
            lambda t: (t.weights * t.stats.logp.exp()).mean(),
            lambda t: torch.dot(t.weights, torch.exp(-t.stats.nll)) / len(t.weights),
        ],
        [
            (lambda t: -(t.weights * t.stats.logp.exp()).mean(), "sign"),
            (lambda t: t.stats.logp.exp().mean(), "weights"),
            (lambda t: (t.weights * t.stats.logp.exp()).sum(), "sum"),
            (lambda t: (t.weights * t.stats.logp).mean(), "lower bound"),
            (lambda t: (t.weights * t.stats.logp.exp().detach()).mean(), "gradient"),
            (lambda t: t.weights * t.stats.logp.exp(), "one number"),
            (lambda t: (t.weights * t.stats.logp.exp()).mean().item(), "tensor"),
            (lambda t: t.nothing, "cannot be checked: AttributeError"),
        ],
    ),
    "04.1": (
        {"rows": LEFT},
        [2, np.int64(2), pd.Series([2]).sum()],
        [
            (0.5, "share"),
            (4, "all sets"),
            (1, "probable after"),
            (3, "still remembered"),
            (9, "fewer"),
            ("two", "number"),
        ],
    ),
    "04.2": (
        {"surprisal": SURPRISAL},
        [lambda x: 1 - np.exp(-x), lambda x: -np.expm1(-x)],
        [
            (lambda x: np.exp(-x), "p itself"),
            (lambda x: x, "l itself"),
            (lambda x: 1 - x, "1 - l"),
            (lambda x: 1 - np.exp(x), "inside"),
            (lambda x: x * (1 - np.exp(-x)), "weight"),
            (lambda x: [x], "not one number"),
        ],
    ),
    "04.3": (
        {"table": DAMAGE},
        [(0.02, 0.15), np.array([2 / 100, 9 / 60])],
        [
            ((0.15, 0.02), "order"),
            ((2, 9), "between"),
            ((2 / 11, 9 / 11), "grow with the group"),
            ((0.02, 0.3), "one row"),
            ((0.05, 0.15), "first"),
            ((0.07, 14 / 60), "larger_steps"),
        ],
    ),
    "05.1": (
        {"table": ABLATION},
        ["l in nats", ABLATION.drop(index=["project", "published"])["AP"].idxmin()],
        [("published", "everything"), ("entropy term", "another change"), ("objective B", "nothing"), (3, "text")],
    ),
    "05.2": (
        {"penalties": GRID, "errors": ERRORS},
        [chosen(lambda m, d, n: m <= m.min() + d[m.argmin()] / n**0.5), by_loop],
        [
            (chosen(lambda m, d, n: m == m.min()), "least error"),
            (chosen(lambda m, d, n: m <= m.min() + d[m.argmin()]), "standard deviation"),
            (chosen(lambda m, d, n: m - d / n**0.5 <= m.min()), "of each penalty"),
            (lambda p, e: float(p[-1]), "another penalty"),
            (1.0, "without calling"),
        ],
    ),
    "06.1": (
        {"attacks": ATTACKS},
        ["relearning", max(ATTACKS, key=lambda name: ATTACKS[name]["comes_back"])],
        [
            ("leak_at_k", "place 2"),
            ("alias", "place 3"),
            ("opening", "place 4"),
            ("greed", "no attack"),
            (0.57, "text"),
        ],
    ),
    "06.2": (
        {"attacks": ATTACKS},
        [["alias"], {"alias"}],
        [(["alias", "opening"], "*run*"), (["opening"], "1 of these"), (["relearning"], "no value"), ("alias", "list")],
    ),
    "06.3": (
        {"attacks": ATTACKS},
        [lambda run, floor, before: (run - floor) / (before - floor), lambda r, f, b: 1 - (b - r) / (b - f)],
        [
            (lambda run, floor, before: run / before, "luck"),
            (lambda run, floor, before: run - floor, "share"),
            (lambda run, floor, before: (before - run) / (before - floor), "gone"),
            (lambda run, floor, before: min(max((run - floor) / (before - floor), 0), 1), "cut"),
        ],
    ),
    "07.1": (
        {"retention": RETENTION},
        ["second", ASKED[int(np.argmax((MATRIX[-1, :4] - MATRIX[1:].diagonal()[:4])[:3]))]],
        [
            ("first", "right after its own turn"),
            ("third", "place 2 of 3"),
            ("last", "no request follows"),
            ("retain", "erode"),
            ("fourth", "no set"),
            (2, "text"),
        ],
    ),
    "07.2": (
        {"retention": RETENTION},
        [lambda R, T: np.mean(R[T, : T - 1] - np.diagonal(R[1:])[: T - 1]), reversal_by_loop],
        [
            (lambda R, T: np.mean(np.diagonal(R[1:])[: T - 1] - R[T, : T - 1]), "sign"),
            (lambda R, T: np.sum(R[T, : T - 1] - np.diagonal(R[1:])[: T - 1]), "sum"),
            (lambda R, T: np.mean(R[T, :T] - np.diagonal(R[1:])[:T]), "leave the last request out"),
            (lambda R, T: np.mean(R[T, : T - 1] - R[0, : T - 1]), "*before* all"),
            (lambda R, T: np.mean(R[T, : T - 1] - np.diagonal(R)[: T - 1]), "R[1, 0]"),
            (lambda R, T: np.mean(R[T, : T - 1] - R[T - 1, : T - 1]), "last request alone"),
            (lambda R, T: np.mean([R[j:, j - 1].max() - R[j, j - 1] for j in range(1, T)]), "any time"),
            (lambda R, T: R[T] - R[0], "one number"),
            (lambda R, T: R[T, T + 9], "fails"),
            (0.1, "without calling"),
        ],
    ),
    "07.3": (
        {"result": HURT},
        [["Nils Nash", "Celia Imre"], {"Celia Imre", "Nils Nash"}, np.array(PEOPLE)[[3, 2]]],
        [
            (["Celia Nash", "Nils Nash"], "was to be forgotten"),
            (["Nils Nash", "Orla Sorel"], "by `syntax`"),
            (["Rosa Abel", "Celia Imre"], "1 of these 2"),
            (["Nils Nash"], "you name 1"),
            ("Nils Nash", "list"),
            (["Nils"], "no person"),
        ],
    ),
}
