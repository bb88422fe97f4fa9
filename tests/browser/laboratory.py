"""A study in the real JupyterLab: a notebook that opens it, and hands to work its instruments."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jupyterlab import Notebook, browser_page, jupyterlab, open_notebook, write_notebook
from playwright.sync_api import Page

NAME = "study.ipynb"
OPEN = """import lab
study = lab.Experiment("s", {model!r}, prompts={prompts!r}, max_new_tokens=8, progress=False)"""
RANK_SOME = "study.session().simulate(lambda prompt, text: -len(text), {count})"


@dataclass
class Laboratory:
    """A notebook in JupyterLab, the page it is open in, and where its study is."""

    notebook: Notebook
    page: Page
    address: str
    folder: Path
    errors: list[str]

    def rows(self, sql: str) -> list[tuple]:
        """What the study's store holds."""
        with sqlite3.connect(self.folder / "preferences.sqlite") as db:
            found = db.execute(sql).fetchall()
        db.close()
        return found

    def tiers(self) -> list[list[list[int]]]:
        """Rankings that stand, in places on screen, oldest first."""
        sql = "SELECT tiers, shown FROM rankings WHERE undone IS NULL AND tiers != 'null'"
        found = []
        for tiers, shown in self.rows(f"{sql} ORDER BY id"):
            place = {c: i for i, c in enumerate(json.loads(shown))}
            found.append([[place[c] for c in tier] for tier in json.loads(tiers)])
        return found

    def hacked(self) -> bool:
        """Whether text of a model ran as code."""
        return self.page.evaluate("() => window.hacked !== undefined")

    def says(self, text: str, timeout: float = 60) -> None:
        """Wait until a line of status begins with a text."""
        self.page.wait_for_function(
            """(text) => [...document.querySelectorAll('[role=status], [role=alert]')]
                 .some((e) => e.textContent.startsWith(text))""",
            arg=text,
            timeout=timeout * 1e3,
        )

    def asked(self, old: str | None = None) -> str:
        """Wait for a question on the board, another than `old`; its prompt."""
        self.page.wait_for_function(
            """(old) => {
              const board = document.querySelector('.lab-board');
              return board?.getAttribute('aria-busy') === 'false'
                && board.querySelector('.lab-card')
                && board.querySelector('.lab-prompt').textContent !== old;
            }""",
            arg=old,
            timeout=60_000,
        )
        return self.page.locator(".lab-prompt").first.text_content()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


@contextmanager
def laboratory(
    tmp_path: Path,
    chromium: str,
    model: str,
    cells: Sequence[str],
    prompts: Sequence[str] | None = None,
    rankings: int = 0,
    opening: str | None = None,
) -> Iterator[Laboratory]:
    """JupyterLab with a notebook whose first cell opens a study; it has been run. `opening` takes
    the place of that cell."""
    folders = {name: tmp_path / name for name in ("root", "runs", "scratch")}
    for folder in folders.values():
        folder.mkdir()
    prompts = prompts or [f"Tell me about thing {i}." for i in range(40)]
    first = OPEN.format(model=model, prompts=list(prompts))
    if rankings:
        first += "\n" + RANK_SOME.format(count=rankings)
    write_notebook(folders["root"] / NAME, [opening or first, *cells])
    environment = {"LAB_RUNS": str(folders["runs"]), "LAB_RATER": ""}
    with (
        jupyterlab(folders["root"], folders["scratch"], **environment) as address,
        browser_page(chromium) as page,
    ):
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        notebook = open_notebook(page, address, NAME)
        notebook.run(0)
        yield Laboratory(notebook, page, address, folders["runs"] / "s", errors)
        assert errors == []
