"""Simulated raters: order by utility, noise by Bradley and Terry, ties where nothing differs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.errors import LabError
from lab.raters import READY, Rater, brief, cheerful, get_rater


def by_number(prompt: str, completion: str) -> float:
    return float(completion)


def test_equal_utilities_tie_whatever_the_noise():
    rater = Rater("r", by_number, temperature=100.0)
    rng = np.random.default_rng(0)
    for _ in range(50):
        tiers = rater.rank("p", ["1", "2", "1", "2", "1"], rng)
        assert {frozenset(tier) for tier in tiers} == {frozenset({0, 2, 4}), frozenset({1, 3})}
    assert rater.rank("p", ["1", "1"], rng) == ((0, 1),)


def test_without_noise_the_order_is_that_of_the_utility():
    rater = Rater("r", by_number, temperature=0.0)
    tiers = rater.rank("p", ["1", "3", "-2", "2", "3"], np.random.default_rng(0))
    assert tiers == ((1, 4), (3,), (0,), (2,))


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("difference", [0.2, 0.7])
def test_noise_follows_bradley_and_terry(temperature, difference):
    rater, rng = Rater("r", by_number, temperature), np.random.default_rng(0)
    n = 4000
    first = sum(rater.rank("p", ["0", str(difference)], rng)[0] == (1,) for _ in range(n)) / n
    expected = 1 / (1 + math.exp(-difference / temperature))
    assert first == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))


def test_same_random_numbers_same_ranking():
    texts = [str(i / 3) for i in range(9)]
    rater = Rater("r", by_number)
    ranked = [rater.rank("p", texts, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert ranked[0] == ranked[1] != ranked[2]


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_utility_that_is_not_finite_is_refused_by_the_raters_name(bad):
    with pytest.raises(LabError, match="'picky'"):
        Rater("picky", by_number).rank("p", ["1", bad], np.random.default_rng(0))


def test_raters_are_found_by_name_as_themselves_or_as_a_function():
    for name in READY:
        assert get_rater(name).name == name
    rater = Rater("r", by_number)
    assert get_rater(rater) is rater
    assert get_rater(by_number).name == "by_number"
    assert get_rater(by_number).simulated
    with pytest.raises(LabError, match=r"'grumpy'.*cheerful"):
        get_rater("grumpy")


@pytest.mark.parametrize(
    ("text", "utility"),
    [
        ("", 0),
        ("It rains.", 0),
        ("What a WONDERFUL, happy day", 2),
        ("happy happy", 2),
        ("unhappy", 0),
        ("Oh!", 0.5),
        ("joy!!!!", 2.0),
    ],
)
def test_cheerful_counts_cheerful_words_and_two_exclamation_marks(text, utility):
    assert cheerful("p", text) == utility


def test_brief_prefers_fewer_words():
    assert brief("p", "") == 0 > brief("p", "one") > brief("p", "one two")
