"""Each exercise's check: at least two right answers, written differently, and at least three plausible wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.errors import UserError
from workbench.evals import Interference, Retention
from workbench.runs import Config
from workbench.tasks import TaskSpec
from workbench.unlearning import Settings
from workbench.view.course import check, exercise, faulty

NAMES = list(exercise.load())


def scores_of(scorers: dict[str, list[float]], spans: list[int]) -> pd.DataFrame:
    """A score table of two answers of equal length."""
    count, rows = len(spans) // 2, []
    for scorer, values in scorers.items():
        for place, value in enumerate(values):
            sample, position = divmod(place, count)
            row = {"sample_id": f"s{sample}", "position": position, "segment": "answer", "scorer": scorer, "step": 0}
            rows.append(row | {"score": value, "span": bool(spans[place]), "start": position, "end": position + 1})
    return pd.DataFrame(rows).astype({"span": "boolean"})


P = np.array([0.99, 0.9, 0.2, 0.6, 0.97, 0.5, 0.05, 0.8])
SPECIFIC = [0.1, 0.2, 0.9, 0.3, 0.4, 0.8, 0.7, 0.0]
SCORES = scores_of({"surprisal": list(-np.log(P)), "specificity": SPECIFIC}, [0, 0, 1, 0, 0, 1, 1, 0])


def tokens(*places: tuple[str, int]) -> list[dict[str, Any]]:
    """As `view.selected` gives them."""
    return [{"sample_id": sample, "position": position} for sample, position in places]


def doubts(values: np.ndarray) -> pd.DataFrame:
    return scores_of({"mine": list(values)}, [0, 0, 1, 0, 0, 1, 1, 0])


def probed(facts: list[float], sets: list[str]) -> SimpleNamespace:
    return SimpleNamespace(rows=pd.DataFrame({"probe_set": sets, "fact_accuracy": facts}))


SETS = ["forget"] * 4 + ["retain"] * 2
PHASES = {"forward": (100, 3.0), "backward": (200, 4.0), "probes": (50, 3.0)}
LEDGER = {"phases": {name: {"flops": flops, "seconds": seconds} for name, (flops, seconds) in PHASES.items()}}
MASKED = {
    "random": {"comprehensiveness": 0.5, "sufficiency": 1.5},
    "surprisal": {"comprehensiveness": 0.2, "sufficiency": 1.9},
    "gap": {"comprehensiveness": 0.4, "sufficiency": 1.1},
    "saliency": {"comprehensiveness": 0.9, "sufficiency": 1.2},
    "uniform": {name: {"value": None, "reason": "all alike"} for name in ("comprehensiveness", "sufficiency")},
}
LEFT = pd.DataFrame(
    {
        "probe_set": ["forget"] * 4 + ["retain"] * 3,
        "left": [0.95, 0.02, 0.6, 1.0, 1.0, 0.99, 0.3],
        "p_after": [0.93, 0.01, 0.5, 0.7, 0.9, 0.95, 0.2],
        "still remembered": [True, False, True, True, False, False, False],
    }
)
SURPRISAL = np.array([0.001, 0.01, 0.3, 1.0, 4.0])
DAMAGE = pd.DataFrame({"answers": [100, 50, 10], "damaged": [2, 6, 3]}, index=[0, 1, 2])
ABLATION = pd.DataFrame(
    {"AUROC": [0.9, 0.89, 0.6, 0.4, 0.5], "AP": [0.8, 0.8, 0.5, 0.3, 0.2], "spread": [0.2, 0.2, 0.15, 0.1, 0.01]},
    index=["project", "objective B", "entropy term", "l in nats", "published"],
)
GRID = np.logspace(-2, 2, 5)
ERRORS = np.array([[1.2, 1.4, 1.3], [1.0, 1.2, 1.1], [0.9, 1.3, 1.0], [1.1, 1.2, 1.15], [2.0, 2.1, 2.2]])
ATTACKS = {
    name: {"run": run, "retain_only": floor, "before": 0.9, "comes_back": back, "parts": {"before": {"alone": alone}}}
    for name, run, floor, back, alone in [
        ("leak_at_k", 0.3, 0.2, 0.14, 0.9),
        ("alias", 0.05, 0.04, 0.01, 0.02),
        ("opening", 0.04, 0.04, 0.0, 0.5),
        ("relearning", 0.6, 0.2, 0.57, None),
    ]
}

ASKED = ("first", "second", "third", "last")
MATRIX = np.array(  # most is left of the first at the end, most has come back of the second, most is spilt on the third
    [
        [1.0, 0.9, 0.95, 0.9, 1.0, 0.9],
        [0.5, 0.9, 0.8, 0.9, 0.9, 0.9],
        [0.6, 0.1, 0.7, 0.8, 0.9, 0.8],
        [0.5, 0.2, 0.2, 0.8, 0.8, 0.8],
        [0.6, 0.4, 0.3, 0.1, 0.7, 0.8],
    ]
)
RETENTION = Retention("probability", ASKED, ("retain", "neighbours"), (0,), MATRIX[None])
PEOPLE = ["Celia Nash", "Hugo Abel", "Nils Nash", "Celia Imre", "Rosa Abel", "Orla Sorel"]
HURT = Interference(
    "biographies", "bio-full", "person", PEOPLE[:2], PEOPLE, ["forget"] * 6, [0, 1],
    {"logp": np.array([[[8, 0.1, 0.4, 0.2, 0.0, 0.3], [0.2, 7, 0.0, 0.1, 0.6, 0.0]],
                       [[8, 0.1, 0.2, 0.4, 0.2, 0.1], [0.3, 7, 0.0, 0.1, 0.4, 0.0]]])},
    {"names": np.array([[1, 0, 0.5, 0.5, 0, 0], [0, 1, 0, 0, 0.5, 0]]),
     "syntax": np.array([[1, 0.2, 0.9, 0.1, 0.1, 0.8], [0.2, 1, 0.9, 0.1, 0.1, 0.8]])},
    np.ones((2, 2), dtype=bool), np.full((2, 2), 4), {}, pd.DataFrame(), {},
)  # fmt: skip


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
            (["Celia"], "view.selected"),
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
            (10, "2"),
        ],
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
        [("leak_at_k", "place 2"), ("opening", "place 4"), ("greed", "no attack"), (0.57, "text")],
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the checks of runs read: directories of runs, with a configuration and measured tokens."""
    folder = tmp_path_factory.mktemp("runs")
    good = Config(task=TaskSpec("biographies"), model="bio-full", objective="wga", weights="surprisal")
    for name, config in {"good": good, "alpha": faulty(good, 0), "lr": faulty(good, 1)}.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    rows = [
        {
            "sample_id": "a",
            "position": i,
            "probe_set": "forget",
            "phase": phase,
            "span": i < 3,
            "logp": np.log(p),
            "token": "t",
            "token_id": i,
            "start": i,
            "end": i + 1,
            "rank": 0,
            "segment": "answer",
            "entropy": 0.0,
        }
        for phase, last in (("before", 0), ("after", 1))
        for i, p in enumerate(np.linspace(0.99, 0.9, 30) - last * np.linspace(0.85, -0.05, 30))
    ]
    pd.DataFrame(rows).to_parquet(folder / "good" / "tokens.parquet")
    return {name: folder / name for name in ("good", "alpha", "lr")}


@pytest.fixture
def cases(made: dict[str, Any]) -> dict[str, Any]:
    more = {
        "01.3": (
            {"run": made["good"]},
            [tokens(("a", 3)), SimpleNamespace(selected=tokens(("a", 9)))],
            [(tokens(("a", 0)), "label"), (tokens(("a", 20)), "place"), (tokens(("a", 29)), "did not lower"),
             (tokens(("a", 3), ("a", 4)), "choose one"), (tokens(("b", 1)), "not measured")],
        ),
        "03.2": (
            {"good": made["good"], "broken": made["alpha"]},
            ["alpha", "".join(["al", "pha"])],
            [("seed", "no such harm"), ("lr", "same"), ("model", "same"), ("loss", "no setting"), (0.0, "text")],
        ),
    }  # fmt: skip
    return CASES | more


@pytest.mark.parametrize("name", NAMES)
def test_right_and_wrong_answers(cases: dict[str, Any], name: str) -> None:
    read, right, wrong = cases[name]
    assert len(right) >= 2
    assert len(wrong) >= 3
    for answer in right:
        verdict = check(name, answer, **read)
        assert verdict, verdict
    for answer, words in wrong:
        verdict = check(name, answer, **read)
        assert verdict.right is False
        assert words in verdict.text, verdict


@pytest.mark.parametrize("name", NAMES)
def test_no_answer_yet(cases: dict[str, Any], name: str) -> None:
    verdict = check(name, ..., **cases[name][0])
    assert verdict.right is None
    assert "dots" in verdict.text


@pytest.mark.parametrize("name", NAMES)
def test_any_answer_gets_a_verdict(cases: dict[str, Any], name: str) -> None:
    for answer in ("<b>", -1, 3.7, [None], {"a": 1}, lambda *_: "x", float("nan"), object(), pd.DataFrame({"a": [1]})):
        assert check(name, answer, **cases[name][0]).right is False


def test_the_other_fault(made: dict[str, Any]) -> None:
    assert check("03.2", "lr", good=made["good"], broken=made["lr"])
    assert not check("03.2", "alpha", good=made["good"], broken=made["lr"])


def test_the_check_reads_the_learners_own_run() -> None:
    """Another run, another answer: nothing is stored."""
    other = {name: {**entry, "comes_back": -entry["comes_back"]} for name, entry in ATTACKS.items()}
    assert not check("06.1", "relearning", attacks=other)
    assert check("06.1", "opening", attacks=other)


def test_a_sequence_of_one_request_and_another_row_get_a_hint() -> None:
    one = Retention("probability", ("first",), ("retain",), (0,), np.array([[[1.0, 1.0], [0.2, 0.9]]]))
    assert "two requests" in check("07.1", "first", retention=one).text
    assert check("07.2", reversal_by_loop, retention=one)
    other = replace(HURT, damage={"logp": HURT.damage["logp"] + [[[0] * 6, [0, 0, 0, 0, 0, 5]]]})
    assert "forgetting Hugo Abel" in check("07.3", ["Rosa Abel", "Orla Sorel"], result=other).text


def test_one_line_says_what_is_wrong_with_the_call() -> None:
    with pytest.raises(UserError, match=r"unknown exercise '06\.9': did you mean"):
        check("06.9", 1)
    with pytest.raises(UserError, match=r"wb\.check\('06\.1', answer, attacks=\.\.\.\)"):
        check("06.1", "relearning")


def test_what_a_learner_types_is_escaped() -> None:
    shown = check("06.1", "<img src=x>", attacks=ATTACKS)._repr_html_()
    assert "<img" not in shown
    assert "&lt;img" in shown


def test_verdicts_are_noted_where_progress_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check("06.1", "relearning", attacks=ATTACKS)
    assert not list(tmp_path.iterdir())
    (tmp_path / "progress.jsonl").touch()
    for answer in (..., "opening", "relearning"):
        check("06.1", answer, attacks=ATTACKS)
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [(row["exercise"], row["right"]) for row in rows] == [("06.1", False), ("06.1", True)]


def test_what_the_chart_says_is_no_answer() -> None:
    """Its "stayed" is stricter than the question: who reads 1 off it is told so."""
    left = [1.0, 0.95, 0.95, 0.1, 0.1]
    rows = pd.DataFrame({"probe_set": "forget", "left": left, "p_after": left, "still remembered": True})
    assert "in the chart" in check("04.1", 1, rows=rows).text


def test_the_threshold_that_a_view_begins_with_is_no_answer() -> None:
    """It selects as many tokens as are labelled, and a higher one reaches the recall that is wanted."""
    scores = scores_of({"specificity": [0.9] * 8 + [0.3, 0.1] + [0.2] + [0.0] * 29}, [1] * 10 + [0] * 30)
    assert "higher threshold" in check("01.2", 0.2, scores=scores).text
    assert check("01.2", 0.9, scores=scores)
