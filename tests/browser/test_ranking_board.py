"""The ranking board's page alone: no JupyterLab, no kernel, a model that only remembers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyterlab import browser_page
from playwright.sync_api import Page

from lab.widgets.ranking_board import SCRIPTS, STATIC

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>\u202e**b**'
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="ranking_board.css">
<style>
  body { margin: 20px; background: var(--jp-layout-color1, #fff); }
  body.dark { --jp-ui-font-color1: rgba(255, 255, 255, 0.87); --jp-border-color1: #616161;
    --jp-layout-color1: #212121; --jp-layout-color2: #424242; --jp-brand-color1: #64b5f6; }
</style>
<div id="one"></div><div id="two"></div>
<script type="module">
  import board from "./ranking_board.js";
  const state = { busy: false, done: 2, goal: 8, status: "", alert: false, question: {}, pace: "",
    rater: "me", ask: "random", asking: "", guidelines: "", guess: {}, agreement: "", earlier: [],
    summary: [] };
  const listeners = {};
  window.sent = [];
  window.leaked = [];
  window.model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; (listeners[`change:${name}`] ?? []).forEach((f) => f()); },
    save_changes() { window.saved = { ...state }; },
    send: (content) => window.sent.push(content),
    on: (name, f) => (listeners[name] ??= []).push(f),
    off: (name, f) => { listeners[name] = listeners[name].filter((g) => g !== f); },
  };
  document.addEventListener("keydown", (event) => window.leaked.push(event.key));
  board.render({ model, el: document.getElementById("one") });
  window.second = () => board.render({ model, el: document.getElementById("two") });
</script>"""  # noqa: E501


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with browser_page(chromium, 900, 900) as page:

        def serve(route) -> None:
            name = route.request.url.rsplit("/", 1)[-1]
            if name == "ranking_board.js":
                script = "\n".join((STATIC / part).read_text() for part in SCRIPTS)
                route.fulfill(body=script, content_type="text/javascript")
            elif name == "ranking_board.css":
                route.fulfill(body=(STATIC / name).read_text(), content_type="text/css")
            else:
                route.fulfill(body=PAGE, content_type="text/html")

        page.route("http://127.0.0.1/**", serve)
        page.goto("http://127.0.0.1/")
        page.wait_for_selector(".lab-board")
        yield page


def ask(page: Page, texts: list[str], id: int = 1) -> None:
    question = {"id": id, "prompt": f"Question {id}?", "completions": texts}
    question["tiers"] = [[i] for i in range(len(texts))]
    page.evaluate("(q) => window.model.set('question', q)", question)


def shown(page: Page) -> list[str]:
    return page.locator("#one .lab-text").all_text_contents()


def ranks(page: Page) -> list[str]:
    return page.locator("#one .lab-rank").all_text_contents()


def submitted(page: Page) -> list[list[int]]:
    page.get_by_role("button", name="Submit ranking").first.click()
    return page.evaluate("() => window.sent.at(-1).tiers")


def test_numbers_pressed_best_first_make_the_order(page: Page) -> None:
    ask(page, ["a", "b", "c", "d"])
    page.locator(".lab-card").first.focus()
    for key in "3142":
        page.keyboard.press(key)
    assert shown(page) == ["c", "a", "d", "b"]
    page.keyboard.press("Enter")
    assert page.evaluate("() => window.sent") == [
        {"action": "submit", "question": 1, "tiers": [[2], [0], [3], [1]]}
    ]


def test_a_tie_in_the_middle_of_picking_goes_on_below_it(page: Page) -> None:
    ask(page, ["a", "b", "c", "d"])
    page.locator(".lab-card").first.focus()
    for key in ("4", "2", "t", "3"):
        page.keyboard.press(key)
    assert submitted(page) == [[3, 1], [2], [0]]


def test_a_number_pressed_again_starts_anew(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.locator(".lab-card").first.focus()
    for key in "321":
        page.keyboard.press(key)
    assert shown(page) == ["c", "b", "a"]
    for key in "12":
        page.keyboard.press(key)
    assert submitted(page) == [[0], [1], [2]]


def test_arrows_move_the_focused_card_and_t_ties_it(page: Page) -> None:
    ask(page, ["a", "b", "c", "d"])
    page.locator(".lab-card").first.focus()
    page.keyboard.press("Alt+ArrowDown")
    assert shown(page) == ["b", "a", "c", "d"]
    page.keyboard.press("t")  # a is tied with b
    assert ranks(page) == ["1st", "1st", "3rd", "4th"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("=")  # c as well
    page.keyboard.press("Enter")
    assert page.evaluate("() => window.sent.at(-1).tiers") == [[1, 0, 2], [3]]
    page.keyboard.press("=")  # and on its own again
    assert ranks(page) == ["1st", "1st", "3rd", "4th"]


def test_no_key_reaches_the_notebook(page: Page) -> None:
    ask(page, ["a", "b"])
    page.locator(".lab-card").first.focus()
    for key in ("b", "a", "d", "2", "ArrowDown", "Enter", "x", "Escape"):
        page.keyboard.press(key)
    assert page.evaluate("() => window.leaked") == []


def test_a_card_can_be_dragged(page: Page) -> None:
    ask(page, ["a", "b", "c", "d"])
    first = page.locator(".lab-card").nth(0).bounding_box()
    third = page.locator(".lab-card").nth(2).bounding_box()
    page.mouse.move(first["x"] + 80, first["y"] + 15)
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(first["x"] + 80, first["y"] + 15 + step * (third["y"] - first["y"]) / 9)
    page.mouse.up()
    assert shown(page) == ["b", "c", "a", "d"]
    assert submitted(page) == [[1], [2], [0], [3]]


def test_each_card_has_buttons_for_those_who_cannot_drag(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.get_by_role("button", name="Move down").first.click()
    page.get_by_role("button", name="Tie with above").nth(2).click()
    assert submitted(page) == [[1], [0, 2]]


def test_hostile_text_is_shown_as_text(page: Page) -> None:
    ask(page, [HOSTILE, "x" * 20_000, "\u0007 \ud83d\ude00", "ok"])
    assert shown(page)[0] == HOSTILE
    assert page.locator(".lab-board img, .lab-board script").count() == 0
    assert page.evaluate("() => window.hacked") is None
    assert page.locator(".lab-card").nth(1).bounding_box()["height"] < 300


def test_two_views_of_one_board_agree(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.locator("#one .lab-card").first.focus()
    page.keyboard.press("2")
    page.evaluate("() => window.second()")
    assert page.locator("#two .lab-text").all_text_contents() == ["b", "a", "c"]
    page.locator("#two .lab-card").first.focus()
    page.keyboard.press("3")  # picked in this view, after the one picked in the other
    assert shown(page) == ["b", "c", "a"]
    page.keyboard.press("f")
    page.keyboard.type("odd")
    assert page.locator("#one .lab-note").input_value() == "odd"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert (
        page.locator("#one .lab-help").is_visible() and page.locator("#two .lab-help").is_visible()
    )
    page.keyboard.press("Escape")
    assert page.locator(".lab-help:visible").count() == 0


def test_a_new_question_begins_in_its_own_order_and_keeps_the_focus(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.locator(".lab-card").first.focus()
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    ask(page, ["d", "e", "f"], id=2)
    assert shown(page) == ["d", "e", "f"]
    assert (
        page.evaluate("() => document.activeElement.querySelector('.lab-text').textContent") == "d"
    )


def test_nothing_can_be_sent_while_the_board_is_busy(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.evaluate("() => window.model.set('busy', true)")
    page.locator(".lab-card").first.focus()
    for key in ("Enter", "s", "u"):
        page.keyboard.press(key)
    assert page.evaluate("() => window.sent") == []
    assert page.get_by_role("button", name="Submit ranking").is_disabled()


def test_the_board_in_both_themes(page: Page, shots: Path) -> None:
    ask(
        page, ["A short answer.", "A longer answer, which says a little more.", "Another.", "Last."]
    )
    page.locator(".lab-card").nth(1).focus()
    page.keyboard.press("t")
    page.screenshot(path=shots / "board_light.png")
    page.evaluate("() => document.body.classList.add('dark')")
    page.screenshot(path=shots / "board_dark.png")
    ink = "(e) => getComputedStyle(document.querySelector('.lab-text')).color"
    assert page.evaluate(ink) == "rgba(255, 255, 255, 0.87)"
