"""The reward panel's tables. All text of models and raters is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..calibration import PredictedPair, strict_margins
from ..insight import Scored
from ..preferences import Ranking
from ..statistics import Estimate
from ..store import PreferenceStore

if TYPE_CHECKING:
    from ..surprises import Surprise

LONGEST = 200  # characters of a text


def shorten(text: str, most: int = LONGEST) -> str:
    """The beginning of a text, with … where it goes on."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """A table of texts and ready-made numbers; nothing where there are no rows."""
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    return (
        f'<table class="lab-table"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    )


class Number(str):
    """A number as it is to be read, set to the right."""


def cell(text: str) -> str:
    kind = ' class="lab-number"' if isinstance(text, Number) else ' dir="auto"'
    return f"<td{kind}>{html.escape(shorten(text) or '(empty)')}</td>"


def ranking_table(number: int, ranking: Ranking, store: PreferenceStore) -> str:
    """A ranking's completions in the rater's order, beside what the model had predicted."""
    order = [(i, c) for i, tier in enumerate(ranking.tiers or (), 1) for c in tier]
    tied = {i for i, tier in enumerate(ranking.tiers or (), 1) if len(tier) > 1}
    score = dict(zip(ranking.shown, ranking.predicted or (), strict=False))
    mean = sum(score.values()) / max(1, len(score))
    rows = []
    for place, id in order:
        guess = ("–", "–")
        if score:
            above = sum(s > score[id] for s in score.values())
            guess = (str(1 + above), f"{score[id] - mean:+.2f}")
        given = f"{place} (tie)" if place in tied else str(place)
        figures = (Number(text) for text in (given, *guess))
        rows.append((*figures, store.completion(id).text))
    head = ("rank given", "rank predicted", "score predicted", "completion")
    caption = f"Ranking {number}, by {ranking.rater}: {shorten(ranking.prompt)}"
    return f"{table(caption, head, rows)}<p>{html.escape(verdict(ranking))}</p>"


def verdict(ranking: Ranking) -> str:
    """How the prediction of a ranking did, in words."""
    if ranking.predicted is None:
        return "There was no reward model yet: nothing was predicted."
    margins = strict_margins(ranking)
    if not margins:
        return "All are tied: there was nothing to predict."
    right = sum(m > 0 for m in margins)
    return (
        f"Predicted before it was ranked: {right} of {len(margins)} strict pairs the right way "
        "round. Scores are standard deviations above the average of these."
    )


def pairs_table(
    caption: str, pairs: Sequence[PredictedPair], number: Mapping[int, int], store: PreferenceStore
) -> str:
    """Pairs with their margins. `number` gives a ranking's number by its id."""
    rows = []
    for pair in pairs:
        chosen, rejected = store.completion(pair.chosen), store.completion(pair.rejected)
        figures = (ranking_number(number, pair.ranking), Number(f"{pair.margin:+.2f}"))
        rows.append((*figures, chosen.prompt, chosen.text, rejected.text))
    return table(caption, ("ranking", "margin", "prompt", "chosen", "rejected"), rows)


def surprises_table(found: Sequence[Surprise], number: Mapping[int, int]) -> str:
    """Where the rater said the opposite of what the model was sure of."""
    rows = []
    for s in found:
        figures = ranking_number(number, s.ranking), Number(f"{s.probability:.0%}")
        rows.append((*figures, s.prompt, s.chosen, s.rejected))
    head = ("ranking", "how sure", "prompt", "chosen by the rater", "expected by the model")
    return table("Surprises: sure, and the rater said the opposite", head, rows)


def ranking_number(number: Mapping[int, int], id: int) -> Number:
    return Number(number.get(id, "–"))


def extremes_tables(best: Sequence[Scored], worst: Sequence[Scored]) -> str:
    """What the reward model loves, beside what it hates."""
    head = ("score", "prompt", "completion")
    tables = [
        table(
            caption,
            head,
            [(Number(f"{s.score:+.1f}"), s.completion.prompt, s.completion.text) for s in found],
        )
        for caption, found in (("What it loves", best), ("What it hates", worst))
    ]
    return f'<div class="lab-columns">{"".join(tables)}</div>' if best else ""


def kinds_table(kinds: Mapping[str, Estimate]) -> str:
    """Prequential accuracy of each kind of prompt."""
    rows = [
        (kind, Number(f"{e.value:.2f}"), Number(f"[{e.low:.2f}, {e.high:.2f}]"), Number(e.count))
        for kind, e in kinds.items()
    ]
    head = ("kind of prompt", "accuracy", "95 % interval", "pairs")
    return table("Predicted before each ranking, by kind", head, rows)
