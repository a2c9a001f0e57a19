"""Two models on one text: each token's log-probability under both, by words where their tokens differ."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from workbench.errors import UserError
from workbench.evals.answers import token_table
from workbench.models import LanguageModel
from workbench.tasks import Sample, words_of

KEY = ["sample_id", "position"]


@dataclass(frozen=True)
class Difference:
    """Two models on the same answers.

    Attributes:
        tokens: a token table with the phases "before" (the first model) and "after" (the second).
        by_words: whether its rows are words, since the two models cut the text into other tokens. A word's `logp` is
            the sum over its tokens; its rank and alternatives are of its first token.
    """

    tokens: pd.DataFrame
    by_words: bool

    def scores(self, names: tuple[str, str]) -> pd.DataFrame:
        """The score table: log p of the second minus log p of the first, in nats, and each one's surprisal."""
        first, second = (self.tokens[self.tokens["phase"] == phase].reset_index() for phase in ("before", "after"))
        values = {
            f"log p: {names[1]} minus {names[0]}": second["logp"] - first["logp"],
            f"surprisal: {names[0]}": -first["logp"],
            f"surprisal: {names[1]}": -second["logp"],
        }
        columns = first[[*KEY, "token_id", "token", "start", "end", "segment", "span"]]
        tables = [columns.assign(task="texts", scorer=name, step=0, score=each) for name, each in values.items()]
        return pd.concat(tables, ignore_index=True)


def difference(a: LanguageModel, b: LanguageModel, samples: list[Sample], *, batch_size: int = 16) -> Difference:
    """Each answer token's log-probability under both models; of words where the models' tokens differ.

    The samples are texts, or questions and answers, of any length.

    Raises:
        UserError: a text without words, where the tokens differ.
    """
    tables = [token_table(lm, samples, batch_size) for lm in (a, b)]
    key = [*KEY, "token_id", "start", "end"]
    by_words = len(tables[0]) != len(tables[1]) or not tables[0][key].equals(tables[1][key])
    if by_words:
        tables = [_by_words(table, samples) for table in tables]
    phases = [table.assign(phase=phase, probe_set="texts") for table, phase in zip(tables, PHASES, strict=True)]
    return Difference(pd.concat(phases, ignore_index=True), by_words)


PHASES = ("before", "after")


def _by_words(table: pd.DataFrame, samples: list[Sample]) -> pd.DataFrame:
    """A token table with a row a word, and none for the end of the answer.

    A token belongs to the word of its first character that is no space; a later byte of a character to that of the
    token before it.
    """
    groups, rows = dict(list(table.groupby("sample_id", sort=False))), []
    for sample in samples:
        tokens = groups[sample.id]
        starts = [0, *(start for start, _ in words_of(sample.answer)[1:]), len(sample.answer)]
        if len(starts) < 2 or not sample.answer.strip():
            raise UserError(f"sample '{sample.id}' has no word, and the models' tokens differ")
        begins = np.array(starts[:-1])
        text = tokens[tokens["start"] < len(sample.answer)]
        first = [start + len(t) - len(t.lstrip()) for start, t in zip(text["start"], text["token"], strict=True)]
        last = text["end"].to_numpy() - 1
        place = np.minimum(first, np.maximum(last, text["start"]))
        word = np.searchsorted(begins, place, side="right") - 1
        grouped = text.groupby(word)
        logp = grouped["logp"].apply(lambda values: values.sum(skipna=False))
        heads = grouped[["rank", "alternatives", "entropy"]].first()
        for number, (start, end) in enumerate(pairwise(starts)):
            known = number in logp.index
            rows.append(
                {"sample_id": sample.id, "position": number, "token_id": -1, "token": sample.answer[start:end]}
                | {"start": start, "end": end, "segment": "answer", "span": None}
                | {"logp": float(logp[number]) if known else np.nan}
                | ({name: heads.loc[number, name] for name in heads} if known else {"rank": -1, "alternatives": "[]"})
            )
    return pd.DataFrame(rows)
