"""The compare panel's pages alone: no JupyterLab, no kernel, models that only remember."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from jupyterlab import barriers, browser_page
from pages import REMEMBER, STYLE
from playwright.sync_api import Page

from lab.widgets.panel import STATIC
from lab.widgets.scripts import joined

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>**b** [a](b)'
LONG = "word " * 4000
HEBREW = "שלום, מה שלומך 😀😀 היום"
PAGE = """<!doctype html><meta charset="utf-8"><title>compare</title>
<link rel="stylesheet" href="panel.css"><link rel="stylesheet" href="panel_compare.css">
STYLE_HERE
<main class="lab-panel lab-compare-panel"><div id="columns"></div><div id="blind"></div></main>
<script type="module">
  import columns from "./answer_columns.js";
  import blind from "./blind_board.js";
  REMEMBER_HERE
  window.columns = remember({ prompt: "", columns: [] });
  window.blind = remember({ question: {}, started: true, busy: false, status: "", alert: false });
  columns.render({ model: window.columns, el: document.getElementById("columns") });
  blind.render({ model: window.blind, el: document.getElementById("blind") });
  window.ready = true;
</script>""".replace("STYLE_HERE", STYLE).replace("REMEMBER_HERE", REMEMBER)


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with browser_page(chromium, 900, 1100) as page:

        def serve(route) -> None:
            name = route.request.url.rsplit("/", 1)[-1]
            if name.endswith(".js"):
                script = joined("compare_parts.js", name)
                route.fulfill(body=script, content_type="text/javascript")
            elif name.endswith(".css"):
                route.fulfill(body=(STATIC / name).read_text("utf-8"), content_type="text/css")
            else:
                route.fulfill(body=PAGE, content_type="text/html")

        page.route("http://127.0.0.1/**", serve)
        page.goto("http://127.0.0.1/")
        page.wait_for_function("window.ready")
        yield page


def put(page: Page, model: str, **state) -> None:
    """What the kernel would say."""
    for name, value in state.items():
        page.evaluate("([m, name, value]) => window[m].set(name, value)", [model, name, value])


def column(title: str, *answers: dict) -> dict:
    rows = [{"text": "", "same": None, "under": "", "writing": False} | a for a in answers]
    return {"title": title, "note": "", "answers": rows}


def duel(page: Page, id: int = 1, a: str = "one", b: str = "two") -> None:
    put(page, "blind", question={"id": id, "prompt": "Which?", "a": a, "b": b})


# Columns


def test_where_an_answer_parts_stands_a_mark_also_after_letters_of_two_units(page) -> None:
    first, other = column("reference", {"text": HEBREW}), column("ppo-1@2", {"text": HEBREW})
    other["answers"][0]["same"] = HEBREW.index("היום")
    put(page, "columns", columns=[first, other])
    said = page.get_by_role("region", name="ppo-1@2").locator(".lab-said")
    assert said.locator(".lab-parted").inner_text() == "היום"
    mark = page.get_by_role("img", name="here it parts from the first column")
    assert mark.count() == 1 and mark.inner_text() == "▸"
    assert said.evaluate("(e) => getComputedStyle(e).direction") == "rtl"


def test_a_text_grows_in_its_card(page) -> None:
    put(page, "columns", columns=[column("reference", {"text": "one", "writing": True})])
    page.evaluate("window.card = document.querySelector('.lab-answer')")
    put(page, "columns", columns=[column("reference", {"text": "one two", "writing": True})])
    assert page.locator(".lab-said").first.inner_text() == "one two"
    assert page.evaluate("window.card.isConnected"), "the card is filled, not made anew"


def test_hostile_and_long_text_is_text_and_scrolls_by_keys(page) -> None:
    answers = [{"text": HOSTILE, "under": HOSTILE}, {"text": LONG}]
    put(page, "columns", prompt=LONG, columns=[column(HOSTILE, *answers)])
    duel(page, 1, HOSTILE, LONG)
    put(page, "blind", status=HOSTILE)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0
    assert page.locator(".lab-said").first.inner_text() == HOSTILE
    for said in (
        page.locator(".lab-answer .lab-said").nth(1),
        page.locator(".lab-side .lab-said").nth(1),
    ):
        assert said.bounding_box()["height"] < 300
        said.focus()
        page.keyboard.press("End")
        page.wait_for_function("document.activeElement.scrollTop > 100")


# Blind votes


def test_keys_and_buttons_vote_on_the_question_that_shows(page) -> None:
    duel(page, 7)
    page.locator(".lab-blind").focus()
    for key in "abtx":
        page.keyboard.press(key)
    page.keyboard.press("u")
    page.get_by_role("button", name="B is better").click()
    votes = [{"action": "vote", "winner": w, "question": 7} for w in ("a", "b", "tie", "bad")]
    assert page.evaluate("window.sent") == [*votes, {"action": "undo", "question": 7}, votes[1]]
    assert page.evaluate("window.leaked") == [], "JupyterLab would insert a cell"


def test_no_vote_while_busy_or_without_a_question(page) -> None:
    page.locator(".lab-blind").focus()
    page.keyboard.press("a")
    duel(page)
    put(page, "blind", busy=True)
    page.keyboard.press("a")
    page.keyboard.press("Control+a")
    assert page.evaluate("window.sent") == []
    assert page.get_by_role("button", name="A is better").is_disabled()


def test_focus_stays_on_the_board_when_its_button_is_switched_off(page) -> None:
    duel(page)
    page.get_by_role("button", name="Tie").focus()
    page.keyboard.press("Enter")
    put(page, "blind", busy=True)
    assert page.evaluate("document.activeElement.className") == "lab-blind"
    duel(page, 2)
    put(page, "blind", busy=False)
    page.keyboard.press("x")
    assert page.evaluate("window.sent.at(-1)") == {"action": "vote", "winner": "bad", "question": 2}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_stands_in_the_way(page, theme, shots) -> None:
    page.evaluate("(theme) => document.body.className = theme", theme)
    answers = [{"text": LONG, "under": "score +0.31"}, {"text": HEBREW, "same": 4}]
    columns = [column("reference", *answers), column("aligned: ppo-1@2", *answers)]
    put(page, "columns", prompt=LONG, columns=columns)
    duel(page, 1, LONG, "")
    put(page, "blind", status="Something failed.", alert=True)
    page.screenshot(path=shots / f"compare_{theme}.png")
    assert barriers(page, "main") == []
