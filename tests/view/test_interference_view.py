"""The maps of interference: each cell says its numbers, the twin is the same, a pair is chosen by mouse or keys."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interferences import made
from pages import HOSTILE, Text
from widget_page import open_widget

from workbench.errors import UserError
from workbench.view.html import interference_view
from workbench.view.html.interference import firsts, strengths
from workbench.view.widgets import InterferenceView


def cells(html: str, grid: str) -> list[tuple[str, str]]:
    """The title and the content of each cell of a map."""
    part = html.split(f'<table class="wb-map-{grid}')[1].split("</table>")[0]
    return re.findall(r'<td[^>]*title="([^"]*)"[^>]*>(.*?)</td>', part)


def test_every_cell_says_its_numbers() -> None:
    result = made()
    html = interference_view(result, css=False)
    damage, predicted = cells(html, "damage"), cells(html, "predicted")
    assert len(damage) == len(predicted) == 3 * 5
    assert damage[1][0] == "Ada forgotten, Bo measured&#10;log-probability 0.800 nats&#10;facts lost 0.500"
    assert "•" not in damage[1][1]  # wide cells have numbers; the largest are bold
    assert '<b class="wb-v0">0.80</b>' in damage[1][1]
    assert damage[0][1] == '<b class="wb-own">×</b>'  # noqa: RUF001
    assert predicted[1][0].startswith("Ada forgotten, Bo measured&#10;gradients 1.60")
    assert "<b>Forgetting Ada hurts Bo most: 0.80 nats.</b>" in html
    gained = replace(result, damage={"logp": -np.abs(result.damage["logp"])})
    assert gained.summary()[0] == "No domain is hurt by forgetting another."
    assert re.search(r"0\.\d\d \(-?\d\.\d\d to 1\.00\)", html)  # one seed's damage is what is predicted
    narrow = interference_view(made(neighbours=20), css=False)
    assert cells(narrow, "damage")[1][1] == '<b class="wb-v0">•</b><b class="wb-v1">•</b>'
    assert "Bold marks the tenth of the pairs" in html
    assert "• marks the tenth of the pairs" in narrow


def test_a_domain_does_not_repeat_the_set_that_it_stands_under() -> None:
    result = made(["profession", "town"], neighbours=0)
    result.measured.append("profession (neighbours)")
    result.sets.append("neighbours")
    result.damage.update({name: np.pad(values, ((0, 0), (0, 0), (0, 1))) for name, values in result.damage.items()})
    result.predicted.update({name: np.pad(values, ((0, 0), (0, 1))) for name, values in result.predicted.items()})
    html = interference_view(result, css=False)
    assert "<span>profession (neighbours)</span>" not in html
    assert html.count("<span>profession</span>") == 6  # a row and two columns of both maps
    assert "town forgotten, profession (neighbours) measured" in html


def test_a_domain_of_which_nothing_was_known_has_no_number() -> None:
    result = made()
    result.damage["accuracy"][:, :, 1] = np.nan
    html = interference_view(result, css=False)
    title, inside = cells(html, "damage")[1]
    assert title.endswith("facts lost not available")
    assert '<i class="wb-v1">·</i>' in inside
    assert "nan" not in html.lower().replace("finance", "")


def test_colours() -> None:
    result = made()
    others = result.others()
    of_damage = strengths(result.mean(), others, damage=True)
    assert of_damage[0, 1] == 1
    assert np.isnan(of_damage[0, 0])
    assert of_damage[1, 3] == pytest.approx(np.sign(result.mean()[1, 3]) * np.sqrt(abs(result.mean()[1, 3]) / 0.8))
    of_prediction = strengths(result.predicted["names"], others, damage=False)
    assert (np.nanmin(of_prediction), np.nanmax(of_prediction)) == (0, 1)
    assert firsts(result.mean(), others).sum() == 1
    assert not firsts(np.zeros((3, 5)), others).any()


def test_the_twin_has_the_same_and_what_carries_it() -> None:
    view = InterferenceView(made())
    html = view.to_html()
    assert cells(html, "damage") == cells(view.html, "damage")
    assert html.count("<details") == 1  # only this pair has tokens
    assert "Ada forgotten, Bo measured: the tokens that carry it" in html
    view.select("Ada", "Bo")
    assert view.chosen == [0, 1]
    assert view.selected["damage_logp"] == pytest.approx(0.8)
    assert "wb-a" in view.detail
    view.select("Bo", "Cy")
    assert view.detail == ""
    view.chosen = []
    assert view.selected == {}
    with pytest.raises(UserError, match="unknown person 'Eve'"):
        view.select("Ada", "Eve")
    with pytest.raises(UserError, match="unknown metric 'nats'"):
        view.metric = "nats"
    with pytest.raises(UserError, match="3 domains that were forgotten"):
        view.chosen = [3, 0]
    assert repr(view) == "InterferenceView(t by person; Forgetting Ada hurts Bo most: 0.80 nats.)"


def test_names_are_text() -> None:
    html = InterferenceView(made([*HOSTILE[:3]])).to_html()
    Text(html)  # its tags nest
    assert "<script>alert" not in html
    assert "onerror=alert(1)>" not in html.replace("&gt;", "")


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_by_keyboard_and_mouse(chromium: Any, tmp_path: Path, theme: str) -> None:
    page = open_widget(chromium, InterferenceView(made()), tmp_path, theme)
    grid = page.locator(".wb-map-damage")
    grid.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    assert page.evaluate("model.get('chosen')") == [0, 1]
    assert "Ada forgotten, Bo measured" in page.locator(".wb-readout").inner_text()
    assert page.locator("td.wb-chosen").count() == 2  # in both maps
    page.keyboard.press("Enter")
    assert page.evaluate("model.get('chosen')") == []
    page.locator(".wb-map-predicted tbody td").nth(7).click()
    assert page.evaluate("model.get('chosen')") == [1, 2]
    page.evaluate("model.set('detail', '<b id=d>tokens</b>')")
    assert page.locator("#d").inner_text() == "tokens"
    page.get_by_label("facts lost").check()
    assert page.evaluate("model.get('metric')") == "accuracy"
    assert page.messages == []
    page.close()
