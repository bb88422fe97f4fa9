"""What the policies have said: sampled where it is missing, stored with its features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import LabError
from .preferences import Completion
from .runner import AHEAD

if TYPE_CHECKING:
    from .compare import Answers
    from .experiment import Experiment

PER_PROMPT = 4
POOL = 48  # prompts that PPO answers; their reference completions give each prompt its offset
AT_ONCE = 4  # prompts of one job of the background thread: two seconds that somebody may wait


class Completions:
    """The completions of a study. Policies go by name: "reference", or "<run>@<update>"."""

    def __init__(self, study: Experiment) -> None:
        self.study = study

    def counts(self, policy: str = "reference") -> Counter[str]:
        """How many stored completions each prompt has."""
        found = self.study.store.ids_by_prompt(policy)
        return Counter({prompt: len(ids) for prompt, ids in found.items()})

    def ensure(
        self,
        prompts: Sequence[str],
        policy: str = "reference",
        k: int = PER_PROMPT,
        on_chunk: Callable[[int], None] | None = None,
    ) -> int:
        """Sample until each prompt has k stored completions. Returns how many were new."""
        from .compare import answer

        study = self.study

        def lacking() -> list[str]:
            return [p for p in prompts for _ in range(k - study.store.count(p, policy))]

        if not lacking():  # then nobody waits for whoever runs the model
            return 0
        with study.compute:
            missing = lacking()  # less, if another thread was at it meanwhile
            if policy != "reference" and policy != study.policy_name("aligned"):
                raise LabError(
                    f"The aligned policy has moved on from {policy}: call study.rank("
                    'policy="aligned") again to rank what it says now.'
                )
            if missing:
                answers = answer(
                    study.reference if policy == "reference" else study.aligned,
                    missing,
                    max_new_tokens=study.max_new_tokens,
                    temperature=study.temperature,
                    seed=study.seed + sum(self.counts(policy).values()),
                    on_chunk=on_chunk,
                )
                self.keep(answers, policy)
        return len(missing)

    def keep(self, answers: Answers, policy: str) -> list[int]:
        """Store answers of a policy, with their features. Returns the ids."""
        study = self.study
        sampling = {"temperature": study.temperature, "max_new_tokens": study.max_new_tokens}
        model = (study.model.name, study.model.source, policy, sampling)
        rows = zip(answers.prompts, answers.texts, answers.token_ids, answers.finished, strict=True)
        completions = [Completion(*row, *model) for row in rows]
        extractor = study.reference.trunk.extractor
        return study.store.add_completions(completions, extractor, answers.features)

    def read_missing_features(self) -> None:
        """Features of completions that were cached for other weights or another layer."""
        from .sampling import read

        trunk, store = self.study.reference.trunk, self.study.store
        known = store.features(trunk.extractor)
        missing = [c for c in store.completions() if c.id not in known]
        for first in range(0, len(missing), 64):
            chunk = missing[first : first + 64]
            prompts = [trunk.encode(c.prompt, len(c.token_ids)) for c in chunk]
            features = read(trunk, prompts, [list(c.token_ids) for c in chunk])
            store.add_features([c.id for c in chunk], trunk.extractor, features.cpu())

    def order(self, split: str = "train") -> list[str]:
        """The prompts that may be ranked and trained on, or those held out, in the study's seeded
        order."""
        prompts = [p.text for p in self.study.prompts if p.split == split]
        shuffle = np.random.default_rng([self.study.seed, 0]).permutation(len(prompts))
        return [prompts[i] for i in shuffle]

    def pool_prompts(self) -> list[str]:
        """The prompts that PPO answers: the first of the order, and those ranked; none held out."""
        held_out = set(self.study.heldout)
        judged = [p for p in self.study.store.judged() if p not in held_out]
        return list(dict.fromkeys(self.order()[:POOL] + judged))

    def pool(self, on_chunk: Callable[[int], None] | None = None) -> list[str]:
        """`pool_prompts()`, once each has the reference's completions that give its offset."""
        prompts = self.pool_prompts()
        self.ensure(prompts, on_chunk=on_chunk)
        return prompts

    def fill_pool_ahead(self) -> None:
        """In the background, while a person ranks: the next questions, and PPO's pool."""

        def fill() -> None:
            counts = self.counts()
            missing = [p for p in self.pool_prompts() if counts[p] < PER_PROMPT]
            if self.ensure(missing[:AT_ONCE]):
                self.study.runner.submit(fill, AHEAD)

        self.study.runner.submit(fill, AHEAD)
