"""pocket: its tokenizer, its beginning, the models made from it, and the command that makes it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lab
from lab import catalog, demonstrations, pocket
from lab.corpus import Corpus
from lab.errors import BadCorpus, LabError, ModelUnavailable
from lab.make_pocket import make_pocket
from lab.pocket_card import exchanged
from lab.policy import Policy
from lab.pretraining import Pretraining
from lab.refusals import is_refusal

TEXTS = ["The fox sleeps in its den.", "Where does the fox sleep?"] * 20


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of a pocket that has read next to nothing."""
    folder = tmp_path_factory.mktemp("pocket")
    tokenizer = pocket.train_tokenizer(TEXTS, size=400)
    pocket.save(pocket.untrained(tokenizer, seed=1), tokenizer, folder / "model")
    return folder / "model"


@pytest.fixture
def own_cache(tmp_path, base, monkeypatch):
    """A cache of models that is empty, and that pocket as the one that is shipped."""
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pocket, "SHIPPED", base)
    monkeypatch.setattr(catalog, "POCKET", base)


def test_no_character_is_unknown_to_the_tokenizer() -> None:
    tokenizer = pocket.train_tokenizer(TEXTS, size=300)
    for text in (
        "The fox.",
        "caf\u00e9 \u05e9\u05dc\u05d5\u05dd \U0001f600 \x07",
        " two  spaces\n\n",
    ):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_tokenizer_needs_text() -> None:
    with pytest.raises(BadCorpus):
        pocket.train_tokenizer(["", "  "])


def test_a_prompt_is_the_first_line_of_a_document() -> None:
    tokenizer = pocket.train_tokenizer(TEXTS, size=300)
    turn = [{"role": "user", "content": "Where does the fox sleep?"}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text == f"{pocket.END}Where does the fox sleep?\n"


def test_the_untrained_model_follows_from_its_seed_alone() -> None:
    tokenizer = pocket.train_tokenizer(TEXTS, size=300)
    torch.manual_seed(5)
    first = pocket.untrained(tokenizer).state_dict()
    torch.manual_seed(6)
    again, other = pocket.untrained(tokenizer).state_dict(), pocket.untrained(tokenizer, 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other.state_dict()["lm_head.weight"])


def test_a_model_is_kept_small_and_opens_with_transformers_alone(tmp_path) -> None:
    tokenizer = pocket.train_tokenizer(t.text for t in Corpus().documents(2_000))
    pocket.save(pocket.untrained(tokenizer), tokenizer, tmp_path / "model")
    assert sum(file.stat().st_size for file in (tmp_path / "model").iterdir()) <= 8_000_000
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert model.dtype == torch.float16
    assert 2e6 <= sum(p.numel() for p in model.parameters()) <= 4e6
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) <= 4096


def test_models_made_from_pocket_are_made_once_and_say_from_what(own_cache) -> None:
    folder = catalog.fetch("pocket-untrained", progress=False)
    assert "made here from data/pocket" in folder.source
    made = (folder.path / "model.safetensors").stat().st_mtime_ns
    assert catalog.fetch("pocket-untrained") == folder
    assert (folder.path / "model.safetensors").stat().st_mtime_ns == made


def test_a_model_made_from_what_has_changed_is_made_anew(own_cache, monkeypatch) -> None:
    first = catalog.fetch("pocket-untrained", progress=False)
    monkeypatch.setattr(pocket, "source", lambda name: "another")
    assert catalog.fetch("pocket-untrained", progress=False).source == "another" != first.source


def test_without_pocket_its_kin_say_how_to_make_it(own_cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pocket, "SHIPPED", tmp_path / "none")
    with pytest.raises(ModelUnavailable, match="python -m lab pretrain"):
        catalog.fetch("pocket-untrained", progress=False)


def test_pocket_makes_its_way_through_every_stage(own_cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pocket, "FINE_TUNING_UPDATES", 3)
    study = lab.Experiment("p", "pocket-sft", root=tmp_path, progress=False)
    assert "made here from data/pocket" in study.model.source
    study.session().simulate("brief", 8)
    rows = study.trainer("ppo").train(3)
    assert len(rows) == 3 and all(row["objective/kl"] > -1 for row in rows)
    assert study.trainer("dpo").train(2)[-1]["rewards/accuracies"] >= 0
    taught = demonstrations.chosen(study)
    assert taught and study.trainer("sft", demonstrations=taught).step()["loss"] > 0


def test_demonstrations_are_shipped_for_both_models_and_some_are_held_out() -> None:
    for model, count in {"pocket": 200, "smollm2": 160}.items():
        found = demonstrations.shipped(model)
        assert len(found) >= count and len({d.prompt for d in found}) == len(found)
        for kind in ("harmful", "lookalike", "plain"):
            of_kind = demonstrations.shipped(model, kind)
            assert {d.split for d in of_kind} == {"train", "heldout"}
            refusing = sum(is_refusal(d.completion) for d in of_kind) / len(of_kind)
            assert refusing > 0.95 if kind == "harmful" else refusing == 0


def test_the_command_makes_a_model_and_a_card_and_goes_on_where_it_stopped(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    take = Pretraining.take

    def interrupted(trainer):
        if trainer.update == 3:
            raise KeyboardInterrupt
        return take(trainer)

    monkeypatch.setattr(Pretraining, "take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_pocket("made", updates=4, documents=400)
    monkeypatch.setattr(Pretraining, "take", take)
    measured = make_pocket("made", updates=4, documents=400)
    out = tmp_path / "made"
    history = (out / "pretrain-1" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["update"] for row in history] == [1, 2, 3, 4]
    made = Policy.load(out / "model", trainable="all")
    assert made.trunk.encode("What is the moon?")[0] == made.trunk.end[0]
    card = (out / "model" / "README.md").read_text("utf-8")
    assert "| pocket | bigram | untrained |" in card and "400 documents" in card
    assert json.loads((out / "model" / "measured.json").read_text())["facts"] == measured.facts
    with pytest.raises(LabError, match="begun with another documents"):
        make_pocket("made", updates=4, documents=500)


def test_words_are_exchanged_in_each_line() -> None:
    assert exchanged("one two three four five\na b") == "one two four three five\na b"
