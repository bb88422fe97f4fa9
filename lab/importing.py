"""Preferences that others gave: from lines of JSON into a study."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .demonstrations import objects
from .errors import BadDemonstrations, BadPreferences
from .preferences import Completion, Ranking
from .store import PreferenceStore, clean

if TYPE_CHECKING:
    from .experiment import Experiment

SIDES = ("chosen", "rejected")
ROLES = ("system", "user", "assistant")
HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ROLES = {"Human": "user", "Assistant": "assistant"}
AT_ONCE = 16  # preferences whose features are read together; dialogues may be long
Turn = tuple[str, str]  # role, text


@dataclass(frozen=True)
class Preference:
    """A prompt, the completion that was preferred, and the one that was not."""

    prompt: str
    chosen: str
    rejected: str
    weight: float = 1.0


def read_preferences(path: str | Path) -> list[Preference]:
    """Preferences from a .jsonl file; each line may be in any of these formats.

    - TRL's standard one: texts "prompt", "chosen" and "rejected"; so is the lab's own export, which
      has a "weight" too, and whose answers may be empty: the model ended at once.
    - TRL's conversational one: lists of {"role", "content"} in place of the texts. Without a
      "prompt", chosen and rejected are whole dialogues that differ in their last turn.
    - That of HH-RLHF (Bai et al. 2022, arXiv 2204.05862): "chosen" and "rejected" are dialogues as
      text, of turns that begin with "Human:" or "Assistant:", and differ in the last one.

    A prompt of the lab is one user turn. A single user message is taken as it is; a longer dialogue
    becomes its turns as text, "User: ...\\nAssistant: ...\\nUser: ...". White space around a text
    is dropped.

    Raises:
        BadPreferences: names the file and the line.
    """
    found = [check(row, where) for row, where in rows(Path(path))]
    if not found:
        raise BadPreferences(f"{path} holds no preferences. Give a JSON object a line.")
    return found


def import_preferences(
    study: Experiment,
    source: str | Path | Sequence[Preference],
    rater: str = "imported",
    on_row: Callable[[int], None] | None = None,
) -> int:
    """Add preferences to a study, as rankings of two completions, and fit the reward model to them.

    Returns how many were new: those that the store has already, with the same texts and rater, are
    left out. Each counts as one ranking of one pair, whatever its `weight`: the store gives all
    rankings the same. Prompts need not be the study's; those held out measure and never train.

    Args:
        source: a file that `read_preferences` reads, or preferences.
        rater: who gave them.
        on_row: gets how many are stored so far.

    Raises:
        BadPreferences, PromptTooLong: one can't be used; nothing was added.
    """
    from .dpo import pair_of_texts
    from .sampling import read

    if isinstance(source, (str, Path)):
        given, policy = read_preferences(source), clean(f"imported:{Path(source).name}")
    else:
        given = [check(asdict(p), f"preference {i}") for i, p in enumerate(source, 1)]
        policy = "imported"
    rater = clean(rater)
    with study.compute:  # so that two imports at once don't both find one new
        store, trunk = study.store, study.reference.trunk
        new = not_stored(store, given, rater)
        pairs = [pair_of_texts(trunk, p.prompt, p.chosen, p.rejected) for p in new]
        room = [max(len(p.chosen), len(p.rejected), study.max_new_tokens) for p in pairs]
        prompts = [trunk.encode(p.prompt, r) for p, r in zip(pairs, room, strict=True)]
        for first in range(0, len(new), AT_ONCE):
            batch = range(first, min(first + AT_ONCE, len(new)))
            tokens = [getattr(pairs[i], side) for i in batch for side in SIDES]
            texts = [(new[i].prompt, getattr(new[i], side)) for i in batch for side in SIDES]
            features = read(trunk, [prompts[i] for i in batch for _ in SIDES], tokens)
            completions = [
                Completion(*both, ids, finished=True, policy=policy)
                for both, ids in zip(texts, tokens, strict=True)
            ]
            stored = store.add_completions(completions, trunk.extractor, features.cpu())
            for i, chosen, rejected in zip(batch, stored[::2], stored[1::2], strict=True):
                tiers = ((chosen,), (rejected,))
                store.add_ranking(Ranking(new[i].prompt, tiers, (chosen, rejected), rater))
                if on_row:
                    on_row(i + 1)
        study.refit()
    return len(new)


def not_stored(store: PreferenceStore, given: Sequence[Preference], rater: str) -> list[Preference]:
    """The preferences that a rater has not given yet, each once."""
    texts = {c.id: c.text for c in store.completions()}
    known = {
        (r.prompt, *(texts[tier[0]] for tier in r.tiers))
        for r in store.rankings(rater=rater)
        if [len(tier) for tier in r.tiers] == [1, 1]
    }
    each = {(p.prompt, p.chosen, p.rejected): p for p in given}
    return [p for key, p in each.items() if key not in known]


def rows(path: Path) -> Iterator[tuple[Any, str]]:
    """What each line of a file holds, and where that is. Raises BadPreferences."""
    try:
        yield from objects(path)
    except BadDemonstrations as error:
        raise BadPreferences(f"{error} Give a JSON object a line, in UTF-8.") from error


def check(row: object, where: str) -> Preference:
    """A preference from a row of a file. Raises BadPreferences."""
    need(isinstance(row, dict), f'{where}: expected an object with "chosen" and "rejected".')
    weight = row.get("weight", 1.0)
    numeric = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    holds = numeric and 0 < weight <= sys.float_info.max
    need(holds, f'{where}: "weight" must be a positive, finite number; mend it or leave it out.')
    before = turns(row["prompt"], "prompt", "user", where) if "prompt" in row else []
    prompts, answers = [], []
    for side in SIDES:
        if "weight" in row and row.get(side) == "":  # a model that ended at once
            own = [("assistant", "")]
        else:
            own = turns(row.get(side), side, "assistant" if before else None, where)
        alone = 'give the answer alone, or whole dialogues and no "prompt".'
        need(not before or len(own) == 1, f'{where}: "{side}" has several turns: {alone}')
        need(own[-1][0] == "assistant", f'{where}: "{side}" must end with a turn of the assistant.')
        prompts.append([*before, *own[:-1]])
        answers.append(own[-1][1])
    parted = "chosen and rejected differ before their last turn; mend the line or delete it."
    need(prompts[0] == prompts[1], f"{where}: {parted}")
    need(
        [role for role, _ in prompts[0][-1:]] == ["user"],
        f"{where}: the prompt must end with a turn of the user.",
    )
    same = "chosen and rejected are the same text, which prefers nothing; delete the line."
    need(answers[0] != answers[1], f"{where}: {same}")
    spoken = "\n".join(f"{role.capitalize()}: {text}" for role, text in prompts[0])
    prompt = prompts[0][0][1] if len(prompts[0]) == 1 else spoken
    return Preference(prompt, *answers, float(weight))


def need(holds: bool, message: str) -> None:
    if not holds:
        raise BadPreferences(message)


def turns(value: object, name: str, role: str | None, where: str) -> list[Turn]:
    """The turns of a list of messages or of a text: one turn of the role, or a dialogue in
    HH-RLHF's format where there is none."""
    place = f'{where}: "{name}"'
    if isinstance(value, list) and value:
        return [turn(message, f"{place}, message {i}") for i, message in enumerate(value, 1)]
    text = text_of(value, place)
    if role is not None:
        return [(role, text)]
    start, *parts = HH_TURN.split("\n\n" + text)
    known = parts and not start.strip()
    need(known, f'{place} is no dialogue that begins with "Human:", so give a "prompt" too.')
    spoken = enumerate(zip(parts[::2], parts[1::2], strict=True), 1)
    return [(HH_ROLES[who], text_of(said, f"{place}, turn {i}")) for i, (who, said) in spoken]


def turn(message: object, where: str) -> Turn:
    """A turn from a message. Raises BadPreferences."""
    need(isinstance(message, dict), f'{where}: expected an object with "role" and "content".')
    role = message.get("role")
    need(role in ROLES, f"{where}: the role is {role!r}; it must be one of {', '.join(ROLES)}.")
    return role, text_of(message.get("content"), f"{where}, content")


def text_of(value: object, where: str) -> str:
    """A text that a store can hold. Raises BadPreferences where there is none."""
    empty = f"{where} must be a text that is not empty; mend the line or delete it."
    need(isinstance(value, str) and bool(value.strip()), empty)
    return clean(value).strip()
