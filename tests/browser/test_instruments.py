"""Every instrument in the real JupyterLab: hostile text, barriers to access, both themes, going
back in time."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import HOSTILE, save_tiny_model
from jupyterlab import barriers, set_theme
from laboratory import Laboratory, laboratory

pytestmark = pytest.mark.browser
PROMPTS = [f"{word} {i}" for i, word in enumerate(HOSTILE * 3)] + ["a\ud83db?"]
CELLS = {
    "rank": "study.rank(rankings=12)",
    "rank two": "study.rank(rankings=20, k=2)",
    "reward": "study.reward()",
    "train": "study.ppo(batch_size=4)",
    "compare": "study.compare()",
    "app": "study.app()",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> str:
    """A model whose words mean harm."""
    return str(save_tiny_model(tmp_path_factory.mktemp("hostile"), hostile=True))


def looked_at(lab: Laboratory, cell: int, name: str, shots: Path) -> None:
    """No barrier in either theme, nothing ran as code; a picture of each."""
    output = lab.page.locator(".jp-Cell").nth(cell).locator(".jp-OutputArea-output").first
    lab.page.evaluate(
        """(cell) => {
          document.querySelectorAll('[data-looked-at]').forEach((e) => delete e.dataset.lookedAt);
          const output = document.querySelectorAll('.jp-Cell')[cell];
          output.querySelector('.jp-OutputArea-output').dataset.lookedAt = 'now';
        }""",
        cell,
    )
    for theme in ("light", "dark"):
        set_theme(lab.page, theme)
        output.scroll_into_view_if_needed()
        output.screenshot(path=shots / f"{name}_{theme}.png")
        assert barriers(lab.page, "[data-looked-at]") == [], f"{name}, {theme}"
    assert not lab.hacked(), name
    assert output.locator("script, img").count() == 0


def test_hostile_text_is_text_and_nothing_bars_the_way(tmp_path, chromium, hostile, shots) -> None:
    cells = list(CELLS.values())
    with laboratory(tmp_path, chromium, hostile, cells, PROMPTS, rankings=10) as lab:
        page = lab.page

        def run(name: str) -> int:
            cell = list(CELLS).index(name) + 1
            lab.notebook.run(cell)
            return cell

        cell = run("rank")
        prompt = lab.asked()
        page.locator(".lab-board [aria-label='Rater']").fill(HOSTILE[0])
        page.locator(".lab-board [aria-label='Rater']").press("Enter")
        page.wait_for_timeout(500)
        prompt = lab.asked()
        page.locator(".lab-card").first.focus()
        lab.press("2", "1", "4", "3", "Enter")
        prompt = lab.asked(prompt)
        page.locator(".lab-guess:not([hidden])").wait_for()
        page.locator(".lab-card").first.focus()
        lab.press("g", "e")
        page.locator(".lab-entry").first.wait_for()
        looked_at(lab, cell, "ranking_board_open", shots)
        lab.press("g", "e", "?")
        looked_at(lab, cell, "ranking_board_help", shots)
        lab.press("Escape")

        cell = run("rank two")
        page.locator(".lab-board").nth(1).locator(".lab-card").first.wait_for()
        page.wait_for_timeout(500)
        looked_at(lab, cell, "ranking_board_two", shots)

        cell = run("reward")
        page.wait_for_timeout(1_500)
        looked_at(lab, cell, "reward_panel", shots)

        cell = run("train")
        lab.says("Press Step")
        page.get_by_role("button", name="Run", exact=True).click()
        lab.says("Update 25", 90)
        page.get_by_role("button", name="Token lens").or_(
            page.locator(".jupyter-widget-Collapse-header")
        ).first.click()
        page.locator(".lab-lens-token").first.wait_for()
        page.locator(".lab-lens-token").nth(1).focus()
        page.locator(".lab-lens-likely").first.wait_for()
        looked_at(lab, cell, "training_panel", shots)

        cell = run("compare")
        page.get_by_role("button", name="Compare", exact=True).click()
        page.locator(".lab-answer").first.wait_for()
        page.get_by_role("button", name="Start blind votes").click()
        page.get_by_role("button", name="a A is better").click(timeout=60_000)
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Measure on all held-out prompts").click()
        page.locator(".lab-table", has_text="distinct-2").first.wait_for()
        looked_at(lab, cell, "compare_panel", shots)

        cell = run("app")
        page.wait_for_timeout(2_000)
        looked_at(lab, cell, "app", shots)


def curves(lab: Laboratory) -> dict[str, int]:
    """Points of each trace in the legend, by name."""
    return lab.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.js-plotly-plot')]
             .flatMap((plot) => plot.data).filter((t) => t.name && t.showlegend !== false)
             .map((t) => [t.name, (t.y ?? []).length]))"""
    )


def restart(lab: Laboratory) -> None:
    """A new kernel, with the study opened again."""
    old = lab.notebook.kernel_id()
    lab.page.evaluate(
        """async () => {
          const context = window.jupyterapp.shell.currentWidget.context;
          await context.sessionContext.session.kernel.restart();
        }"""
    )
    lab.page.wait_for_timeout(1_500)
    lab.notebook.run(0)
    assert lab.notebook.kernel_id() == old


def test_rewind_to_update_5_of_10_branch_and_come_back_after_a_restart(
    tmp_path, chromium, model, shots
) -> None:
    with laboratory(tmp_path, chromium, model, ["study.ppo()"], rankings=8) as lab:
        page = lab.page

        def click(name: str) -> None:
            page.get_by_role("button", name=name, exact=True).click()

        lab.notebook.run(1)
        lab.says("Press Step")
        page.get_by_label("updates").fill("10")
        page.get_by_label("updates").press("Enter")
        click("Run")
        lab.says("Update 10", 90)
        restart(lab)
        lab.notebook.run(1)
        lab.says("Update 10")
        page.wait_for_timeout(1_000)
        assert curves(lab)["KL to the reference"] == 10

        # A click on the curve: the point of update 5, by its place on the page.
        place = page.evaluate(
            """() => {
              const plot = document.querySelector('.js-plotly-plot');
              plot.scrollIntoView({ block: 'center' });
              const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
              const y = plot.data[0].y[4];
              const x = xaxis._offset + xaxis.l2p(5);
              return [box.left + x, box.top + yaxis._offset + yaxis.l2p(y)];
            }"""
        )
        page.mouse.move(place[0] - 3, place[1] - 3)
        page.mouse.move(*place, steps=4)
        page.wait_for_timeout(300)
        page.mouse.click(*place)
        lab.says("Update 5", 60)
        page.wait_for_function(
            """() => [...document.querySelectorAll('[role=status]')]
                 .some((e) => /^Update 5:.*of 10/.test(e.textContent))"""
        )
        page.screenshot(path=shots / "rewound.png")

        price = page.locator(".widget-slider", has_text="kl_coef").locator("[contenteditable]")
        price.click()
        page.keyboard.press("Control+a")
        page.keyboard.type("0.01")
        page.keyboard.press("Enter")
        lab.says("kl_coef = 0.01 for a branch")
        click("Branch from here")
        lab.says("ppo-2 branched off ppo-1 after update 5")
        page.wait_for_function(
            "() => document.querySelector('.lab-runs').textContent.includes('@5')"
        )
        page.get_by_label("updates").fill("5")
        page.get_by_label("updates").press("Enter")
        click("Run")
        lab.says("Update 10", 60)
        page.wait_for_timeout(1_000)
        both = curves(lab)
        assert both["KL to the reference"] == 10 and both["ppo-1"] == 10
        page.screenshot(path=shots / "branched.png")

        restart(lab)
        lab.notebook.run(1)
        lab.says("Update 10")
        page.wait_for_timeout(1_000)
        assert curves(lab) == both
        assert "kl_coef = 0.01" in page.locator(".lab-runs").text_content()

        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.reload()  # a closed tab, opened again
        page.locator(".lab-runs").wait_for(timeout=60_000)
        page.wait_for_timeout(2_000)
        assert curves(lab) == both
        click("Step")
        lab.says("Update 11")
        page.wait_for_timeout(1_000)
        assert curves(lab)["KL to the reference"] == 11
