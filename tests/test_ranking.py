"""A session of ranking: what is asked next and how likely that was, edits, repeats, raters."""

from __future__ import annotations

import time

import numpy as np
import pytest
from studies import rank_some, small_study

from lab.errors import AlreadyAnswered, LabError
from lab.guess import guess_of, ranks_of
from lab.preferences import Ranking
from lab.questions import (
    RANDOM_SHARE,
    REPEAT_AFTER,
    choose_repeat,
    choose_unsure,
    drawn_at,
    other_order,
)
from lab.ranking import last_rater
from lab.reward import RewardHead

ORDER = [[0], [1], [2], [3]]
OTHERS = [f"Ask {i}" for i in range(20)]


def answer(session, count: int = 1, tiers=ORDER) -> list[Ranking]:
    """Answer some questions and refit, as the board does."""
    given = []
    for _ in range(count):
        session.next()
        given.append(session.submit(tiers))
        session.study.refit()
    return given


# What is asked next


def test_an_unsure_choice_says_how_likely_it_was() -> None:
    doubts = {"easy": 0.1, "hard": 0.4}
    chosen = [choose_unsure(s, 3, "other", 10, doubts) for s in range(2000)]
    unsure = [c for c in chosen if c.selection == "unsure"]
    assert {(c.prompt, c.probability) for c in unsure} == {("hard", 0.7 + 0.3 / 10)}
    random = {(c.prompt, c.probability) for c in chosen if c.selection == "random"}
    assert random == {("other", 0.3 / 10)}
    share = 1 - len(unsure) / len(chosen)
    assert share == pytest.approx(RANDOM_SHARE, abs=4 * np.sqrt(0.21 / 2000))


def test_a_random_draw_of_the_unsure_prompt_counts_both_ways_to_it() -> None:
    chosen = {choose_unsure(s, 0, "hard", 4, {"hard": 0.4}) for s in range(50)}
    assert {c.selection for c in chosen} == {"random", "unsure"}
    assert {c.probability for c in chosen} == {0.7 + 0.3 / 4}


def test_without_a_model_or_completions_the_choice_is_random() -> None:
    for doubts in ({}, {"hard": None}):
        choice = choose_unsure(0, 0, "other", 5, doubts)
        assert (choice.prompt, choice.selection, choice.probability) == ("other", "random", 0.2)


def test_draws_are_uniform_among_what_is_left() -> None:
    left = OTHERS[::4]
    drawn = [drawn_at(0, n, OTHERS, left) for n in range(2000)]
    for prompt in left:
        assert drawn.count(prompt) / 2000 == pytest.approx(0.2, abs=4 * np.sqrt(0.16 / 2000))


def test_a_session_asks_where_the_model_is_least_sure(study) -> None:
    rank_some(study, 3)
    session = study.session(ask="unsure")
    study.completions.ensure(session.upcoming(), k=4)
    found = study.store.ids_by_prompt("reference")
    doubts = {p: study.reward_model.uncertainty(found[p]) for p in session.upcoming()}
    asked = []
    for _ in range(6):
        session.next()
        asked.append(session.submit(ORDER))
    unsure = [r for r in asked if r.selection == "unsure"]
    assert unsure and unsure[0].prompt == max(
        (p for p in doubts if p not in [r.prompt for r in asked[: asked.index(unsure[0])]]),
        key=doubts.get,
    )
    left = len(doubts) - asked.index(unsure[0])
    assert unsure[0].selection_probability == pytest.approx(0.7 + 0.3 / left)


def test_after_unsure_choices_a_random_one_is_no_longer_what_they_left_over(study) -> None:
    rank_some(study, 3)
    session = study.session(ask="unsure")
    while not any(r.selection == "unsure" for r in session.done):
        answer(session)
    session.ask = "random"
    upcoming, order = session.upcoming(), study.completions.order()
    drawn = drawn_at(study.seed, len(session.done), order, upcoming)
    assert session.next().prompt == drawn
    assert session.current.selection_probability == 1 / len(upcoming)


def test_the_random_question_to_come_is_among_those_prepared(study) -> None:
    rank_some(study, 3)
    session = study.session(ask="unsure")
    for _ in range(6):
        session.prepare(3)
        choice, ready = session.choose(), session.ready()
        assert choice.prompt in ready and not session.waits()
        next_one = len(session.done) + 1
        drawn = drawn_at(study.seed, next_one, study.completions.order(), session.upcoming())
        assert drawn in ready
        answer(session)


def test_a_question_stays_until_it_is_answered_also_in_a_new_session(study) -> None:
    rank_some(study, 3)
    study.completions.ensure(study.completions.order())
    asked = study.session(ask="unsure").next()
    again = study.session(ask="unsure").next()
    assert again.prompt == asked.prompt
    assert [c.id for c in again.completions] == [c.id for c in asked.completions]


def test_a_session_sees_what_another_notebook_judged(study) -> None:
    here, there = study.session(), study.session()
    here.next()
    answer(there)
    assert here.next().prompt != there.done[0].prompt
    assert len(here.done) == 1
    there.undo()
    assert here.done == []


@pytest.mark.parametrize("bad", [{"ask": "hard"}, {"repeats": -0.1}, {"repeats": 1}, {"k": 1}])
def test_what_cannot_be_asked_is_refused(study, bad) -> None:
    with pytest.raises(LabError, match=next(iter(bad))):
        study.session(**bad)


# Repeats


def test_a_repeat_comes_late_once_in_another_order_and_trains_nothing(tmp_path, model) -> None:
    study = small_study(tmp_path, model, prompts=[f"Thing {i}" for i in range(20)])
    session = study.session(repeats=0.6)
    given = answer(session, 24)
    repeats = [r for r in given if r.repeats is not None]
    assert len(repeats) >= 3
    assert len({r.repeats for r in repeats}) == len(repeats)
    for again in repeats:
        first = next(r for r in given if r.id == again.repeats)
        assert again.prompt == first.prompt and sorted(again.shown) == sorted(first.shown)
        assert again.shown != first.shown
        assert given.index(again) - given.index(first) >= REPEAT_AFTER
    trained = {pair.ranking for pair in study.store.pairs()}
    assert trained.isdisjoint(r.id for r in repeats)
    assert study.reward_model.accuracies.rankings == len(given) - len(repeats)


def test_no_question_is_repeated_before_it_is_old_or_unless_it_was_ranked() -> None:
    def ranked(id: int, tiers=((1,), (2,))) -> Ranking:
        return Ranking(f"p{id}", tiers, (1, 2), id=id)

    history = [ranked(i) for i in range(1, REPEAT_AFTER + 1)]
    assert choose_repeat(0, history, 0.99) is None
    skipped = [ranked(9, tiers=None), *history]
    assert choose_repeat(0, skipped, 0.99) is None
    assert choose_repeat(0, [*history, ranked(6)], 0.99).repeats == 1
    assert choose_repeat(0, [*history, ranked(6)], 0.0) is None


def test_two_completions_that_come_again_have_changed_places() -> None:
    assert {tuple(other_order(seed, (5, 6), 1)) for seed in range(20)} == {(6, 5)}


# Raters


def test_every_rater_is_asked_the_same_questions(study) -> None:
    ada, bo = study.session("Ada"), study.session("Bo")
    one, two = answer(ada, 3), answer(bo, 3)
    assert [r.prompt for r in one] == [r.prompt for r in two]
    assert [r.shown for r in one] == [r.shown for r in two]
    assert [r.rater for r in study.store.rankings()] == ["Ada"] * 3 + ["Bo"] * 3


def test_raters_do_not_undo_each_other(study) -> None:
    ada, bo = study.session("Ada"), study.session("Bo")
    answer(ada, 2)
    answer(bo, 1)
    assert ada.undo().rater == "Ada"
    assert (len(ada.done), len(bo.done)) == (1, 1)


def test_another_rater_at_the_same_session_has_another_open_question(study) -> None:
    session = study.session("Ada")
    answer(session, 2)
    session.next()
    session.rater = "  Bo \n B. "
    assert session.rater == "Bo B." and session.current is None and session.guess is None
    assert session.next().prompt == study.completions.order()[0]
    with pytest.raises(LabError, match="1 to 60 characters"):
        session.rater = " "
    assert session.rater == "Bo B."


def test_a_simulated_rater_is_asked_what_it_has_not_ranked_whoever_else_has(study) -> None:
    answer(study.session(), 2)
    rank_some(study, 2)
    assert study.store.judged() == study.completions.order()[:2]
    assert last_rater(study.store) == "me"


def test_a_rater_of_any_name_is_kept(study) -> None:
    session = study.session("\ud83d' OR 1=1 --")
    answer(session, 1)
    assert len(session.done) == 1 and last_rater(study.store) == session.rater


# Edits and undo


def test_an_edit_replaces_the_ranking_and_keeps_what_was_predicted(study) -> None:
    session = study.session()
    answer(session, 2)
    old = session.done[1]
    session.next()
    open_question = session.current
    question = session.edit(old.id)
    assert [c.id for c in question.completions] == list(old.shown)
    new = session.submit([[3], [0, 1, 2]], note="slip")
    assert new.edits == old.id and new.predicted == old.predicted and new.note == "slip"
    assert new.selection_probability == old.selection_probability
    assert session.current is open_question
    assert [r.id for r in session.done] == [1, new.id]


def test_leaving_an_edit_changes_nothing_and_the_clock_goes_on(study) -> None:
    session = study.session()
    answer(session)
    open_question = session.next()
    session.started -= 100
    session.edit(session.done[0].id)
    session.leave()
    assert session.current is open_question and len(session.done) == 1
    assert session.submit(ORDER).seconds == pytest.approx(100, abs=5)


def test_undoing_an_edit_brings_back_what_it_replaced(study) -> None:
    session = study.session()
    first = answer(session)[0]
    open_question = session.next()
    session.edit(first.id)
    second = session.submit([[3], [2], [1], [0]])
    assert session.undo() == second
    assert session.done == [first] and session.current is open_question


def test_undo_goes_back_to_the_beginning(study) -> None:
    session = study.session()
    given = answer(session, 4)
    assert [session.undo().id for _ in range(4)] == [r.id for r in reversed(given)]
    assert session.undo() is None and session.guess is None
    assert session.current.prompt == given[0].prompt


def test_an_undone_question_keeps_how_it_was_chosen(study) -> None:
    rank_some(study, 3)
    study.completions.ensure(study.completions.order())
    session = study.session(ask="unsure")
    while (asked := answer(session)[0]).selection != "unsure":
        pass
    session.undo()
    again = session.submit(ORDER)
    assert (again.selection, again.selection_probability) == (
        asked.selection,
        asked.selection_probability,
    )


def test_only_ones_own_rankings_that_stand_can_be_edited(study) -> None:
    ada, bo = study.session("Ada"), study.session("Bo")
    ranking = answer(ada)[0]
    with pytest.raises(LabError, match="none of 'Bo'"):
        bo.edit(ranking.id)
    ada.undo()
    with pytest.raises(LabError, match="taken back"):
        ada.edit(ranking.id)


# What is said


def test_all_bad_is_one_tier_and_says_so(study) -> None:
    session = study.session()
    session.next()
    with pytest.raises(LabError, match="one tier"):
        session.submit(ORDER, all_bad=True)
    ranking = session.submit([[0, 1, 2, 3]], all_bad=True, note="")
    assert ranking.all_bad and len(ranking.tiers) == 1 and study.store.rankings()[0].note == ""


def test_a_skipped_prompt_can_be_flagged(study) -> None:
    session = study.session()
    session.next()
    session.skip(note="broken text")
    assert study.store.rankings(skipped=True)[0].note == "broken text"


def test_the_median_time_leaves_out_skips_and_edits(study) -> None:
    session = study.session()
    for seconds in (4, 6, 50):
        assert session.seconds is None
        session.next()
        session.submit(ORDER, seconds)
    session.next()
    session.skip(900)
    assert session.seconds == 6
    session.edit(session.done[0].id)
    session.submit(ORDER, 900)
    assert session.seconds is None, "two are left that took their own time"


def test_a_guess_counts_the_pairs_it_had_right() -> None:
    head = RewardHead(np.zeros(1), 1.0, {}, 1, "x", temperature=2.0)
    ranking = Ranking("p", ((12,), (10, 11)), (10, 11, 12), predicted=(0.0, 3.0, 1.0))
    guess = guess_of(ranking, head)
    assert guess.ranks == (3, 1, 2) and guess.agreed == 1 and guess.pairs == 2
    margins = np.array([3.0, 1.0, 2.0])
    assert guess.sure == pytest.approx((1 / (1 + np.exp(-margins / 2))).mean())
    assert ranks_of(ranking.tiers, ranking.shown) == (2, 2, 1)


def test_there_is_no_guess_of_the_first_ranking_nor_of_an_edit(study) -> None:
    session = study.session()
    answer(session)
    assert session.guess is None
    answer(session)
    assert session.guess.pairs == 6
    session.next()
    assert session.guess.pairs == 6  # of the last ranking: the open one has none
    session.edit(session.done[0].id)
    assert session.guess is None
    session.submit(ORDER)
    assert session.guess is None


def test_the_summary_has_the_rankings_and_what_is_known_of_them(study) -> None:
    session = study.session()
    answer(session, 4)
    summary = session.summary()
    assert summary.rankings == 4 and summary.repeats == 0 and summary.consistency is None
    assert summary.agreement == study.reward_model.accuracies.prequential
    assert summary.position_bias[0].value == 1  # the first card was always put first


def test_counting_what_was_done_reads_only_what_is_new(study) -> None:
    session = study.session()
    session.next()
    for i in range(400):
        study.store.add_ranking(
            Ranking(f"x{i}", None, tuple(c.id for c in session.current.completions))
        )
    assert len(session.done) == 400
    start = time.perf_counter()
    assert len(session.done) == 400
    assert time.perf_counter() - start < 0.05


def test_held_out_prompts_are_asked_when_wanted_and_train_nothing(study) -> None:
    held_out = {p.text for p in study.prompts if p.split == "heldout"}
    rank_some(study, 4)
    session = study.session(heldout=True)
    assert set(session.upcoming()) == held_out
    session.simulate(lambda prompt, text: -len(text), 2)
    accuracies = study.reward_model.accuracies
    assert accuracies.heldout.count > 0 and accuracies.rankings == 6
    assert not held_out & set(study.completions.pool_prompts())
    assert not held_out & set(study.session().upcoming())


def test_one_question_on_two_boards_is_kept_once(study) -> None:
    one, two = study.session(), study.session()
    one.next(), two.next()
    one.submit([[0], [1], [2], [3]])
    with pytest.raises(AlreadyAnswered):
        two.submit([[3], [2], [1], [0]])
    assert len(study.store.rankings()) == 1
    assert two.next().prompt != study.store.rankings()[0].prompt


def test_undo_stays_within_its_session(study) -> None:
    rank_some(study, 2)
    rater = study.store.rankings()[0].rater
    held_out = study.session(rater, heldout=True)
    assert held_out.done == [] and held_out.undo() is None
    assert len(study.store.rankings()) == 2
    assert study.session(rater).undo() is not None


def test_a_guess_that_was_seen_does_not_count(study) -> None:
    rank_some(study, 5)
    rater = study.store.rankings()[0].rater
    pairs = study.reward_model.accuracies.prequential.count
    session = study.session(rater)
    session.edit(study.store.rankings()[3].id)
    session.submit([[0], [1], [2], [3]])
    study.refit()
    assert study.reward_model.accuracies.prequential.count < pairs
    session.next()
    session.submit([[0], [1], [2], [3]])
    taken_back = session.undo()
    assert taken_back.predicted is not None
    assert session.submit([[3], [2], [1], [0]]).predicted is None


def test_held_out_rankings_are_not_among_the_predicted_ones(study) -> None:
    rank_some(study, 5)
    before = study.reward_model.accuracies.prequential
    study.session(heldout=True).simulate(lambda prompt, text: -len(text), 2)
    assert study.reward_model.accuracies.prequential == before


def test_what_an_undone_edit_had_replaced_trains_again(study) -> None:
    rank_some(study, 3)
    session = study.session(study.store.rankings()[0].rater)
    session.edit(study.store.rankings()[0].id)
    session.skip()
    study.refit()
    assert study.reward_model.accuracies.rankings == 2
    session.undo()
    assert study.reward_model.accuracies.rankings == len(study.store.rankings()) == 3
