"""SFT learns completions, never prompts, from demonstrations that were checked."""

from __future__ import annotations

import json
import math

import pytest
from helpers import build_policy, plain_logprobs, tiny_model
from trainers import DEMONSTRATIONS

from lab.demonstrations import Demonstration, load_demonstrations, write_demonstrations
from lab.errors import BadDemonstrations, LabError, PromptTooLong
from lab.settings import SFTSettings
from lab.sft import SFT

TWO = [Demonstration("w20 w21", "w5 w6 w7"), Demonstration("w30", "w9")]


def start(demonstrations=TWO, **settings) -> SFT:
    mine = {"batch_size": 8, "learning_rate": 1e-2, **settings}
    return SFT(build_policy(trainable=2), demonstrations, SFTSettings(**mine))


def test_the_loss_is_the_mean_over_completion_tokens_the_end_included():
    sft, model, total = start(), tiny_model(), 0.0
    for d in TWO:
        prompt = sft.policy.trunk.encode(d.prompt)
        completion = [*sft.policy.trunk.tokenizer(d.completion)["input_ids"], 1]
        total -= plain_logprobs(model, prompt, completion).sum().item()
    row = sft.step()
    assert row["num_tokens"] == 6
    assert row["loss"] == pytest.approx(total / 6, abs=1e-5)


def test_demonstrations_become_likely_and_prompts_do_not():
    sft = start()
    before = sft.step()["loss"]
    assert sft.train(20)[-1]["loss"] < before / 2
    prompt = sft.policy.trunk.encode(TWO[0].prompt)
    ids = [*prompt, *sft.sequences.completions[0]]
    assert len(sft.sequences.samples([0]).completion_ids[0]) == 4
    assert sft.sequences.samples([0]).ids[0].tolist() == ids


def test_held_out_demonstrations_measure_and_never_train():
    sft = start(DEMONSTRATIONS)
    assert len(sft.train_on) == 4 and len(sft.heldout) == 1
    row = sft.step()
    assert row["eval_loss"] == pytest.approx(sft.evaluate(), abs=1e-6)
    heldout = {d.prompt for d in DEMONSTRATIONS if d.split == "heldout"}
    assert not heldout & {s["prompt"] for _ in range(5) for s in (sft.step(), sft.last_samples)[1]}


def test_a_demonstration_longer_than_the_context_is_refused():
    with pytest.raises(PromptTooLong):
        start([Demonstration("w20", "w5 " * 130)])
    row = start([Demonstration("w20", "w5 " * 126)]).step()  # fills it, with its end
    assert math.isfinite(row["loss"])


def test_held_out_demonstrations_alone_are_an_error():
    with pytest.raises(LabError, match="train"):
        start([Demonstration("w20", "w5", "heldout")])


def test_demonstrations_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "demonstrations.jsonl"
    found = [*DEMONSTRATIONS, Demonstration("naïve 😀\u2028", "a\nb")]
    write_demonstrations(path, found)
    assert load_demonstrations(path) == [
        *DEMONSTRATIONS,
        Demonstration("naïve 😀", "a\nb"),
    ]
    for same in (("p", "c"), ["p", "c"], {"prompt": "p", "completion": "c"}):
        assert load_demonstrations([same]) == [Demonstration("p", "c")]


@pytest.mark.parametrize("bad", ["ab", ("a",), ("a", "b", "c", "d"), 3, None, {"prompt": "a"}])
def test_what_is_no_demonstration_is_named_by_its_number(bad):
    with pytest.raises(BadDemonstrations, match="demonstration 2"):
        load_demonstrations([("p", "c"), bad])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ('{"prompt": "a"}', "completion"),
        ('{"prompt": " ", "completion": "b"}', "prompt"),
        ('{"prompt": "a", "completion": 3}', "completion"),
        ('{"prompt": "a", "completion": "b", "split": "test"}', "split"),
    ],
)
def test_a_bad_demonstration_is_named_with_its_line(tmp_path, line, reason):
    path = tmp_path / "demonstrations.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n\n" + line + "\n")
    with pytest.raises(BadDemonstrations, match=f"line 3.*{reason}"):
        load_demonstrations(path)


@pytest.mark.parametrize("data", [None, b"\xff\xfe", b"\n"])
def test_a_file_that_holds_no_demonstrations_is_an_error(tmp_path, data):
    path = tmp_path / "demonstrations.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadDemonstrations):
        load_demonstrations(path)
