"""What the reward model has learnt: margins by size, accuracy by kind, loves and hates."""

from __future__ import annotations

import numpy as np
import pytest
from studies import idle, rank_some, small_study

from lab.calibration import Bin, Predictions
from lab.insight import (
    accuracy_by_kind,
    loves_and_hates,
    margin_histogram,
    pairs_in_bin,
    surest_bin,
)
from lab.preferences import Ranking
from lab.prompts import Prompt, write_prompts
from lab.statistics import Estimate


def predicted(*margins: float) -> Predictions:
    """Pairs of rankings 1, 2, ... with these margins."""
    return Predictions(
        Ranking(f"p{i}", ((1,), (2,)), (1, 2), predicted=(m, 0.0), id=i)
        for i, m in enumerate(margins, 1)
    )


def test_each_margin_is_in_the_bar_of_its_size_and_side() -> None:
    found = margin_histogram(predicted(0.1, -0.2, 0.5, 99.0, -99.0, 0.0))
    assert list(found.start[:3]) == [0.0, 0.5, 1.0]
    assert list(found.right) == [1, 1, 0, 0, 0, 0, 0, 1]
    assert list(found.wrong) == [1, 0, 0, 0, 0, 0, 0, 1]
    assert found.equal == 1


def test_without_predictions_all_bars_are_empty() -> None:
    found = margin_histogram(Predictions())
    assert found.right.sum() == found.wrong.sum() == found.equal == 0


def test_a_bar_gives_its_own_pairs_newest_first() -> None:
    predictions = predicted(0.1, -0.2, 0.3, 0.7)
    assert [p.ranking for p in pairs_in_bin(predictions, 0, right=True)] == [3, 1]
    assert [p.ranking for p in pairs_in_bin(predictions, 0, right=False)] == [2]
    assert pairs_in_bin(predictions, 5, right=True) == []


def test_the_surest_bin_with_enough_pairs_is_the_one_to_speak_of() -> None:
    bins = [Bin(p, Estimate(p, 0, 1, n)) for p, n in ((0.55, 40), (0.75, 10), (0.95, 9))]
    assert surest_bin(bins).predicted == 0.75
    assert surest_bin(bins[2:]) is None


def test_loves_and_hates_are_the_extremes_within_their_prompts(study) -> None:
    rank_some(study, 4)
    best, worst = loves_and_hates(study, 3)
    assert len(best) == len(worst) == 3
    scores = {}
    for prompt, ids in study.store.ids_by_prompt("reference").items():
        completions = [study.store.completion(i) for i in ids]
        features = study.reward_model.features(ids)
        values = study.reward_model.head.score([prompt] * len(ids), features)
        assert values.mean() == pytest.approx(0, abs=1e-6)
        scores |= dict(zip((c.id for c in completions), values, strict=True))
    ordered = sorted(scores.values())
    assert [s.score for s in best] == pytest.approx(ordered[::-1][:3])
    assert [s.score for s in worst] == pytest.approx(ordered[:3])
    assert best[0].score == pytest.approx(scores[best[0].completion.id])


def test_a_prompts_only_completion_is_neither_loved_nor_hated(study) -> None:
    rank_some(study, 2)
    study.completions.ensure(["Something else."], k=1)
    seen = [s.completion.prompt for side in loves_and_hates(study, 50) for s in side]
    assert len(seen) == 8 and "Something else." not in seen


def test_nothing_is_loved_before_the_first_ranking(study) -> None:
    study.completions.ensure(study.completions.order()[:1])
    assert loves_and_hates(study) == ([], [])


def test_accuracy_by_kind_counts_each_pair_once(tmp_path, model) -> None:
    prompts = [Prompt(f"Thing {i}?", kind=("advice", "factual")[i % 2]) for i in range(8)]
    write_prompts(tmp_path / "p.jsonl", prompts)
    study = small_study(tmp_path, model, prompts=tmp_path / "p.jsonl")
    rank_some(study, 6)
    idle(study)
    found = accuracy_by_kind(study)
    predictions = study.reward_model.predictions
    assert set(found) == {"advice", "factual"}
    assert sum(e.count for e in found.values()) == len(predictions.margins)
    kind = {p.text: p.kind for p in prompts}
    of = [kind[study.store.ranking(p.ranking).prompt] for p in predictions.pairs]
    right = np.sign(predictions.margins)[np.array(of) == "advice"] / 2 + 0.5
    assert found["advice"].value == pytest.approx(right.mean())


def test_the_pairs_of_predictions_are_those_of_its_margins(study) -> None:
    rank_some(study, 3)
    predictions = study.reward_model.predictions
    assert [p.margin for p in predictions.pairs] == predictions.margins
    for pair in predictions.pairs:
        tiers = study.store.ranking(pair.ranking).tiers
        place = {c: i for i, tier in enumerate(tiers) for c in tier}
        assert place[pair.chosen] < place[pair.rejected]
