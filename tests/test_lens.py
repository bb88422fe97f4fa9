"""The token lens: what is recorded of each token, on disk and exact; and how tokens are shown."""

from __future__ import annotations

import json
import math

import pytest
import torch
from helpers import build_policy, plain_logprobs, tiny_model
from studies import idle, rank_some
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from trainers import make
from transformers import PreTrainedTokenizerFast

from lab import lens
from lab.errors import DamagedStudy, LabError, NotReady
from lab.files import append_json_line, read_json_lines
from lab.runs import Run
from lab.trainer import SAMPLES_KEPT
from lab.widgets import TokenLens

HOSTILE = (
    "a<script>alert(1)</script> \U0001f600\U0001f469\u200d\U0001f4bb\n\n  \u202eabc \u0000\ud7ff é"
)


def on_disk(tmp_path, kind: str = "ppo", updates: int = 2, **settings):
    """A trainer with a run in a folder."""
    trainer = make(kind, Run(tmp_path / f"{kind}-1", {}), **settings)
    trainer.train(updates)
    return trainer


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, like that of SmolLM2: an emoji is four tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


# The numbers


def test_what_is_recorded_is_what_ppo_used():
    ppo = make("ppo", num_ppo_epochs=3, kl_coef=0.1, num_mini_batches=2)
    ppo.step()
    ppo.step()
    samples, row = ppo.samples, 2
    tokens = lens.table(ppo.run, 2, row)
    n = int(samples.lengths[row])
    assert [t["id"] for t in tokens] == samples.completion_ids[row, :n].tolist()
    close = {"rel": 1e-4, "abs": 1e-6}
    assert [t["logprob"] for t in tokens] == pytest.approx(
        samples.logprobs[row, :n].tolist(), **close
    )
    reference = ppo.reference_logprobs(samples)[row, :n].tolist()
    assert [t["reference_logprob"] for t in tokens] == pytest.approx(reference, **close)
    for t in tokens:
        assert t["kl"] == pytest.approx(t["logprob"] - t["reference_logprob"], rel=1e-3, abs=1e-4)
        assert t["return"] == pytest.approx(t["return"])
    assert all(
        t["reward"] == pytest.approx(-0.1 * t["kl"], rel=1e-3, abs=1e-6) for t in tokens[:-1]
    )
    score = lens.sample_of(ppo.run, 2, row)["score"]
    assert tokens[-1]["reward"] == pytest.approx(score - 0.1 * tokens[-1]["kl"], rel=1e-3)
    assert sum(t["reward"] for t in tokens) - tokens[0]["value"] == pytest.approx(
        tokens[0]["return"] - tokens[0]["value"], abs=1.0
    )  # gamma 1, lam .95: near the sum of rewards


@pytest.mark.parametrize(
    ("kind", "epochs"), [("ppo", "num_ppo_epochs"), ("grpo", "num_iterations")]
)
def test_an_epochs_share_of_clipped_tokens_is_that_of_the_metrics(kind, epochs):
    own = {"num_mini_batches": 1} if kind == "ppo" else {}
    trainer = make(kind, learning_rate=3e-2, **{epochs: 3}, **own)
    last = []
    for row in trainer.train(4):
        shares = trainer.run.tokens(row["update"])["clipfrac"]
        assert len(shares) == 3
        assert shares[0] == 0, "nothing has moved before the first step"
        assert sum(shares) / 3 == pytest.approx(row["policy/clipfrac_avg"], abs=1e-4)
        last.append(shares[2])
    assert max(last) > 0


def test_a_ratio_is_one_before_the_first_step_and_moves_with_the_advantage():
    ppo = make("ppo", num_ppo_epochs=2, num_mini_batches=1, learning_rate=3e-4)
    ppo.step()
    tokens = [t for row in range(SAMPLES_KEPT) for t in lens.table(ppo.run, 1, row)]
    assert all(t["ratio_1"] == pytest.approx(1, abs=1e-4) for t in tokens)
    pushed = sum((t["ratio_2"] - 1) * t["advantage"] for t in tokens)
    assert pushed > 0
    assert any(abs(t["ratio_2"] - 1) > 1e-4 for t in tokens)


def test_epochs_that_were_left_out_are_not_in_the_record():
    ppo = make("ppo", num_ppo_epochs=8, num_mini_batches=2, learning_rate=3e-2, max_approxkl=1e-4)
    row = ppo.step()
    assert row["policy/epochs"] < 8
    assert len(ppo.run.tokens(1)["clipfrac"]) == row["policy/epochs"]
    assert len(ppo.run.tokens(1)["rows"][0]["log_ratios"]) == row["policy/epochs"]


def test_grpo_records_its_advantage_at_every_token_and_has_no_values():
    grpo = make("grpo")
    grpo.step()
    tokens = lens.table(grpo.run, 1, 1)
    assert len({t["advantage"] for t in tokens}) == 1
    assert not {"value", "reward", "return"} & set(tokens[0])


def test_variety_is_among_the_metrics():
    ppo = make("ppo")
    row = ppo.step()
    from lab.statistics import distinct_n

    texts = [ppo.policy.trunk.decode(ids) for ids in ppo.samples.token_lists()]
    assert row["completions/distinct_2"] == distinct_n(texts)


# On disk


def test_a_run_keeps_tokens_in_a_file_of_their_own_and_not_in_memory(tmp_path):
    ppo = on_disk(tmp_path, updates=3)
    lines = read_json_lines(ppo.run.folder / "tokens.jsonl")
    assert [line["update"] for line in lines] == [1, 2, 3]
    assert all(len(line["rows"]) == SAMPLES_KEPT for line in lines)
    assert not ppo.run._token_lines
    assert not ppo.run._noted
    for rows in (ppo.run.samples, ppo.last_samples):
        assert {tuple(row) for row in rows} <= {
            ("update", "prompt", "completion", "score"),
            ("prompt", "completion", "score"),
        }
    again = Run(ppo.run.folder)
    assert [again.tokens(n) for n in (1, 2, 3)] == lines


def test_memory_and_disk_record_the_same(tmp_path):
    ppo, free = on_disk(tmp_path), make("ppo")
    free.train(2)
    assert [free.run.tokens(n) for n in (1, 2)] == [ppo.run.tokens(n) for n in (1, 2)]


def test_what_comes_again_after_a_rewind_is_not_written_again(tmp_path):
    ppo = on_disk(tmp_path, updates=3)
    before = (ppo.run.folder / "tokens.jsonl").read_bytes()
    ppo.rewind(1)
    ppo.train(2)
    assert (ppo.run.folder / "tokens.jsonl").read_bytes() == before
    ppo.step()
    assert ppo.run.tokens(4)["update"] == 4


@pytest.mark.parametrize("left", ['{"update": 3, "rows": []}\n', '{"update": 3, "rows": [{', "\n"])
def test_what_a_crash_left_of_an_update_gives_way_to_the_update(tmp_path, left):
    whole = on_disk(tmp_path / "whole", updates=3).run.tokens(3)
    folder = on_disk(tmp_path, updates=2).run.folder
    with (folder / "tokens.jsonl").open("a") as file:
        file.write(left)
    ppo = make("ppo", Run(folder))
    with pytest.raises(NotReady, match="no update 3"):
        ppo.run.tokens(3)
    ppo.step()
    assert Run(folder).tokens(3) == whole
    assert Run(folder).tokens(2)["update"] == 2


def test_where_tokens_cannot_be_written_the_update_was_not_taken(tmp_path, monkeypatch):
    ppo = on_disk(tmp_path, updates=2)
    expected = on_disk(tmp_path / "whole", updates=3)

    def full(path, value):
        if path.name == "tokens.jsonl":
            raise OSError("no space left on device")
        append_json_line(path, value)

    monkeypatch.setattr("lab.runs.append_json_line", full)
    with pytest.raises(LabError, match=r"tokens\.jsonl can't be written"):
        ppo.step()
    assert ppo.update == ppo.run.last == 2
    assert len(ppo.run.samples) == 2 * SAMPLES_KEPT
    monkeypatch.undo()
    ppo.step()
    assert ppo.run.tokens(3) == expected.run.tokens(3)
    assert len(read_json_lines(ppo.run.folder / "samples.jsonl")) == 3 * SAMPLES_KEPT


def test_a_run_of_before_the_record_says_so_and_goes_on(tmp_path):
    folder = on_disk(tmp_path).run.folder
    (folder / "tokens.jsonl").unlink()
    rows = read_json_lines(folder / "metrics.jsonl")
    for row in rows:
        row.pop("completions/distinct_2")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ppo = make("ppo", Run(folder))
    with pytest.raises(NotReady, match="no record of the tokens of update 1"):
        lens.table(ppo.run, 1)
    ppo.rewind(1)
    ppo.train(2)  # what it did not measure is no difference
    assert ppo.run.tokens(3)["update"] == 3


def test_a_branch_sends_to_its_parent_for_what_came_before(tmp_path):
    branch = on_disk(tmp_path).branch(2)
    branch.step()
    assert branch.run.tokens(3)["update"] == 3
    with pytest.raises(NotReady, match="Update 2 is in ppo-1"):
        branch.run.tokens(2)


@pytest.mark.parametrize("update", [0, 9])
def test_an_update_that_was_never_taken_is_named(update):
    ppo = make("ppo")
    ppo.step()
    with pytest.raises(NotReady, match=f"no update {update}"):
        ppo.run.tokens(update)
    with pytest.raises(NotReady, match="4 samples were kept"):
        lens.table(ppo.run, 1, 4)


def test_a_spoiled_line_is_named(tmp_path):
    folder = on_disk(tmp_path).run.folder
    path = folder / "tokens.jsonl"
    path.write_text(path.read_text().replace('"rows": [', '"rows": [,', 1))
    with pytest.raises(DamagedStudy, match="update 1"):
        Run(folder).tokens(1)
    assert Run(folder).tokens(2)["update"] == 2


# What else might have been said


@pytest.mark.parametrize("family", ["llama", "gpt2", "granite"])
def test_alternatives_are_those_of_the_whole_model(family):
    policy, model = build_policy(family), tiny_model(family)
    prompt, ids = "w20 w21", [5, 9, 40]
    found = lens.alternatives(policy, prompt, ids, k=3, temperature=0.7)
    whole = torch.tensor([[*policy.trunk.encode(prompt), *ids]])
    with torch.no_grad():
        expected = (model(whole).logits[0, -4:-1] / 0.7).softmax(-1)
    for position, likely in enumerate(found):
        best = expected[position].topk(3)
        assert [a["id"] for a in likely] == best.indices.tolist()
        assert [a["probability"] for a in likely] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert lens.alternatives(policy, prompt, ids, 1, 3, 0.7) == [found[1]]
    own = [row["logprob"] for row in lens.read(policy, prompt, ids)]
    exact = plain_logprobs(model, policy.trunk.encode(prompt), ids).tolist()
    assert own == pytest.approx(exact, abs=1e-4)


def test_now_is_the_policy_as_it_stands_against_the_one_that_sampled():
    ppo = make("ppo", num_ppo_epochs=2)
    ppo.train(3)
    found = lens.now(ppo, 2, 1)
    record = ppo.run.tokens(2)["rows"][1]
    assert found["at"] == 3
    for new, old, ratio in zip(
        found["policy"], record["logprobs"], found["log_ratios"], strict=True
    ):
        assert ratio == pytest.approx(new["logprob"] - old, abs=1e-4)
    ppo.rewind(1)  # as it stood when update 2 sampled
    assert lens.now(ppo, 2, 1)["log_ratios"] == pytest.approx([0] * len(record["ids"]), abs=1e-4)


# Text of single tokens


def test_pieces_join_to_the_text_and_a_character_is_never_broken():
    tokenizer = byte_tokenizer()
    ids = tokenizer(HOSTILE)["input_ids"]
    found = lens.pieces(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == HOSTILE
    assert not any("\ufffd" in piece for piece in found)
    assert found.count("") == sum(len(c.encode()) - 1 for c in HOSTILE)


def test_bytes_that_are_no_character_stay_in_their_places():
    tokenizer = byte_tokenizer()
    smile = tokenizer("\U0001f600")["input_ids"]
    a = tokenizer("a")["input_ids"]
    assert lens.pieces(tokenizer, a + smile[:2]) == ["a", "", "\ufffd"]  # cut off at the end
    broken = lens.pieces(tokenizer, [*(smile[1:2] * 40), *a])
    assert len(broken) == 41
    assert broken[-1] == "a" or broken[-1].endswith("a")
    assert sum(map(bool, broken)) >= 10, "it does not wait for the end"


def test_pieces_of_a_tokenizer_of_words_have_their_spaces():
    tokenizer = build_policy().trunk.tokenizer
    assert lens.pieces(tokenizer, [5, 6, 1]) == ["w5", " w6", " <eos>"]


def test_a_scale_covers_every_number_and_a_ratio_at_least_the_clip():
    ppo = make("ppo", num_ppo_epochs=2)
    ppo.step()
    tokens = ppo.run.tokens(1)
    found = lens.scales(tokens)
    assert found["advantages"] == max(abs(a) for row in tokens["rows"] for a in row["advantages"])
    assert found["log_ratios"] >= math.log(1.2)


# The widget


@pytest.fixture
def shown(study):
    """A lens on update 1 of a run of three."""
    rank_some(study)
    trainer = study.trainer("ppo", batch_size=4, num_mini_batches=1)
    trainer.train(3)
    widget = TokenLens(study.runner)
    widget.show(trainer, 1)
    return widget, trainer, study


def test_the_lens_shows_what_is_on_record(shown):
    widget, trainer, _ = shown
    assert widget.record["rows"] == trainer.run.tokens(1)["rows"]
    assert (widget.record["first"], widget.record["last"]) == (1, 3)
    kept = [s for s in trainer.run.samples if s["update"] == 1]
    assert [s["prompt"] for s in widget.record["samples"]] == [s["prompt"] for s in kept]
    assert widget.stage == 1
    json.dumps(widget.record, allow_nan=False)


def test_alternatives_come_when_they_are_asked_for(shown):
    widget, _, study = shown
    idle(study)
    assert widget.likely == {}
    widget._on_message(None, {"action": "likely", "row": 2}, [])
    idle(study)
    assert (widget.likely["update"], widget.likely["row"], widget.likely["at"]) == (1, 2, 3)
    assert len(widget.likely["policy"][0]["likely"]) == 5
    json.dumps(widget.likely, allow_nan=False)


def test_alternatives_of_what_is_shown_no_longer_are_dropped(shown):
    widget, trainer, study = shown
    with study.compute:
        widget.ask(0)
        widget.show(trainer, 2)
    idle(study)
    assert widget.likely == {}


def test_a_person_goes_to_another_update_and_keeps_the_measure(shown):
    widget, trainer, _ = shown
    widget.measure, widget.row, widget.token = "advantages", 3, 2
    widget._on_message(None, {"action": "show", "update": 3}, [])
    assert widget.record["update"] == 3
    assert (widget.measure, widget.row, widget.token) == ("advantages", 3, 0)
    widget.token = 1
    widget.show(trainer, 3)
    assert widget.token == 1


def test_what_is_not_on_record_is_said_in_words(shown):
    widget, trainer, _ = shown
    (trainer.run.folder / "tokens.jsonl").unlink()
    widget.show(trainer, 2)
    assert "no record of the tokens of update 2" in widget.status
    assert "rows" not in widget.record
    widget._on_message(None, {"action": "likely", "row": "x"}, [])
    assert widget.alert


def test_a_lens_that_was_cleared_lets_go_of_its_trainer(shown):
    widget, trainer, study = shown
    with study.compute:
        widget.ask(0)
        widget.clear()
    idle(study)
    assert (widget.record, widget.likely, widget._trainer) == ({}, {}, None)
    widget._on_message(None, {"action": "show", "update": 2}, [])
    assert widget.record == {}
    widget.show(trainer, 2)
    assert widget.record["update"] == 2
