"""Exercises of notebook 01: predict what a scorer marks, set a threshold, find what a run hurt besides the facts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from workbench.view.course.answers import as_number
from workbench.view.course.exercises import Wrong, exercise

SCORER = "specificity"  # whose marks are predicted
RECALL = 0.8  # of exercise 01.2: above the threshold that a view begins with
SHOWN = 0.005  # a view shows two digits after the point: less than this cannot be seen
HARDEST = 10  # of exercise 01.3


def answer_rows(scores: pd.DataFrame, scorer: str) -> pd.DataFrame:
    """The newest scores of one scorer, of answer tokens that stand for text."""
    rows = scores[(scores["scorer"] == scorer) & (scores["segment"] == "answer") & (scores["end"] > scores["start"])]
    return rows[rows["step"] == rows["step"].max()]


def clicked(answer: Any, view: str) -> list[dict[str, Any]]:
    """The tokens of a view's `selected`, each once."""
    tokens = getattr(answer, "selected", answer)
    if not isinstance(tokens, list) or not all(isinstance(t, dict) and "position" in t for t in tokens):
        raise Wrong(f"give `{view}.selected`: the tokens that you clicked there")
    if not tokens:
        raise Wrong("no token is selected: click one, and others with Shift")
    return list({(t["sample_id"], t["position"]): t for t in tokens}.values())


@exercise("01.1", title="Which tokens will be dark?", difficulty=1, importance=5, minutes=4)
def dark_tokens(answer: Any, *, scores: pd.DataFrame) -> str:
    """Three tokens or more, clicked before the scores are seen, all among the highest of their answers."""
    tokens = clicked(answer, "blank")
    if len(tokens) < 3:
        raise Wrong(f"{len(tokens)} of three: hold Shift to click more tokens, in one answer or in several")
    rows = answer_rows(scores, SCORER).set_index(["sample_id", "position"])
    dark, spans, light = [], [], []
    for token in tokens:
        key = (token["sample_id"], token["position"])
        if key not in rows.index:
            raise Wrong("one of the tokens is the end of an answer, which stands for no text")
        own = rows.loc[[key[0]]]
        count = int(own["span"].eq(True).sum()) or max(1, round(len(own) / 5))  # as many as are labelled, or a fifth
        dark.append(rows.loc[key, "score"] >= own["score"].nlargest(count).iloc[-1])
        spans.append(bool(own["span"].eq(True).get(key, False)))
        light += [] if dark[-1] else [repr(token.get("token", key))]
    labelled = f"{sum(spans)} of {len(tokens)} stand in a label"
    if all(dark):
        return f"all {len(tokens)} are among the darkest of their answers under `{SCORER}`, and {labelled}"
    raise Wrong(
        f"{sum(dark)} of your {len(tokens)} tokens are dark under `{SCORER}`, and {labelled}. Not dark: "
        f"{', '.join(light)}. Could a reader guess that who has read the question, and such answers about other people?"
    )


@exercise("01.2", title="Set a threshold", difficulty=2, importance=4, minutes=4)
def threshold(answer: Any, *, scores: pd.DataFrame) -> str:
    """The highest threshold that selects eight in ten of the labelled tokens."""
    limit = as_number(getattr(answer, "threshold", answer), "the threshold")
    if getattr(answer, "scorer", SCORER) != SCORER:
        raise Wrong(f"the view shows `{answer.scorer}`; choose `{SCORER}` above the text")
    rows = answer_rows(scores, SCORER)
    values, facts = rows["score"].to_numpy(float), rows["span"].eq(True).to_numpy()
    best = np.sort(values[facts])[::-1][int(np.ceil(RECALL * facts.sum() - 1e-9)) - 1]  # the last fact that must be in
    chosen, wanted = values >= limit, values >= best
    recall, precision = chosen[facts].mean(), facts[chosen].mean() if chosen.any() else 0.0
    now = f"recall is {recall:.3f} and precision {precision:.3f}"
    enough = recall >= RECALL - SHOWN
    if enough and chosen.sum() - wanted.sum() <= len(rows) // 100:  # a slider moves by small steps
        return f"{now}: {chosen.sum()} tokens are selected, {facts.sum()} are labelled"
    if not enough:
        raise Wrong(f"{now}: some facts are missed, move the threshold down")
    raise Wrong(f"{now}, and {RECALL} is enough: a higher threshold still reaches that, with fewer other words")


@exercise("01.3", title="What did the run hurt besides the facts?", difficulty=3, importance=4, minutes=5)
def collateral(answer: Any, *, run: Any) -> str:
    """A token outside every label that is among those whose probability fell most."""
    tokens = clicked(answer, "replay")
    if len(tokens) > 1:
        raise Wrong(f"{len(tokens)} tokens are selected; choose one")
    rows = falls(run)
    key = (tokens[0]["sample_id"], tokens[0]["position"])
    if key not in rows.index:
        raise Wrong("this token has no change of its probability: choose one of the view *Learned importance*")
    if rows.loc[key, "span"]:
        raise Wrong("this token is in a label: it was to be forgotten. Look for one without a dotted line above")
    beside = rows[~rows["span"]].sort_values("change")
    place = int((beside["change"] < beside.loc[key, "change"]).sum()) + 1
    before, after = beside.loc[key, "before"], beside.loc[key, "after"]
    if place <= HARDEST:
        return f"from {before:.3f} to {after:.3f}: place {place} of the {len(beside)} tokens outside labels"
    if after >= before:
        raise Wrong("the run did not lower this token's probability; blue means lost")
    raise Wrong(f"it lost some: place {place} of {len(beside)}. Sort by damage, and look for a darker blue")


def falls(run: Any) -> pd.DataFrame:
    """The forget tokens of a run: their labels, and probability before, after and the change."""
    from workbench.view.run_source import run_directory

    table = run_directory(run).table("tokens.parquet")
    if table is None:
        raise Wrong("the run has recorded no tokens; has it ended?")
    table = table[table["probe_set"] == "forget"].assign(p=lambda t: np.exp(t["logp"].astype(float)))
    wide = table.pivot_table("p", ["sample_id", "position"], "phase")[["before", "after"]]
    spans = table.groupby(["sample_id", "position"])["span"].first().eq(True).astype(bool)
    return wide.assign(change=wide["after"] - wide["before"], span=spans)
