"""Whatever can answer a prompt has a name, and comes by it."""

from __future__ import annotations

import shutil
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import save_tiny_model, tiny_model, tiny_tokenizer
from studies import rank_some, small_study

from lab import variants
from lab.errors import LabError, NotReady
from lab.past import Past
from lab.runs import Run
from lab.training import open_trainer
from lab.variants import distinct, open_variant

HOW = {"seed": 3, "max_new_tokens": 5}


@pytest.fixture
def trained(study):
    """Six updates: checkpoints after 5 and 6."""
    rank_some(study)
    study.trainer(batch_size=4, learning_rate=0.01).train(6)
    return study


def weights(policy) -> list[torch.Tensor]:
    return [p.data.clone() for p in policy.top.parameters()]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_run_at_an_update_is_what_it_was_then(trained) -> None:
    """Both where a checkpoint is, and where updates have to be computed again."""
    trainer = trained.trainer()
    words = []
    found = {u: weights(open_variant(trained, f"ppo-1@{u}", words.append).policy) for u in (0, 3)}
    assert [w for w in words if "update 3 of 3" in w], words
    assert same(found[0], weights(trained.reference))
    trainer.rewind(3)
    assert same(found[3], weights(trainer.policy))
    assert not same(found[3], found[0])
    assert not any(p.requires_grad for p in open_variant(trained, "ppo-1@3").policy.parameters())


def test_looking_back_leaves_trainer_and_disk_as_they_are(trained) -> None:
    trainer = trained.trainer()
    before = weights(trainer.policy), trainer.update, trainer.settings
    files = {p: p.stat().st_mtime_ns for p in trainer.run.folder.iterdir()}
    open_variant(trained, "ppo-1@4")
    assert same(before[0], weights(trainer.policy))
    assert (trainer.update, trainer.settings) == before[1:]
    assert {p: p.stat().st_mtime_ns for p in trainer.run.folder.iterdir()} == files
    assert trainer.step()["update"] == 7


def test_looking_at_an_update_without_checkpoint_makes_none(study, tmp_path, model) -> None:
    """As after a crash between an update and its checkpoint."""
    rank_some(study)
    trainer = study.trainer(batch_size=4, learning_rate=0.01)
    trainer.train(5)
    (trainer.run.folder / "checkpoint-000005.safetensors").unlink()
    again, words = small_study(tmp_path, model), []
    variant = again.variant("ppo-1", words.append)
    assert variant.name == "ppo-1@5" and same(weights(variant.policy), weights(trainer.policy))
    assert len(words) == 5, "there is nothing to start from but the start"
    assert trainer.run.checkpoints == []


def test_what_is_only_looked_at_goes_no_further(trained) -> None:
    past = open_trainer(trained, Past(trained.folder / "ppo-1"))
    with pytest.raises(LabError, match="only looked at"):
        past.step()
    assert trained.trainer().step()["update"] == 7


def test_computing_again_starts_at_the_nearest_checkpoint(study) -> None:
    rank_some(study)
    trainer = study.trainer(batch_size=4, learning_rate=0.01)
    trainer.train(12)
    words = []
    study.variant("ppo-1@11", words.append)
    assert words == ["ppo-1: computed update 11 of 11 again…"]


def test_a_run_alone_is_its_newest_update(trained, tmp_path, model) -> None:
    variant = trained.variant("ppo-1")
    assert variant.name == "ppo-1@6" and variant.title == "aligned: ppo-1@6"
    assert same(weights(variant.policy), weights(trained.trainer().policy))
    moved = weights(trained.trainer().policy)
    trained.trainer().step()
    assert trained.variant("ppo-1").name == "ppo-1@7", "it goes on with the run"
    assert same(weights(variant.policy), moved), "what was opened before stays as it was"
    trained.trainer().save()
    again = small_study(tmp_path, model)
    assert same(weights(again.variant("ppo-1@7").policy), weights(trained.trainer().policy))
    assert again.trainer_in_use("ppo-1") is None, "no trainer is opened to look at a checkpoint"


def test_answers_of_a_variant_are_those_of_its_policy(trained) -> None:
    from lab.compare import answer

    prompts = ["w20 w21", "w30"]
    variant = trained.variant("ppo-1")
    expected = answer(trained.aligned, prompts, reference=trained.reference, **HOW)
    found = variant.answer(prompts, **HOW)
    assert found.token_ids == expected.token_ids and found.kl == expected.kl
    assert found.token_ids != trained.variant("reference").answer(prompts, **HOW).token_ids
    assert variant.answer(prompts, **HOW | {"seed": 4}).token_ids != found.token_ids
    cold = [variant.answer(prompts, seed=s, temperature=0, max_new_tokens=5) for s in (1, 2)]
    assert cold[0].token_ids == cold[1].token_ids
    assert variant.answer([], **HOW).texts == []


def test_text_comes_token_by_token(study) -> None:
    told = []
    answers = study.variant("reference").answer(["w20", "w30"], on_text=told.append, **HOW)
    assert told[-1] == answers.texts and len(told) == max(map(len, answers.token_ids))
    assert all(b[0].startswith(a[0]) for a, b in pairwise(told))


def test_best_of_n_keeps_the_highest_score(study) -> None:
    with pytest.raises(NotReady, match="best-of-8 picks by the reward model"):
        study.variant("best-of-8")
    rank_some(study)
    head = study.reward_model.head
    prompts = ["w20", "w30", "w31"] * 4
    scores = {
        n: head.raw(study.variant(f"best-of-{n}").answer(prompts, **HOW).features).mean()
        for n in (1, 8, 64)
    }
    assert scores[1] < scores[8] < scores[64]
    variant = study.variant("best-of-8")
    assert variant.kl_bound == pytest.approx(np.log(8) - 7 / 8)
    for n in (0, 65):
        with pytest.raises(LabError, match="from 1 to 64"):
            study.variant(f"best-of-{n}")


def test_another_model_answers_with_its_own_tokens(study, tmp_path) -> None:
    folder = tmp_path / "other"
    tiny_model(seed=5, hidden_size=48).save_pretrained(folder)  # of another width
    tiny_tokenizer().save_pretrained(folder)
    rank_some(study)
    variant = study.variant(f"model:{folder}")
    answers = variant.answer(["w20", "w30"], **HOW)
    assert variant.name == variant.title == f"model:{folder}"
    assert np.isnan(answers.kl)
    assert np.isfinite(study.reward_model.head.raw(answers.features)).all()
    own = study.variant("reference").answer(["w20", "w30"], **HOW)
    assert own.texts != answers.texts


def test_the_same_model_by_another_way_scores_the_same(study, tmp_path) -> None:
    """Answers of another model are read again by the study's own trunk."""
    rank_some(study)
    twin = study.variant(f"model:{save_tiny_model(tmp_path / 'twin')}")
    own, other = (v.answer(["w20", "w30"], **HOW) for v in (study.variant("reference"), twin))
    assert own.texts == other.texts
    assert np.abs(own.features - other.features).max() < 1e-4


def test_few_policies_stay_in_memory(trained) -> None:
    opened = [trained.variant(f"ppo-1@{u}").policy for u in range(5)]
    assert len(trained.policies) == variants.IN_MEMORY
    assert trained.variant("ppo-1@4").policy is opened[4]
    assert trained.variant("ppo-1@0").policy is not opened[0]


def test_a_new_run_in_the_place_of_a_deleted_one_answers_for_itself(trained) -> None:
    deleted = weights(trained.variant("ppo-1@5").policy)
    shutil.rmtree(trained.folder / "ppo-1")
    trainer = trained.trainer(new=True, batch_size=4, learning_rate=0.02)
    trainer.train(5)
    assert trained.runs == ["ppo-1"]
    found = weights(trained.variant("ppo-1@5").policy)
    assert same(found, weights(trainer.policy)) and not same(found, deleted)


def test_names_that_mean_the_same_count_once(trained) -> None:
    names = ["ppo-1", "ppo-1@6", " ppo-1@06", "reference ", "best-of-2", "best-of-02", "ppo-1@5"]
    assert distinct(trained, names) == ["ppo-1", "reference", "best-of-2", "ppo-1@5"]
    assert distinct(trained, ["ppo-1@6", "ppo-1"]) == ["ppo-1@6"]
    trained.trainer().step()
    assert distinct(trained, ["ppo-1@6", "ppo-1"]) == ["ppo-1@6", "ppo-1"]


def test_a_record_is_not_read_again_for_each_look_at_it(trained, monkeypatch) -> None:
    trained.variant("ppo-1")
    read = []
    init = Run.__init__
    monkeypatch.setattr(Run, "__init__", lambda *args: read.append(args) or init(*args))
    trained.variant("ppo-1")
    assert read == []


def test_an_sft_run_goes_by_its_name(study) -> None:
    study.trainer("sft", demonstrations=[("w5", "w6")]).train(1)
    assert study.variant("sft-1").title == "sft-1@1"


def test_a_wrong_name_says_what_there_is(trained) -> None:
    for name in ("ppo-9", "ppo-1@", "ppo-1@x", "", "aligned", "best-of-x", "ppo-1@²", "ppo-1@-1"):
        with pytest.raises(LabError, match=r"There is: reference, ppo-1, best-of-8"):
            trained.variant(name)
    with pytest.raises(LabError, match="updates 0 to 6"):
        trained.variant("ppo-1@7")


def test_names_begin_with_what_is_newest(study) -> None:
    def found() -> list[str]:
        return [name for name in variants.names(study) if not name.startswith("model:")]

    assert found() == variants.default_names(study) == ["reference"]
    rank_some(study)
    study.trainer(batch_size=4).train(1)
    study.trainer("sft", demonstrations=[("w5", "w6")]).train(1)
    assert found() == ["reference", "sft-2", "ppo-1", "best-of-8"]
    assert variants.default_names(study) == ["reference", "sft-2"]


def test_loading_waits_for_whoever_runs_the_model(trained) -> None:
    opened = threading.Event()

    def open_it() -> None:
        trained.variant("ppo-1@2")
        opened.set()

    with trained.compute:
        thread = threading.Thread(target=open_it)
        thread.start()
        assert not opened.wait(0.2)
    thread.join(30)
    assert opened.is_set()
