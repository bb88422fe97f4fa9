"""Intervals hold what they promise, also where answers share a prompt."""

from __future__ import annotations

import numpy as np
import pytest

from lab.statistics import Estimate, distinct_n, mean, proportion, self_bleu


@pytest.mark.parametrize(("groups", "size"), [(12, 10), (40, 5), (60, 1)])
@pytest.mark.parametrize("agreement", [0.5, 4.0])
@pytest.mark.parametrize("rate", [0.5, 0.8])
def test_clustered_intervals_cover_the_truth(groups, size, agreement, rate):
    """Beta-binomial prompts: small agreement makes the answers of one prompt nearly all alike."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(groups), size)
    hits, width = 0, 0.0
    for _ in range(300):
        chance = rng.beta(agreement * rate, agreement * (1 - rate), groups)
        values = rng.random(groups * size) < np.repeat(chance, size)
        estimate = proportion(values, clusters)
        hits += estimate.low <= rate <= estimate.high
        width += (estimate.high - estimate.low) / 300
    assert 0.91 <= hits / 300 <= 1.0
    assert width < 0.75


def test_ignoring_clusters_would_be_too_sure():
    clusters = np.repeat(np.arange(20), 10)
    values = np.repeat(np.random.default_rng(0).random(20) < 0.5, 10)
    clustered, independent = proportion(values, clusters), proportion(values, range(200))
    assert clustered.value == independent.value
    ratio = (clustered.high - clustered.low) / (independent.high - independent.low)
    assert 2.5 < ratio < 3.5  # about the square root of 10


@pytest.mark.parametrize("values", [[0.0] * 12, [1.0] * 12, [0.5] * 12])
def test_equal_values_have_an_interval_of_one_observation_a_cluster(values):
    four = proportion(values, [i % 4 for i in range(12)])
    assert four.low <= four.value == values[0] <= four.high
    assert 0.3 < four.high - four.low < 0.8
    assert four.count == 12
    one = proportion(values, ["p"] * 12)
    assert one.high - one.low > four.high - four.low
    assert proportion(values[:4], range(4)).low == pytest.approx(four.low)


def test_wilson_of_independent_values_is_the_textbook_interval():
    estimate = proportion([1] * 8 + [0] * 2, range(10))
    assert (estimate.value, estimate.count) == (0.8, 10)
    assert estimate.low == pytest.approx(0.49, abs=0.03)
    assert estimate.high == pytest.approx(0.943, abs=0.02)


def test_an_interval_stays_inside_and_around_its_value():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 12))
        e = proportion(rng.choice([0, 0.5, 1], n), rng.integers(0, 4, n))
        assert 0 <= e.low <= e.value <= e.high <= 1
        assert e.count == n


def test_nothing_has_no_proportion():
    assert proportion([], []) is None


@pytest.mark.parametrize("groups", [5, 30])
def test_means_over_clusters_cover_the_truth(groups):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        values = (rng.normal(2, 1, groups)[:, None] + rng.normal(size=(groups, 4))).ravel()
        e = mean(values, np.repeat(np.arange(groups), 4))
        hits += e.low <= 2 <= e.high
    assert 0.92 <= hits / 500 <= 0.98


def test_the_mean_of_one_cluster_claims_nothing():
    e = mean([1.0, 3.0], ["p", "p"])
    assert (e.value, e.low, e.high) == (2.0, float("-inf"), float("inf"))


def test_clusters_of_unequal_size_count_once_in_a_mean():
    assert mean([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]).value == 3.0


def test_clusters_may_be_any_text():
    assert proportion([1, 0, 1], ["a\u2028", "", "ü"]).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("texts", "n", "expected"),
    [
        (["a b c d"], 2, 1.0),
        (["a b a b a b"], 2, 2 / 5),
        (["so glad", "So Glad"], 2, 0.5),
        (["a a a a"], 1, 0.25),
        (["one"], 2, 0.0),
        ([], 2, 0.0),
    ],
)
def test_distinct_n_falls_with_repetition(texts, n, expected):
    assert distinct_n(texts, n) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("texts", "n", "expected"),
    [
        (["a b c d e"] * 3, 4, 1.0),
        (["Yes", "yes"], 4, 1.0),
        (["a b c", "d e f", "g h i"], 4, 0.0),
        (["a b c", "a b d"], 2, 2 / 3),  # of words 2/3, of pairs (1 + 1)/(2 + 1)
        (["a b c", "a b d", "x c y"], 1, (3 + 2 + 1) / 9),  # "c" is found in the third text
        (["a a a", "a b a"], 1, 2 / 3),  # "a" counts no oftener than in the other text
        (["a a a", "b b c", "a c a"], 1, (2 / 3 + 1 / 3 + 1) / 3),
        (["a b", "a b c d"], 1, (np.exp(1 - 4 / 2) + 2 / 4) / 2),  # the first is too short
        (["a", "a a", "a a a"], 1, (np.exp(-1) + 1 + 2 / 3) / 3),  # as close: the shorter
    ],
)
def test_self_bleu_is_the_mean_bleu_against_the_others(texts, n, expected):
    assert self_bleu(texts, n) == pytest.approx(expected)


def test_self_bleu_does_not_depend_on_the_order_of_texts():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcde"), rng.integers(1, 8))) for _ in range(30)]
    assert 0 < self_bleu(texts) < 1
    assert self_bleu(texts[::-1]) == self_bleu(texts)
    assert self_bleu(texts[::-1], most=10) == self_bleu(texts, most=10) < self_bleu(texts)


@pytest.mark.parametrize("texts", [[], ["one text"], ["one text", "", "  "]])
def test_self_bleu_of_fewer_than_two_texts_is_nan(texts):
    assert np.isnan(self_bleu(texts))
    assert np.isnan(self_bleu(["a b", "a b"], most=1))


def test_an_estimate_reads_as_a_figure_with_its_interval():
    assert str(Estimate(0.771, 0.7, 0.84, 120)) == "0.77 [0.70, 0.84] (n = 120)"
    assert Estimate(0.5, 0.4, 0.6, 1).interval == [0.4, 0.6]
