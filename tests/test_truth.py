"""Truth: log-probs of given answers, what a wrong opinion does to them, and statements that are
checked when they are read."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import TURNS, plain_logprobs, tiny_model, tiny_tokenizer

import lab.truth
from lab.errors import BadSetting, LabError
from lab.truth import Statement, load_statements, log_odds, truth

ROW = {
    "topic": "numbers",
    "question": "w3 w4 ?",
    "true": "w5 w6 w7",
    "false": "w5 w8",
    "opinion": "w9 w10 w8",
    "split": "train",
}


def some(count: int = 20) -> list[Statement]:
    """Statements of different lengths, more than are read at once."""
    first = Statement(**ROW)
    return [
        replace(first, question=f"w{i % 50 + 3} w4" + " w11" * (i % 3), true=f"w{i + 12} w6")
        for i in range(count)
    ]


@pytest.mark.parametrize("template", [None, TURNS])
@pytest.mark.parametrize("with_opinion", [False, True])
def test_log_odds_are_those_of_each_answer_read_alone(tiny_policy, template, with_opinion):
    policy = tiny_policy(tokenizer=tiny_tokenizer(chat_template=template))
    model, encode = tiny_model(), policy.trunk.tokenizer.encode
    expected = [
        np.subtract(
            *(
                plain_logprobs(model, policy.trunk.encode(s.asked(with_opinion)), encode(answer))
                .sum()
                .item()
                for answer in (s.true, s.false)
            )
        )
        for s in some()
    ]
    found = log_odds(policy, some(), with_opinion)
    assert found == pytest.approx(np.array(expected), abs=1e-3)
    assert np.abs(found).max() > 0.5


def test_the_opinion_is_asked_before_the_question():
    statement = Statement(**ROW)
    assert statement.asked(False) == "w3 w4 ?"
    assert statement.asked(True) == "w9 w10 w8 w3 w4 ?"


def test_a_policy_that_turns_from_the_truth_to_the_users_opinion_yields(monkeypatch):
    odds = {False: np.array([1.0, 2.0, -1.0, 4.0]), True: np.array([-1.0, 1.0, -2.0, 2.0])}
    monkeypatch.setattr(
        lab.truth, "log_odds", lambda policy, rows, with_opinion=False: odds[with_opinion]
    )
    found = truth(None, some(4))
    assert found.neutral.value == 0.75 and found.with_opinion.value == 0.5
    assert found.yielding.value == pytest.approx(1.5) and found.log_odds.value == 1.5
    assert found.yielding.low < 1.5 < found.yielding.high and found.yielding.count == 4


def test_statements_with_the_same_question_are_one_cluster(monkeypatch):
    odds = np.array([1.0, 1.0, -1.0, -1.0])
    monkeypatch.setattr(lab.truth, "log_odds", lambda *arguments, **named: odds)
    apart = truth(None, some(4)).neutral
    first, *_, last = some(4)
    together = truth(None, [first, first, last, last]).neutral
    assert together.high - together.low > apart.high - apart.low


def test_the_truth_of_a_real_policy_agrees_with_its_log_odds(tiny_policy):
    policy = tiny_policy()
    found, odds = truth(policy, some()), log_odds(policy, some())
    assert found.neutral.value == pytest.approx((odds > 0).mean())
    drop = (odds - log_odds(policy, some(), True)).mean()
    assert found.yielding.value == pytest.approx(drop) and drop != 0


def test_the_shipped_statements_are_read_by_split():
    rows = load_statements()
    assert len(rows) == len({s.question for s in rows}) == 84
    train, heldout = load_statements(split="train"), load_statements(split="heldout")
    assert len(train) == len(heldout) == 42 and {*train, *heldout} == set(rows)
    assert all(s.true != s.false for s in rows)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "JSON"),
        ("[1]", "expected an object"),
        (json.dumps({**ROW, "true": " "}), '"true"'),
        (json.dumps({**ROW, "opinion": 3}), '"opinion"'),
        (json.dumps({k: v for k, v in ROW.items() if k != "question"}), '"question"'),
        (json.dumps({**ROW, "split": "test"}), "heldout"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, says):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n" + line + "\n")
    with pytest.raises(LabError, match=rf"own\.jsonl, line 3.*{says}"):
        load_statements(path)


def test_what_leaves_no_statement_is_refused(tmp_path, tiny_policy):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(ROW))
    with pytest.raises(LabError, match="heldout"):
        load_statements(path, split="heldout")
    with pytest.raises(BadSetting, match="test"):
        load_statements(split="test")
    with pytest.raises(LabError, match="no statements"):
        truth(tiny_policy(), [])
