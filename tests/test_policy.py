"""The split model says what the whole model says, and only what should train trains."""

from __future__ import annotations

import threading

import pytest
import torch
from helpers import (
    FAMILIES,
    SPLIT,
    TURNS,
    WHOLE,
    build_policy,
    random_prompts,
    tiny_model,
    tiny_tokenizer,
)
from torch import nn

from lab.errors import BadPrompts, BadSetting, PromptTooLong, UnsuitableModel
from lab.policy import Policy
from lab.sampling import pad_left
from lab.trunk import Trunk


def last_logits(policy, rows):
    """Logits of each row's real tokens, of a batch with left padding."""
    ids, mask = pad_left(rows, PAD_FILLER, "cpu")
    logits = policy.logits(policy.hidden(policy.inputs(ids, mask), mask))
    return [logits[i][mask[i]] for i in range(len(rows))]


PAD_FILLER = 9  # an ordinary token: only the mask may tell filler from text


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_policy_with_left_padding_says_what_the_whole_model_says(family, tiny_policy):
    model = tiny_model(family)
    policy = tiny_policy(family)
    rows = random_prompts([40, 3, 17, 1])
    for row, logits in zip(rows, last_logits(policy, rows), strict=True):
        assert (model(torch.tensor([row])).logits[0] - logits).abs().max() < 1e-5


@pytest.mark.parametrize("trainable", [1, 3, "auto"])
@pytest.mark.parametrize("family", SPLIT)
def test_split_families_are_split_at_any_depth(family, trainable, tiny_policy):
    policy = tiny_policy(family, trainable)
    top = 1 if trainable == "auto" else trainable
    assert policy.trunk.split
    assert policy.trunk.body.config.num_hidden_layers == 4 - top
    rows = random_prompts([20, 5])
    whole = tiny_model(family)
    with torch.no_grad():
        for row, logits in zip(rows, last_logits(policy, rows), strict=True):
            assert (whole(torch.tensor([row])).logits[0] - logits).abs().max() < 1e-5


@pytest.mark.parametrize("family", WHOLE)
def test_models_that_do_not_split_are_trained_whole(family, tiny_policy):
    policy = tiny_policy(family)
    assert not policy.trunk.split
    copy = policy.copy()
    assert sum(p.numel() for p in copy.parameters() if p.requires_grad) == sum(
        p.numel() for p in tiny_model(family).parameters()
    )
    trunk = {p.data_ptr() for p in policy.trunk.parameters()}
    assert not trunk & {p.data_ptr() for p in copy.parameters()}
    assert not any(m._forward_hooks for m in copy.modules())  # one would keep the graph alive


@pytest.mark.parametrize("trainable", [1, 3, "all"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@torch.no_grad()
def test_the_reward_head_reads_words_and_the_layer_halfway_up_or_the_trunk_below(
    family, trainable, tiny_policy
):
    policy = tiny_policy(family, trainable)
    rows = random_prompts([9, 30])
    layer = policy.trunk.feature_layer
    assert layer == (1 if trainable == 3 and family == "llama" else 2)
    ids, mask = pad_left(rows, PAD_FILLER, "cpu")
    _, states = policy.trunk.read(ids, mask)
    for i, row in enumerate(rows):
        model, row = tiny_model(family), torch.tensor([row])
        hidden = model(row, output_hidden_states=True).hidden_states
        words, context = states[i][mask[i]].chunk(2, -1)
        assert words.equal(model.get_input_embeddings()(row)[0])
        assert (hidden[layer][0] - context).abs().max() < 1e-5


@pytest.mark.parametrize("amount", [1, 5, 30])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@torch.no_grad()
def test_padding_amount_changes_nothing(family, amount, tiny_policy):
    policy = tiny_policy(family)
    row = random_prompts([12])[0]
    alone = last_logits(policy, [row])[0]
    padded = last_logits(policy, [row, [5] * (12 + amount)])[0]
    assert (alone - padded).abs().max() < 1e-5


def test_copy_shares_trunk_and_head_and_trains_the_top_alone(tiny_policy):
    reference = tiny_policy(trainable=2)
    policy = reference.copy()
    assert policy.trunk is reference.trunk
    assert policy.head is reference.head
    assert not any(p.requires_grad for p in reference.parameters())
    trained = {n for n, p in policy.named_parameters() if p.requires_grad}
    assert {n.split(".")[1] for n in trained} == {"layers", "norm"}
    assert {n.split(".")[2] for n in trained if "layers" in n} == {"0", "1"}
    assert set(policy.trainable_state()) == trained
    assert not any(p.requires_grad for p in [*policy.head.parameters(), *policy.trunk.parameters()])
    own = {p.data_ptr() for n, p in policy.named_parameters() if n in trained}
    assert not own & {p.data_ptr() for p in reference.parameters()}


@pytest.mark.parametrize("tied", [True, False])
def test_whole_copy_keeps_lm_head_tied_or_untied(tied, tiny_policy):
    policy = tiny_policy(trainable="all", tie_word_embeddings=tied).copy()
    assert (policy.head.weight is policy.top.get_input_embeddings().weight) == tied
    assert all(p.requires_grad for p in policy.parameters())
    trunk = {p.data_ptr() for p in policy.trunk.parameters()}
    assert trunk
    assert not trunk & {p.data_ptr() for p in policy.parameters()}


@pytest.mark.parametrize("family", SPLIT)
def test_gradients_of_a_split_policy_are_those_of_the_whole_model(family, tiny_policy):
    rows = random_prompts([16, 9])
    policy = tiny_policy(family, 2).copy()
    sum(x.logsumexp(-1).square().mean() for x in last_logits(policy, rows)).backward()

    model = tiny_model(family)
    logits = [model(torch.tensor([row])).logits[0] for row in rows]
    sum(x.logsumexp(-1).square().mean() for x in logits).backward()

    layers = dict(model.base_model.named_parameters())
    compared = 0
    for name, parameter in policy.top.named_parameters():
        head, *rest = name.split(".")
        if head == "layers":
            name = ".".join([head, str(int(rest[0]) + 2), *rest[1:]])
        expected = layers[name].grad
        assert torch.allclose(parameter.grad, expected, atol=1e-5 * max(1, expected.abs().max()))
        compared += 1
    assert compared > 10


def test_state_can_be_put_back(tiny_policy):
    policy = tiny_policy().copy()
    before = {k: v.clone() for k, v in policy.trainable_state().items()}
    for parameter in policy.trainable_state().values():
        parameter.add_(1.0)
    policy.load_trainable_state(before)
    assert all(torch.equal(v, before[k]) for k, v in policy.trainable_state().items())


@pytest.mark.parametrize("trainable", [0, 5, -1, 2.0, True, "top", None])
def test_trainable_out_of_range_is_refused(trainable):
    with pytest.raises(BadSetting, match="1 to 4"):
        build_policy(trainable=trainable)


def test_a_prompt_of_no_tokens_is_refused(tiny_policy):
    with pytest.raises(BadPrompts, match="no tokens"):
        tiny_policy().trunk.encode("")


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_threads_that_read_at_once_get_their_own_states(family, tiny_policy):
    trunk = tiny_policy(family).trunk
    ids = [torch.randint(3, 60, (2, n)) for n in (5, 9)]
    expected = [trunk.read(i, torch.ones_like(i, dtype=torch.bool))[1] for i in ids]
    wrong = []

    def read(which: int) -> None:
        for _ in range(150):
            found = trunk.read(ids[which], torch.ones_like(ids[which], dtype=torch.bool))[1]
            if not torch.allclose(found, expected[which], atol=1e-6):
                wrong.append(which)

    threads = [threading.Thread(target=read, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_prompt_without_room_is_refused(tiny_policy):
    trunk = tiny_policy().trunk
    assert len(trunk.encode("w5 " * 120, room=8)) == 120
    with pytest.raises(PromptTooLong, match=r"121 tokens.*128"):
        trunk.encode("w5 " * 121, room=8)


def test_chat_template_makes_plain_turns(tiny_policy):
    words = ["user", "w5", "w6", "assistant"]
    tokenizer = tiny_tokenizer(chat_template=TURNS)
    assert tiny_policy(tokenizer=tokenizer).trunk.encode("w5 w6") == (
        tokenizer.convert_tokens_to_ids(words)
    )
    assert tiny_policy().trunk.encode("w5 w6") == tokenizer.convert_tokens_to_ids(words[1:3])


def test_decoded_text_has_no_special_tokens(tiny_policy):
    assert tiny_policy().trunk.decode([7, 8, 1]) == "w7 w8"


def test_pooling_reads_the_completion_only():
    states = torch.full((2, 4, 3), float("nan"))
    states[0, 1:3], states[1, 3] = torch.tensor([[1.0], [3.0]]), 5.0
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    assert Trunk.pool(states, mask).tolist() == [[2.0] * 3, [5.0] * 3]


@pytest.mark.parametrize("pad", ["<pad>", "<eos>", None])
def test_pad_id_may_be_the_end_of_sequence(pad, tiny_policy):
    trunk = tiny_policy(tokenizer=tiny_tokenizer(pad=pad)).trunk
    assert trunk.pad_id == {"<pad>": 0, "<eos>": 1, None: 1}[pad]
    assert trunk.eos_ids == {1}


def test_several_end_of_sequence_ids_of_the_model_are_kept():
    model = tiny_model()
    model.generation_config.eos_token_id = [1, 7]
    assert Policy.from_model(model, tiny_tokenizer()).trunk.eos_ids == {1, 7}


def test_a_head_that_does_not_explain_the_logits_is_refused():
    class Doubled(type(tiny_model())):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 2
            return output

    model = tiny_model()
    model.__class__ = Doubled
    with pytest.raises(UnsuitableModel, match="lm_head"):
        Policy.from_model(model, tiny_tokenizer())


def test_a_model_without_a_list_of_layers_is_refused():
    model = tiny_model()
    model.base_model.layers = nn.Sequential(*model.base_model.layers)
    with pytest.raises(UnsuitableModel, match="layers"):
        Policy.from_model(model, tiny_tokenizer())


def test_a_saved_model_is_read_back_with_a_hash_of_its_weights(tmp_path):
    hashes = set()
    for seed in (0, 0, 1):
        folder = tmp_path / f"{seed}{len(hashes)}"
        tiny_model(seed=seed).save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        policy = Policy.load(folder, trainable=2, device="cpu", chat_template=TURNS)
        hashes.add(policy.trunk.weights_hash)
    assert len(hashes) == 2
    assert policy.trunk.extractor == f"{policy.trunk.weights_hash}:0+2:mean"
    assert len(policy.trunk.encode("w5")) == 3
    row = random_prompts([10])[0]
    with torch.no_grad():
        expected = tiny_model(seed=1)(torch.tensor([row])).logits[0]
        assert (last_logits(policy, [row])[0] - expected).abs().max() < 1e-5


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UnsuitableModel, match="could not be read"):
        Policy.load(tmp_path)
