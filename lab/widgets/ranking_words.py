"""What the ranking board says in words, of the figures that a session gives."""

from __future__ import annotations

from collections.abc import Sequence

from ..guess import Guess, ranks_of
from ..preferences import Ranking
from ..questions import RANDOM_SHARE
from ..ranking import Summary
from ..statistics import Estimate

LONGEST = 160  # characters of a text that is named in passing
WIDE = 0.4  # an interval that says nothing of a share
NO_GUESS = (
    "The reward model had no guess: it begins with your first ranking, and guesses from the second."
)

SEEN = "You had seen the reward model's guess here before you took your ranking back: none counts."


def cut(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def pace(seconds: float | None) -> str:
    """How long a ranking takes."""
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s each" if seconds >= 1 else "under 1 s each"


def asking(ask: str, ranked: Sequence[Ranking], heldout: bool = False) -> str:
    """What the way of asking means for the accuracy."""
    if heldout:
        return "Held-out prompts: your rankings measure the reward model, and train nothing."
    ranked = [r for r in ranked if r.repeats is None]
    drawn = sum(r.selection == "random" for r in ranked)
    said = f"{RANDOM_SHARE:.0%} of the questions still come at random. " if ask == "unsure" else ""
    if not said and drawn == len(ranked):
        return ""
    return (
        f"{said}{drawn} of your {len(ranked)} rankings were of prompts drawn at random: the "
        "accuracy in the headlines is of those, as the others are the hard ones."
    )


def guess_words(guess: Guess) -> str:
    """A guess against the ranking, in a sentence."""
    sure = f"{guess.sure:.0%} sure"
    if guess.pairs == 0 and len(guess.ranks) == 2:
        return f"You called it a tie. The reward model had a favourite, {sure}."
    if guess.pairs == 0:
        return f"You put none above another. The reward model was {sure} of a pair, on average."
    if len(guess.ranks) == 2:
        agreed = {0: "the other one", 1: "the same"}.get(guess.agreed, "neither")
        return f"The reward model had guessed {agreed}, {sure}."
    return (
        f"The reward model had guessed {guess.agreed:g} of {guess.pairs} pairs as you ranked them, "
        f"and was {sure} of a pair, on average."
    )


def agreement_words(accuracy: Estimate | None) -> str:
    """Prequential accuracy, in a sentence."""
    if accuracy is None:
        return "How often it is right: not enough yet."
    return (
        f"So far it was right on {accuracy.value:.2f} [{accuracy.low:.2f}, {accuracy.high:.2f}] "
        f"of {accuracy.count} pairs, before it saw them (0.50 is chance)."
    )


def guess_shown(
    ranking: Ranking, guess: Guess | None, texts: dict[int, str], seen: bool = False
) -> dict:
    """A guess as the page draws it: a row a completion, in the order that the rater gave."""
    if guess is None:
        return {"words": SEEN if seen else NO_GUESS, "rows": []}
    yours = ranks_of(ranking.tiers, ranking.shown)
    rows = zip(yours, guess.ranks, ranking.shown, strict=True)
    return {
        "words": guess_words(guess),
        "prompt": cut(ranking.prompt),
        "rows": [[mine, its, cut(texts[c])] for mine, its, c in sorted(rows)],
    }


def earlier_row(ranking: Ranking) -> dict:
    """A judgement in the list of earlier ones."""
    marks = []
    if ranking.tiers is None:
        marks.append("skipped")
    if ranking.all_bad:
        marks.append("all bad")
    if ranking.note is not None:
        marks.append(f"flagged: {cut(ranking.note)}" if ranking.note else "flagged")
    if ranking.edits is not None:
        marks.append("changed")
    return {
        "id": ranking.id,
        "prompt": cut(ranking.prompt),
        "marks": marks,
        "created": ranking.created,
    }


def summary_lines(summary: Summary) -> list[str]:
    """What a rater has done, a sentence a line."""
    again = f", {summary.repeats} of which asked an earlier one again" if summary.repeats else ""
    lines = [f"You gave {summary.rankings} rankings{again}."]
    if summary.seconds is not None:
        lines.append(f"A ranking took {summary.seconds:.0f} s (median).")
    if summary.agreement is None:
        lines.append("How often the reward model foresees you: not enough rankings yet.")
    else:
        lines.append(
            f"The reward model foresaw {summary.agreement.value:.2f} "
            f"[{summary.agreement.low:.2f}, {summary.agreement.high:.2f}] of "
            f"{summary.agreement.count} pairs (0.50 is chance)."
        )
    if summary.repeats:
        steady = summary.consistency
        lines.append(
            f"Asked again, you ordered {steady.value:.2f} [{steady.low:.2f}, {steady.high:.2f}] of "
            f"{steady.count} pairs the same way."
            if steady
            else "Whether you are steady: not enough repeats yet."
        )
    return [*lines, position_words(summary.position_bias)]


def position_words(bias: Sequence[Estimate] | None) -> str:
    """Whether the place on screen decided anything."""
    if not bias or max(e.high - e.low for e in bias) > WIDE:
        return "Whether the place on screen sways you: not enough rankings yet."
    swayed = [(place, e) for place, e in enumerate(bias, 1) if not e.low <= 0.5 <= e.high]
    if not swayed:
        shares = ", ".join(f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in bias)
        return (
            "No sign that the place on screen sways you: cards shown first, second … won "
            f"{shares} of their pairs."
        )
    return "The place on screen may sway you: " + "; ".join(
        f"cards shown at place {place} won {e.value:.2f} [{e.low:.2f}, {e.high:.2f}] of their pairs"
        for place, e in swayed
    )
