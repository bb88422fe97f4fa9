"""DPO reads the policy as a reward, and fits it to weighted pairs."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import build_policy, plain_logprobs, tiny_model, tiny_tokenizer
from trainers import PAIRS, make

from lab.dpo import DPO, TokenPair, pair_of_texts
from lab.errors import LabError
from lab.formulas import dpo_loss, preference_loss
from lab.policy import Policy
from lab.settings import DPOSettings

PAIR = TokenPair("w20 w21", (17, 5, 17), (9, 12))


def start(pairs, **settings) -> DPO:
    mine = {"batch_size": 64, "learning_rate": 3e-3, **settings}
    return DPO(build_policy(trainable=2), pairs, DPOSettings(**mine))


def gradient(dpo: DPO) -> torch.Tensor:
    """The gradient of an update's loss, before it moves anything."""
    dpo._now, dpo.update = dpo.settings, 1
    loss, _ = dpo._loss(list(range(len(dpo.pairs))))
    (loss.sum() / len(dpo.pairs)).backward()
    return torch.cat([p.grad.flatten() for p in dpo.parameters])


def test_where_policy_and_reference_agree_the_loss_is_ln_2():
    row = start(PAIRS).step()
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert row["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert row["rewards/accuracies"] == 0.5


def test_log_probs_are_those_of_the_whole_model():
    dpo = start([PAIR], learning_rate=0.0)
    row = dpo.step()
    model, prompt = tiny_model(), dpo.policy.trunk.encode(PAIR.prompt)
    for side in ("chosen", "rejected"):
        expected = plain_logprobs(model, prompt, list(getattr(PAIR, side))).sum()
        assert row[f"logps/{side}"] == pytest.approx(expected.item(), abs=1e-4)


def test_a_pair_of_texts_ends_where_its_completions_end():
    trunk = build_policy(trainable=2).trunk
    pair = pair_of_texts(trunk, "w20", "w5 w6", "w7")
    assert (pair.prompt, pair.target, pair.weight) == ("w20", 1.0, 1.0)
    for ids, text in ((pair.chosen, "w5 w6"), (pair.rejected, "w7")):
        assert trunk.decode(list(ids)) == text and list(ids[-1:]) == trunk.end


def test_chosen_gains_on_rejected_and_rewards_are_beta_log_ratios():
    dpo = start([PAIR], beta=0.3)
    first = dpo.step()
    last = dpo.train(5)[-1]
    assert last["rewards/chosen"] > last["rewards/rejected"]
    assert last["rewards/accuracies"] == 1
    moved = last["logps/chosen"] - first["logps/chosen"]
    assert last["rewards/chosen"] == pytest.approx(0.3 * moved, abs=1e-4)
    assert last["rewards/margins"] == pytest.approx(
        last["rewards/chosen"] - last["rewards/rejected"], abs=1e-5
    )


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
def test_a_pair_of_weight_two_counts_as_two_pairs(loss_type):
    other = TokenPair("w30", (8,), (9, 10, 11), 1.0, 1.0)
    heavy = start([TokenPair(*vars(PAIR).values()), other], loss_type=loss_type)
    heavy.pairs[0] = TokenPair(PAIR.prompt, PAIR.chosen, PAIR.rejected, 1.0, 2.0)
    heavy._mean_weight = 1.5
    twice = start([PAIR, PAIR, other], loss_type=loss_type)
    assert torch.allclose(gradient(heavy), gradient(twice), atol=1e-6)


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
def test_a_tie_brings_its_completions_together(loss_type):
    dpo = start([PAIR], loss_type=loss_type, learning_rate=1e-2)
    before = abs(dpo.train(5)[-1]["rewards/margins"])
    dpo.pairs[0] = TokenPair(PAIR.prompt, PAIR.chosen, PAIR.rejected, 0.5)
    assert abs(dpo.train(5)[-1]["rewards/margins"]) < before / 2


def test_the_references_log_probs_are_computed_once(monkeypatch):
    calls = []
    dpo = start(PAIRS, batch_size=6)
    monkeypatch.setattr(type(dpo.reference.trunk), "read", lambda *a: calls.append("trunk"))
    monkeypatch.setattr(dpo.reference.top, "forward", lambda *a, **k: calls.append("reference"))
    dpo.train(3)
    assert calls == []


def test_the_ipo_loss_is_a_distance_and_the_sigmoid_loss_bradley_terrys():
    ratios, targets = torch.tensor([0.3, -0.2, 1.0]), torch.tensor([1.0, 1.0, 0.5])
    assert dpo_loss(ratios, targets, 0.1, "ipo").tolist() == pytest.approx([22.09, 27.04, 1.0])
    expected = [-math.log(1 / (1 + math.exp(-0.1 * r))) for r in (0.3, -0.2)]
    assert dpo_loss(ratios, targets, 0.1)[:2].tolist() == pytest.approx(expected)
    tie = -0.5 * sum(math.log(1 / (1 + math.exp(s * 1.0))) for s in (-1, 1))
    assert preference_loss(ratios, targets)[2].item() == pytest.approx(tie)


def test_ipo_takes_means_over_tokens():
    dpo = start([PAIR], loss_type="ipo", beta=0.5)
    dpo.train(2)
    dpo._now = dpo.settings
    loss, columns = dpo._loss([0])
    chosen, rejected = columns[0, 2:].tolist()
    expected = (chosen / 3 - rejected / 2 - 1 / (2 * 0.5)) ** 2
    assert loss.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo"])
@pytest.mark.parametrize(
    "pair",
    [
        TokenPair("w20", (7, 7), (7, 7)),  # identical
        TokenPair("w20", (), (7, 7)),  # empty
        TokenPair("w20", (7,), ()),
        TokenPair("w20", (), (), 0.5),
        TokenPair("w20", tuple(range(3, 60)) * 2, (7,)),  # fills the context
    ],
)
def test_awkward_pairs_train_without_nan(pair, loss_type):
    dpo = start([pair], loss_type=loss_type)
    rows = dpo.train(2)
    assert all(math.isfinite(v) for row in rows for v in row.values())
    assert all(p.isfinite().all() for p in dpo.parameters)


def test_a_model_trained_whole_gives_the_same_first_loss_and_margins():
    rows = [
        DPO(build_policy(trainable=t), PAIRS, DPOSettings(batch_size=12)).step() for t in (2, "all")
    ]
    for name in ("loss", "logps/chosen", "logps/rejected"):
        assert rows[0][name] == pytest.approx(rows[1][name], abs=1e-4)


def test_no_pairs_is_an_error_that_says_what_to_do():
    with pytest.raises(LabError, match="rank"):
        start([])


def test_an_end_of_sequence_counts_as_a_token():
    policy = Policy.from_model(tiny_model(), tiny_tokenizer(), 2)
    end = tuple(policy.trunk.end)
    with_end, without = (
        DPO(policy, [TokenPair("w20", (7, *tail), (9,))]).step()["logps/chosen"]
        for tail in (end, ())
    )
    assert with_end < without


def test_a_seed_gives_the_same_pairs_in_the_same_order():
    a, b = make("dpo", seed=3), make("dpo", seed=3)
    for _ in range(3):
        a.step()
        b.step()
        assert a.last_samples == b.last_samples
