"""The reward model finds the preference that was planted, and measures itself honestly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lab.errors import DamagedStudy, NotReady
from lab.preferences import Completion, Ranking
from lab.reward import (
    RewardHead,
    RewardModel,
    assign_folds,
    cross_validate,
    fit,
    prequential_accuracy,
    ranking_hits,
)
from lab.store import PreferenceStore

H, K = 12, 4
PLANTED = np.random.default_rng(7).normal(size=H)


def quick(path) -> PreferenceStore:
    """A store that doesn't wait for the disk: what is on it after a crash is tested elsewhere."""
    store = PreferenceStore(path)
    store._db.execute("PRAGMA synchronous=OFF")
    return store


@pytest.fixture
def store(tmp_path):
    store = quick(tmp_path / "preferences.sqlite")
    yield store
    store.close()


def add_prompt(store, rng, prompt: str, k: int = K, shift=0.0, policy="reference"):
    """Completions of one prompt with random features; returns their ids and true utilities."""
    features = rng.normal(size=(k, H)).astype(np.float32) + shift
    completions = [Completion(prompt, f"{prompt}-{i}", (5,), True, policy=policy) for i in range(k)]
    return store.add_completions(completions, "x", features), features @ PLANTED


def tiers_by(ids, utilities, levels: float | None = None):
    """Tiers, best first; with `levels`, utilities that round to the same multiple are tied."""
    marks = utilities if levels is None else np.round(utilities / levels)
    return tuple(
        tuple(int(i) for i in np.array(ids)[marks == mark]) for mark in np.unique(marks)[::-1]
    )


def add_rankings(store, prompts: int, seed: int = 0, levels=None, first: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for n in range(first, first + prompts):
        ids, utilities = add_prompt(store, rng, f"p{n}")
        store.add_ranking(Ranking(f"p{n}", tiers_by(ids, utilities, levels), tuple(ids)))


def model_of(store, **more) -> RewardModel:
    return RewardModel(store, "x", **more)


def cosine(a, b) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("levels", [None, 2.0])
def test_a_planted_preference_is_recovered(store, levels):
    add_rankings(store, 60, levels=levels)
    model = model_of(store)
    head = model.refit()
    assert cosine(head.weight, PLANTED) > 0.9
    assert model.accuracies.cv.value > 0.85
    assert model.accuracies.cv.low < model.accuracies.cv.value <= model.accuracies.cv.high
    assert model.accuracies.rankings == 60


def test_noise_is_not_learned(store):
    rng = np.random.default_rng(0)
    for n in range(60):
        ids, _ = add_prompt(store, rng, f"p{n}")
        store.add_ranking(Ranking(f"p{n}", tiers_by(ids, rng.normal(size=K)), tuple(ids)))
    model = model_of(store)
    model.refit()
    assert model.accuracies.cv.low < 0.5 < model.accuracies.cv.high
    assert model.accuracies.l2 >= 1


def test_ties_alone_teach_that_all_are_equal(store):
    rng = np.random.default_rng(0)
    for n in range(5):
        ids, _ = add_prompt(store, rng, f"p{n}")
        store.add_ranking(Ranking(f"p{n}", (tuple(ids),), tuple(ids)))
    model = model_of(store)
    head = model.refit()
    assert np.abs(head.weight).max() < 1e-6
    assert head.spread == 1.0
    assert model.accuracies.cv is None  # a tie can't be ordered rightly or wrongly
    with pytest.raises(NotReady, match="1 more ranking"):
        model.require_head()


def test_a_tie_pulls_two_scores_together():
    x, y = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, 0.5])
    w = fit(x, y, np.array([1.0, 1e3]), 0.01)
    assert w[0] > 0.1
    assert abs(w[0] + w[1]) < 0.01


def test_fit_minimises_the_bradley_terry_loss():
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(40, 3)), rng.choice([0.5, 1.0], 40), rng.random(40)

    def loss(w):
        p = 1 / (1 + np.exp(-x @ w))
        likelihood = y * np.log(p) + (1 - y) * np.log(1 - p)
        return -(weight * likelihood).sum() + 0.35 * (w @ w)

    w = fit(x, y, weight, 0.7)
    for direction in np.eye(3):
        assert loss(w) < loss(w + 0.05 * direction)
        assert loss(w) < loss(w - 0.05 * direction)


def test_a_constant_added_to_all_features_of_a_prompt_leaves_its_scores(tmp_path):
    scores, shift = [], np.random.default_rng(9).normal(size=H) * 5
    for name in ("plain", "shifted"):
        store = quick(tmp_path / name)
        add_rankings(store, 20)
        rng = np.random.default_rng(3)
        ids, _ = add_prompt(store, rng, "new", shift=shift if name == "shifted" else 0.0)
        model = model_of(store)
        scores.append(model.refit().score(["new"] * K, model.features(ids)))
        store.close()
    assert np.allclose(*scores, atol=1e-3)


def test_scores_have_mean_zero_for_each_prompt_and_unit_spread_within(store):
    add_rankings(store, 30)
    model = model_of(store)
    head = model.refit()
    scores = [
        head.score([f"p{n}"] * K, model.features([c.id for c in store.completions(f"p{n}")]))
        for n in range(30)
    ]
    assert np.allclose([s.mean() for s in scores], 0, atol=1e-9)
    assert np.sqrt(np.mean([s.var(ddof=1) for s in scores])) == pytest.approx(1)


def test_offsets_come_from_the_reference_alone(store):
    add_rankings(store, 10)
    model = model_of(store)
    before = model.refit().offsets
    add_prompt(store, np.random.default_rng(1), "p0", shift=3.0, policy="ppo-1@10")
    after = model.refit().offsets
    assert after == pytest.approx(before)


def test_completions_sampled_after_the_first_fit_give_their_prompts_offsets(store):
    add_rankings(store, 10)
    model = model_of(store)
    model.refit()
    ids, _ = add_prompt(store, np.random.default_rng(1), "pool", shift=3.0)
    head = model.refit()
    expected = float(head.raw(model.features(ids)).mean())
    assert head.offsets["pool"] == pytest.approx(expected)


def test_an_unknown_prompt_gets_the_typical_offset():
    head = RewardHead(np.ones(2), 2.0, {"a": 1.0, "b": 3.0}, 1, "x")
    assert head.score(["a", "b", "c"], np.full((3, 2), 2.0)).tolist() == [1.5, 0.5, 1.0]
    assert RewardHead(np.ones(2), 1.0, {}, 1, "x").score(["c"], [[1, 1]]).tolist() == [2]


def test_held_out_prompts_never_train(store):
    add_rankings(store, 40)
    rng = np.random.default_rng(5)
    heldout = frozenset(f"h{n}" for n in range(20))
    model = model_of(store, heldout=heldout)
    before = model.refit().weight
    for prompt in sorted(heldout):
        ids, utilities = add_prompt(store, rng, prompt)
        store.add_ranking(Ranking(prompt, tiers_by(ids, -utilities), tuple(ids)))  # the opposite
    fresh = model_of(store, heldout=heldout)
    fresh.refit()
    assert cosine(fresh.head.weight, before) > 0.99
    assert fresh.accuracies.heldout.value < 0.2
    assert fresh.accuracies.heldout.count == 20 * K * (K - 1) / 2
    assert fresh.accuracies.cv.value > 0.8
    assert fresh.accuracies.cv.count == 40 * K * (K - 1) / 2


def test_only_held_out_rankings_leave_no_head(store):
    add_rankings(store, 3)
    model = model_of(store, heldout=frozenset({"p0", "p1", "p2"}))
    assert model.refit() is None
    assert model.accuracies.heldout is None
    with pytest.raises(NotReady):
        model.require_head()


def test_prequential_accuracy_reads_stored_predictions_only(store):
    tiers = ((1,), (2, 3))
    seen = Ranking("p", tiers, (3, 1, 2), predicted=(5.0, 6.0, 7.0))
    assert ranking_hits(seen) == [0.0, 1.0]  # 1 above 2, and 1 above 3; the tie does not count
    assert ranking_hits(replace(seen, predicted=(6.0, 6.0, 7.0))) == [0.0, 0.5]
    assert ranking_hits(replace(seen, predicted=None)) == []
    assert ranking_hits(replace(seen, tiers=None)) == []
    assert prequential_accuracy([replace(seen, predicted=None)]) is None
    assert prequential_accuracy([seen, replace(seen, prompt="q")]).value == 0.5

    add_rankings(store, 10)
    model = model_of(store)
    model.refit()
    assert model.accuracies.prequential is None  # nobody predicted these
    wrong = tuple(store.rankings()[0].shown)
    store.add_ranking(
        Ranking("p0", tuple((i,) for i in wrong), wrong, predicted=(1.0, 2.0, 3.0, 4.0))
    )
    model.refit()
    assert model.accuracies.prequential.value == 0.0
    assert model.accuracies.prequential.count == 6


def test_predictions_are_made_before_the_ranking_and_none_without_a_head(store):
    rng = np.random.default_rng(0)
    model = model_of(store)
    ids, utilities = add_prompt(store, rng, "p0")
    assert model.predict(ids) is None
    store.add_ranking(Ranking("p0", tiers_by(ids, utilities), tuple(ids)))
    model.refit()
    predicted = np.array(model.predict(ids))
    expected = model.head.score(["p0"] * K, model.features(ids))
    assert np.allclose(np.diff(predicted), np.diff(expected))


def test_without_pairs_nothing_is_ready(store):
    model = model_of(store)
    assert model.refit() is None
    with pytest.raises(NotReady, match=r"study.rank\(\)"):
        model.require_head()
    store.add_ranking(Ranking("p", None, (1, 2)))
    with pytest.raises(NotReady):
        model.require_head()
    with pytest.raises(NotReady, match="no features"):
        model.features([1])


def test_one_ranking_is_enough_and_undoing_it_takes_the_head_away(store):
    add_rankings(store, 1)
    model = model_of(store)
    head = model.require_head()
    scores = head.score(["p0"] * K, model.features(store.rankings()[0].shown))
    assert np.argmax(scores) == store.rankings()[0].shown.index(store.rankings()[0].tiers[0][0])
    assert model.accuracies.cv is None  # one prompt can't be cross-validated
    store.undo()
    assert model.refit() is None
    with pytest.raises(NotReady):
        model.require_head()


def test_every_fit_has_a_version_of_its_own(store):
    add_rankings(store, 3)
    model = model_of(store)
    assert [model.refit().version for _ in range(3)] == [1, 2, 3]


def test_features_added_late_to_old_completions_are_found(store):
    add_rankings(store, 3)
    old = store.add_completions([Completion("old", "t", (1,), True)])
    model = model_of(store)
    newer, _ = add_prompt(store, np.random.default_rng(0), "newer")
    model.features(newer)
    with pytest.raises(NotReady):
        model.features(old)
    store.add_features(old, "x", [np.ones(H)])
    assert model.features(old).tolist() == [[1.0] * H]


def test_a_head_comes_back_from_disk_as_it_was(store, tmp_path):
    add_rankings(store, 5)
    head = model_of(store).refit()
    head.save(tmp_path)
    again = RewardHead.load(tmp_path)
    assert np.array_equal(head.weight, again.weight)
    assert replace(again, weight=None) == replace(head, weight=None)
    x = np.random.default_rng(0).normal(size=(3, H))
    assert np.array_equal(head.score(["p0", "p1", "?"], x), again.score(["p0", "p1", "?"], x))


@pytest.mark.parametrize("file", ["reward.json", "reward.safetensors"])
@pytest.mark.parametrize("damage", [None, b"", b"{", b'{"x": 1}', b"\xff\xfe"])
def test_a_damaged_head_is_named_and_untouched(store, tmp_path, file, damage):
    add_rankings(store, 2)
    model_of(store).refit().save(tmp_path)
    (tmp_path / file).unlink()
    if damage is not None:
        (tmp_path / file).write_bytes(damage)
    with pytest.raises(DamagedStudy, match="reward model"):
        RewardHead.load(tmp_path)
    assert damage is None or (tmp_path / file).read_bytes() == damage


def test_folds_keep_a_prompt_together_and_fits_see_nothing_of_it():
    prompts = [f"p{i // 3}" for i in range(30)]
    fold = assign_folds(prompts)
    assert all(len(set(fold[i : i + 3])) == 1 for i in range(0, 30, 3))
    assert len(set(fold)) == 5

    x = np.zeros((30, 10))
    x[np.arange(30), np.arange(30) // 3] = 1.0  # a feature that only its own prompt has
    margins = cross_validate(x, np.ones(30), np.ones(30), fold, 0.1)
    assert not margins.any()


def test_no_ranking_outvotes_another(store):
    """One ranking of 9 completions against two of 2, which want the opposite."""
    nine = np.zeros((9, H), np.float32)
    nine[:, 0] = np.arange(9)
    ids = store.add_completions([Completion("a", "t", (1,), True)] * 9, "x", nine / 8)
    store.add_ranking(Ranking("a", tuple((i,) for i in ids), tuple(ids)))  # small is good
    model = model_of(store)
    assert model.refit().weight[0] < 0
    for prompt in ("b", "c"):
        two = np.zeros((2, H), np.float32)
        two[0, 0] = 5 / 12  # the mean difference within the ranking of nine
        ids = store.add_completions([Completion(prompt, "t", (1,), True)] * 2, "x", two)
        store.add_ranking(Ranking(prompt, ((ids[0],), (ids[1],)), tuple(ids)))
    assert model.refit().weight[0] > 0
