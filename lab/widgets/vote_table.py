"""What blind votes say, as a table."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..statistics import Estimate
from ..votes import Standing, Vote, standings

HEADINGS = (
    "variant",
    "win rate [95 %]",
    "log-odds over the reference [95 %]",
    "votes",
    "both bad",
    "in words",
)


def votes_html(votes: Sequence[Vote]) -> str:
    """Win rates and strengths of all variants; names are escaped."""
    if not votes:
        return "<p>No votes yet.</p>"
    found = standings(votes)
    body = "".join(row_html(standing) for standing in found)
    head = "".join(f'<th scope="col">{name}</th>' for name in HEADINGS)
    raters = len({vote.rater for vote in votes})
    seen = sum(bool(vote.sampling.get("revealed")) for vote in votes)
    again = f" {plural(seen, 'vote')} came again after the names had shown." if seen else ""
    simulated = sum(vote.simulated for vote in votes)
    caption = f"{plural(len(votes), 'blind vote')} of {plural(raters, 'rater')}"
    caption += f", {simulated:,} simulated" if simulated else ""
    return (
        f'<div class="lab-wide"><table class="lab-table"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        "<p>Ties count half, “both bad” apart. Win rates: Wilson intervals, clustered by prompt. "
        "Strengths: Bradley-Terry over all votes, 0 is the reference (or, without votes on it, "
        f"the first variant); votes taken as independent.{again}</p>"
    )


def row_html(standing: Standing) -> str:
    cells = [
        interval(standing.win_rate),
        strength_text(standing.strength),
        str(standing.votes),
        str(standing.bad),
    ]
    numbers = "".join(f'<td class="lab-number">{cell}</td>' for cell in cells)
    name = html.escape(standing.name)
    return f'<tr><th scope="row">{name}</th>{numbers}<td>{standing.verdict}</td></tr>'


def strength_text(strength: Estimate | None) -> str:
    if strength is None:
        return "no votes link it"
    return "0" if strength.low == strength.high else interval(strength, "+.2f")


def interval(estimate: Estimate | None, form: str = ".2f") -> str:
    """An estimate with its interval; a dash without one."""
    if estimate is None:
        return "–"
    low, high = (format(bound, form) for bound in estimate.interval)
    return f"{estimate.value:{form}} [{low}, {high}]"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
