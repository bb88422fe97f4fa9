"""Pretraining learns what comes next, from rows of tokens, and says when there are too few."""

from __future__ import annotations

import pytest
import torch
from helpers import build_policy, tiny_model, tiny_tokenizer
from trainers import TOKENS, make

import lab
from lab.errors import BadCorpus, BadSetting, DamagedStudy
from lab.pretraining import Pretraining, load_tokens, tokens_of
from lab.settings import PretrainSettings


def start(tokens=TOKENS, **settings) -> Pretraining:
    mine = {"batch_size": 4, "window": 8, "warmup": 0, "learning_rate": 1e-2, **settings}
    return Pretraining(build_policy(trainable="all"), tokens, PretrainSettings(**mine))


def test_the_loss_is_that_of_the_whole_model_on_its_windows() -> None:
    trainer = start()
    rows = trainer.turn(trainer.windows, 4) if trainer.update else [3, 1]
    windows = torch.stack([TOKENS["train"][8 * i : 8 * i + 9] for i in rows])
    logits = tiny_model()(windows[:, :-1]).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    assert trainer.loss(windows).item() == pytest.approx(expected.item(), abs=1e-5)


def test_what_comes_next_is_learnt_also_of_text_that_is_held_out() -> None:
    trainer = start()
    before = trainer.step()
    after = trainer.train(59)[-1]
    assert after["loss"] < before["loss"] / 3 and trainer.evaluate() < before["eval_loss"] / 3


def test_embeddings_are_trained_too() -> None:
    trainer = start()
    names = [name for name in trainer._trained() if "embed" in name]
    before = {name: trainer._trained()[name].clone() for name in names}
    trainer.train(2)
    assert names and all(not torch.equal(before[n], trainer._trained()[n]) for n in names)


def test_the_learning_rate_rises_and_then_falls_to_a_hundredth() -> None:
    trainer = start(warmup=4, schedule=20)
    rates = [row["learning_rate"] for row in trainer.train(24)]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert rates[4:20] == sorted(rates[4:20], reverse=True)
    assert rates[19:] == pytest.approx([0.0001] * 5)


def test_an_epoch_reads_every_window_once() -> None:
    trainer = start(batch_size=7)
    read = []
    for update in range(1, trainer.windows // 7 + 1):
        trainer.update = update
        read += trainer.turn(trainer.windows, 7)
    assert len(read) == len(set(read))


def test_the_text_is_read_in_order_first_when_that_is_wanted() -> None:
    trainer = start(batch_size=3, in_order=2)
    read = []
    for update in (1, 2, 3, 4):
        trainer.update = update
        read.append(trainer.next_windows())
    assert read[:2] == [[0, 1, 2], [3, 4, 5]]
    assert read[2:] != [[6, 7, 8], [9, 10, 11]] and not set(read[2]) & set(read[3])


def test_samples_and_the_held_out_loss_come_now_and_then() -> None:
    trainer = start()
    rows = trainer.train(40)
    assert [row["update"] for row in rows if "eval_loss" in row] == [1, 20, 40]
    assert trainer.last_samples and all("completion" in row for row in trainer.last_samples)


def test_a_text_without_held_out_part_has_no_held_out_loss() -> None:
    trainer = start({"train": TOKENS["train"], "heldout": torch.tensor([1])})
    assert "eval_loss" not in trainer.step()


def test_too_little_text_is_refused() -> None:
    with pytest.raises(BadCorpus, match="has 5 tokens, and a window is 9"):
        start({"train": torch.arange(5), "heldout": torch.arange(5)})


def test_a_window_longer_than_the_context_is_refused() -> None:
    with pytest.raises(BadSetting, match="window=200: the model's context is 128"):
        start(window=200)


def test_a_policy_that_trains_in_part_is_refused() -> None:
    with pytest.raises(BadSetting, match='trainable="all"'):
        Pretraining(build_policy(trainable=2), TOKENS)


def test_documents_lie_end_to_end_with_an_end_before_and_after_each() -> None:
    ids = tokens_of(tiny_tokenizer(), ["w5 w6", "w7"]).tolist()
    assert ids == [1, 5, 6, 1, 7, 1]


def test_a_study_pretrains_and_goes_on_where_it_stood(tmp_path, model) -> None:
    def opened() -> lab.Experiment:
        return lab.Experiment("p", model, root=tmp_path, trainable="all", progress=False)

    text = " ".join(f"w{5 + i % 30}" for i in range(300))
    options = {"window": 8, "batch_size": 4}
    trainer = opened().trainer("pretrain", corpus=[text] * 10, **options)
    rows = trainer.train(5)
    again = opened().trainer("pretrain")
    assert again.update == 5 and again.history == rows
    again.rewind(3)
    assert [again.step()["loss"], again.step()["loss"]] == [row["loss"] for row in rows[3:]]


def test_a_run_whose_text_is_gone_says_so(tmp_path) -> None:
    with pytest.raises(DamagedStudy, match=r"corpus\.safetensors"):
        load_tokens(tmp_path / "corpus.safetensors")


def test_every_trainer_test_knows_this_one() -> None:
    assert make("pretrain").kind == "pretrain"
