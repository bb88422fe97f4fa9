"""A blind test: two answers to one prompt, without the names of those who gave them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import BadSetting, NotReady
from .variants import default_names, distinct
from .votes import Vote, Votes, Winner

if TYPE_CHECKING:
    from .experiment import Experiment
    from .variants import Tell

READY = 3  # duels made ahead of the one on screen


@dataclass(frozen=True)
class Duel:
    """Two answers to a prompt, A and B, and who gave them. `sampling` holds their settings, and
    which of them are `finished`."""

    prompt: str
    variants: tuple[str, str]
    texts: tuple[str, str]
    sampling: dict[str, Any]


class BlindTest:
    """Draws two variants, a prompt and their order; keeps the votes in the study's store.

    What is drawn follows from the seed and from how many votes the study has: after a restart the
    same duel comes again. The two answers have random numbers of their own, or variants that are
    close to each other would often say the same.

    Args:
        names: two or more variants; the reference and the newest run unless given.
        prompts: the held-out ones unless given.

    Raises:
        BadSetting: fewer than two different variants, or no prompts.
        LabError: there is nothing of one of the names.
        NotReady: there is no run yet to draw beside the reference.
    """

    def __init__(
        self,
        study: Experiment,
        names: Sequence[str] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        rater: str = "me",
        seed: int | None = None,
        temperature: float | None = None,
        max_new_tokens: int | None = None,
    ) -> None:
        if names is None and len(default_names(study)) < 2:
            raise NotReady(
                "There is no aligned policy yet to vote on: take some PPO steps first, or name two "
                "variants, such as reference and best-of-8."
            )
        names = default_names(study) if names is None else list(names)
        self.names = distinct(study, names)
        if len(self.names) < 2:
            raise BadSetting(f"variants={names}: a blind vote needs two different ones at least.")
        self.study, self.votes, self.rater = study, Votes(study.store), rater
        self.prompts = list(prompts or study.heldout)
        if not self.prompts:
            raise BadSetting("There are no held-out prompts: give some of your own.")
        self.seed = study.seed if seed is None else seed
        self.how = {
            "temperature": study.temperature if temperature is None else temperature,
            "max_new_tokens": max_new_tokens or study.max_new_tokens,
        }
        self.current: Duel | None = None
        self._ready: deque[Duel] = deque()
        self._drawn = self.votes.given()
        self._shown = 0.0
        self._lock = threading.RLock()

    @property
    def ready(self) -> int:
        """How many duels are made ahead."""
        return len(self._ready)

    def draw(self, number: int) -> tuple[str, tuple[str, str], int]:
        """Prompt, variants in the order on screen and seed of a duel: all three from the number.
        Prompts come in shuffled passes, so that none comes twice before all have come."""
        passes, place = divmod(number, len(self.prompts))
        order = np.random.default_rng([self.seed, 2, passes]).permutation(len(self.prompts))
        rng = np.random.default_rng([self.seed, 3, number])
        a, b = rng.permutation(len(self.names))[:2]
        seed = int(rng.integers(2**31))
        return self.prompts[order[place]], (self.names[a], self.names[b]), seed

    def prepare(self, tell: Tell | None = None) -> None:
        """Make one duel ahead: both answers are sampled. For the background thread."""
        with self._lock:
            number, self._drawn = self._drawn, self._drawn + 1
        prompt, names, seed = self.draw(number)
        variants, said = [], []
        for place, name in enumerate(names):
            variant = self.study.variant(name, tell)
            said.append(variant.answer([prompt], seed=seed + place, **self.how))
            variants.append(variant.name)
        texts, finished = zip(*((s.texts[0], s.finished[0]) for s in said), strict=True)
        sampling = {"seed": seed, **self.how, "finished": finished}
        self._ready.append(Duel(prompt, tuple(variants), texts, sampling))

    def next(self) -> Duel | None:
        """Show the next duel; None while none is made."""
        with self._lock:
            self.current = self._ready.popleft() if self._ready else None
            self._shown = time.monotonic()
            return self.current

    def vote(self, winner: Winner) -> Vote:
        """Keep a vote on the current duel. Raises NotReady where there is none."""
        with self._lock:
            if (duel := self.current) is None:
                raise NotReady("There is nothing to vote on: call next() first.")
            vote = Vote(
                prompt=duel.prompt,
                variants=duel.variants,
                texts=duel.texts,
                winner=winner,
                rater=self.rater,
                seconds=time.monotonic() - self._shown,
                sampling=duel.sampling,
            )
            stored = self.votes.add(vote)
            self.current = None
            return stored

    def undo(self) -> Vote | None:
        """Take back the rater's last vote and show its duel again; what was on screen comes after
        it. The names have shown by now: the vote that follows says so, in `sampling`."""
        with self._lock:
            vote = self.votes.undo(self.rater)
            if vote is not None:
                if self.current is not None:
                    self._ready.appendleft(self.current)
                sampling = vote.sampling | {"revealed": True}
                self.current = Duel(vote.prompt, vote.variants, vote.texts, sampling)
                self._shown = time.monotonic()
            return vote
