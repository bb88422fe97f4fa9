"""The reward model finds the preference that was planted, and measures itself honestly."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from lab.bradley_terry import BradleyTerry, block_scales, sigmoid
from lab.errors import DamagedStudy, NotReady
from lab.judgements import Judgements
from lab.preferences import Completion, Ranking, pairs_of
from lab.reward import RewardHead, RewardModel
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


def add_rankings(
    store, prompts: int, seed: int = 0, levels=None, first: int = 0, noise: float = 0.0
) -> None:
    rng = np.random.default_rng(seed)
    for n in range(first, first + prompts):
        ids, utilities = add_prompt(store, rng, f"p{n}")
        utilities += noise * rng.gumbel(size=K)
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
    assert model.accuracies.l2 < 1


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
    add_rankings(store, 10)
    model = model_of(store)
    model.refit()
    assert model.accuracies.prequential is None  # nobody predicted these
    wrong = tuple(store.rankings()[0].shown)
    store.add_ranking(
        Ranking("new", tuple((i,) for i in wrong), wrong, predicted=(1.0, 2.0, 3.0, 4.0))
    )
    model.refit()
    assert model.accuracies.prequential.value == 0.0
    assert model.accuracies.prequential.count == 6


@pytest.mark.parametrize("more", [{"prompt": "p0"}, {"prompt": "new", "selection": "unsure"}])
def test_prequential_accuracy_is_of_new_prompts_that_came_at_random(store, more):
    add_rankings(store, 3)
    shown = tuple(store.rankings()[0].shown)
    tiers = tuple((i,) for i in shown)
    store.add_ranking(Ranking(tiers=tiers, shown=shown, predicted=(1.0, 2.0, 3.0, 4.0), **more))
    model = model_of(store)
    model.refit()
    assert model.accuracies.rankings == 4 and model.accuracies.prequential is None


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


def minimum(model, rankings, scaled_by) -> np.ndarray:
    """The head's weights by L-BFGS, with the model's own L2 strength; scales from some rankings."""
    pairs = [p for r in rankings for p in pairs_of(r)]
    scale = block_scales(model.design([p for r in scaled_by for p in pairs_of(r)])[0])
    x, y, weight = model.design(pairs)
    x, l2 = x / scale, model.accuracies.l2

    def loss(w):
        m = x @ w
        value = weight @ (np.logaddexp(0, m) - y * m) + 0.5 * l2 * w @ w
        return value, x.T @ (weight * (sigmoid(m) - y)) + l2 * w

    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
    return minimize(loss, np.zeros(H), jac=True, method="L-BFGS-B", options=options).x / scale


def test_a_refit_after_one_more_ranking_finds_the_minimum(store):
    add_rankings(store, 30, levels=2.0)
    model = model_of(store)
    model.refit()
    for n in range(30, 33):
        add_rankings(store, 1, seed=n, levels=2.0, first=n)
        head = model.refit()
    rankings = store.rankings()
    expected = minimum(model, rankings, rankings[:30])  # a tenth more would choose anew
    assert np.abs(head.weight - expected).max() < 1e-3 * np.abs(expected).max()


def test_the_l2_strength_of_many_rankings_is_chosen_from_some_and_all_train(store, monkeypatch):
    monkeypatch.setattr("lab.reward.L2_FROM", 10)
    add_rankings(store, 50)  # five times as many as there are folds
    judged = Judgements(store, frozenset())
    judged.read()
    drawn = {p.ranking for p in judged.sample(10)}
    assert len(drawn) == 10 and len(judged.sample(10)) == 10 * 6
    assert len(set(judged.fold(judged.sample(10)))) > 2
    assert judged.sample(50) == judged.training

    model = model_of(store)
    head, rankings = model.refit(), store.rankings()
    expected = minimum(model, rankings, [r for r in rankings if r.id in drawn])
    assert np.abs(head.weight - expected).max() < 1e-3 * np.abs(expected).max()
    assert model.accuracies.cv.count == 50 * 6
    assert model.accuracies.l2 < 1  # not what stands where nothing can be compared


def test_what_another_notebook_ranks_and_undoes_is_seen(store):
    add_rankings(store, 20)
    other, model = quick(store.path), model_of(store)
    model.refit()
    add_rankings(other, 5, seed=1, first=20)
    other.undo()
    add_rankings(store, 2, seed=2, first=30)
    other.undo()  # one that the model knows by then, with newer ones after it
    model.refit()
    assert model.accuracies.rankings == 25
    ids, utilities = add_prompt(store, np.random.default_rng(3), "opposite")
    for tiers in (tiers_by(ids, utilities), tiers_by(ids, -utilities)):
        store.add_ranking(Ranking("opposite", tiers, tuple(ids), rater="a"))
        store.add_ranking(Ranking("opposite", tiers, tuple(ids), rater="b"))
    model.refit()
    other.undo("a")
    other.undo("b")
    other.close()
    fresh = model_of(store)
    head, expected = model.refit(), fresh.refit()
    assert model.accuracies.rankings == fresh.accuracies.rankings == 27
    assert cosine(head.weight, expected.weight) > 0.99  # the L2 strengths differ
    assert model.accuracies.cv.count == fresh.accuracies.cv.count
    assert head.offsets.keys() == expected.offsets.keys()


def test_an_undone_ranking_leaves_the_fit_also_where_nothing_is_chosen_anew(store):
    add_rankings(store, 30)
    model = model_of(store)
    before = model.refit().weight
    add_rankings(store, 1, seed=9, first=30)
    assert np.abs(model.refit().weight - before).max() > 0.01 * np.abs(before).max()
    store.undo()
    assert np.abs(model.refit().weight - before).max() < 1e-3 * np.abs(before).max()


def test_the_l2_strength_is_chosen_anew_whenever_a_tenth_is_new_or_undone(store, monkeypatch):
    chosen, choose = [], BradleyTerry.choose_l2
    monkeypatch.setattr(
        BradleyTerry, "choose_l2", lambda fits: chosen.append(fits.count // 6) or choose(fits)
    )
    add_rankings(store, 30)
    model = model_of(store)
    model.refit()
    for n in range(30, 36):
        add_rankings(store, 1, seed=n, first=n)
        model.refit()
    assert chosen == [30, 34]
    store.undo()
    model.refit()
    assert chosen == [30, 34]  # two came, one of them went
    store.undo()
    model.refit()
    assert chosen == [30, 34, 34]


def test_a_refit_without_news_changes_no_weight(store):
    add_rankings(store, 15)
    model = model_of(store)
    assert np.array_equal(model.refit().weight, model.refit().weight)


def predicted_rankings(store, model, count: int, times: float) -> None:
    """Rankings by noisy utilities, predicted as those utilities `times` what they are."""
    rng = np.random.default_rng(4)
    for n in range(count):
        ids, utilities = add_prompt(store, rng, f"q{n}")
        tiers = tiers_by(ids, utilities + rng.gumbel(size=K))
        store.add_ranking(Ranking(f"q{n}", tiers, tuple(ids), predicted=tuple(times * utilities)))
    model.refit()


def test_probabilities_use_the_temperature_of_the_predictions(store, tmp_path):
    model = model_of(store)
    assert model.probability([1], [2]) is None
    predicted_rankings(store, model, 4, 3.0)
    ids = store.rankings()[0].shown
    raw = model.head.raw(model.features(ids[:2]))
    assert model.head.temperature is None  # too few: the fit's own probability
    assert model.probability(ids[:1], ids[1:2]) == pytest.approx(sigmoid(raw[0] - raw[1]))
    predicted_rankings(store, model, 150, 3.0)
    assert model.head.temperature == pytest.approx(3, abs=0.8)
    raw = model.head.raw(model.features(ids[:2])) / model.head.spread
    expected = sigmoid((raw[0] - raw[1]) / model.head.temperature)
    p = model.probability(ids[:2], (ids[1], ids[0]))
    assert p == pytest.approx([expected, 1 - expected])
    assert model.predictions.log_loss(model.head.temperature) < model.predictions.log_loss()


def test_a_head_saved_before_there_were_temperatures_is_read(tmp_path):
    RewardHead(np.ones(2), 2.0, {"a": 1.0}, 1, "x", 3.0).save(tmp_path)
    assert RewardHead.load(tmp_path).temperature == 3.0
    file = tmp_path / "reward.json"
    older = json.loads(file.read_text())
    del older["temperature"]
    file.write_text(json.dumps(older))
    head = RewardHead.load(tmp_path)
    assert head.temperature is None
    assert head.probability(1.5) == pytest.approx(sigmoid(3.0))


def dense_std(model, rankings, scaled_by, ids_a, ids_b) -> np.ndarray:
    """From the inverse of the Hessian, all of it."""
    scale = block_scales(model.design([p for r in scaled_by for p in pairs_of(r)])[0])
    x, _, weight = model.design([p for r in rankings for p in pairs_of(r)])
    p = sigmoid(x @ model.head.weight)
    curvature = (x * (weight * p * (1 - p))[:, None]).T @ x
    covariance = np.linalg.inv(curvature + model.accuracies.l2 * np.diag(scale**2))
    d = model.features(ids_a) - model.features(ids_b)
    return np.sqrt(np.einsum("ih,hk,ik->i", d, covariance, d)) / model.head.spread


@pytest.mark.parametrize("rankings", [2, 30])
def test_the_std_of_a_margin_is_that_of_the_dense_posterior(store, rankings):
    model = model_of(store)
    assert model.margin_std([1], [2]) is None and model.uncertainty([1, 2]) is None
    add_rankings(store, rankings, levels=2.0)
    model.refit()
    ids, _ = add_prompt(store, np.random.default_rng(1), "new")
    kept = store.rankings()
    expected = dense_std(model, kept, kept, ids[:2], ids[2:])
    assert model.margin_std(ids[:2], ids[2:]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("change", ["more", "undone", "more of many", "undone of many"])
def test_the_std_of_a_margin_keeps_up_with_the_rankings(store, monkeypatch, change):
    if "many" in change:
        monkeypatch.setattr("lab.reward.SMALL", 0)
    add_rankings(store, 30, noise=4.0)
    model = model_of(store)
    model.refit()
    before = store.rankings()
    if "undone" in change:
        store.undo()
    else:
        add_rankings(store, 2, seed=1, first=30, noise=4.0)
    model.refit()
    ids, _ = add_prompt(store, np.random.default_rng(1), "new")
    expected = dense_std(model, store.rankings(), before, ids[:2], ids[2:])
    exact = 0.03 if change == "more of many" else 1e-4  # earlier pairs' curvature is an older one
    assert model.margin_std(ids[:2], ids[2:]) == pytest.approx(expected, rel=exact)


def test_rankings_make_the_model_surer_of_what_is_like_them(store):
    add_rankings(store, 5)
    ids, _ = add_prompt(store, np.random.default_rng(1), "new")
    model, found = model_of(store), []
    for n in range(5, 205, 50):
        add_rankings(store, 50, seed=n, first=n)
        model.refit()
        found.append(model.uncertainty(ids))
        same = store.add_completions([Completion("s", "t", (1,), True)] * 2, "x", np.ones((2, H)))
        assert model.uncertainty(same) == 0
    assert 0.5 > found[0] > found[-1] > 0


def test_the_model_is_least_sure_where_it_has_seen_nothing(store):
    """Of completions that differ in features no ranking has shown, as much as others do."""
    rng, model = np.random.default_rng(0), model_of(store)
    for n in range(40):
        features = np.zeros((K, H), np.float32)
        features[:, : H // 2] = rng.normal(size=(K, H // 2))
        ids = store.add_completions([Completion(f"p{n}", "t", (1,), True)] * K, "x", features)
        store.add_ranking(Ranking(f"p{n}", tiers_by(ids, features @ PLANTED), tuple(ids)))
    model.refit()
    known, strange = (
        store.add_completions([Completion("?", "t", (1,), True)] * 2, "x", np.eye(H)[[i, i + 1]])
        for i in (0, H // 2)
    )
    assert model.uncertainty(strange) == pytest.approx(0.5)
    assert model.uncertainty(strange[:1]) is None
    assert model.uncertainty(known) < 0.3
    assert model.margin_std(*np.array(strange)[:, None]) > model.margin_std(
        *np.array(known)[:, None]
    )


@pytest.mark.parametrize("rankings", [1, 3])
@pytest.mark.parametrize("prompts", [1, 3])
def test_completions_of_the_same_features_teach_nothing_and_break_nothing(store, rankings, prompts):
    for n in range(rankings):
        prompt = f"p{n % prompts}"
        same = np.ones((2, H), np.float32)
        ids = store.add_completions([Completion(prompt, "t", (1,), True)] * 2, "x", same)
        predicted = (0.0, 0.0)
        store.add_ranking(Ranking(prompt, ((ids[0],), (ids[1],)), tuple(ids), predicted=predicted))
    model = model_of(store)
    head = model.require_head()
    assert not head.weight.any() and head.spread == 1.0 and head.temperature is None
    assert model.predict(ids) == (0.0, 0.0)
    assert model.probability(ids[:1], ids[1:]) == 0.5
    assert model.margin_std(ids[:1], ids[1:]) == 0 and model.uncertainty(ids) == 0
    assert model.accuracies.prequential.value == 0.5
    if min(rankings, prompts) > 1:
        assert model.accuracies.cv.value == 0.5
    else:
        assert model.accuracies.cv is None


def test_one_prompt_ranked_again_and_again_has_a_head_and_no_cross_validation(store):
    rng = np.random.default_rng(0)
    for _ in range(12):
        ids, utilities = add_prompt(store, rng, "p")
        store.add_ranking(Ranking("p", tiers_by(ids, utilities), tuple(ids)))
    model = model_of(store)
    head = model.refit()
    assert cosine(head.weight, PLANTED) > 0.5
    assert model.accuracies.cv is None and model.accuracies.l2 == 1.0
    add_rankings(store, 1)
    model.refit()
    assert model.accuracies.cv is not None
