"""Whatever can answer a prompt, by name: what a comparison puts side by side.

reference          the policy before this study's RL
ppo-2, sft-1       a run, at its newest update
ppo-1@5            a run as it was after an update
best-of-8          the best of 8 answers of the reference, by the reward model
model:NAME         any other model: a name of the catalog, a folder, an id on the hub
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import catalog, compare
from .errors import LabError, NotReady
from .training import policy_at

if TYPE_CHECKING:
    from .compare import Answers, OnText
    from .experiment import Experiment
    from .policy import Policy
    from .reward import RewardHead

IN_MEMORY = 3  # policies beside those of trainers; a top of SmolLM2 takes 0.11 GB
Tell = Callable[[str], None]


@dataclass
class Variant:
    """A name and a policy that answers.

    Attributes:
        name: with the update that a run stood at, so that it stays true: "ppo-2@7".
        kl_bound: the most nats to the reference where KL is known without measuring.
    """

    study: Experiment
    name: str
    policy: Policy
    kl_bound: float | None = None

    @property
    def title(self) -> str:
        """The name, and of a run that it is aligned; one of SFT is not, and goes by its name."""
        is_run = "@" in self.name and self.is_native
        return f"aligned: {self.name}" if is_run and not self.name.startswith("sft-") else self.name

    @property
    def is_native(self) -> bool:
        """Whether it shares the trunk, and so the tokens, of the study's own model."""
        return self.policy.trunk is self.study.reference.trunk

    def answer(self, prompts: Sequence[str], **how: Any) -> Answers:
        """Answers to prompts, all at once. See `chunks` for the arguments."""
        with self.study.compute:
            parts = list(self.chunks(prompts, **how))
            return compare.join(parts) if parts else compare.no_answers(self.study.reference)

    def chunks(
        self,
        prompts: Sequence[str],
        seed: int = 0,
        temperature: float | None = None,
        max_new_tokens: int | None = None,
        on_text: OnText | None = None,
    ) -> Iterator[Answers]:
        """Answers to some of the prompts at a time. Whoever takes the next ones holds
        `study.compute`.

        Args:
            seed: the same seed gives every variant the same random numbers.
            temperature, max_new_tokens: the study's own unless given.
            on_text: called after each token with the texts of the chunk so far.
        """
        study = self.study
        drawing = {
            "temperature": study.temperature if temperature is None else temperature,
            "max_new_tokens": max_new_tokens or study.max_new_tokens,
        }
        yield from self._answers(list(prompts), seed, on_text, drawing)

    def _answers(self, prompts: list[str], seed: int, on_text: OnText | None, drawing: dict):
        reference = self.study.reference if self.is_native else None
        for part in compare.answer_chunks(
            self.policy, prompts, reference=reference, seed=seed, on_text=on_text, **drawing
        ):
            yield part if self.is_native else self._read_by_the_study(part)

    def _read_by_the_study(self, answers: Answers) -> Answers:
        """Another model's answers, with the features that the study's reward model reads."""
        from .sampling import read

        trunk, said = self.study.reference.trunk, []
        asked = [trunk.encode(prompt) for prompt in answers.prompts]
        for prompt, text, finished in zip(asked, answers.texts, answers.finished, strict=True):
            ids = trunk.tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += trunk.end if finished else []
            said.append(ids[: trunk.context - len(prompt)])
        features = read(trunk, asked, said).numpy(force=True)
        return replace(answers, features=features, kl=float("nan"))


@dataclass
class BestOfN(Variant):
    """The best of n answers of the reference, by a reward model; nothing is trained."""

    n: int = 1
    head: RewardHead | None = None

    def _answers(self, prompts: list[str], seed: int, on_text: OnText | None, drawing: dict):
        """Half-written answers can't be told: which one is best shows at the end."""
        from .best_of_n import best, best_of_n

        at_once = max(1, compare.CHUNK // self.n)
        for first in range(0, len(prompts), at_once):
            part = best_of_n(
                self.policy,
                prompts[first : first + at_once],
                lambda answers: self.head.raw(answers.features),
                self.n,
                seed=int(np.random.SeedSequence([seed, first]).generate_state(1)[0]),
                **drawing,
            )
            yield replace(best(*part), kl=float("nan"))


def names(study: Experiment) -> list[str]:
    """What there is to compare now: the reference, best of 8 once there are rankings, each run at
    its newest update, newest run first, and other models on this disk. Runs at earlier updates and
    any other model can be named as well."""
    found = ["reference", *reversed(study.runs)]
    if study.store.rankings():
        found.append("best-of-8")
    others = [m.name for m in catalog.cached() if m.path != study.model.path]
    return found + [f"model:{name}" for name in others]


def default_names(study: Experiment) -> list[str]:
    """The reference, and the newest run if there is one."""
    return ["reference", *study.runs[-1:]]


def exact_name(study: Experiment, name: str) -> str:
    """A variant's name with the update that a run stands at now: "ppo-1" is "ppo-1@6".

    Raises:
        LabError: there is nothing of that name; says what there is.
    """
    name = name.strip()
    if name == "reference":
        return name
    if match := re.fullmatch(r"best-of-(\d{1,9})", name):
        return f"best-of-{int(match[1])}"
    if name.startswith("model:"):
        return f"model:{name.removeprefix('model:').strip()}"
    match = re.fullmatch(r"([^@]+)(?:@(\d{1,9}))?", name)
    if not match or match[1] not in study.runs:
        raise LabError(f"There is nothing named {name!r}. There is: {', '.join(names(study))}.")
    update = study.run_record(match[1]).last if match[2] is None else int(match[2])
    return f"{match[1]}@{update}"


def distinct(study: Experiment, names: Sequence[str]) -> list[str]:
    """Names of different variants, in order: of two that mean the same one now, the first stays.
    A run without an update stays as it is, so that it still means the newest when it is opened.

    Raises:
        LabError: there is nothing of one of the names.
    """
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(exact_name(study, name), name.strip())
    return list(found.values())


def open_variant(study: Experiment, name: str, tell: Tell | None = None) -> Variant:
    """A variant by its name. A few policies are kept in memory, those asked for last.

    Args:
        tell: gets words on what is being loaded, or computed again.

    Raises:
        LabError: there is nothing of that name; says what there is.
        NotReady: best of n needs a reward model.
    """
    tell = tell or (lambda words: None)
    exact = exact_name(study, name)
    if exact.startswith("best-of-"):
        return open_best_of_n(study, int(exact.removeprefix("best-of-")))
    if exact == "reference":
        return Variant(study, exact, study.reference)
    with study.compute:
        if exact.startswith("model:"):
            policy = from_memory(study, exact, lambda: open_model(study, exact, tell))
            return Variant(study, exact, policy)
        exact = exact_name(study, name)  # the run may have gone on while this waited
        run, _, update = exact.partition("@")
        created = study.run_record(run).config.get("created")  # a deleted run's name comes again
        policy = from_memory(
            study, f"{exact} of {created}", lambda: policy_at(study, run, int(update), tell)
        )
        return Variant(study, exact, policy)


def open_best_of_n(study: Experiment, n: int) -> BestOfN:
    """Best of n, by the reward model that the newest run is pinned to."""
    from .best_of_n import AT_MOST, kl_bound

    if not 1 <= n <= AT_MOST:
        raise LabError(f"best-of-{n}: give a number from 1 to {AT_MOST}.")
    head = compare.judging_head(study)
    try:
        head = head or study.reward_model.require_head()
    except NotReady as error:
        raise NotReady(f"best-of-{n} picks by the reward model. {error}") from None
    return BestOfN(study, f"best-of-{n}", study.reference, kl_bound(n), n, head)


def open_model(study: Experiment, name: str, tell: Tell) -> Policy:
    """Another model, whole: with a trunk and a tokenizer of its own."""
    from .policy import Policy

    tell(f"Loading {name}…")
    folder = catalog.fetch(name.removeprefix("model:"), progress=False)
    return Policy.load(folder.path, 1, study.device, folder.chat_template)


def from_memory(study: Experiment, key: str, make: Callable[[], Policy]) -> Policy:
    """A policy from memory; else a new one, for which the one unused for the longest goes."""
    policies = study.policies
    policy = policies.pop(key, None)
    if policy is None:
        while len(policies) >= IN_MEMORY:
            policies.popitem(last=False)
        policy = make()
    policies[key] = policy
    return policy
