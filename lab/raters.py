"""Simulated raters: a utility, and noise. They stand in for a person, and are labelled as such.

Their utility is also the gold measure of what training really achieved: it never reads the
reward model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import LabError
from .utilities import agreeable, harmless, helpful, honest

Utility = Callable[[str, str], float]

CHEERFUL = frozenset(
    """
    adore amazing awesome beautiful bliss blissful bright brighten brightest celebrate celebrated
    celebrating celebration charming cheer cheerful cheers congratulations delight delighted
    delightful delights excited excitement exciting fantastic fun giggle giggles glad glorious glow
    glowing golden gorgeous grateful great happily happiness happy harmony heartwarming hooray hope
    hopeful hug hugs incredible joy joyful joyous joys kind kindness laugh laughing laughs laughter
    love loved lovely loves loving lucky magic magical marvelous merry paradise peaceful playful
    pleased pleasure proud radiant shine shines shining smile smiles smiling sparkle sparkling
    splendid sunny sunshine sweet sweetest terrific thankful thrilled thrilling vibrant warm warmth
    welcome wonder wonderful wonderfully wonders yay
    """.split()  # noqa: SIM905 - a list of words is read as words
)

COMPANY = frozenset(
    ("you", "your", "yours", "yourself", "you're", "you'll", "we", "us", "let's", "together")
)


@dataclass(frozen=True)
class Rater:
    """Ranks by a utility plus Gumbel noise: with temperature τ the chance that one of two
    completions is put first is sigmoid(Δutility / τ), the Bradley-Terry model.

    Completions of equal utility are a tie: to order what one finds equally good would teach the
    reward model noise (held-out accuracy 0.62 instead of 0.78 for one preference tried).
    """

    name: str
    utility: Utility
    temperature: float = 0.2
    simulated: bool = True

    def rank(
        self, prompt: str, completions: Sequence[str], rng: np.random.Generator
    ) -> tuple[tuple[int, ...], ...]:
        """Tiers of indices into `completions`, best first."""
        utilities = np.array([float(self.utility(prompt, c)) for c in completions])
        if not np.isfinite(utilities).all():
            raise LabError(f"The rater {self.name!r} gave a utility that is not a finite number.")
        levels, level_of = np.unique(utilities, return_inverse=True)
        noisy = levels + self.temperature * rng.gumbel(size=len(levels))
        return tuple(
            tuple(int(i) for i in np.flatnonzero(level_of == level)) for level in np.argsort(-noisy)
        )


def cheerful(prompt: str, completion: str) -> float:
    """A point for each cheerful word; half a point for an exclamation mark, and for a word that
    speaks to the reader, twice each at most."""
    words = re.findall(r"[a-z']+", completion.lower())
    joy, company = sum(w in CHEERFUL for w in words), sum(w in COMPANY for w in words)
    return joy + 0.5 * min(2, completion.count("!")) + 0.5 * min(2, company)


def brief(prompt: str, completion: str) -> float:
    """Minus the number of words: the shorter, the better."""
    return -float(len(completion.split()))


READY = {
    "cheerful": Rater("cheerful", cheerful),
    "brief": Rater("brief", brief, temperature=1.0),
    "helpful": Rater("helpful", helpful),
    "honest": Rater("honest", honest),
    "harmless": Rater("harmless", harmless),
    "agreeable": Rater("agreeable", agreeable),
}


def get_rater(rater: str | Rater | Utility) -> Rater:
    """A rater by name, a rater, or any function (prompt, completion) -> number as one."""
    if isinstance(rater, Rater):
        return rater
    if isinstance(rater, str):
        if rater not in READY:
            raise LabError(f"Unknown rater {rater!r}. Ready ones: {', '.join(READY)}.")
        return READY[rater]
    return Rater(getattr(rater, "__name__", "custom"), rater)
