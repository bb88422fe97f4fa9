"""Studies that were ranked on different machines become one: a class, a team."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .agreement import Agreement, ranks_in_words
from .errors import LabError
from .files import write_json
from .preferences import Completion
from .prompts import load_prompts, write_prompts
from .store import PreferenceStore
from .votes import Votes

RUN = re.compile(r"[a-z]+-\d+(@\d+)?$")  # "ppo-1" or "ppo-1@5": of one study alone
AS_MADE = ("model", "max_new_tokens", "temperature")  # what rankings to be compared must share


def merge(studies: Sequence[str | Path], out: str | Path) -> Agreement:
    """Make a study of the rankings of several. Completions that are the same in two studies, as
    those of one seed are, become one, so that raters can be compared on them.

    Skipped prompts, repeats and blind votes come along, what was taken back does not; no training
    runs, and of completions of a run only what was ranked. A rater's name that several studies
    have gets the study's name beside it; a folder given twice counts once.

    Raises:
        LabError: `out` exists, a folder is no study, or they are of different models or sampling.
    """
    folders, out = list({Path(f).resolve(): Path(f) for f in studies}.values()), Path(out)
    if out.exists():
        raise LabError(f"{out} exists already. Give another --out, or delete the folder.")
    if len(folders) < 2:
        raise LabError("merge needs two studies or more: give their folders.")
    settings = [study_settings(folder) for folder in folders]
    for key in AS_MADE:
        values = {str(s.get(key)) for s in settings}
        if len(values) > 1:
            raise LabError(
                f"The studies differ in {key}: {', '.join(sorted(values))}. Their completions "
                "don't mix."
            )
    part = out.with_name(f".{out.name}.part")  # a study only once it is whole
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    prompts = {p.text: p for folder in folders for p in load_prompts(folder / "prompts.jsonl")}
    write_prompts(part / "prompts.jsonl", list(prompts.values()))
    with closing(PreferenceStore(part / "preferences.sqlite")) as merged:
        labels = labels_of(folders)
        names = rater_names(labels)
        known: dict[tuple, int] = {}
        for folder in folders:
            with closing(PreferenceStore(folder / "preferences.sqlite")) as store:
                ids = add_completions(merged, store, labels[folder], known)
                add_rankings(merged, store, ids, names[folder])
                add_votes(merged, store, labels[folder], names[folder])
                merged.guidelines = merged.guidelines or store.guidelines
        agreement = Agreement.of(merged.rankings(repeats=True))
    origin = {"name": out.name, "merged": list(labels.values())}
    write_json(part / "experiment.json", settings[0] | origin)
    part.rename(out)
    return agreement


def study_settings(folder: Path) -> dict:
    """experiment.json of a folder."""
    try:
        if not (folder / "preferences.sqlite").exists():
            raise FileNotFoundError("no preferences.sqlite")
        return dict(json.loads((folder / "experiment.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise LabError(f"{folder} is no study that can be read ({error}).") from error


def labels_of(folders: Sequence[Path]) -> dict[Path, str]:
    """A name for each study, with as much of its place before it as tells it from the others:
    "first" in the folders of two people is "anna/first" and "ben/first"."""
    labels, parts = {}, {folder: folder.resolve().parts for folder in folders}
    for folder, own in parts.items():
        others = [p for f, p in parts.items() if f != folder]
        length = next(n for n in range(1, 99) if all(own[-n:] != p[-n:] for p in others))
        labels[folder] = "/".join(own[-length:])
    return labels


def rater_names(labels: Mapping[Path, str]) -> dict[Path, dict[str, str]]:
    """What each rater of each study is called in the merged one."""
    raters: dict[Path, list[str]] = {}
    for folder in labels:
        with closing(PreferenceStore(folder / "preferences.sqlite")) as store:
            rows = [*store.rankings(skipped=True, repeats=True), *Votes(store).all()]
        raters[folder] = list(dict.fromkeys(row.rater for row in rows))
    everybody = [rater for names in raters.values() for rater in names]
    return {
        folder: {r: r if everybody.count(r) == 1 else f"{r} ({labels[folder]})" for r in names}
        for folder, names in raters.items()
    }


def add_completions(
    merged: PreferenceStore, store: PreferenceStore, study: str, known: dict[tuple, int]
) -> dict[int, int]:
    """Add a study's completions but for those that are `known`, and those of runs that nobody
    ranked. Returns their ids in the merged store by those they had."""
    ranked = {i for r in store.rankings(skipped=True, repeats=True) for i in r.shown}
    ids: dict[int, int] = {}
    new: dict[tuple, Completion] = {}
    places: dict[int, tuple] = {}
    times: dict[tuple, int] = {}  # a policy may say the same twice
    for c in store.completions():
        if c.policy != "reference" and c.id not in ranked:
            continue
        policy = c.policy if c.policy == "reference" else f"{study}/{c.policy}"
        said = (c.prompt, policy, c.token_ids, c.text)
        times[said] = times.get(said, 0) + 1
        places[c.id] = key = (*said, times[said])
        if key not in known:
            new[key] = replace(c, policy=policy)
    known |= dict(zip(new, merged.add_completions(new.values()), strict=True))
    ids |= {id: known[key] for id, key in places.items()}
    return ids


def add_rankings(
    merged: PreferenceStore, store: PreferenceStore, ids: dict[int, int], names: dict[str, str]
) -> None:
    """Add a study's rankings that stand, with the ids and raters of the merged store."""
    added: dict[int, int] = {}
    for r in store.rankings(skipped=True, repeats=True):
        tiers = None if r.tiers is None else tuple(tuple(ids[i] for i in t) for t in r.tiers)
        new = replace(
            r,
            tiers=tiers,
            shown=tuple(ids[i] for i in r.shown),
            rater=names[r.rater],
            edits=None,
            repeats=None if r.repeats is None else added.get(r.repeats, 0),  # 0: it stands no more
        )
        added[r.id] = merged.add_ranking(new).id


def add_votes(
    merged: PreferenceStore, store: PreferenceStore, study: str, names: dict[str, str]
) -> None:
    """Add a study's votes that stand; its runs get its name before theirs."""
    for vote in Votes(store).all():
        variants = tuple(f"{study}/{v}" if RUN.match(v) else v for v in vote.variants)
        new = replace(vote, variants=variants, rater=names[vote.rater])
        Votes(merged).add(new)


def show(agreement: Agreement, out: Path, console: Console | None = None) -> None:
    """The agreement in a terminal."""
    console = console or Console()
    console.print(Text(str(agreement)))
    if agreement.disagreements:
        table = Table("prompt", "pairs ordered otherwise", "ranks of its completions")
        for d in agreement.disagreements[:10]:
            given = "\n".join(f"{name}: {ranks_in_words(r)}" for name, r in d.ranks.items())
            table.add_row(Text(d.prompt[:80]), f"{d.share:.0%}", Text(given))
        console.print(table)
    where = f"lab.Experiment({out.name!r}, root={str(out.resolve().parent)!r})"
    console.print(Text(f"The merged study is {out}; open it with {where}."))
