"""What the token view sends to a page, read as the page does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pages import SAMPLES, SPANS, scores_of

from workbench.view.widgets import TokenView
from workbench.view.widgets.token_payload import NONE


def sent(view: TokenView) -> list[tuple[str, int, np.ndarray]]:
    """(scorer, step, a float32 a token) as the browser reads them."""
    codes = np.frombuffer(view.codes, dtype="<u2").reshape(-1, len(view.head["spans"]))
    books, arrays, row, first = np.frombuffer(view.books, dtype="<f4"), [], 0, 0
    for layer in view.head["layers"]:
        book = np.append(books[first : first + layer["size"]], np.nan)
        first += layer["size"]
        for step in layer["steps"]:
            arrays.append((layer["name"], step, book[np.where(codes[row] == NONE, layer["size"], codes[row])]))
            row += 1
    assert (row, first) == (len(codes), len(books))
    return arrays


def whole(parts: Any) -> str:
    return parts if isinstance(parts, str) else "".join(parts)


def some_scored() -> TokenView:
    """`early` has all samples at step 0; `late` has one of them at step 4, where all else is not recorded."""
    early, late = scores_of(SAMPLES, SPANS, "early"), scores_of(SAMPLES, SPANS, "late", step=4)
    return TokenView(pd.concat([early, late[late["sample_id"] == "a"]], ignore_index=True), SAMPLES, scorer="late")
