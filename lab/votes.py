"""Blind votes between two answers, and what they say of those who gave them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from .bradley_terry import BradleyTerry
from .errors import BadSetting
from .statistics import Z95, Estimate, proportion
from .store import PreferenceStore, clean

Winner = Literal["a", "b", "tie", "bad"]
WORTH = {"a": 1.0, "b": 0.0, "tie": 0.5}  # to the variant that stood as A
L2 = 0.1  # a prior with a standard deviation of 3.2: without, who never lost has no finite strength
FEW = 20  # votes; below, an interval says little
STANDING = "SELECT * FROM votes WHERE undone IS NULL AND (:rater IS NULL OR rater = :rater)"


@dataclass(frozen=True)
class Vote:
    """A judgement of two answers to one prompt, A and B as they stood on the screen.

    Attributes:
        variants: names of those who gave the answers, see `lab.variants`.
        winner: "a", "b", "tie", or "bad" where neither is any good.
        seconds: from showing to the vote.
        sampling: seed, temperature and max_new_tokens of the answers; `finished`, which of the two
            ended by themselves (both, where it is not said); and `revealed` where the rater had
            seen the names, since an earlier vote was taken back.
    """

    prompt: str
    variants: tuple[str, str]
    texts: tuple[str, str]
    winner: Winner
    rater: str = "me"
    simulated: bool = False
    seconds: float | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    id: int = 0


class Votes:
    """The votes of a study. None is deleted: one that is taken back stays, marked."""

    def __init__(self, store: PreferenceStore) -> None:
        self.store = store

    def add(self, vote: Vote) -> Vote:
        """Store a vote; it is on disk when this returns.

        Raises:
            BadSetting: the winner is none of "a", "b", "tie" and "bad".
        """
        if vote.winner not in (*WORTH, "bad"):
            raise BadSetting(f'winner={vote.winner!r}: give "a", "b", "tie" or "bad".')
        created = time.time()
        row = (clean(vote.prompt), dump(vote.variants), dump(vote.texts), vote.winner)
        row += (clean(vote.rater), vote.simulated, vote.seconds, json.dumps(vote.sampling), created)
        id = self.store._write("INSERT INTO votes VALUES (NULL,?,?,?,?,?,?,?,?,?,NULL)", row)
        return replace(vote, id=id, created=created)

    def undo(self, rater: str | None = None) -> Vote | None:
        """Take back the last vote that stands, of one rater if given. Returns it, or None."""
        last = f"{STANDING} ORDER BY id DESC LIMIT 1"
        with self.store._lock:
            rows = self.store._read(last, {"rater": rater and clean(rater)})
            for row in rows:
                values = (time.time(), row[0])
                self.store._write("UPDATE votes SET undone = ? WHERE id = ?", values)
        return as_vote(rows[0]) if rows else None

    def all(self, rater: str | None = None) -> list[Vote]:
        """The votes that stand, oldest first; of one rater, if given."""
        rows = self.store._read(f"{STANDING} ORDER BY id", {"rater": rater and clean(rater)})
        return [as_vote(row) for row in rows]

    def given(self) -> int:
        """How many were ever given, those taken back as well."""
        return self.store._read("SELECT COUNT(*) FROM votes")[0][0]


def dump(texts: Sequence[str]) -> str:
    return json.dumps([clean(text) for text in texts], ensure_ascii=False)


def as_vote(row: tuple) -> Vote:
    id, prompt, variants, texts, winner, rater, simulated, seconds, sampling, created, _ = row
    return Vote(
        prompt=prompt,
        variants=tuple(json.loads(variants)),
        texts=tuple(json.loads(texts)),
        winner=winner,
        rater=rater,
        simulated=bool(simulated),
        seconds=seconds,
        sampling=json.loads(sampling),
        created=created,
        id=id,
    )


# What they say


@dataclass(frozen=True)
class Standing:
    """What the votes say of one variant.

    Attributes:
        win_rate: over all its votes but "both bad", ties half, a Wilson interval clustered by
            prompt; None without any.
        bad: how many of its votes called both answers bad.
        strength: of Bradley-Terry, in log-odds of beating the anchor; the anchor's own is 0. None
            where no votes lead from it to the anchor.
    """

    name: str
    votes: int
    bad: int
    win_rate: Estimate | None
    strength: Estimate | None

    @property
    def verdict(self) -> str:
        """What the win rate's interval allows to say, in words."""
        if self.win_rate is None:
            return "no votes yet"
        count = self.win_rate.count
        few = f" (few votes: {count})" if count < FEW else ""
        if self.win_rate.low > 0.5:
            return f"preferred more often than not{few}"
        if self.win_rate.high < 0.5:
            return f"preferred less often than not{few}"
        return f"not enough yet to tell it from even (votes: {count})"


def standings(votes: Sequence[Vote], anchor: str = "reference") -> list[Standing]:
    """What votes say of each variant, the strongest first; see `Standing`. Without votes on the
    anchor, the first variant takes its place."""
    names = list(dict.fromkeys(name for vote in votes for name in vote.variants))
    if not names:
        return []
    anchor = anchor if anchor in names else names[0]
    strength = strengths(votes, anchor)
    found = []
    for name in names:
        own = [v for v in votes if name in v.variants]
        judged = [v for v in own if v.winner != "bad"]
        worth = [WORTH[v.winner] if v.variants[0] == name else 1 - WORTH[v.winner] for v in judged]
        rate = proportion(worth, [v.prompt for v in judged])
        bad = len(own) - len(judged)
        found.append(Standing(name, len(own), bad, rate, strength.get(name)))
    return sorted(found, key=lambda s: -s.strength.value if s.strength else float("inf"))


def strengths(votes: Sequence[Vote], anchor: str) -> dict[str, Estimate]:
    """Strengths of Bradley-Terry (1952), P(i beats j) = sigmoid(s_i - s_j), in log-odds relative
    to the anchor; ties are half a win each, "both bad" is left out. Of those alone that votes link
    to the anchor.

    The 95 % intervals are Laplace's approximation, votes taken as independent. A weak normal prior
    (see L2) keeps strengths finite.
    """
    judged = [v for v in votes if v.winner != "bad" and v.variants[0] != v.variants[1]]
    linked = linked_to(anchor, judged)
    judged = [v for v in judged if v.variants[0] in linked]
    others = [name for name in linked if name != anchor]
    found = {anchor: Estimate(0.0, 0.0, 0.0, sum(anchor in v.variants for v in judged))}
    if not others:
        return found
    place = {name: i for i, name in enumerate(others)}
    x = np.zeros((len(judged), len(others)), np.float32)
    for row, vote in enumerate(judged):
        for name, sign in zip(vote.variants, (1, -1), strict=True):
            if name != anchor:
                x[row, place[name]] += sign
    fits = BradleyTerry(len(others))
    y = np.array([WORTH[v.winner] for v in judged])
    fits.add(x, y, np.ones(len(judged)), np.zeros(len(judged), int))
    fits.solve(L2)
    fits.renew_curvature()
    std = np.sqrt(fits.posterior().variance(np.eye(len(others))))
    for name, value, half in zip(others, fits.weight.tolist(), (Z95 * std).tolist(), strict=True):
        count = sum(name in v.variants for v in judged)
        found[name] = Estimate(value, value - half, value + half, count)
    return found


def linked_to(anchor: str, votes: Sequence[Vote]) -> list[str]:
    """The variants that a chain of votes leads to from the anchor, itself first."""
    linked = [anchor]
    for name in linked:  # it grows
        for vote in votes:
            if name in vote.variants:
                linked += [other for other in vote.variants if other not in linked]
    return linked
