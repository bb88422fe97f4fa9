"""The reference and the aligned model, side by side on one prompt."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..runner import NOW
from .panel import Panel
from .status import StatusLine, words_of

if TYPE_CHECKING:
    from ..compare import Comparison
    from ..experiment import Experiment


class ComparePanel(Panel):
    """Pick or type a prompt; both models answer with the same random numbers."""

    def __init__(self, study: Experiment) -> None:
        self.study = study
        heldout = [p.text for p in study.prompts if p.split == "heldout"]
        self.prompt = widgets.Combobox(
            value=heldout[0] if heldout else "",
            options=heldout,
            ensure_option=False,
            placeholder="pick or type a prompt",
            description="prompt",
            layout={"width": "70%"},
        )
        self.seed = widgets.BoundedIntText(0, 0, 2**31 - 1, description="seed")
        self.seed.layout.width = "160px"
        self.button = widgets.Button(description="Compare", button_style="primary")
        self.button.on_click(lambda _: self.compare())
        self.measure_button = widgets.Button(
            description="Measure on all held-out prompts", layout={"width": "auto"}
        )
        self.measure_button.on_click(lambda _: self.measure())
        self.progress = widgets.IntProgress(0, 0, 1, layout={"visibility": "hidden"})
        self.status = StatusLine()
        self.answers = widgets.HTML()
        self.figures = widgets.HTML()
        super().__init__(
            [
                widgets.HBox([self.prompt, self.seed, self.button]),
                self.status,
                self.answers,
                widgets.HBox([self.measure_button, self.progress]),
                self.figures,
            ],
            "compare panel",
        )
        self.status.say("The prompts in the list are held out: neither rankings nor PPO saw them.")

    def compare(self) -> None:
        """Let both models answer the prompt, in the background."""
        prompt = self.prompt.value.strip()
        if not prompt:
            self.status.say("Type a prompt first.", alert=True)
            return
        self.button.disabled = True
        self.status.say("Both models are writing…")
        seed = self.seed.value
        self.study.runner.submit(lambda: self._show(prompt, seed), NOW, self._fail)

    def _show(self, prompt: str, seed: int) -> None:
        self.answers.value = columns_html(self.study.side_by_side(prompt, seed=seed))
        self.button.disabled = False
        self.status.say(
            "Same prompt, same random numbers. Scores are standard deviations above the "
            "reference's average answer to this prompt."
        )

    def measure(self) -> None:
        """Both models on all held-out prompts, in the background."""
        self.measure_button.disabled = True
        self.progress.layout.visibility = "visible"
        self.progress.value = 0
        self.study.runner.submit(self._measure, NOW, self._fail)

    def _measure(self) -> None:
        def tell(done: int, total: int) -> None:
            self.progress.max, self.progress.value = total, done

        self.figures.value = measure_html(self.study.measure(on_chunk=tell))
        self.measure_button.disabled = False
        self.progress.layout.visibility = "hidden"

    def _fail(self, error: BaseException) -> None:
        self.button.disabled = self.measure_button.disabled = False
        self.progress.layout.visibility = "hidden"
        self.status.say(words_of(error), alert=True)


def columns_html(columns: dict[str, list[dict]]) -> str:
    """A column of answers for each policy; model text is escaped."""
    card = (
        "border: 1px solid var(--jp-border-color2, #ccc); border-radius: 6px; padding: 8px 10px; "
        "margin: 6px 0; white-space: pre-wrap; line-height: 1.45"
    )
    cells = ""
    for name, answers in columns.items():
        cards = "".join(
            f'<div style="{card}">{html.escape(a["text"])}{"" if a["finished"] else " …"}'
            f'<div style="opacity: 0.75; font-size: 90%; margin-top: 4px">'
            f"{score_text(a['score'])}</div></div>"
            for a in answers
        )
        cells += (
            f'<section style="flex: 1 1 300px; min-width: 0" aria-label="{html.escape(name)}">'
            f"<h4 style='margin: 4px 0'>{html.escape(name)}</h4>{cards}</section>"
        )
    return f'<div style="display: flex; flex-wrap: wrap; gap: 16px">{cells}</div>'


def measure_html(result: Comparison) -> str:
    """The figures of a comparison, judged by the reward model, as a table."""
    s = result.summary()
    rows = {
        "win rate of the aligned model (0.5: no difference)": str(result.win_rate),
        "gain in score, in standard deviations": str(result.gain),
        "KL to the reference, nats": f"{s['kl']:.1f}",
        "distinct-2, reference → aligned (lower: more repetition)": (
            f"{s['distinct2_reference']:.2f} → {s['distinct2_aligned']:.2f}"
        ),
    }
    cell = '<td style="text-align: left; padding: 2px 10px">'
    body = "".join(f"<tr>{cell}{name}</td>{cell}{value}</td></tr>" for name, value in rows.items())
    return f"<table>{body}</table><p>Judged by the reward model, with 95 % intervals.</p>"


def score_text(score: float | None) -> str:
    """A score in words; nothing where nothing was ever ranked."""
    return "" if score is None else f"score {score:+.2f}"
