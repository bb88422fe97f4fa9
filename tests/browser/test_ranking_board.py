"""The ranking board's page alone: no JupyterLab, no kernel, a model that only remembers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyterlab import barriers, browser_page
from pages import REMEMBER, STYLE
from playwright.sync_api import Page

from lab.widgets.panel import STATIC
from lab.widgets.ranking_view import SCRIPTS
from lab.widgets.scripts import joined

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>\u202e**b**'
PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="ranking_board.css">
STYLE_HERE
<div id="one"></div><div id="two"></div>
<script type="module">
  import board from "./ranking_board.js";
  REMEMBER_HERE
  const state = { busy: false, done: 2, goal: 8, status: "", alert: false, question: {}, pace: "",
    rater: "me", ask: "random", asking: "", guidelines: "", guess: {}, agreement: "", earlier: [],
    summary: [] };
  window.model = remember(state);
  const model = window.model;
  board.render({ model, el: document.getElementById("one") });
  window.second = () => board.render({ model, el: document.getElementById("two") });
</script>""".replace("STYLE_HERE", STYLE).replace("REMEMBER_HERE", REMEMBER)


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with browser_page(chromium, 900, 900) as page:

        def serve(route) -> None:
            name = route.request.url.rsplit("/", 1)[-1]
            if name == "ranking_board.js":
                route.fulfill(body=joined(*SCRIPTS), content_type="text/javascript")
            elif name == "ranking_board.css":
                route.fulfill(body=(STATIC / name).read_text(), content_type="text/css")
            else:
                route.fulfill(body=PAGE, content_type="text/html")

        page.route("http://127.0.0.1/**", serve)
        page.goto("http://127.0.0.1/")
        page.wait_for_selector(".lab-board")
        yield page


def ask(page: Page, texts: list[str], id: int = 1, **more) -> None:
    question = {"id": id, "prompt": f"Question {id}?", "completions": texts}
    question["tiers"] = [[i] for i in range(len(texts))]
    put(page, "question", question | {"note": None, "edits": False, "ranked": False, **more})


def put(page: Page, name: str, value) -> None:
    """What the kernel would say."""
    page.evaluate("([name, value]) => window.model.set(name, value)", [name, value])


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def sent(page: Page) -> list[dict]:
    return page.evaluate("() => window.sent")


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


def test_two_cards_stand_side_by_side_and_one_key_answers(page: Page) -> None:
    ask(page, ["left", "right"])
    left, right = (page.locator(".lab-card").nth(i).bounding_box() for i in (0, 1))
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"]
    page.locator(".lab-card").first.focus()
    press(page, "a", "b", "1", "2", "t", "x", "B", "Enter")
    page.get_by_role("button", name="B is better").click()
    page.get_by_role("button", name="Tie", exact=True).click()
    a, b, tie = [[0], [1]], [[1], [0]], [[0, 1]]
    assert [m["tiers"] for m in sent(page)] == [a, b, a, b, tie, tie, b, b, tie]
    assert [i for i, m in enumerate(sent(page)) if m.get("all_bad")] == [5]
    assert not page.get_by_role("button", name="Submit ranking").is_visible()


def test_all_bad_is_one_tier_whatever_the_order(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.locator(".lab-card").first.focus()
    press(page, "3", "x")
    page.get_by_role("button", name="All bad").click()
    expected = {"action": "submit", "question": 1, "tiers": [[0, 1, 2]], "all_bad": True}
    assert sent(page) == [expected, expected]


def test_a_flag_brings_a_note_that_goes_with_the_answer(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.locator(".lab-card").first.focus()
    press(page, "f")
    page.keyboard.type("3 stars? just submit")  # keys in the note are text
    press(page, "Enter")  # and Enter goes back to the cards
    assert shown(page) == ["a", "b", "c"] and sent(page) == []
    press(page, "s")
    assert sent(page) == [{"action": "skip", "question": 1, "note": "3 stars? just submit"}]
    ask(page, ["d", "e", "f"], id=2)
    assert not page.locator(".lab-note").is_visible()
    press(page, "f", "Escape", "f", "Enter")  # flagged without words, and unflagged again
    assert "note" not in sent(page)[-1]


def test_help_opens_with_a_key_and_gives_the_focus_back(page: Page) -> None:
    ask(page, ["a", "b", "c", "d"])
    page.locator(".lab-card").nth(1).focus()
    press(page, "?")
    dialog = page.get_by_role("dialog")
    assert "order of preference" in dialog.text_content()
    assert page.evaluate("() => document.activeElement.closest('[role=dialog]') !== null")
    press(page, "Escape")
    assert not dialog.is_visible()
    assert page.evaluate("() => document.activeElement.dataset.card") == "1"
    page.get_by_role("button", name="Help", exact=True).click()
    dialog.get_by_role("button").click()
    assert page.evaluate("() => document.activeElement.textContent") == "?"
    assert page.evaluate("() => window.leaked") == []


def test_an_earlier_ranking_is_chosen_from_a_list_and_changed(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.locator(".lab-card").first.focus()
    press(page, "e")
    assert sent(page) == [{"action": "earlier"}]
    rows = [{"id": 7, "prompt": HOSTILE, "marks": ["flagged: " + HOSTILE], "created": 1e9}]
    put(page, "earlier", rows)
    page.locator(".lab-entry").click()
    assert sent(page)[-1] == {"action": "edit", "ranking": 7}
    assert not page.get_by_role("region", name="Earlier rankings").is_visible()
    ask(page, ["d", "e", "f"], id=2, tiers=[[2], [0, 1]], note="odd", edits=True, ranked=True)
    assert shown(page) == ["f", "d", "e"] and ranks(page) == ["1st", "2nd", "2nd"]
    assert page.locator(".lab-note").input_value() == "odd"
    assert page.locator(".lab-notice").is_visible()
    press(page, "1")
    page.get_by_role("button", name="Replace ranking").click()
    assert sent(page)[-1]["tiers"] == [[0], [2], [1]] and sent(page)[-1]["note"] == "odd"
    press(page, "Escape")
    assert sent(page)[-1] == {"action": "undo", "question": 2}
    assert page.evaluate("() => window.hacked") is None


def test_an_open_question_keeps_its_order_while_an_earlier_one_is_changed(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.locator(".lab-card").first.focus()
    press(page, "3")
    ask(page, ["d", "e", "f"], id=2, edits=True)
    press(page, "2")
    ask(page, ["a", "b", "c"])
    assert shown(page) == ["c", "a", "b"]


def test_the_guess_shows_texts_and_ranks_as_text(page: Page) -> None:
    assert not page.locator(".lab-guess").is_visible()
    rows = [[1, 2, HOSTILE], [2, 1, "b"], [3, 3, "c"]]
    put(page, "agreement", "So far it was right on 0.70")
    put(page, "guess", {"words": "2 of 3 pairs", "rows": rows, "policy": "ppo-1@5"})
    strip = page.get_by_role("region", name="The reward model's guess")
    cells = strip.locator("tbody tr").first.locator("td").all_text_contents()
    assert cells == ["1", "2", HOSTILE]
    assert "0.70" in strip.text_content() and "ppo-1@5" in strip.text_content()
    assert strip.locator(".lab-agreed").count() == 1
    put(page, "guess", {})
    assert not strip.is_visible() and page.evaluate("() => window.hacked") is None


def test_guidelines_are_edited_on_the_board(page: Page) -> None:
    put(page, "guidelines", HOSTILE)
    page.get_by_role("button", name="Guidelines", exact=True).click()
    aside = page.get_by_role("complementary", name="Guidelines")
    assert aside.locator(".lab-guidelines-text").text_content() == HOSTILE
    aside.get_by_role("button", name="Edit guidelines").click()
    field = aside.get_by_label("Guidelines for raters")
    assert field.input_value() == HOSTILE
    field.fill("Be kind.")
    press(page, "Escape")
    assert aside.locator(".lab-guidelines-text").text_content() == HOSTILE
    press(page, "Enter")  # the focus is on Edit again
    field.fill("Be kind.")
    press(page, "Control+Enter")
    assert page.evaluate("() => window.saved.guidelines") == "Be kind."
    assert aside.locator(".lab-guidelines-text").text_content() == "Be kind."
    assert page.evaluate("() => window.hacked") is None


def test_the_rater_and_what_to_ask_are_set_on_the_board(page: Page) -> None:
    ask(page, ["a", "b", "c"])
    page.get_by_label("Rater", exact=True).fill("Ada s2")
    press(page, "Enter")
    assert page.evaluate("() => window.saved.rater") == "Ada s2" and sent(page) == []
    page.get_by_label("Next question").select_option("unsure")
    assert page.evaluate("() => window.saved.ask") == "unsure"
    put(page, "asking", "30% of the questions")
    assert page.get_by_text("30% of the questions").is_visible()


def test_two_views_unfold_together(page: Page) -> None:
    page.evaluate("() => window.second()")
    put(page, "guidelines", "Be kind.")
    page.locator("#one").get_by_role("button", name="Guidelines", exact=True).click()
    page.locator("#two").get_by_role("button", name="Edit guidelines").click()
    for view in ("#one", "#two"):
        assert page.locator(view).get_by_label("Guidelines for raters").is_visible()
    page.locator("#one").get_by_role("button", name="Earlier rankings").click()
    assert page.locator("#two .lab-earlier").is_visible()


def fill_all(page: Page) -> None:
    """Everything that the board can show at once."""
    ask(page, ["A short one.", "A longer one, which says a little more.", "Another.", "x " * 900])
    put(page, "guidelines", "Prefer the answer that helps.")
    put(page, "pace", "about 12 s each")
    put(page, "agreement", "So far it was right on 0.70 [0.55, 0.82] of 40 pairs.")
    rows = [[1, 2, "One"], [2, 1, "Two"], [3, 3, "Three"], [4, 4, "Four"]]
    put(page, "guess", {"words": "5 of 6 pairs", "rows": rows, "policy": "reference"})
    put(page, "summary", ["You gave 8 rankings.", "A ranking took 12 s (median)."])
    put(page, "earlier", [{"id": 1, "prompt": "A?", "marks": ["skipped"], "created": 1e9}])
    put(page, "unfolded", {"guidelines": True, "earlier": True})
    page.locator(".lab-card").nth(1).focus()
    press(page, "2", "4", "t", "f", "Escape")


def test_the_board_in_both_themes_has_no_barriers(page: Page, shots: Path) -> None:
    fill_all(page)
    for theme in ("light", "dark"):
        page.evaluate("(t) => document.body.classList.toggle('dark', t === 'dark')", theme)
        put(page, "unfolded", {"guidelines": True, "earlier": True})
        page.screenshot(path=shots / f"board_{theme}.png", full_page=True)
        assert barriers(page, ".lab-board") == []
        put(page, "unfolded", {"help": True, "guidelines": True, "writing": True})
        assert barriers(page, ".lab-board") == []
        ask(page, ["This one.", "That one."], id=2)
        page.screenshot(path=shots / f"board_two_{theme}.png")
        assert barriers(page, ".lab-board") == []
        fill_all(page)
    ink = "(e) => getComputedStyle(document.querySelector('.lab-text')).color"
    assert page.evaluate(ink) == "rgba(255, 255, 255, 0.87)"
