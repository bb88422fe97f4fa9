"""Ranking in the real JupyterLab: by keyboard alone, by drag, in two tabs."""

from __future__ import annotations

import json

import pytest
from laboratory import NAME, laboratory

pytestmark = pytest.mark.browser
PLAIN = [[1], [0], [3], [2]]
RANKINGS = 20


def test_twenty_rankings_by_keyboard_leave_exactly_their_rows(tmp_path, chromium, model) -> None:
    with laboratory(tmp_path, chromium, model, ["study.rank(rankings=20)"]) as lab:
        lab.notebook.run(1)
        cells = lab.page.locator(".jp-Cell").count()
        prompt = lab.asked()
        lab.page.locator(".lab-card").first.focus()
        expected, bad = [], []
        for i in range(RANKINGS):
            if i == 7:
                lab.press("s")  # this prompt stays unjudged
                prompt = lab.asked(prompt)
            if i == 9:
                lab.press("4", "3", "2", "1", "Enter")
                lab.asked(prompt)
                lab.press("u")  # and is taken back: the same question again
                lab.page.wait_for_function(
                    "(old) => document.querySelector('.lab-prompt').textContent === old", arg=prompt
                )
            if i % 5 == 1:
                lab.press("3", "1", "t", "2", "4", "Enter")
                expected.append([[2, 0], [1], [3]])
            elif i % 5 == 3:
                lab.press("x")
                expected.append([[0, 1, 2, 3]])
                bad.append(i)
            else:
                lab.press("2", "1", "4", "3", "Enter")
                expected.append(PLAIN)
            prompt = lab.asked(prompt)
        lab.press("e")  # the newest ranking once more
        lab.page.locator(".lab-entry").first.wait_for()
        lab.page.locator(".lab-entry").first.focus()
        lab.press("Enter")
        lab.page.wait_for_function(
            "(old) => document.querySelector('.lab-prompt').textContent !== old", arg=prompt
        )
        lab.page.locator(".lab-card").first.focus()
        lab.press("4", "3", "2", "1", "Enter")
        lab.page.wait_for_function(
            "(old) => document.querySelector('.lab-prompt').textContent === old", arg=prompt
        )
        expected[-1] = [[3], [2], [1], [0]]
        assert lab.tiers() == expected
        standing = "FROM rankings WHERE undone IS NULL"
        assert len(lab.rows(f"SELECT id {standing} AND tiers = 'null'")) == 1
        assert len(lab.rows(f"SELECT id {standing} AND all_bad = 1")) == len(bad)
        edits = lab.rows(f"SELECT edits, predicted {standing} AND edits IS NOT NULL")
        [(edited, predicted)] = edits
        [(first,)] = lab.rows(f"SELECT predicted FROM rankings WHERE id = {edited}")
        assert json.loads(predicted) == json.loads(first)
        assert len(lab.rows("SELECT id FROM rankings WHERE undone IS NOT NULL")) == 2
        assert lab.page.locator(".jp-Cell").count() == cells, "a key reached JupyterLab"


def test_dragging_leaves_the_same_rows_as_keys(tmp_path, chromium, model) -> None:
    with laboratory(tmp_path, chromium, model, ["study.rank(rankings=3)"]) as lab:
        lab.notebook.run(1)
        prompt = lab.asked()
        for _ in range(3):
            for moved, to in ((0, 1), (2, 3)):  # as 2 1 4 3
                cards = lab.page.locator(".lab-card")
                cards.nth(to).scroll_into_view_if_needed()
                start, end = cards.nth(moved).bounding_box(), cards.nth(to).bounding_box()
                x, y = start["x"] + 60, start["y"] + start["height"] / 2
                lab.page.mouse.move(x, y)
                lab.page.mouse.down()
                lab.page.mouse.move(x, end["y"] + 0.9 * end["height"], steps=8)
                lab.page.mouse.up()
            lab.page.get_by_role("button", name="Submit ranking").click()
            prompt = lab.asked(prompt)
        assert lab.tiers() == [PLAIN] * 3


def test_two_tabs_a_closed_one_and_a_board_shown_twice_agree(tmp_path, chromium, model) -> None:
    cells = ["board = study.rank(rankings=9)\nboard", "board"]
    with laboratory(tmp_path, chromium, model, cells) as lab:
        lab.notebook.run(1)
        lab.notebook.run(2)
        prompt = lab.asked()
        prompts = lab.page.locator(".lab-prompt")
        assert prompts.count() == 2
        lab.page.locator(".lab-card").first.focus()
        lab.press("2", "1")
        assert prompts.all_text_contents() == [prompt] * 2
        labels = lab.page.locator(".lab-board").nth(1).locator(".lab-label").all_text_contents()
        assert labels == ["2", "1", "3", "4"]
        lab.press("4", "3", "Enter")
        prompt = lab.asked(prompt)
        lab.page.wait_for_timeout(300)
        assert prompts.all_text_contents() == [prompt] * 2

        lab.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        other = lab.page.context.new_page()
        other.goto(f"{lab.address}/lab/workspaces/other/tree/{NAME}")
        other.wait_for_selector(".lab-card", timeout=60_000)
        assert other.locator(".lab-prompt").first.text_content() == prompt
        other.locator(".lab-card").first.focus()
        for key in ("2", "1", "4", "3", "Enter"):
            other.keyboard.press(key)
        prompt = lab.asked(prompt)  # the first tab moves on with it
        assert lab.tiers() == [PLAIN] * 2
        other.close()

        lab.page.reload()
        lab.page.wait_for_selector(".lab-card", timeout=60_000)
        assert lab.asked() == prompt
        lab.page.locator(".lab-card").first.focus()
        lab.press("2", "1", "4", "3", "Enter")
        lab.asked(prompt)
        assert lab.tiers() == [PLAIN] * 3
