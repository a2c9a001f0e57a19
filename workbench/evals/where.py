"""Where a fact still is: maps of an answer, layers x tokens, by the logit lens and by UDS. Read without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from workbench.errors import is_missing

NAMES = {"before": "before", "run": "run", "retain_only": "retain-only"}  # of the models, in the order shown
SAID = {"before": "of the model before", "run": "of the run", "retain_only": "of the retain-only model"}
SOURCES = ("logit_lens", "uds")  # the attacks that leave maps
LEAST = 0.05  # nats of d1 from which a layer counts
HALF = 0.5  # depth below which most of what a layer carries is still there
OTHER = "its tokens differ from the run's"


def depth(d1: np.ndarray, d2: np.ndarray) -> np.ndarray:
    """clip(d2 / d1, 0, 1): 0 untouched, 1 as in the retain-only model; NaN where d1 is at most 0.05 nats."""
    counted = d1 > LEAST
    return np.where(counted, np.clip(d2 / np.where(counted, d1, 1.0), 0, 1), np.nan)


def score(d1: np.ndarray, d2: np.ndarray) -> float:
    """Sum d1 clip(d2 / d1, 0, 1) / sum d1 over layers with d1 > 0.05; NaN where there is none."""
    counted = d1 > LEAST
    if not counted.any():
        return float("nan")
    return float((d1 * depth(d1, d2))[counted].sum() / d1[counted].sum())


@dataclass(frozen=True)
class Lens:
    """What the logit lens reads off one model: L layers, N answer tokens, the K most probable tokens there.

    Attributes:
        logp: (L, N) log-probability of the true token, in nats.
        rank: (L, N) how many tokens are more probable; 0 is the first choice.
        top: (L, N, K) the most probable tokens, as places in `vocabulary`.
        top_p: (L, N, K) their probabilities.
        vocabulary: texts of tokens.
    """

    logp: np.ndarray
    rank: np.ndarray
    top: np.ndarray
    top_p: np.ndarray
    vocabulary: list[str]

    def alternatives(self, layer: int, token: int) -> list[tuple[str, float]]:
        """The most probable tokens at a layer (from 0) in place of a token, with their probabilities."""
        pairs = zip(self.top[layer, token], self.top_p[layer, token], strict=True)
        return [(self.vocabulary[place], float(p)) for place, p in pairs]


@dataclass(frozen=True)
class Where:
    """The maps of one answer for the model before the run, the run and the retain-only model.

    Attributes:
        sample_id: of the answer.
        prompt: what is asked.
        answer: its text.
        positions: (N,) place of each token among the answer's, as in score tables.
        tokens: (N,) their texts; what ends the turn is empty.
        facts: (N,) whether a token is of the fact: in a labelled span, without labels of the text.
        lenses: what the lens reads off each model; the models that were read, in the order of `NAMES`.
        drops: (L, N) by model: log p of the token by the model before, less the same with this model's states of the
            layer in place of its own, in nats. Those of `retain_only` are d1, those of the run d2.
        reasons: model or "uds" -> why it is not there.
    """

    sample_id: Any
    prompt: str
    answer: str
    positions: list[int]
    tokens: list[str]
    facts: list[bool]
    lenses: dict[str, Lens]
    drops: dict[str, np.ndarray]
    reasons: dict[str, str]

    @property
    def models(self) -> list[str]:
        """The models that have a map, in the order shown."""
        return [name for name in NAMES if name in self.lenses or name in self.drops]

    def layers(self, model: str) -> int:
        """L of a model."""
        return len(self.lenses[model].logp if model in self.lenses else self.drops[model])

    def depths(self, model: str) -> np.ndarray | None:
        """(L, N) UDS of each layer and token; NaN where d1 is at most 0.05 nats, None where there is none."""
        return depth(self.drops["retain_only"], self.drops[model]) if model in self.drops else None

    def fact_mean(self, values: np.ndarray) -> np.ndarray:
        """(L,) means of (L, N) over the fact's tokens, as the attacks have them."""
        return np.asarray(values[:, self.facts].astype(float).mean(axis=1))

    def depths_of_layers(self, model: str) -> np.ndarray:
        """(L,) UDS of each layer, over the fact's tokens."""
        return depth(self.fact_mean(self.drops["retain_only"]), self.fact_mean(self.drops[model]))

    def score(self, model: str = "run") -> float:
        """UDS of the answer, as the attack has it; NaN where there is none."""
        if model not in self.drops:
            return float("nan")
        return score(self.fact_mean(self.drops["retain_only"]), self.fact_mean(self.drops[model]))

    def first_choice(self, model: str) -> list[int]:
        """The layers (from 1) at which the lens has every token of the fact as first choice."""
        worst = self.lenses[model].rank[:, self.facts].max(axis=1)
        return [layer + 1 for layer, rank in enumerate(worst) if rank == 0]

    def survives(self) -> list[int] | None:
        """The layers (from 1) of the run in which the fact survives: UDS below 0.5; None where UDS has no value."""
        if "run" not in self.drops or np.isnan(self.score()):
            return None
        return [layer + 1 for layer, value in enumerate(self.depths_of_layers("run")) if value < HALF]

    def to_frame(self) -> pd.DataFrame:
        """A row a model, layer (from 1) and token: `logp`, `rank`, `d1`, `d2`, `uds`, the most probable tokens (JSON).

        `d1` and `d2` are the drops of the retain-only model and of this one; what is not there is missing.
        """
        rows = []
        for model in self.models:
            lens, depths = self.lenses.get(model), self.depths(model)
            for layer in range(self.layers(model)):
                for i, (position, token, fact) in enumerate(zip(self.positions, self.tokens, self.facts, strict=True)):
                    row: dict[str, Any] = {"sample_id": self.sample_id, "model": model, "layer": layer + 1}
                    row |= {"position": position, "token": token, "fact": fact}
                    if lens is not None:
                        row |= {"logp": float(lens.logp[layer, i]), "rank": int(lens.rank[layer, i])}
                        row |= {"alternatives": json.dumps(lens.alternatives(layer, i))}
                    if depths is not None:
                        d1, d2 = self.drops["retain_only"][layer, i], self.drops[model][layer, i]
                        row |= {"d1": float(d1), "d2": float(d2), "uds": float(depths[layer, i])}
                    rows.append(row)
        names = ("sample_id", "model", "layer", "position", "token", "fact", "logp", "rank", "d1", "d2", "uds")
        return pd.DataFrame(rows, columns=[*names, "alternatives"])

    def summary(self) -> list[str]:
        """In words: in which layers the fact survives, how deep it is gone, and where the lens reads it off."""
        layers, lines, depth_of = self.survives(), [], self.score()
        if layers is not None:
            lines.append(f"This fact survives in {spoken(layers)} of {self.layers('run')}.")
            lines.append(f"Its unlearning depth is {depth_of:.2f}: 0 is untouched, 1 is as in the retain-only model.")
        elif "run" in self.lenses:
            read = self.first_choice("run")
            lines.append(f"By the logit lens, this fact survives in {spoken(read)} of {self.layers('run')}.")
        if "run" in self.drops and layers is None:
            lines.append("UDS has no value: no layer separates the model before from the retain-only model.")
        if self.lenses:
            read_off = ", in ".join(f"{spoken(self.first_choice(m))} {SAID[m]}" for m in self.lenses)
            lines.append(f"By the logit lens, it is the most probable token in {read_off}.")
        return lines


def spoken(layers: Sequence[int]) -> str:
    """Layers in words: "layers 2 to 4 and 7", "layer 3", "no layer"."""
    if not layers:
        return "no layer"
    # Of layers that follow on one another, layer less place is the same.
    groups = [[layer for _, layer in run] for _, run in groupby(enumerate(layers), lambda each: each[1] - each[0])]
    parts = [p for each in groups for p in ([f"{each[0]} to {each[-1]}"] if len(each) > 2 else map(str, each))]
    listed = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    return f"layer{'s' if len(layers) > 1 else ''} {listed}"


def stored_maps(answers: pd.DataFrame, attacks: Mapping[str, Any] | None = None) -> list[Where]:
    """The maps that attacks left, an answer each, in the table's order; none where neither lens nor UDS left any.

    The table is that of `RUN/attacks/answers.parquet`; the attacks' results have the reasons why a map is missing.

    Raises:
        ValueError: a map is not of its answer's tokens.
    """
    if "facts" not in answers:
        return []
    rows = answers[answers["attack"].isin(SOURCES) & answers["model"].isin(list(NAMES)) & answers["facts"].notna()]
    return [_of(part.to_dict("records"), attacks or {}) for _, part in rows.groupby("sample_id", sort=False)]


def most_left(maps: Sequence[Where], count: int) -> list[Where]:
    """The answers of which most is left: the least deep first, those without a depth by what the lens reads."""

    def left(where: Where) -> tuple[bool, float]:
        depth_of = where.score()
        lens = where.lenses.get("run")
        read = 0.0 if lens is None else float(where.fact_mean(lens.logp).max())
        return bool(np.isnan(depth_of)), -read if np.isnan(depth_of) else depth_of

    return sorted(maps, key=left)[:count]


def _of(rows: Iterable[Mapping[str, Any]], attacks: Mapping[str, Any]) -> Where:
    """The maps of one answer from its rows; the tokens are the run's."""
    by_name = {(row["attack"], row["model"]): row for row in rows}
    first = next((by_name[name, "run"] for name in SOURCES if (name, "run") in by_name), None)
    first = first or next(iter(by_name.values()))
    tokens = [str(token) for token in first["tokens"]]
    alike = {key: row for key, row in by_name.items() if list(map(str, row["tokens"])) == tokens}
    positions, facts = [int(p) for p in first["positions"]], [bool(f) for f in first["facts"]]
    if {len(positions), len(facts)} != {len(tokens)}:
        raise ValueError("tokens, positions and facts do not fit together")
    facts = facts if any(facts) else [True] * len(facts)  # a text of one token that nothing predicts: what ends it
    reasons = {m: OTHER if ("logit_lens", m) in by_name else _reason(attacks, "logit_lens", m) for m in NAMES}
    lenses, drops = {}, {}
    for model in NAMES:
        if row := alike.get(("logit_lens", model)):
            lenses[model] = _lens(row, len(tokens))
            del reasons[model]
    if row := alike.get(("uds", "run")):
        d1, d2 = (_map(row, key, len(tokens)) for key in ("d1_map", "d2_map"))
        drops = {"before": np.zeros_like(d1), "run": d2, "retain_only": d1}  # its own states change nothing
    else:
        reasons["uds"] = _reason(attacks, "uds", "run")
    texts = str(first["prompt"]), str(first["answer"])
    return Where(first["sample_id"], *texts, positions, tokens, facts, lenses, drops, reasons)


def _map(row: Mapping[str, Any], name: str, count: int) -> np.ndarray:
    return np.asarray(row[name], dtype=float).reshape(-1, count)


def _lens(row: Mapping[str, Any], count: int) -> Lens:
    logp, rank, vocabulary = _map(row, "logp_map", count), _map(row, "rank_map", count), row["vocabulary"]
    top, top_p = (np.asarray(row[key]).reshape(*logp.shape, -1) for key in ("top_map", "top_p_map"))
    if not 0 <= top.min() <= top.max() < len(vocabulary):
        raise ValueError("the vocabulary does not have all tokens")
    return Lens(logp, rank.astype(int), top, top_p, list(map(str, vocabulary)))


def _reason(attacks: Mapping[str, Any], attack: str, model: str) -> str:
    value = attacks.get(attack, {}).get(model)
    return str(value["reason"]) if is_missing(value) else "not run"
