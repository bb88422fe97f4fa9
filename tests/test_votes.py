"""Blind votes: how they are kept, drawn, and counted."""

from __future__ import annotations

import numpy as np
import pytest
from studies import HOSTILE, PROMPTS, rank_some, small_study

from lab.blind import BlindTest
from lab.errors import BadSetting, LabError, NotReady
from lab.store import PreferenceStore
from lab.votes import Vote, Votes, linked_to, standings, strengths


def vote(winner: str, a: str = "ppo-1@5", b: str = "reference", prompt: str = "p") -> Vote:
    return Vote(prompt, (a, b), ("one", "two"), winner)


# Kept


def test_a_vote_is_kept_as_it_was_given(store) -> None:
    given = Vote(
        prompt=HOSTILE,
        variants=("ppo-1@5", "model:" + HOSTILE),
        texts=(HOSTILE, "מה שלומך"),
        winner="tie",
        rater=HOSTILE,
        seconds=1.5,
        sampling={"seed": 3, "temperature": 0.7, "max_new_tokens": 8},
    )
    kept = Votes(store).add(given)
    again = Votes(PreferenceStore(store.path)).all()
    assert again == [Votes(store).all(rater=HOSTILE)[0]]
    assert again[0].id == kept.id == 1 and again[0].created == kept.created > 0
    assert again[0].texts[1] == given.texts[1] and "\ud83d" not in again[0].prompt
    for name in ("winner", "seconds", "sampling", "simulated"):
        assert getattr(again[0], name) == getattr(given, name)


def test_undo_takes_back_the_last_vote_of_a_rater_and_keeps_the_row(store) -> None:
    votes = Votes(store)
    votes.add(vote("a"))
    votes.add(Vote("p", ("x", "y"), ("", ""), "b", rater="other"))
    assert votes.undo("me").winner == "a"
    assert [v.rater for v in votes.all()] == ["other"]
    assert votes.undo("me") is None and votes.undo().rater == "other"
    assert votes.all() == [] and votes.given() == 2


def test_a_vote_for_nobody_is_refused(store) -> None:
    with pytest.raises(BadSetting, match="winner='c'"):
        Votes(store).add(vote("c"))
    assert Votes(store).given() == 0


# Counted


def test_win_rates_count_ties_half_and_both_bad_apart() -> None:
    votes = [vote(w, prompt=f"p{i}") for i, w in enumerate(["a", "a", "b", "tie", "bad"])]
    votes.append(vote("b", "reference", "ppo-1@5", "p9"))  # B is the run: it won
    run, reference = standings(votes)
    assert (run.name, run.votes, run.bad) == ("ppo-1@5", 6, 1)
    assert run.win_rate.value == pytest.approx(3.5 / 5) and run.win_rate.count == 5
    assert reference.win_rate.value == pytest.approx(1.5 / 5)
    assert reference.strength.value == 0 < run.strength.value
    assert run.verdict == "not enough yet to tell it from even (votes: 5)"


def test_a_verdict_needs_an_interval_past_even() -> None:
    many = [vote("a", prompt=f"p{i}") for i in range(30)]
    run, reference = standings(many)
    assert run.verdict == "preferred more often than not"
    assert reference.verdict == "preferred less often than not"
    few = standings(many[:8])[0]
    assert few.verdict == "preferred more often than not (few votes: 8)"
    assert standings([vote("bad")])[0].verdict == "no votes yet"
    assert standings([]) == []


def test_votes_on_one_prompt_widen_the_interval() -> None:
    spread = [vote("a" if i % 3 else "b", prompt=f"p{i}") for i in range(30)]
    lumped = [vote("a" if i // 5 % 3 else "b", prompt=f"p{i // 5}") for i in range(30)]
    width = [s[0].win_rate.high - s[0].win_rate.low for s in map(standings, (spread, lumped))]
    assert width[1] > 1.5 * width[0]


def test_strengths_are_those_that_made_the_votes() -> None:
    true = {"reference": 0.0, "x": 1.0, "y": -0.7}
    rng, votes = np.random.default_rng(1), []
    for i in range(3000):
        a, b = rng.permutation(list(true))[:2]
        won = rng.random() < 1 / (1 + np.exp(true[b] - true[a]))
        votes.append(vote("a" if won else "b", str(a), str(b), f"p{i}"))
    found = strengths(votes, "reference")
    for name, value in true.items():
        assert found[name].value == pytest.approx(value, abs=0.2)
        assert found[name].low <= value <= found[name].high
    assert [s.name for s in standings(votes)] == ["x", "reference", "y"]
    # the maximum of the likelihood: wins as expected, less what the prior takes
    expected = sum(
        1 / (1 + np.exp(found[o].value - found["x"].value))
        for v in votes
        if "x" in v.variants
        for o in v.variants
        if o != "x"
    )
    wins = sum(v.variants["ab".index(v.winner)] == "x" for v in votes if "x" in v.variants)
    assert wins - expected == pytest.approx(0.1 * found["x"].value, abs=0.05)


def test_the_interval_is_that_of_the_curvature() -> None:
    """Two variants: the Hessian is n·p·(1-p) and the prior's 0.1."""
    votes = [vote("b" if i % 10 == 0 else "a", prompt=str(i)) for i in range(200)]
    found = strengths(votes, "reference")["ppo-1@5"]
    p = 1 / (1 + np.exp(-found.value))
    assert found.value == pytest.approx(np.log(9), abs=0.05)
    assert found.high - found.value == pytest.approx(
        1.959964 / np.sqrt(200 * p * (1 - p) + 0.1), rel=1e-3
    )


def test_who_never_lost_has_a_finite_strength() -> None:
    found = strengths([vote("a")] * 5, "reference")["ppo-1@5"]
    assert 0 < found.low < found.value < 5 or found.low < 0 < found.value < 5


def test_no_votes_link_no_strength() -> None:
    votes = [vote("a"), vote("a", "x", "y"), vote("bad", "x", "reference")]
    assert linked_to("reference", votes[:2]) == ["reference", "ppo-1@5"]
    found = {s.name: s for s in standings(votes)}
    assert found["x"].strength is None and found["y"].strength is None
    assert found["x"].win_rate.value == 1 and found["ppo-1@5"].strength is not None


# Drawn


@pytest.fixture
def trained(study):
    rank_some(study)
    study.trainer(batch_size=4, learning_rate=0.01).train(1)
    return study


def test_a_duel_is_drawn_from_its_number_alone(trained) -> None:
    tests = [BlindTest(trained, ["reference", "ppo-1", "best-of-2"]) for _ in range(2)]
    draws = [tests[0].draw(n) for n in range(60)]
    assert draws == [tests[1].draw(n) for n in range(60)]
    assert draws != [BlindTest(trained, tests[0].names, seed=9).draw(n) for n in range(60)]
    assert len({names for _, names, _ in draws}) == 6, "every pair in both orders"
    assert all(a != b for _, (a, b), _ in draws)
    heldout = trained.heldout
    assert heldout == PROMPTS[3::4], "in the order of the file"
    assert sorted(p for p, _, _ in draws[: len(heldout)]) == sorted(heldout)


def test_a_vote_names_who_said_what(trained) -> None:
    blind = BlindTest(trained)
    seen = set()
    for _ in range(6):
        blind.prepare()
        duel = blind.next()
        kept = blind.vote("a")
        assert kept.variants == duel.variants and kept.texts == duel.texts
        assert set(kept.variants) == {"reference", "ppo-1@1"}
        own = kept.sampling
        for place, name in enumerate(kept.variants):
            how = {k: own[k] for k in ("temperature", "max_new_tokens")}
            said = trained.variant(name).answer([kept.prompt], seed=own["seed"] + place, **how)
            assert said.texts == [kept.texts[place]]
        seen.add(kept.variants)
    assert len(seen) == 2, "both orders"
    assert all(v.seconds >= 0 for v in Votes(trained.store).all())


def test_after_a_restart_the_same_duel_comes_again(trained, tmp_path, model) -> None:
    blind = BlindTest(trained)
    for _ in range(3):
        blind.prepare()
    blind.next()
    blind.vote("tie")
    shown = blind.next()
    trained.trainer().save()
    again = BlindTest(small_study(tmp_path, model))
    again.prepare()
    assert again.next() == shown


def test_undo_shows_the_duel_again_and_keeps_the_next_one(trained) -> None:
    blind = BlindTest(trained)
    for _ in range(2):
        blind.prepare()
    first = blind.next()
    blind.vote("b")
    second = blind.next()
    assert blind.undo().winner == "b"
    assert blind.current.texts == first.texts and blind.current.variants == first.variants
    assert Votes(trained.store).all() == []
    assert blind.vote("a").sampling["revealed"], "it is not blind any more, and says so"
    assert blind.next() == second and "revealed" not in second.sampling
    assert [v.winner for v in Votes(trained.store).all()] == ["a"]


def test_a_vote_without_a_duel_is_refused(trained) -> None:
    blind = BlindTest(trained)
    assert blind.next() is None
    with pytest.raises(NotReady, match="nothing to vote on"):
        blind.vote("a")


def test_a_blind_test_needs_two_variants(study) -> None:
    with pytest.raises(NotReady, match="PPO steps"):
        BlindTest(study)
    for names in ([], ["reference"], ["reference", "reference"]):
        with pytest.raises(BadSetting, match="two different ones"):
            BlindTest(study, names)
    with pytest.raises(LabError, match="There is: reference"):
        BlindTest(study, ["reference", "ppo-9"], PROMPTS)


def test_a_run_is_not_voted_on_against_itself(trained) -> None:
    with pytest.raises(BadSetting, match="two different ones"):
        BlindTest(trained, ["ppo-1", "ppo-1@1"])
    assert BlindTest(trained, ["ppo-1@0", "ppo-1", "ppo-1@1"]).names == ["ppo-1@0", "ppo-1"]
