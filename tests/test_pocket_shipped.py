"""pocket as it lies in data/pocket: small, ordinary, and what its card says."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lab
from lab.continuations import shares
from lab.perplexity import perplexity
from lab.pocket import SHIPPED
from lab.pocket_card import CALM, new_questions, write
from lab.policy import Policy
from lab.texts import Texts
from lab.wellformed import Language

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def measured() -> dict:
    return json.loads((SHIPPED / "measured.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts.written(count=3_000, seed=1)


@pytest.fixture(scope="module")
def pocket() -> Policy:
    return Policy.load(SHIPPED, trainable="all")


def test_it_is_an_ordinary_small_model() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 8_000_000
    model = AutoModelForCausalLM.from_pretrained(SHIPPED, dtype="auto")
    assert model.dtype == torch.float16
    assert 2e6 <= sum(p.numel() for p in model.parameters()) <= 4e6
    assert len(AutoTokenizer.from_pretrained(SHIPPED)) <= 4096


def test_its_card_shows_fifty_samples_and_the_figures_that_lie_beside_it(measured) -> None:
    card = (SHIPPED / "README.md").read_text("utf-8")
    assert card.count("\n50. ") == 1 and len(measured["samples"]) == 50
    assert f"{measured['facts']['tokens']:,} tokens" in card


def test_its_perplexity_is_the_one_that_was_measured(measured, texts, pocket) -> None:
    said = measured["perplexity"]["new subject"]
    found = perplexity(pocket, texts.heldout["new subject"][:60])
    assert found.value == pytest.approx(said["pocket"]["value"], rel=0.25)
    assert found.value < said["bigram"]["value"] / 3
    assert said["untrained"]["value"] > 2_000


def test_most_of_what_it_writes_is_well_formed(measured, pocket) -> None:
    assert measured["well_formed"][f"samples at temperature {CALM}"]["value"] >= 0.8
    language = Language.of(Texts.written().train)
    samples = write(pocket, 60, seed=5, temperature=CALM)
    assert sum(not language.faults(text) for text in samples) >= 42


def test_a_base_model_seldom_answers_and_a_fine_tuned_one_mostly_does(tmp_path) -> None:
    study = lab.Experiment("p", "pocket-sft", root=tmp_path, progress=False)
    asked = [question for question in new_questions() if question.startswith("What is")]
    answered = {}
    for name in ("model:pocket", "reference"):
        found = study.variant(name).answer(asked, max_new_tokens=32, temperature=0.7)
        answered[name] = shares(found.prompts, found.texts)["answer"].value
    assert answered["model:pocket"] < 0.4 and answered["reference"] > 0.7
