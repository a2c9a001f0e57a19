"""The playground: the newest text wins, errors lose nothing, and what a browser makes of it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import EVIL, SCRIPT, Typeset, check
from runs_of import wait_until
from widget_page import open_widget

from workbench.errors import UserError
from workbench.evals import Stopped
from workbench.evals.generation import greedy
from workbench.scorers.score import score_samples
from workbench.tasks.samples import Sample
from workbench.view.widgets import Playground, playground


@pytest.fixture
def made(full: Any) -> Any:
    widget = Playground(full, question="Where was Basil born?", answer="In Kuwait City.")
    assert widget.wait()
    yield widget
    widget.close()
    wait_until(lambda: not any(thread.name == "workbench widget" for thread in threading.enumerate()))


def expected(full: Any, question: str, answer: str) -> Any:
    return score_samples(full, [Sample("x", question, answer)], ["surprisal"])["score"].to_numpy()


def test_what_is_no_text_is_one_line(made: Playground) -> None:
    for what in ({"question": 3}, {"answer": b"a"}):
        with pytest.raises(UserError, match="type a text, not"):
            made.type(**what)  # type: ignore[arg-type]
    assert made.question == "Where was Basil born?"


def test_many_passes_take_any_text(made: Playground) -> None:
    made.type(question="?", answer="!", scorer="saliency")
    assert made.wait()
    assert made.box.problem == ""
    assert set(made.view.scores["scorer"]) == {"saliency"}


def test_what_is_typed_is_scored(full: Any, made: Playground) -> None:
    scores = made.view.scores["score"].to_numpy()
    np.testing.assert_allclose(scores, expected(full, "Where was Basil born?", "In Kuwait City."))
    made.type(question="", answer="A plain text.")
    assert made.wait()
    np.testing.assert_allclose(made.view.scores["score"], expected(full, "", "A plain text."))
    assert (made.question, made.answer, made.box.shown) == ("", "A plain text.", made.box.typed)
    made.scorer = "entropy"
    assert made.wait()
    assert set(made.view.scores["scorer"]) == {"entropy"}
    made.box.unit = "word"
    assert made.view.unit == "word"
    with pytest.raises(UserError, match="unknown scorer 'entropi'"):
        made.scorer = "entropi"


def test_the_newest_text_wins(made: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that is under way ends as soon as a newer text is there, and never shows."""
    began, shown = threading.Event(), []
    made.box.observe(lambda change: shown.append(change["new"]), "shown")
    plain = playground.score_typed

    def slow(lm: Any, sample: Sample, *args: Any, stopped: Any, **more: Any) -> Any:
        if sample.answer == "slow":
            began.set()
            wait_until(stopped)
            raise Stopped
        return plain(lm, sample, *args, stopped=stopped, **more)

    monkeypatch.setattr(playground, "score_typed", slow)
    made.answer = "slow"
    first = made.box.typed
    assert began.wait(20)
    for text in ("one", "one two", "one two three"):
        made.answer = text
    assert made.wait()
    assert first not in shown
    assert shown == sorted(shown)
    assert shown[-1] == made.box.typed
    assert made.view._samples["typed"][1] == "one two three"


def test_an_old_result_is_dropped_even_when_it_has_come(made: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, texts = playground.score_typed, []

    def late(lm: Any, sample: Sample, *args: Any, stopped: Any, **more: Any) -> Any:
        scored = plain(lm, sample, *args, **more)
        texts.append(sample.answer)
        if sample.answer == "older":  # a newer text comes while the numbers are on their way
            made.answer = "newer"
        return scored

    monkeypatch.setattr(playground, "score_typed", late)
    shown: list[str] = []
    made.view.observe(lambda _: shown.append(made.view._samples["typed"][1]), "head")
    made.answer = "older"
    assert made.wait()
    assert texts == ["older", "newer"]
    assert shown == ["newer"]


def test_what_browser_and_python_type_at_once_is_not_lost(made: Playground) -> None:
    turn = made.box.typed + 1
    made.answer = "from Python"
    made.box.set_state({"answer": "from the browser", "typed": turn})  # which did not know of the other
    assert made.wait()
    assert made.view._samples["typed"][1] == "from the browser"


def test_errors_are_a_line_and_what_was_typed_stays(made: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "word " * 3000
    made.answer = long
    assert made.wait()
    assert "tokens and the context of bio-full holds" in made.box.problem
    assert made.box.problem.count("\n") == 0
    assert made.answer == long
    assert made.view.layout.display == "none"  # no colours of another text
    assert "context of bio-full" in made.to_html()

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("two\nlines")

    with monkeypatch.context() as patch:
        patch.setattr(playground, "score_typed", broken)
        made.answer = "short"
        assert made.wait()
        assert made.box.problem == "RuntimeError: two lines"
    made.answer = "a \ud800 lone surrogate"
    assert made.wait()
    assert (made.box.problem, made.view.layout.display) == ("", "")
    made.type("", "")
    assert made.wait()
    assert (made.box.problem, made.next.place) == ("", {})


def test_alternatives_and_putting_one_in(made: Playground) -> None:
    assert not made.next.place["chosen"]
    row = made.tokens.iloc[2]
    made.view.select("typed", int(row["position"]))
    place = made.next.place
    assert place["chosen"]
    assert place["range"] == [row["start"], row["end"]]
    assert place["rows"][0][2] >= place["rows"][1][2]
    start, new = place["range"][0], place["texts"][0]
    made._heard(None, {"do": "take", "row": 0}, [])
    assert made.wait()
    assert made.answer.startswith("In Kuwait City."[:start] + new)
    made.take(99)  # nothing is there
    made.answer = ""
    assert made.wait()
    first = made.next.place["texts"][0]
    made.take(0)
    assert made.answer == first.lstrip()


def test_other_scores_of_a_text_leave_its_tokens_selected(made: Playground) -> None:
    made.view.select("typed", int(made.tokens.iloc[2]["position"]))
    chosen, place = made.view.selected, made.next.place
    made.scorer = "entropy"
    assert made.wait()
    assert [token["position"] for token in made.view.selected] == [chosen[0]["position"]]
    assert [*made.view.selected[0]["scores"]] == ["entropy"]
    assert made.next.place == place
    made.answer = "In another place."
    assert made.wait()
    assert made.view.selected == []


def test_the_greedy_answer(full: Any, bio: Any, made: Playground) -> None:
    sample = bio.forget[0]
    made.type(sample.question, "")
    made.greedy()
    assert made.wait()
    assert made.box.reply["raw"] == greedy(full, [sample], 1, 64)[0]
    made._heard(None, {"do": "use"}, [])
    assert made.answer == made.box.reply["raw"]
    made.type("", "")
    made._heard(None, {"do": "greedy"}, [])
    assert made.box.problem == "type a question, or the beginning of a text"
    made.type("", "word " * 200)
    assert made.wait()
    made.greedy()
    assert made.wait()
    made.type("", sample.answer[:20])
    assert made.wait()
    assert made.view.layout.display == ""
    made.greedy()
    made._answering.stop()
    assert made.wait()
    assert made.box.reply["ended"] in ("stopped", "end", "length")


def test_two_at_once_do_not_mix_and_a_closed_one_leaves_no_thread(full: Any) -> None:
    both = [Playground(full, answer=f"Text {i}") for i in range(2)]
    for turn in range(8):
        for i, widget in enumerate(both):
            widget.answer = f"Text {i}, {turn}"
    assert all(widget.wait() for widget in both)
    assert [widget.view._samples["typed"][1] for widget in both] == ["Text 0, 7", "Text 1, 7"]
    for widget in both:
        widget.answer = "once more"
        widget.close()
    wait_until(lambda: not any(w._scoring.busy or w._answering.busy for w in both))
    both[0].box.typed += 1  # a message that was on its way
    assert not both[0]._scoring.busy


def test_a_figure_has_the_question_and_the_colours(made: Playground, tmp_path: Path) -> None:
    made.type(question="", answer="")
    assert made.wait()
    with pytest.raises(UserError, match="nothing to save yet"):
        made.save(tmp_path / "typed.svg")
    made.type(question="Who is it?", answer="Celia Nash.")
    assert made.wait()
    rows = made.figure().rows
    assert ["".join(piece.text for piece in row.pieces) for row in rows] == ["Who is it?", "Celia Nash. ∎"]
    assert rows[1] == made.view.figure().rows[0]
    assert made.save(tmp_path / "typed.pdf").read_bytes().startswith(b"%PDF")


def test_what_it_takes(full: Any, retained: Any, tmp_path: Path) -> None:
    widget = Playground(full, reference=retained, scorer="gap", answer="A text.", unit="word")
    assert widget.wait()
    assert widget.box.problem == ""
    assert "reference bio-retain" in widget.box.about
    for more in ({"scorer": "gap"}, {"scorer": "atwu"}, {"unit": "letter"}, {"learned": tmp_path / "none"}):
        with pytest.raises(UserError):
            Playground(full, **more)
    with pytest.raises(UserError, match="a model is a name"):
        Playground(3)  # type: ignore[arg-type]


def test_code_is_text(full: Any) -> None:
    widget = Playground(full, question=f"{EVIL} from $300 to $400", answer=f"{SCRIPT}{EVIL} for $zz$")
    assert widget.wait()
    widget.box.reply = {"to": ("answers", EVIL), "text": EVIL, "raw": EVIL, "ended": "end"}
    widget.next.place = {"chosen": True, "token": [EVIL, EVIL], "probability": EVIL, "rank": 1} | {
        "rows": [[EVIL, "0.5", 0.5, True]]
    }
    widget.box.problem = EVIL
    check(widget.to_html())
    assert "zz" not in Typeset(widget.to_html()).text
    assert {"tex2jax_ignore", "mathjax_ignore"} <= set(widget._dom_classes)
    assert "\x1b" not in repr(widget)


# In a browser -------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(chromium: Any, made: Playground, tmp_path: Path) -> Any:
    page = open_widget(chromium, made.box, tmp_path)
    yield page
    assert page.messages == []
    page.close()


def test_keys_are_sent_once_they_pause(page: Any) -> None:
    answer = page.get_by_label("answer", exact=True)
    assert answer.input_value() == "In Kuwait City."
    before = page.evaluate("model.get('typed')")
    page.evaluate("model.set('pause', 60)")
    page.evaluate("""() => {
      const box = document.querySelectorAll("textarea")[1];
      for (const text of ["a", "ab", "abc"]) {
        box.value = text;
        box.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }""")
    assert page.locator("[role=status]").inner_text() == "scoring …"
    page.wait_for_function("model.get('answer') === 'abc'")
    assert page.evaluate("model.get('typed')") == before + 1
    page.evaluate("model.set('note', '1 tokens, 5 ms'); model.set('shown', model.get('typed'))")
    assert page.locator("[role=status]").inner_text() == "1 tokens, 5 ms"


def test_what_is_being_typed_is_not_written_over(page: Any) -> None:
    answer = page.get_by_label("answer", exact=True)
    page.evaluate("model.set('pause', 5000)")
    answer.fill("newer than Python")
    page.evaluate("model.set('answer', 'older, from Python'); model.set('problem', 'it went wrong')")
    assert answer.input_value() == "newer than Python"
    assert page.get_by_role("alert").inner_text() == "it went wrong"
    page.get_by_role("button", name="Greedy answer").click()
    assert page.evaluate("model.get('answer')") == "newer than Python"  # sent first
    assert page.evaluate("window.sent") == [{"do": "greedy"}]


def test_code_in_a_browser_is_text(page: Any, chromium: Any, made: Playground, tmp_path: Path) -> None:
    page.evaluate("code => model.set('reply', { to: ['answers', code], text: code, raw: code, ended: '' })", SCRIPT)
    assert SCRIPT in page.locator(".wb-reply").inner_text()
    page.get_by_role("button", name="Stop").click()
    assert page.evaluate("window.sent") == [{"do": "stop"}]
    made.next.place = made.next.place | {"rows": [[SCRIPT, "0.5", 0.5, True], ["end", "0.1", 0.1, False]]}
    other = open_widget(chromium, made.next, tmp_path)
    assert other.get_by_role("button", name="end").is_disabled()
    other.locator("button").first.focus()
    other.keyboard.press("Enter")
    assert other.evaluate("window.sent") == [{"do": "take", "row": 0}]
    for shown in (page, other):
        assert shown.evaluate("window.zz") is None
        assert shown.locator("img, zz").count() == 0
    assert other.messages == []
    other.close()


def test_an_old_view_leaves_a_newer_threshold_alone(chromium: Any, made: Playground, tmp_path: Path) -> None:
    """A message brings table, scorer and threshold at once; the browser tells of each change, in any order."""
    page = open_widget(chromium, made.view, tmp_path)
    page.evaluate("""() => {
      const { get } = model;
      model.get = (name) => (name === "head" ? {} : get(name));
      model.set("threshold", 0.123);
      model.set("scorer", "entropy");
      model.get = get;
    }""")
    assert page.evaluate("model.get('threshold')") == 0.123
    assert page.messages == []
    page.close()


def test_a_new_table_leaves_focus_and_place(chromium: Any, made: Playground, tmp_path: Path) -> None:
    """Scores of the same text come while somebody goes through it by keyboard."""
    page = open_widget(chromium, made.view, tmp_path)
    for kept in (True, False):
        page.locator("[role=listbox]").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        at = page.locator(".wb-cur").inner_text()
        page.evaluate("""kept => {
          const head = structuredClone(model.get("head"));
          if (!kept) head.samples[0].texts[0] = "On";
          model.set("head", head);
        }""", kept)  # fmt: skip
        assert page.evaluate("document.activeElement.getAttribute('role')") == "listbox"
        assert page.locator(".wb-cur").all_inner_texts() == [at] * kept
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        assert page.evaluate("model.get('chosen')") == [2 if kept else 0]
    assert page.messages == []
    page.close()
