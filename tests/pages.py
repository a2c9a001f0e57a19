"""Tables for pages, and a page's text for tests."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd

from workbench.view.html.render import STATIC

SAMPLES = {
    "a": ("Where was Basil born?", "Basil was born in Kuwait City."),
    "b": ("What does he write?", "He writes French novels."),
}
SPANS = {"a": [(18, 29)], "b": [(10, 16)]}

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a 'quoted' & \"double\" word",
    "two\nlines\r\nand\ttabs",
    "مرحبا بالعالم",  # right to left
    "zero\u200bwidth and \u202eflipped\u202c text",
    "\x1b[31mred\x1b[0m \x07bell \x00",
    "</style></span><b>",
    "emoji 👩‍🔬 and 漢字",
]
CSS = (STATIC / "view.css").read_text(encoding="utf-8")


class Text(HTMLParser):
    """The page's text by class of the innermost classed element; checks that tags nest."""

    VOID = ("input", "meta", "link", "br")

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.stack, self.answers, self.tags = [], [], []
        self.feed(str(page))
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.VOID:
            return
        if dict(attrs).get("class") == "wb-a":
            self.answers.append("")
        self.stack.append((tag, dict(attrs).get("class")))

    def handle_endtag(self, tag):
        assert self.stack.pop()[0] == tag

    def handle_data(self, data):
        if ("div", "wb-a") in self.stack:
            self.answers[-1] += data


def tokenise(text):
    return [m.span() for m in re.finditer(r" ?\w+|\s|[^\w\s]", text)] + [(len(text), len(text))]


def scores_of(samples, spans=None, scorer="atwu", value=None, step=0):
    rows = []
    for sample, (_, answer) in samples.items():
        for position, (start, end) in enumerate(tokenise(answer)):
            inside = None if spans is None else any(start < e and s < end for s, e in spans.get(sample, []))
            score = (0.9 if inside else 0.1 + position / 100) if value is None else value
            rows.append(
                {"task": "t", "sample_id": sample, "position": position, "token_id": 0, "token": answer[start:end]}
                | {"start": start, "end": end, "segment": "answer", "scorer": scorer, "step": step}
                | {"score": score, "span": inside}
            )
    return pd.DataFrame(rows)


def token_table():
    base = scores_of(SAMPLES, SPANS).drop(columns=["scorer", "score", "segment", "step", "task"])
    base = base.assign(run="r", probe_set="forget", entropy=1.0)
    before = base.assign(phase="before", logp=np.log(0.97), rank=0, alternatives="[]")
    after = base.assign(phase="after", logp=np.log(0.96), rank=0, alternatives='[[" The", 0.31], ["<b>", 0.12]]')
    lost = after["token"] == " Kuwait"
    after.loc[lost, ["logp", "rank"]] = [np.log(0.08), 5]
    return pd.concat([before, after], ignore_index=True)
