"""The first notebook as a person meets it: in the real JupyterLab, ranked by keyboard alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from jupyterlab import browser_page, jupyterlab, kernel_pid, open_notebook

pytestmark = [pytest.mark.browser, pytest.mark.model]
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
RANKINGS = 8


def stored_rankings(runs: Path) -> list[list[list[int]]]:
    """Tiers of the rankings on disk, in places on screen."""
    with sqlite3.connect(runs / "first" / "preferences.sqlite") as db:
        rows = db.execute(
            "SELECT tiers, shown FROM rankings WHERE undone IS NULL AND tiers != 'null' ORDER BY id"
        ).fetchall()
    found = []
    for tiers, shown in rows:
        place = {c: i for i, c in enumerate(json.loads(shown))}
        found.append([[place[c] for c in tier] for tier in json.loads(tiers)])
    return found


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Notebook root, runs and scratch of one test."""
    root, runs, scratch = (tmp_path / name for name in ("root", "runs", "scratch"))
    for folder in (root, runs, scratch):
        folder.mkdir()
    shutil.copy(NOTEBOOK, root)
    return root, runs, scratch


def test_a_newcomer_aligns_the_model_by_keyboard(folders, chromium: str, shots: Path) -> None:
    root, runs, scratch = folders
    environment = {"LAB_RUNS": str(runs), "LAB_RATER": ""}
    with jupyterlab(root, scratch, **environment) as address, browser_page(chromium) as page:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        notebook = open_notebook(page, address, NOTEBOOK.name)
        notebook.run(notebook.code_cell("lab.Experiment"))
        cells = page.locator(".jp-Cell").count()

        # Rank: numbers best first, a tie, Enter; the reward panel is open below meanwhile.
        notebook.run(notebook.code_cell("study.rank("))
        notebook.run(notebook.code_cell("study.reward()"))
        first = page.locator(".lab-card").first
        first.wait_for(timeout=90_000)
        first.focus()
        asked: list[float] = []
        plotted: list[float] = []
        for i in range(RANKINGS):
            page.wait_for_selector(".lab-board[aria-busy=false] .lab-card", timeout=60_000)
            prompt = page.locator(".lab-prompt").text_content()
            for card in "234":  # best first, so that card 1 stays behind them
                page.keyboard.press(card)
                if i % 2 and card == "4":
                    page.keyboard.press("t")  # the last one picked is tied with the one above
            if i == 0:
                page.screenshot(path=shots / "ranking_board.png")
            start = time.perf_counter()
            page.keyboard.press("Enter")
            page.wait_for_function(
                "(old) => document.querySelector('.lab-prompt').textContent !== old",
                arg=prompt,
                timeout=60_000,
            )
            page.wait_for_selector(".lab-board[aria-busy=false]", timeout=60_000)
            asked.append(time.perf_counter() - start)
            while len(notebook.points("predicted before each ranking")) < i:
                assert time.perf_counter() - start < 60, "a ranking was not plotted"
                page.wait_for_timeout(20)
            plotted.append(time.perf_counter() - start)
        page.wait_for_function(
            "(n) => document.querySelector('.lab-count').textContent.startsWith(n)",
            arg=str(RANKINGS),
        )
        kept = stored_rankings(runs)
        assert kept == [[[1], [2], [3], [0]], [[1], [2, 3], [0]]] * 4
        assert page.locator(".jp-Cell").count() == cells, "a key reached JupyterLab"
        print(f"next question after {sorted(asked)[RANKINGS // 2]:.2f} s (median), refitted and")
        print(f"plotted after {sorted(plotted)[RANKINGS // 2]:.2f} s, at most {max(plotted):.2f} s")
        assert len(notebook.points("predicted before each ranking")) == RANKINGS - 1
        page.locator(".js-plotly-plot").first.scroll_into_view_if_needed()
        page.screenshot(path=shots / "reward_panel.png")

        # PPO: three steps, three points; a click on Pause is answered while an update runs.
        notebook.run(notebook.code_cell("study.ppo()"))
        step = page.get_by_role("button", name="Step", exact=True)
        page.get_by_text("Press Step for one update").wait_for(timeout=180_000)
        for updates in (1, 2, 3):
            step.click()
            page.wait_for_function(
                "(n) => [...document.querySelectorAll('[role=status]')]"
                ".some((e) => e.textContent.startsWith(`Update ${n}:`)"
                " && !e.textContent.includes('saving'))",
                arg=updates,
                timeout=90_000,
            )
        page.wait_for_timeout(500)
        assert len(notebook.points("score of the reward model")) == 3
        assert len(notebook.points("KL to the reference")) == 3
        page.get_by_role("button", name="Run", exact=True).click()
        page.wait_for_timeout(3_000)
        start = time.perf_counter()
        page.get_by_role("button", name="Pause", exact=True).click()
        page.get_by_text("Pausing after this update").wait_for(timeout=10_000)
        answered = time.perf_counter() - start
        print(f"Pause answered in {answered:.3f} s")
        assert answered < 1.0  # a person's limit; the figure itself is printed
        page.wait_for_timeout(12_000)
        page.get_by_role("button", name="Step", exact=True).scroll_into_view_if_needed()
        page.screenshot(path=shots / "training_panel.png")

        # Reference and aligned side by side.
        notebook.run(notebook.code_cell("study.compare()"))
        page.get_by_role("button", name="Compare", exact=True).click()
        page.get_by_role("region", name="reference").wait_for(timeout=90_000)
        page.locator("section[aria-label^=aligned]").wait_for()
        page.get_by_role("button", name="Compare", exact=True).scroll_into_view_if_needed()
        page.screenshot(path=shots / "compare_panel.png")
        assert errors == []

        os.kill(kernel_pid(notebook.kernel_id()), signal.SIGKILL)
        assert len(stored_rankings(runs)) == RANKINGS
