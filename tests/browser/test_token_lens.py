"""The token lens's page alone: no JupyterLab, no kernel, a model that only remembers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyterlab import barriers, browser_page
from pages import REMEMBER, STYLE
from playwright.sync_api import Page

from lab.widgets.panel import STATIC
from lab.widgets.scripts import joined
from lab.widgets.token_lens import SCRIPTS

pytestmark = pytest.mark.browser
TEXTS = [
    "I",
    " am",
    '<img src=x onerror="window.hacked = 1">',
    "\u202eabc",
    "",
    "\U0001f600",
    "\n",
    " ",
    "\u05e9\u05dc\u05d5\u05dd",
    " end",
    "<|im_end|>",
]
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>
<link rel="stylesheet" href="token_lens.css">
STYLE_HERE
<main><div id="one"></div><div id="two"></div></main>
<script type="module">
  import lens from "./token_lens.js";
  REMEMBER_HERE
  const state = { record: {}, likely: {}, status: "", alert: false, row: 0, measure: "kl",
    stage: 0, token: 0 };
  window.model = remember(state);
  const model = window.model;
  lens.render({ model, el: document.getElementById("one") });
  window.second = () => lens.render({ model, el: document.getElementById("two") });
</script>""".replace("STYLE_HERE", STYLE).replace("REMEMBER_HERE", REMEMBER)


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with browser_page(chromium, 900, 700) as page:

        def serve(route) -> None:
            name = route.request.url.rsplit("/", 1)[-1]
            if name == "token_lens.js":
                route.fulfill(body=joined(*SCRIPTS), content_type="text/javascript")
            elif name == "token_lens.css":
                route.fulfill(body=(STATIC / name).read_text("utf-8"), content_type="text/css")
            else:
                route.fulfill(body=PAGE, content_type="text/html")

        page.route("http://127.0.0.1/**", serve)
        page.goto("http://127.0.0.1/")
        page.wait_for_selector(".lab-lens", state="attached")
        yield page


def sample(texts: list[str]) -> dict:
    """Numbers that rise from token to token, from negative to positive."""
    n = len(texts)
    rising = [round(i / n - 0.45, 3) for i in range(n)]
    names = ("kl", "values", "advantages", "rewards", "returns")
    return {
        "ids": list(range(n)),
        "texts": texts,
        "logprobs": [-1.0] * n,
        "reference": [-1.0 - x for x in rising],
        **dict.fromkeys(names, rising),
        "log_ratios": [[0.0] * n, rising],
        "clipped": [[0] * n, [0] * (n - 1) + [1]],
    }


def show(page: Page, update: int = 3, texts: list[str] = TEXTS, **changes) -> None:
    record = {
        "update": update,
        "first": 1,
        "last": 5,
        "cliprange": 0.2,
        "clipfrac": [0.0, 0.125],
        "rows": [sample(texts), sample(["another", " one"])],
        "samples": [{"prompt": "<b>Why?</b>", "score": 1.5}, {"prompt": "How?", "score": -1}],
        "scales": dict.fromkeys(("kl", "values", "advantages", "rewards", "returns"), 0.5)
        | {"log_ratios": 0.5},
        **changes,
    }
    page.evaluate("(r) => window.model.set('record', r)", record)


def found(page: Page, row: int = 0, count: int = len(TEXTS)) -> dict:
    """What the kernel finds for a sample."""
    likely = [{"id": 90 + i, "token": f" t{i}", "probability": 0.3 / (i + 1)} for i in range(5)]
    each = [{"logprob": -1.2, "likely": likely}] * count
    return {
        "update": 3,
        "row": row,
        "at": 4,
        "policy": each,
        "reference": each,
        "log_ratios": [-0.2] * count,
        "clipped": [1] + [0] * (count - 1),
    }


def tokens(page: Page) -> list[str]:
    return page.locator("#one .lab-lens-token").all_text_contents()


def line(page: Page) -> str:
    return page.locator("#one .lab-lens-line").text_content()


def focus(page: Page, token: int = 0) -> None:
    page.locator("#one .lab-lens-token").nth(token).click()


def test_hostile_tokens_are_shown_as_text_and_white_space_is_seen(page: Page) -> None:
    show(page)
    shown = tokens(page)
    assert shown[:3] == TEXTS[:3]
    assert shown[3:8] == ["‹U+202E›abc", "▯", "\U0001f600", "⏎", "␣"]
    assert page.locator(".lab-lens img, .lab-lens script, .lab-lens b").count() == 0
    focus(page, 1)
    assert "␣am" in line(page)
    assert page.evaluate("() => window.hacked") is None


def test_arrow_keys_move_from_token_to_token_and_the_numbers_are_read(page: Page) -> None:
    show(page)
    focus(page)
    assert line(page).startswith("Token 1 of 11: I · KL −0.450")
    for key, token in (("ArrowRight", 2), ("End", 11), ("ArrowLeft", 10), ("Home", 1)):
        page.keyboard.press(key)
        assert line(page).startswith(f"Token {token} of 11")
        focused = page.evaluate("() => document.activeElement.dataset.token")
        assert focused == str(token - 1)
    page.keyboard.press("ArrowDown")  # over the line break
    assert int(page.evaluate("() => document.activeElement.dataset.token")) > 6
    page.keyboard.press("ArrowUp")
    assert int(page.evaluate("() => document.activeElement.dataset.token")) < 7
    assert page.locator("#one .lab-lens-line").get_attribute("aria-live") == "polite"
    assert page.evaluate("() => window.leaked") == []
    for key in ("b", "a", "Enter", "x"):
        page.keyboard.press(key)
    assert page.evaluate("() => window.leaked") == []


def test_the_pointer_shows_a_token_and_then_that_of_the_keys_again(page: Page) -> None:
    show(page)
    focus(page)
    page.locator(".lab-lens-token").nth(9).hover()
    assert line(page).startswith("Token 10 of 11: ␣end")
    page.locator(".lab-lens-line").hover()
    assert line(page).startswith("Token 1 of 11")


def test_a_number_has_a_colour_a_line_and_words(page: Page) -> None:
    show(page)
    first, last = page.locator(".lab-lens-token").first, page.locator(".lab-lens-token").last
    style = "(e) => [getComputedStyle(e).borderBottomStyle, getComputedStyle(e).backgroundColor]"
    (dotted, blue), (solid, orange) = first.evaluate(style), last.evaluate(style)
    assert (dotted, solid) == ("dotted", "solid")
    assert blue != orange
    assert "KL to the reference (log-ratio) −0.450" in first.get_attribute("aria-label")
    page.get_by_label("numbers", exact=True).check()
    after = "(e) => getComputedStyle(e, '::after').content"
    assert first.evaluate(after) == '"−0.450"'
    page.get_by_label("shade by").select_option("advantages")
    assert "advantage −0.450" in first.get_attribute("aria-label")


def test_the_moments_of_an_update_show_ratios_and_where_the_clip_binds(page: Page) -> None:
    show(page)
    page.get_by_label("shade by").select_option("ratio")
    last = page.locator(".lab-lens-token").last
    moment, outlined = page.locator(".lab-lens output"), page.locator(".lab-lens-clipped")
    slider = page.locator(".lab-lens input[type=range]")
    assert (moment.text_content(), outlined.count()) == ("before the update", 0)
    assert "1.000" in last.get_attribute("aria-label")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert (moment.text_content(), outlined.count()) == ("epoch 2 of 2", 1)
    assert "1.582, the clip binds" in last.get_attribute("aria-label")
    words = page.locator(".lab-lens-clip-words").text_content()
    assert "epoch 1 0.0 %, epoch 2 12.5 %" in words
    page.keyboard.press("ArrowRight")  # now: the kernel is asked
    assert page.evaluate("() => window.sent") == [{"action": "likely", "row": 0}]
    assert moment.text_content() == "now…"
    page.evaluate("(f) => window.model.set('likely', f)", found(page))
    assert moment.text_content() == "now, after update 4"
    assert "0.819" in last.get_attribute("aria-label")
    assert outlined.count() == 1


def test_alternatives_are_asked_for_once_and_name_the_sampled_token(page: Page) -> None:
    show(page)
    assert page.evaluate("() => window.sent") == [], "nobody has looked yet"
    focus(page)
    page.keyboard.press("ArrowRight")
    page.locator(".lab-lens-token").nth(5).hover()
    assert page.evaluate("() => window.sent") == [{"action": "likely", "row": 0}]
    page.evaluate("(f) => window.model.set('likely', f)", found(page))
    tables = page.locator(".lab-lens-likely")
    assert "policy now, after update 4" in tables.first.text_content()
    assert "reference" in tables.last.text_content()
    rows = tables.first.locator("tr").all_text_contents()
    assert rows[0].startswith("␣t030.0 %")
    assert rows[-1].endswith("30.1 %← sampled"), "it was not among the five"
    page.get_by_label("sample").select_option("1")
    focus(page)
    assert page.evaluate("() => window.sent.at(-1)") == {"action": "likely", "row": 1}


def test_a_sample_and_an_update_can_be_chosen(page: Page) -> None:
    show(page)
    assert page.locator(".lab-lens-prompt").text_content() == "<b>Why?</b>"
    page.get_by_label("sample").select_option("1")
    assert page.locator(".lab-lens-prompt").text_content() == "How?"
    assert tokens(page) == ["another", " one"]
    page.get_by_label("update").fill("9")
    page.get_by_label("update").press("Tab")
    assert page.evaluate("() => window.sent") == [], "there is no such update"
    page.get_by_label("update").fill("2")
    page.get_by_label("update").press("Tab")
    assert page.evaluate("() => window.sent") == [{"action": "show", "update": 2}]


def test_an_update_with_fewer_samples_shows_once_a_sample_of_it_is_chosen(page: Page) -> None:
    """The record comes before the kernel's word on which sample to show."""
    show(page)
    page.get_by_label("sample").select_option("1")
    show(page, update=2, rows=[sample(["only"])], samples=[{"prompt": "Who?", "score": 0}])
    page.evaluate("() => window.model.set('row', 0)")
    assert tokens(page) == ["only"] and page.get_by_label("sample").input_value() == "0"
    assert page.get_by_label("shade by").is_visible()


def test_two_views_of_one_lens_agree(page: Page) -> None:
    show(page)
    page.evaluate("() => window.second()")
    focus(page, 2)
    page.locator("#one").get_by_label("shade by").select_option("values")
    assert "Token 3 of 11" in page.locator("#two .lab-lens-line").text_content()
    assert page.locator("#two select").nth(1).input_value() == "values"
    page.locator("#two").get_by_label("sample").select_option("1")
    assert tokens(page) == ["another", " one"]


def test_without_a_record_there_are_words_and_a_way_to_another_update(page: Page) -> None:
    words = page.locator(".lab-lens-status")
    page.evaluate("() => window.model.set('status', 'ppo-1 has no record of update 2.')")
    page.evaluate("() => window.model.set('record', { update: 2, first: 1, last: 5 })")
    assert words.text_content() == "ppo-1 has no record of update 2."
    assert page.get_by_label("update").is_visible()
    assert not page.locator(".lab-lens-tokens").is_visible()
    show(page)
    assert page.locator(".lab-lens-tokens").is_visible()


def test_a_completion_of_many_tokens_stays_in_its_box(page: Page) -> None:
    show(page, texts=[f" token{i}" for i in range(600)])
    assert page.locator(".lab-lens-tokens").bounding_box()["height"] < 500
    focus(page)
    page.keyboard.press("End")
    assert line(page).startswith("Token 600 of 600")


def test_a_record_without_values_has_no_such_shade(page: Page) -> None:
    rows = [sample(["a", "b"])]
    for name in ("values", "rewards", "returns"):
        del rows[0][name]
    page.evaluate("() => window.model.set('measure', 'values')")
    show(page, rows=rows, samples=[{"prompt": "p", "score": 0}])
    assert page.locator("select").nth(1).locator("option").count() == 3
    assert page.locator("select").nth(1).input_value() == "kl"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_lens_in_both_themes(page: Page, shots: Path, theme: str) -> None:
    if theme == "dark":
        page.evaluate("() => document.body.classList.add('dark')")
        page.evaluate("() => document.body.setAttribute('data-jp-theme-light', 'false')")
    show(page)
    page.evaluate("(f) => window.model.set('likely', f)", found(page))
    page.evaluate("() => window.model.set('stage', 2)")
    focus(page, 1)
    page.get_by_label("numbers", exact=True).check()
    page.screenshot(path=shots / f"lens_{theme}.png")
    assert barriers(page, ".lab-lens") == []
