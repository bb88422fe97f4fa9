"""How does a model go on after a question? A base model goes on with the text that a question
stands in; one that was taught to answer answers. Which it was, is decided by a rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .refusals import is_refusal
from .statistics import Estimate, proportion

KINDS = ("answer", "refusal", "question", "thread", "list", "other text", "nothing")
SPEAKER = re.compile(
    r"\s*(?!Answer|Note|Example|Meaning)(?:[A-Z][a-z]+\d*(?: [A-Z][a-z]+)?(?: \([^)]*\))?:(?:\s|$)"
    r"|(?i:posted|asked|written|sent|comment) by\b)"
)
ITEM = re.compile(r"\s*(?:\(?\d{1,2}[.):]|[-*]|\(?[a-dA-D][.)])\s")
SMALL = frozenset(
    """a about all am an and any are as at be been but by can could did do does for from get had has
    have he her his how i if in into is it its just know many may me more most much must my no not
    of on one or our out over people say she should so some tell than that the their them there
    they this to up use very was we were what when where which who whose why will with would you
    your""".split()  # noqa: SIM905 - a list of words is read as words
)


def kind_of(prompt: str, completion: str) -> str:
    """One of KINDS, by the first of these rules that holds.

    nothing: no letter. refusal: see `lab.refusals`. thread: the first line begins with a speaker
    or says who posted it. list: it begins with a number, a letter or a bullet. question: its first
    sentence ends in a question mark. answer: its first sentence states something and has a word of
    the question in it, small words aside. other text: what is left.
    """
    text = completion.strip()
    if not re.search(r"[A-Za-z]", text):
        return "nothing"
    if is_refusal(text):
        return "refusal"
    if SPEAKER.match(text):
        return "thread"
    if ITEM.match(text):
        return "list"
    first = first_sentence(text)
    if first.endswith("?"):
        return "question"
    if stems(first) & stems(prompt):
        return "answer"
    return "other text"


def first_sentence(text: str) -> str:
    """Up to the first full stop, question or exclamation mark, or end of line."""
    match = re.search(r"[.!?](?=[\s\"')]|$)|\n", text)
    return text[: match.end()].strip() if match else text


def stems(text: str) -> set[str]:
    """The words of a text, small ones aside, without the ends that number and tense change."""
    words = re.findall(r"[a-z]+", re.sub(r"'[a-z]+", "", text.lower()))
    return {
        re.sub(r"(?<=[a-z]{3})(?:ies|es|s|ing|ed|y|e)$", "", w) for w in words if w not in SMALL
    }


def shares(
    prompts: Sequence[str], completions: Sequence[str], clusters: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """The share of each of KINDS, with its 95 % interval clustered by prompt, or by `clusters`:
    what several prompts have in common, such as what they are about."""
    found = [kind_of(p, c) for p, c in zip(prompts, completions, strict=True)]
    return {kind: proportion([k == kind for k in found], clusters or prompts) for kind in KINDS}
