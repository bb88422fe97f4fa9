"""Reference and aligned answer the same prompts with the same random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import build_policy, plain_logprobs, tiny_model
from studies import rank_some

from lab import compare as module
from lab.bulk import Bulk
from lab.columns import Columns
from lab.compare import answer, compare, gold, texts_told
from lab.errors import BadSetting, NotReady, PromptTooLong
from lab.sampling import read

PROMPTS = ["w20 w21", "w30", "w31 w32 w33", "w20 w21", "w40"] * 2
SETTINGS = {"max_new_tokens": 6, "seed": 3}


@pytest.fixture(scope="module")
def policy():
    return build_policy(eos=range(3, 10))


@pytest.fixture(scope="module")
def moved(policy):
    """A policy whose weights have moved, as training would."""
    torch.manual_seed(0)
    policy = policy.copy()
    with torch.no_grad():
        for parameter in policy.trainable_state().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return policy


def length(prompt: str, text: str) -> float:
    return float(len(text))


def test_a_policy_against_itself_is_even(policy):
    both = [answer(policy, PROMPTS, reference=policy, **SETTINGS) for _ in range(2)]
    assert both[0].texts == both[1].texts
    comparison = compare(*both, gold(length))
    assert comparison.win_rate.value == 0.5
    assert comparison.gain.value == comparison.gain.low == comparison.gain.high == 0
    assert both[0].kl == pytest.approx(0, abs=1e-5)
    summary = comparison.summary()
    assert summary["gold_reference"] == summary["gold_aligned"] > 0
    assert summary["distinct2_reference"] == summary["distinct2_aligned"]


def test_kl_is_the_mean_log_ratio_of_whole_completions(policy, moved):
    answers = answer(moved, PROMPTS, reference=policy, temperature=0.8, **SETTINGS)
    whole, ratios = tiny_model(), []
    for prompt, ids in zip(PROMPTS, answers.token_ids, strict=True):
        asked = policy.trunk.encode(prompt)
        inputs = torch.tensor([[*asked, *ids]])
        mask = torch.ones_like(inputs).bool()
        with torch.no_grad():
            hidden = moved.hidden(moved.inputs(inputs, mask), mask)
            logits = moved.logits(hidden)[0, len(asked) - 1 : -1] / 0.8
        own = logits.log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
        ratios.append((own - plain_logprobs(whole, asked, ids, 0.8)).sum().item())
    assert answers.kl == pytest.approx(np.mean(ratios), abs=1e-4)
    assert abs(answers.kl) > 0.05


def test_same_seed_same_answers_another_seed_others(policy):
    texts = [
        answer(policy, PROMPTS, max_new_tokens=6, seed=seed).texts for seed in (1, 1, 2)
    ]  # fmt: skip
    assert texts[0] == texts[1] != texts[2]


def test_repeated_prompts_are_answered_anew_in_every_chunk(policy, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 8)
    answers = answer(policy, ["w20 w21"] * 16, **SETTINGS)
    assert len(set(answers.token_ids[:8])) > 4
    assert answers.token_ids[:8] != answers.token_ids[8:]


def test_chunks_keep_rows_in_order_and_count_them(policy, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)
    counted = []
    answers = answer(policy, PROMPTS, on_chunk=counted.append, **SETTINGS)
    assert counted == [4, 8, 10]
    assert answers.prompts == PROMPTS
    trunk = policy.trunk
    ids = [trunk.encode(p) for p in PROMPTS]
    features = read(trunk, ids, [list(t) for t in answers.token_ids]).numpy()
    assert np.abs(answers.features - features).max() < 1e-5
    assert answers.texts == [trunk.decode(list(t)) for t in answers.token_ids]
    assert answers.finished == [t[-1] in trunk.eos_ids for t in answers.token_ids]
    assert answers.token_ids[:4] != answers.token_ids[4:8]


def test_the_better_answer_wins(policy, moved):
    before, after = (answer(p, PROMPTS, **SETTINGS) for p in (policy, moved))
    utilities = {id(before): np.zeros(10), id(after): np.array([1.0] * 7 + [0.0] * 2 + [-1.0])}
    comparison = compare(before, after, lambda answers: utilities[id(answers)])
    assert comparison.win_rate.value == pytest.approx(0.8)
    assert comparison.win_rate.low < 0.8 < comparison.win_rate.high
    # the mean over the four prompts: of (1, 1, 1, 0), (1, 1), (1, 0) and (1, -1)
    assert comparison.gain.value == pytest.approx((0.75 + 1 + 0.5 + 0) / 4)
    swapped = compare(after, before, lambda answers: utilities[id(answers)])
    assert swapped.win_rate.value == pytest.approx(0.2)
    assert swapped.gain.value == pytest.approx(-comparison.gain.value)


def test_a_judge_must_judge_every_answer(policy):
    answers = answer(policy, PROMPTS, **SETTINGS)
    answers.texts.pop()
    with pytest.raises(ValueError, match="zip"):
        compare(answers, answers, gold(length))


def test_one_prompt_has_a_summary(policy):
    answers = answer(policy, PROMPTS[:1], **SETTINGS)
    summary = compare(answers, answers, gold(length)).summary()
    assert summary["win_rate"] == 0.5
    assert np.isfinite(summary["gold_reference_std"])


def test_no_prompts_give_no_answers(policy):
    answers = answer(policy, [], **SETTINGS)
    assert (answers.texts, answers.kl, len(answers.features)) == ([], 0.0, 0)


def test_what_sampling_refuses_is_refused_here(policy):
    with pytest.raises(BadSetting, match="temperature"):
        answer(policy, PROMPTS, temperature=9)
    with pytest.raises(PromptTooLong):
        answer(policy, ["w5 " * 127], max_new_tokens=2)


# Variants in bulk


@pytest.fixture
def trained(study):
    rank_some(study)
    study.trainer(batch_size=4, learning_rate=0.01).train(2)
    return study


def test_a_table_in_bulk_says_what_measure_says(trained):
    bulk = Bulk(trained, ["ppo-1", "best-of-4"], count=3)
    counted = []
    rows = {row.name: row for row in bulk.run(lambda *done: counted.append(done))}
    assert list(rows) == ["reference", "ppo-1@2", "best-of-4"]
    assert counted[-1] == (27, 27) and bulk.made_to_please
    whole = trained.measure(count=3)
    run = rows["ppo-1@2"]
    assert (run.gain, run.win_rate) == (whole.gain, whole.win_rate)
    assert run.kl == whole.aligned.kl and not run.kl_is_bound
    assert run.distinct2 == whole.summary()["distinct2_aligned"]
    assert run.score == whole.gold_aligned.mean()
    assert run.tokens == np.mean([len(ids) for ids in whole.aligned.token_ids])
    reference = rows["reference"]
    assert reference.gain is None and reference.win_rate is None
    assert reference.kl == pytest.approx(0, abs=1e-5)
    best = rows["best-of-4"]
    assert best.kl_is_bound and best.kl == pytest.approx(np.log(4) - 3 / 4)
    assert best.score > reference.score and best.gain.value > 0


def test_a_rater_or_a_function_judges_as_well(trained):
    bulk = Bulk(trained, ["ppo-1"], rater=length, prompts=["w20", "w30"], count=2)
    reference, run = bulk.run()
    assert not bulk.made_to_please and run.answers == 4
    assert bulk.found["reference"].prompts == ["w20", "w20", "w30", "w30"]
    assert reference.score == np.mean([len(t) for t in bulk.found["reference"].texts])


def test_a_table_comes_in_short_jobs_and_ends_where_it_is_left(trained, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    bulk = Bulk(trained, ["ppo-1"], count=2)
    work = bulk.work()
    assert [next(work) for _ in range(5)] == [2, 4, 6, 8, 10]
    assert [row.name for row in bulk.rows()] == ["reference"], "of whole variants alone"
    assert trained.compute.acquire(blocking=False), "between two jobs the model is free"
    trained.compute.release()


def test_a_table_without_a_judge_or_prompts_is_refused_before_anything_is_sampled(study):
    with pytest.raises(NotReady, match="ranking"):
        Bulk(study, ["reference"]).run()
    for count in (0, 65):
        with pytest.raises(BadSetting, match=f"count={count}"):
            Bulk(study, ["reference"], count=count)
    study.prompts = []
    with pytest.raises(BadSetting, match="held-out"):
        Bulk(study, ["reference"])


# Side by side


def test_half_a_character_waits_until_it_is_whole():
    class Bytes:
        decode = staticmethod(lambda ids: bytes(ids).decode("utf-8", "replace"))

    told = []
    tell = texts_told(Bytes(), told.append)
    whole = list("é!".encode())
    for n in range(1, 4):
        tell([whole[:n]])
    assert told == [[""], ["é"], ["é!"]]


def test_columns_part_where_their_tokens_do(trained):
    columns = Columns(trained, "w20 w21", ["reference", "ppo-1", "best-of-1"], count=8, seed=1)
    for place in range(3):
        columns.fill(place)
    first, run, _ = columns.columns
    assert {cell.same for cell in first.answers} == {None}
    parted = [(a, b) for a, b in zip(first.answers, run.answers, strict=True) if a.text != b.text]
    assert parted
    for a, b in parted:
        assert a.text[: b.same] == b.text[: b.same]
        assert a.text[b.same :].split()[:1] != b.text[b.same :].split()[:1]
    for a, b in zip(first.answers, run.answers, strict=True):
        assert (b.same is None) == (a.text == b.text)


def test_scores_are_relative_to_the_reference(trained):
    columns = Columns(trained, "a prompt never asked", ["ppo-1", "reference"], count=4)
    columns.fill(0)
    columns.fill(1)
    columns.judge()
    assert np.mean([c.score for c in columns.columns[1].answers]) == pytest.approx(0, abs=1e-9)
    assert columns.baseline == "the average answer of the reference to this prompt"
    alone = Columns(trained, "a prompt never asked", ["ppo-1"], count=4)
    alone.fill(0)
    alone.judge()
    assert alone.baseline == "the average answer of ppo-1@2 to this prompt"


def test_columns_need_a_name(study):
    with pytest.raises(BadSetting, match="no variants"):
        Columns(study, "w20", [])


def test_a_run_by_two_names_has_one_column_and_one_row(trained):
    names = ["ppo-1", "reference", "ppo-1@2", "reference"]
    assert [c.name for c in Columns(trained, "w20", names).columns] == ["ppo-1", "reference"]
    columns = trained.side_by_side("w20", count=1, variants=names)
    assert list(columns) == ["aligned: ppo-1@2", "reference"]
    bulk = Bulk(trained, names, count=1)
    rows = bulk.run()
    assert len(bulk.names) == len(rows) == 2 and bulk.done == bulk.total
