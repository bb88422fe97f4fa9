"""What was measured of pocket, and the model card that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import demonstrations
from .continuations import shares
from .corpus import SHIPPED, Corpus, held_out
from .perplexity import Bigram, Perplexity, documents_of, perplexity, seen
from .pretraining import tokens_of
from .statistics import Estimate, proportion
from .texts import Texts
from .wellformed import Language, whole_sentences

if TYPE_CHECKING:
    from .policy import Policy

AT_MOST = 400  # held-out documents of a group that are measured
WRITTEN, LENGTH = 500, 80  # samples, and their tokens at most
SHOWN = 50
CALM = 0.5  # the temperature of the samples on show
TEMPERATURES = (CALM, 0.7, 1.0)
ANSWERS = 5  # to each held-out question


@dataclass(frozen=True)
class Measured:
    """The figures of a model card.

    Attributes:
        facts: updates, documents, tokens, seconds and the like.
        perplexity: of pocket, the untrained model and a bigram, by group of text.
        seen: share of 8-grams of words that training has too, by group.
        well_formed: shares by what was read: samples, and what the rules are checked on.
        kinds: how the model goes on after held-out questions.
        samples: the first ones, unselected.
    """

    facts: dict[str, Any]
    perplexity: dict[str, dict[str, Perplexity]]
    seen: dict[str, float]
    well_formed: dict[str, Estimate]
    kinds: dict[str, Estimate]
    samples: list[str]

    def as_row(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)

    def in_words(self) -> str:
        """The figures in a few lines."""
        rows = [
            f"perplexity, {group}: pocket {by['pocket']}, bigram {by['bigram']}, untrained "
            f"{by['untrained']}; {self.seen[group]:.0%} of its 8-grams were seen"
            for group, by in self.perplexity.items()
        ]
        rows += [f"well formed, {what}: {share}" for what, share in self.well_formed.items()]
        rows += [f"goes on with {kind}: {share}" for kind, share in self.kinds.items()]
        return "\n".join(rows)


def measure(
    folder: Path,
    untrained: Policy,
    texts: Texts,
    others: Sequence[str],
    facts: dict[str, Any],
) -> Measured:
    """Measure the model in a folder on what is held out of `texts`; `others` are documents of the
    same forms and subjects that did not train, on which the rules for samples are checked."""
    from .policy import Policy

    model = Policy.load(folder, trainable="all")
    tokenizer, end = model.trunk.tokenizer, model.trunk.end
    tokens = tokens_of(tokenizer, texts.train)
    bigram = Bigram(tokens.numpy(), len(tokenizer))
    groups = {"text it was trained on": texts.train[-AT_MOST:]}  # the primer stands first
    groups |= {group: found[:AT_MOST] for group, found in texts.heldout.items() if found}
    surprise = {
        group: {
            "pocket": perplexity(model, found),
            "bigram": bigram.perplexity(
                documents_of(tokenizer, end, found, model.trunk.context), end[0]
            ),
            "untrained": perplexity(untrained, found),
        }
        for group, found in groups.items()
    }
    written = {t: write(model, WRITTEN, 0, t) for t in TEMPERATURES}
    language = Language.of(texts.train)
    others = [cut(tokenizer, text) for text in others]
    well_formed = {
        f"samples at temperature {t}": well_formed_share(language, samples)
        for t, samples in written.items()
    } | {
        "other documents of the generator": well_formed_share(language, others),
        "these, words exchanged": well_formed_share(language, map(exchanged, others)),
        "samples of the untrained model": well_formed_share(
            language, write(untrained, SHOWN, 0, CALM)
        ),
    }
    return Measured(
        facts=facts
        | {"tokens": len(tokens), "parameters": parameters(model), "vocabulary": len(tokenizer)},
        perplexity=surprise,
        seen={group: seen(texts.train, found) for group, found in groups.items()},
        well_formed=well_formed,
        kinds=kinds_of(model, list(heldout_questions())),
        samples=written[CALM][:SHOWN],
    )


def write(model: Policy, count: int, seed: int, temperature: float) -> list[str]:
    """Texts that begin with nothing, each up to the end of its last whole sentence."""
    from .sampling import sample

    prompts = [model.trunk.end] * count
    drawn = sample(
        model,
        prompts,
        max_new_tokens=LENGTH,
        temperature=temperature,
        seed=seed,
        rows_at_once=64,
    )
    rows = zip(drawn.token_lists(), drawn.finished.tolist(), strict=True)
    texts = [(model.trunk.decode(ids), finished) for ids, finished in rows]
    return [text if finished else whole_sentences(text) for text, finished in texts]


def cut(tokenizer, text: str) -> str:
    """A document as long as a sample may be, up to the end of its last whole sentence."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return text if len(ids) < LENGTH else whole_sentences(tokenizer.decode(ids[:LENGTH]))


def kinds_of(model: Policy, prompts: Sequence[str], seed: int = 0) -> dict[str, Estimate]:
    """How a model goes on after each prompt, several times; intervals clustered by the subject of
    a held-out question."""
    from .compare import answer

    asked = [prompt for prompt in prompts for _ in range(ANSWERS)]
    answers = answer(model, asked, max_new_tokens=32, temperature=1.0, seed=seed)
    subjects = heldout_questions()
    return shares(answers.prompts, answers.texts, [subjects.get(p, p) for p in answers.prompts])


def heldout_questions(folder: Path = SHIPPED) -> dict[str, str]:
    """The questions about subjects that never train, each with its subject."""
    return {q: s.name for s in Corpus(folder).subjects if held_out(s.name) for q, _ in s.asked}


def new_questions(folder: Path = SHIPPED) -> dict[str, str]:
    """The questions about subjects that pretraining read of and that no demonstration names, each
    with its subject."""
    shown = " ".join(d.prompt for d in demonstrations.shipped("pocket")).lower()
    told = set(re.findall(r"[a-z]+", shown))
    new = [
        s
        for s in Corpus(folder).subjects
        if not held_out(s.name) and not told & set(f"{s.name} {s.plural}".lower().split())
    ]
    return {question: s.name for s in new for question, _ in s.asked}


def well_formed_share(language: Language, texts: Iterable[str]) -> Estimate:
    """The share of texts without a fault; each counts once. Nothing is known without texts."""
    good = [not language.faults(text) for text in texts]
    return proportion(good, range(len(good))) or Estimate(nan, 0.0, 1.0, 0)


def exchanged(text: str) -> str:
    """The same with two neighbouring words in each sentence exchanged, the third and the fourth."""
    parts = re.split(r"((?<=[.!?]) |\n)", text)
    rows = [part.split(" ") for part in parts]
    return "".join(" ".join([*w[:2], *w[3:1:-1], *w[4:]]) for w in rows)


def parameters(model: Policy) -> int:
    return sum(p.numel() for p in model.parameters())


def write_card(path: Path, m: Measured) -> None:
    """The model card: data, settings, loss, limits, and samples that nobody chose."""
    facts = m.facts
    rows = [
        f"| {group} | {by['pocket']} | {by['bigram']} | {by['untrained']} | {m.seen[group]:.0%} |"
        for group, by in m.perplexity.items()
    ]
    kinds = [f"| {kind} | {in_percent(share)} |" for kind, share in m.kinds.items()]
    good = [f"| {what} | {in_percent(share)} |" for what, share in m.well_formed.items()]
    samples = [f"{i}. {text.replace(chr(10), ' / ')}" for i, text in enumerate(m.samples, 1)]
    path.write_text(
        CARD.format(
            **facts,
            minutes=facts["seconds_training"] / 60,
            perplexity="\n".join(rows),
            kinds="\n".join(kinds),
            good="\n".join(good),
            questions=m.kinds["answer"].count,
            shown=len(m.samples),
            calm=CALM,
            samples="\n".join(samples),
        ),
        encoding="utf-8",
    )


def in_percent(share: Estimate) -> str:
    """A share with its interval."""
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {share.count}"


CARD = """\
---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# pocket

A base model of {parameters:,} parameters, pretrained by RLHF Lab on a corpus written for it. It \
exists to be watched and aligned: a laptop pretrains it in well under an hour, and an update of \
PPO takes a fraction of a second. It goes on with a text; it does not answer, and it knows nothing \
beyond its small world.

**Data.** {documents:,} documents ({tokens:,} tokens of those that train) put together by a seeded \
generator from the forms and subjects in `data/corpus`, simple English under this project's \
licence. One form in ten and one subject in ten are held out, by the hash of their name.

**Model and settings.** A Llama of 4 layers of width 192, 6 heads, context 512; byte-pair encoding \
with {vocabulary:,} entries, trained on the same documents and on the words that they are about. \
{updates:,} updates of 16 windows of 128 tokens, the first 240 of them on pages of a primer, \
which say one word again and again; Muon for matrices and AdamW for the rest, learning rate 2.5e-3 \
with warm-up and a cosine, seed {seed}, {minutes:.0f} minutes on two CPU cores, float32; kept in \
16 bits. Rebuilt by `python -m lab pretrain`.

**Perplexity of a token**, from the beginning of each document. The 95 % intervals are over \
documents: they hold for these forms and subjects, not for any others. The bigram is a Kneser-Ney \
model of the same training tokens. "Seen" is the share of the text's sequences of eight words that \
training text has too: forms share their sentences.

| text | pocket | bigram | untrained | seen |
|---|---|---|---|---|
{perplexity}

**Well formed** are, by the rules of `lab/wellformed.py` (spelling, articles, doubled words, line \
beginnings, paired marks, no sentence twice, few pairs of neighbours that training never has):

| text | share |
|---|---|
{good}

The other documents are of known forms and subjects, but did not train: they check the rules, and \
so they do with the third and fourth word of each sentence exchanged.

**What it goes on with** after a question about a subject it never read of ({questions} \
continuations, five a question, by the rules of `lab/continuations.py`):

| kind | share |
|---|---|
{kinds}

**Limits.** It repeats phrases of its corpus, mixes up facts, loses its thread after a few \
sentences, and knows English only. It is a teaching instrument and nothing to rely on.

## {shown} samples, unselected

Each begins with nothing and was drawn at temperature {calm}; " / " is the end of a line.

{samples}
"""
