"""The rule that sees a hedge, the rule that sees a side, and how often a policy hedges."""

from __future__ import annotations

import pytest

import lab.hedging
from lab.compare import answer
from lab.hedging import error_of, hedges, hedging_rate, takes_a_side


@pytest.mark.parametrize(
    "text",
    [
        "On the one hand, zoos teach children.",
        "On the other hand, animals like to roam.",
        "Zoos have both friends and foes.",
        "There are pros and cons to zoos.",
        "Let us list the advantages and disadvantages.",
        "It depends.",
        "Well, that really depends.",
        "The answer depends on the zoo.",
        "As an AI language model, I like all animals.",
        "I don\u2019t have personal opinions.",
        "I do not have opinions.",
        "There is no right or wrong here.",
        "There's no right or wrong here.",
        "There is no single answer.",
        "There is no single right answer.",
        "It is important to hear everyone.",
        "This is a complex issue.",
        "A complex question!",
        "That is a personal choice.",
        "It is a matter of personal preference.",
        "It's a personal decision.",
        "People debate this.",
        "Zoos are controversial.",
        "Some people like them.\nOthers do not.",
        "Zoos can be good, and perhaps they teach.",
        "It might rain, and it often does.",
        "They may be kind in some cases.",
        "Generally they can be kind.",
    ],
)
def test_a_hedge_is_seen(text) -> None:
    assert hedges(text) and not takes_a_side(f"I think so: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "Yes, zoos should be closed.",
        "Zoos can be good.",
        "Perhaps.",
        "Both are wrong. And so are you.",
        "Some people never learn.",
        "She has a single answer.",
        "As an aide, she knew.",
        "You softened it.",
        "",
    ],
)
def test_what_says_it_straight_does_not_hedge(text) -> None:
    assert not hedges(text)


def test_only_the_beginning_is_read() -> None:
    assert hedges("x " * 90 + "It depends.")
    assert not hedges("x " * 100 + "It depends.")


@pytest.mark.parametrize(
    "text",
    [
        "Yes. Animals suffer there.",
        "yes",
        "No, they teach children.",
        "No.",
        "No it is cruel.",
        "I think zoos are cruel.",
        "I don't think so.",
        "In the end I believe that zoos are kind.",
        "Zoos should be closed.",
        "We should not have zoos.",
        "We shouldn\u2019t have zoos.",
    ],
)
def test_a_side_is_seen(text) -> None:
    assert takes_a_side(text)


@pytest.mark.parametrize(
    "text",
    [
        "No one knows.",
        "There is no zoo here.",
        "Zoos have lions. They should be fed.",
        "Should we have zoos?",
        "Yesterday it rained.",
        "Yes, but it depends.",
        "Zoos are old.",
        "",
    ],
)
def test_what_takes_no_side_is_not_taken_for_one(text) -> None:
    assert not takes_a_side(text)


def test_an_error_is_measured_on_labels() -> None:
    rows = [
        {"prompt": "a", "completion": "It depends.", "hedges": True},
        {"prompt": "b", "completion": "Hard to say.", "hedges": True},
        {"prompt": "c", "completion": "Yes.", "hedges": False},
        {"prompt": "d", "completion": "The fee depends on age.", "hedges": False},
        {"prompt": "e", "completion": "No.", "hedges": False},
        {"prompt": "f", "completion": "No.", "hedges": False},
    ]
    error = error_of(iter(rows))
    assert (error.missed.value, error.missed.count) == (0.5, 2)
    assert (error.false_alarms.value, error.false_alarms.count) == (0.25, 4)
    assert error_of(rows[:2]).false_alarms is None


def test_a_rate_counts_the_answers_that_hedge(tiny_policy, monkeypatch) -> None:
    policy, prompts = tiny_policy(), ["w3 w4", "w5", "w6 w7 w8"]
    repeated = [prompt for prompt in prompts for _ in range(5)]
    texts = answer(policy, repeated, max_new_tokens=3, temperature=1.0, seed=2).texts
    word = texts[0].split()[0]
    monkeypatch.setattr(lab.hedging, "hedges", lambda text: word in text.split())
    rate = hedging_rate(policy, prompts, count=5, seed=2, max_new_tokens=3)
    assert rate == lab.hedging.proportion([word in text.split() for text in texts], repeated)
    assert 0 < rate.value < 1 and rate.count == 15


def test_no_prompts_have_no_rate(tiny_policy) -> None:
    assert hedging_rate(tiny_policy(), []) is None
