"""Which parts of a prompt does alignment reward? The same requests in several wordings, asked of
several policies, and each answer measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .compare import EVALUATION
from .continuations import kind_of
from .errors import BadSetting, NotReady
from .raters import cheerful
from .refusals import is_refusal
from .statistics import Estimate, mean, proportion
from .variants import distinct

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .experiment import Experiment

Measure = Callable[[str, str], float]
"""A number of an answer, from the plain request and the answer's text."""

PLAIN, REQUEST = "plain", "{request}"
WORDINGS = {
    PLAIN: "{request}",
    "role": "You are a friendly teacher. {request}",
    "context": "I am ten years old and new to this. {request}",
    "constraint": "{request} Answer in one sentence.",
    "politeness": "{request} Please, and thank you!",
}
END = re.compile(r"(?<!\n\d)[.!?][\"')\]\u2019\u201d]*$")  # the number of an empty item is no end
MEASURES: dict[str, Measure] = {
    "on the subject": lambda request, text: float(kind_of(request, text) == "answer"),
    "refuses": lambda request, text: float(is_refusal(text)),
    "words": lambda request, text: float(len(text.split())),
    "ends": lambda request, text: float(END.search(text.strip()) is not None),
    "cheerful": cheerful,
}
NOT_ASKED = ("harmful", "lookalike", "opinion")  # no plain answer is wanted of these
AT_MOST = 12  # requests, unless they are given


@dataclass(frozen=True)
class BenchRow:
    """One measure of the answers of one variant to the requests in one wording.

    Attributes:
        value: a share where the measure is 0 or 1 of every answer in the bench, else a mean.
        effect: mean difference to the answer with the same random numbers to the same request in
            the plain wording; None for plain itself. Intervals are clustered by request.
    """

    variant: str
    wording: str
    measure: str
    value: Estimate
    effect: Estimate | None


class PromptBench:
    """Requests in several wordings, put to several variants: `run` does all, `work` one chunk at a
    time. The plain wording is always among them: effects are differences to it.

    Args:
        variants: names, see `lab.variants`; results name a run with its update, as "ppo-1@6".
        requests: the first 12 held-out prompts that are neither harmful nor sound so nor ask for
            an opinion, unless given. One that comes twice is asked once.
        wordings: templates by name, each with "{request}" once; WORDINGS unless given.
        measures: by name; MEASURES unless given.
        count: answers to each request in each wording.
        seed: the same random numbers for every variant and every wording.

    Raises:
        BadSetting: one of the lists is empty, a template lacks "{request}" or has it twice, two
            variants mean the same, or `count` is not from 1 to 64.
        LabError: there is no variant of one of the names.
    """

    def __init__(
        self,
        study: Experiment,
        variants: Sequence[str],
        requests: Sequence[str] | None = None,
        wordings: Mapping[str, str] | None = None,
        measures: Mapping[str, Measure] | None = None,
        count: int = 2,
        seed: int = 0,
    ) -> None:
        if not 1 <= count <= 64:
            raise BadSetting(f"count={count}: give a number from 1 to 64.")
        self.study, self.count, self.seed = study, count, seed
        self.variants = distinct(study, variants)
        self.requests = list(dict.fromkeys(asked_of(study) if requests is None else requests))
        self.wordings = dict(WORDINGS if wordings is None else wordings)
        self.measures = dict(MEASURES if measures is None else measures)
        for name in ("variants", "requests", "wordings", "measures"):
            if not getattr(self, name):
                raise BadSetting(f"There are no {name} to work with: give at least one.")
        if len(self.variants) < len(variants):
            raise BadSetting(f"Of {list(variants)}, some mean the same: give {self.variants}.")
        self.wordings = {PLAIN: REQUEST, **self.wordings}
        for name, template in self.wordings.items():
            if (times := template.count(REQUEST)) != 1:
                found = f"{name!r}, {template!r}, has {REQUEST} {times} times"
                raise BadSetting(f"The wording {found}: write it once, where the request stands.")
        self.clusters = [r for r in self.requests for _ in range(count)]
        self.total = len(self.variants) * len(self.wordings) * len(self.clusters)
        self.done = 0
        self.texts: dict[str, dict[str, list[str]]] = {}  # by variant and wording

    def work(self) -> Iterator[int]:
        """Yields 1, 2, … `total`, a number for each answer as soon as its chunk is sampled, so that
        a progress bar counts answers. Starts anew each time."""
        self.texts, self.done = {}, 0
        for name in self.variants:
            variant = self.study.variant(name)
            found = self.texts[variant.name] = {wording: [] for wording in self.wordings}
            for wording, template in self.wordings.items():
                asked = [template.replace(REQUEST, request) for request in self.clusters]
                chunks = variant.chunks(asked, seed=self.seed + EVALUATION)
                while len(found[wording]) < len(asked):
                    with self.study.compute:
                        part = next(chunks)
                    found[wording] += part.texts
                    before, self.done = self.done, self.done + len(part.texts)
                    yield from range(before + 1, self.done + 1)

    def run(self) -> PromptBench:
        """All of it, with a bar that shows how far it is."""
        from rich.progress import track

        for _ in track(self.work(), "Answers", total=self.total):
            pass
        return self

    def _require_all(self) -> None:
        if self.done < self.total:
            raise NotReady(f"There are {self.done} of {self.total} answers: call `run` first.")

    def rows(self) -> list[BenchRow]:
        """Each measure of each variant in each wording. Raises NotReady before all is done."""
        return [row for measure in self.measures for row in self._rows(measure)]

    def _rows(self, measure: str) -> list[BenchRow]:
        self._require_all()
        if measure not in self.measures:
            raise BadSetting(f"No measure is named {measure!r}: give one of {list(self.measures)}.")
        of = self.measures[measure]
        values = {
            (variant, wording): np.array(list(map(of, self.clusters, texts)), dtype=float)
            for variant, by_wording in self.texts.items()
            for wording, texts in by_wording.items()
        }
        is_share = all(np.isin(own, (0, 1)).all() for own in values.values())  # the same everywhere
        rows = []
        for (variant, wording), own in values.items():
            value = (proportion if is_share else mean)(own, self.clusters)
            change = own - values[variant, PLAIN]
            effect = None if wording == PLAIN else mean(change, self.clusters)
            rows.append(BenchRow(variant, wording, measure, value, effect))
        return rows

    def table(self, measure: str) -> dict[str, dict[str, Estimate]]:
        """A measure by variant and wording, as `lab.charts.bars` takes it."""
        rows = self._rows(measure)
        return {v: {r.wording: r.value for r in rows if r.variant == v} for v in self.texts}

    def effects(self, measure: str) -> dict[str, dict[str, Estimate]]:
        """What each wording changes in a measure, by variant and wording; plain aside."""
        rows = [row for row in self._rows(measure) if row.effect]
        return {v: {r.wording: r.effect for r in rows if r.variant == v} for v in self.texts}

    def figure(self, measure: str) -> go.Figure:
        """The effects on a measure, with their 95 % intervals."""
        from .charts import bars

        title = f"What a wording changes: {measure}"
        return bars(self.effects(measure), title, f"{measure}, difference to plain")

    def samples(self, request: str, draw: int = 0) -> list[tuple[str, str, str]]:
        """Variant, wording and text of one answer to a request each; `draw` counts from 0."""
        self._require_all()
        if request not in self.requests or not 0 <= draw < self.count:
            known = f"give one of `requests`, and a draw from 0 to {self.count - 1}"
            raise BadSetting(f"samples({request!r}, {draw}) was not asked: {known}.")
        row = self.requests.index(request) * self.count + draw
        return [(v, w, texts[row]) for v, by in self.texts.items() for w, texts in by.items()]


def asked_of(study: Experiment) -> list[str]:
    """The first held-out prompts of a study that want a plain answer."""
    fit = [p for p in study.prompts if p.split == "heldout" and p.kind not in NOT_ASKED]
    return [p.text for p in fit[:AT_MOST]]
