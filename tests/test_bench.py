"""The bench: its formulas against a count of operations, its figures, its errors."""

from __future__ import annotations

import json
import sys

import plotly.graph_objects as go
import pytest
import torch
from helpers import build_policy, random_prompts
from torch.utils.flop_counter import FlopCounterMode

from lab.__main__ import main
from lab.bench import bench, compared
from lab.bench_grow import Judge, figure, refits, synthetic_study
from lab.bench_learn import score_at, summary
from lab.bench_trl import share_model
from lab.bench_worker import SHARE, Work, Worker, ours, score_function
from lab.errors import LabError
from lab.machine import Stage, stages
from lab.ppo import PPO
from lab.sampling import sample
from lab.settings import PPOSettings

FIGURES = """update_seconds sample_seconds score_seconds train_seconds tokens_per_second
peak_memory_mb ratio_to_limit"""
BATCH, TOKENS, EPOCHS, PROMPT = 4, 6, 3, 5
PROMPTS = [" ".join(f"w{3 + i + j}" for j in range(PROMPT)) for i in range(BATCH)]


def counted(policy) -> dict[str, int]:
    """Operations of the products with weights in one update, by phase, as torch counts them."""
    settings = PPOSettings(
        batch_size=BATCH, num_ppo_epochs=EPOCHS, num_mini_batches=1, max_new_tokens=TOKENS
    )
    trainer = PPO(policy, lambda prompts, samples: [0.0] * len(samples), PROMPTS, settings)
    trainer.update = 1
    found = {}
    trainer.rollout()  # the trunk reads the prompts, for good
    with FlopCounterMode(display=False) as counter:
        _, samples = trainer.rollout()
    trainer.reference_logprobs(samples)  # and so does the reference
    found["sampling"] = products(counter)
    with FlopCounterMode(display=False) as counter:
        trainer.learn(samples, torch.arange(float(BATCH)))
    return found | {"training": products(counter)}


def products(counter: FlopCounterMode) -> int:
    """Those of matrices; attention is batched, and left out of the limit."""
    aten = torch.ops.aten
    return sum(counter.get_flop_counts()["Global"].get(op, 0) for op in (aten.mm, aten.addmm))


@pytest.mark.parametrize("trainable", [1, 3, "all"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3"])
def test_the_formulas_count_what_an_update_computes(family, trainable) -> None:
    policy = build_policy(family, trainable)
    policy.trunk.eos_ids = frozenset()
    found = counted(policy)
    for phase, flops in found.items():
        work = stages(policy, BATCH * PROMPT, BATCH, TOKENS, EPOCHS)
        expected = sum(stage.flops for stage in work if stage.phase == phase)
        assert flops == pytest.approx(expected, rel=0.02), phase  # the value head is the rest


def test_a_stage_counts_and_times_each_product() -> None:
    weights = [torch.randn(8, 4), torch.randn(4, 8)]
    forward, trained = Stage("training", weights, 3, 2), Stage("training", weights, 3, 2, 2)
    assert forward.flops == 2 * 3 * 64 * 2 and forward.bytes == 4 * 64 * 2
    assert trained.flops == 3 * forward.flops and trained.bytes == 3 * forward.bytes
    assert forward.seconds() > 0 and trained.seconds() > 0
    assert Stage("sampling", weights, 3, 0).seconds() == 0


def test_the_file_has_every_figure_and_they_make_sense(model, tmp_path, capsys) -> None:
    file = tmp_path / "bench.json"
    options = ["--batch", "2", "--tokens", "3", "--trainable", "1", "--quick", "--json", str(file)]
    assert main(["bench", "--model", model, *options]) == 0
    found = json.loads(file.read_text())
    assert set(FIGURES.split()) <= set(found)
    assert all(found[name] >= 0 for name in FIGURES.split())
    parts = found["sample_seconds"] + found["score_seconds"] + found["train_seconds"]
    assert 0.5 * found["update_seconds"] < parts < 1.5 * found["update_seconds"]
    assert found["tokens_per_second"] == pytest.approx(2 * 3 / found["update_seconds"])
    assert found["peak_memory_mb"] > 100 and len(found["seconds_each"]) == 2
    assert found["limit"]["roofline_seconds"] > 0 and found["ratio_to_limit"] > 1
    assert "whole update" in capsys.readouterr().out


def test_ratios_are_theirs_by_ours_in_time_and_ours_by_theirs_in_memory() -> None:
    lab = [{"seconds": s, "peak_memory_mb": 200.0} for s in (1.0, 2.0, 9.0)]
    other = [{"seconds": s, "peak_memory_mb": 800.0} for s in (8.0, 7.0, 100.0)]
    found = compared("trl", lab, other)
    assert found["trl_update_seconds"] == 8.0 and found["trl_peak_memory_mb"] == 800.0
    assert found["speedup"] == 4.0 and found["memory_ratio"] == 0.25
    assert {"trl_lora_update_seconds", "speedup_lora", "memory_ratio_lora"} <= set(
        compared("trl_lora", lab, other)
    )


def test_a_missing_trl_says_how_to_install_it(model, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    assert main(["bench", "--model", model, "--against", "trl"]) == 1
    assert "pip install -e '.[parity]' -c constraints.txt" in capsys.readouterr().err


def test_lora_and_learn_need_an_opponent(model) -> None:
    for option in ({"lora": True}, {"learn": 3}):
        with pytest.raises(LabError, match="--against trl"):
            bench(model, **option)


def test_what_cannot_be_measured_is_said_at_once(tmp_path) -> None:
    with pytest.raises(LabError, match="at least 1"):
        bench(updates=0)
    with pytest.raises(LabError, match="no such folder"):
        bench(json=tmp_path / "nowhere" / "bench.json")


def test_a_killed_worker_says_what_may_help(model) -> None:
    with Worker(ours, Work(model, None, ("w3",), 1, 2, trainable=1)) as lab:
        lab._process.kill()
        lab._process.join()
        with pytest.raises(LabError, match="smaller --batch"):
            lab.ask("step")


def test_an_error_in_a_worker_is_raised_here(tmp_path) -> None:
    with pytest.raises(LabError, match="could not be read"):
        Worker(ours, Work(str(tmp_path / "nothing"), None, ("w3",), 1))


def test_a_random_score_is_in_standard_deviations_and_a_share_counts_wanted_tokens() -> None:
    policy = build_policy()
    samples = sample(policy, random_prompts([3, 5, 4]), max_new_tokens=6)
    work = Work("", None, ("w3",) * 3, 3)
    scores = score_function(work, policy.trunk)([], samples)
    assert scores.mean().item() == pytest.approx(0, abs=1e-5)
    assert scores.std().item() == pytest.approx(1, abs=1e-4)

    wanted = (7, 11, 13, 20, 21, 22)
    share = score_function(Work("", None, (), 3, wanted=wanted), policy.trunk)([], samples)
    rows = samples.token_lists()
    assert share.tolist() == pytest.approx(
        [SHARE * sum(t in wanted for t in r) / len(r) for r in rows]
    )

    model = share_model(wanted, samples.prompt_width)  # TRL's reward model says the same
    states = model.score(model.backbone(input_ids=samples.ids).hidden_states[-1])
    last = samples.prompt_width + samples.lengths - 1
    assert torch.allclose(states[torch.arange(3), last, 0], share)


def test_refits_and_the_next_prompt_are_timed_on_synthetic_rankings(model, capsys) -> None:
    from rich.console import Console

    with synthetic_study(model, 12) as study:
        rows = refits(study, (4, 12), Console())
        assert [row["rankings"] for row in rows] == [4, 12]
        assert all(row["seconds"] > 0 for row in rows)
        assert all(row["uncertainty_seconds"] > 0 for row in rows)
        stored = len(study.store.rankings())
        judge = Judge(study)
        judge.complete(1)
        asked = study.session().next()
        assert judge.count == stored and asked.prompt == judge.order[stored]
        assert asked.selection_probability == 1 / (len(judge.order) - stored)


def test_gain_per_episode_is_the_last_quarter_less_the_first_update() -> None:
    run = [{"objective/scores": s, "objective/kl": s, "seconds": 1.0} for s in (1.0, 2, 3, 5)]
    found = summary([run, run], batch=10)
    assert found["gain"] == 4.0 and found["gain_per_episode"] == pytest.approx(4 / 30)
    assert found["scores"] == [1.0, 2.0, 3.0, 5.0] and found["seconds"] == 4.0
    assert found["score_at_kl"] is None and score_at(4, found["scores"], found["kl"]) == 4


def test_growth_is_drawn_from_the_file() -> None:
    sizes = {"batch": (8, 16), "tokens": (16, 32), "trainable": (2, "all")}
    grow = {k: [{k: x, "update_seconds": 1.0} for x in xs] for k, xs in sizes.items()}
    grow["refit"] = [{"rankings": 10, "seconds": 0.01}, {"rankings": 100, "seconds": 0.02}]
    drawing = figure({"grow": grow})
    assert isinstance(drawing, go.Figure) and len(drawing.data) == 4
    assert list(drawing.data[2].x) == ["2", "all"]
