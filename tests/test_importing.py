"""Preferences that others gave become rankings of a study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from studies import HOSTILE, rank_some, small_study

from lab.errors import BadPreferences, PromptTooLong
from lab.importing import Preference, import_preferences, read_preferences
from lab.store import clean

GOOD = {"prompt": "w3 w4", "chosen": "w5", "rejected": "w6"}


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED = [said("user", "Hi"), said("assistant", "Hello"), said("user", "And?")]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "given.jsonl"


def opposed(count: int = 20) -> list[Preference]:
    """Prompts that no study has; answers of one word are preferred to those of another."""
    return [Preference(f"w{20 + i} w4", f"w5 w5 w{8 + i}", f"w6 w6 w{8 + i}") for i in range(count)]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (GOOD, "w3 w4"),
        (
            {
                "prompt": [said("user", "w3 w4")],
                "chosen": [said("assistant", "w5")],
                "rejected": [said("assistant", "w6")],
            },
            "w3 w4",
        ),
        (
            {
                "chosen": [*ASKED, said("assistant", "w5")],
                "rejected": [*ASKED, said("assistant", "w6")],
            },
            "User: Hi\nAssistant: Hello\nUser: And?",
        ),
        (
            {
                "chosen": "\n\nHuman: w3 w4\n\nAssistant: w5",
                "rejected": "\n\nHuman: w3 w4\n\nAssistant: w6",
            },
            "w3 w4",
        ),
        (
            {
                "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And?\n\nAssistant: w5",
                "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: And?\n\nAssistant: w6",
            },
            "User: Hi\nAssistant: Hello\nUser: And?",
        ),
    ],
)
def test_each_format_is_read(file, row, prompt) -> None:
    assert read_preferences(write(file, row)) == [Preference(prompt, "w5", "w6")]


def test_formats_may_be_mixed_in_a_file_and_a_weight_is_read(file) -> None:
    dialogue = "\n\nHuman: a\n\nAssistant: "
    other = {"chosen": dialogue + "b\n\nc", "rejected": dialogue + "d"}
    found = read_preferences(write(file, {**GOOD, "weight": 0.25}, other))
    assert found == [Preference("w3 w4", "w5", "w6", 0.25), Preference("a", "b\n\nc", "d")]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ([GOOD], "expected an object"),
        ({"prompt": "a", "chosen": "b"}, '"rejected" must be a text'),
        ({**GOOD, "chosen": "  "}, '"chosen" must be a text'),
        ({**GOOD, "prompt": []}, '"prompt" must be a text'),
        ({**GOOD, "prompt": None}, '"prompt" must be a text'),
        ({**GOOD, "chosen": " w6 "}, "the same text"),
        ({"chosen": "b", "rejected": "c"}, 'so give a "prompt" too'),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
            "differ before their last turn",
        ),
        ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: c"}, "end with a turn of the assis"),
        ({"chosen": "\n\nAssistant: a", "rejected": "\n\nAssistant: c"}, "turn of the user"),
        ({**GOOD, "prompt": [said("wizard", "a")]}, "the role is 'wizard'"),
        ({**GOOD, "prompt": [said("user", "")]}, "content must be a text"),
        ({**GOOD, "prompt": ["a"]}, 'object with "role"'),
        ({**GOOD, "chosen": [*ASKED, said("assistant", "a")]}, '"chosen" has several turns'),
        *[
            ({**GOOD, "weight": weight}, '"weight" must be a positive')
            for weight in (0, -1, "2", True, None, float("nan"), float("inf"), 10**400)
        ],
    ],
)
def test_a_row_that_cannot_be_used_is_named(file, row, what) -> None:
    with pytest.raises(BadPreferences, match=what) as error:
        read_preferences(write(file, GOOD, row))
    assert f"{file}, line 2: " in str(error.value)


def test_an_answer_may_be_empty_in_the_labs_own_export_alone(file) -> None:
    found = read_preferences(write(file, {**GOOD, "chosen": "", "weight": 0.5}))
    assert found == [Preference("w3 w4", "", "w6", 0.5)]
    with pytest.raises(BadPreferences, match='"chosen" must be a text'):
        read_preferences(write(file, {**GOOD, "chosen": ""}))


def test_what_is_no_json_is_named_and_a_file_without_preferences_too(file) -> None:
    file.write_text(json.dumps(GOOD) + "\n\n{chosen", encoding="utf-8")
    with pytest.raises(BadPreferences, match="line 3: not valid JSON"):
        read_preferences(file)
    with pytest.raises(BadPreferences, match="holds no preferences"):
        read_preferences(write(file))
    with pytest.raises(BadPreferences, match="could not be read"):
        read_preferences(file.with_name("missing.jsonl"))


def test_imported_preferences_become_rankings_of_two(study, file) -> None:
    told: list[int] = []
    assert import_preferences(study, write(file, GOOD), "anna", told.append) == 1
    (ranking,) = study.store.rankings()
    assert (ranking.prompt, ranking.rater, ranking.simulated) == ("w3 w4", "anna", False)
    chosen, rejected = (study.store.completion(tier[0]) for tier in ranking.tiers)
    assert (chosen.text, rejected.text, chosen.policy) == ("w5", "w6", "imported:given.jsonl")
    assert chosen.token_ids == (5, *study.reference.trunk.end) and chosen.finished
    assert told == [1]


def test_importing_twice_adds_nothing(study, file) -> None:
    write(file, GOOD, GOOD, {**GOOD, "chosen": "w7"})
    assert study.import_preferences(file) == 2
    before = study.store.completions()
    assert study.import_preferences(file) == 0
    assert study.store.completions() == before and len(study.store.rankings()) == 2
    assert study.import_preferences(file, rater="somebody else") == 2


def test_features_are_those_that_the_study_would_read_itself(study) -> None:
    study.import_preferences([*opposed(), replace(opposed(1)[0], chosen="w5 " * 9)])
    store, extractor = study.store, study.reference.trunk.extractor
    imported = store.features(extractor)
    store._write("DELETE FROM features", ())
    study.completions.read_missing_features()
    again = store.features(extractor)
    assert imported.keys() == again.keys() and len(again) == 42
    for id, vector in imported.items():
        assert vector == pytest.approx(again[id], abs=1e-4)


def test_an_export_comes_back(study, tmp_path, model) -> None:
    rank_some(study)
    pairs = study.store.export_jsonl(tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    found = read_preferences(tmp_path / "out.jsonl")
    assert len(found) == pairs > 0
    assert [(p.prompt, p.chosen, p.rejected, p.weight) for p in found] == [
        (r["prompt"], r["chosen"], r["rejected"], r["weight"]) for r in rows
    ]
    other = small_study(tmp_path, model, "other")
    other.import_preferences(tmp_path / "out.jsonl")
    other.store.export_jsonl(tmp_path / "again.jsonl")
    again = read_preferences(tmp_path / "again.jsonl")
    assert {replace(p, weight=1.0) for p in again} == {replace(p, weight=1.0) for p in found}


def test_the_reward_model_learns_from_imported_pairs(study) -> None:
    assert study.import_preferences(opposed()) == 20
    head, ids = study.reward_model.require_head(), study.store.pairs()
    assert study.reward_model.accuracies.cv.value > 0.9
    features = [
        study.reward_model.features([getattr(p, s) for p in ids]) for s in ("chosen", "rejected")
    ]
    assert (head.raw(features[0]) > head.raw(features[1])).all()


def test_dpo_and_ppo_train_on_prompts_that_the_study_does_not_have(study) -> None:
    study.import_preferences(opposed(4))
    assert study.trainer("dpo", batch_size=2).step()["update"] == 1
    ppo = study.trainer("ppo", batch_size=4)
    assert {p.prompt for p in opposed(4)} <= set(ppo.run.config["prompts"])
    assert ppo.step()["update"] == 1


def test_preferences_of_held_out_prompts_measure_and_never_train(study) -> None:
    heldout = [replace(opposed(1)[0], prompt=prompt) for prompt in study.heldout]
    study.import_preferences([*opposed(), *heldout])
    assert study.reward_model.accuracies.heldout.count == len(heldout) == 3


def test_nothing_is_added_where_one_cannot_be(study) -> None:
    with pytest.raises(PromptTooLong):
        study.import_preferences([*opposed(2), Preference("w3 " * 500, "w5", "w6")])
    with pytest.raises(BadPreferences, match=r"preference 3: .*the same text"):
        study.import_preferences([*opposed(2), Preference("w3", "w5", "w5")])
    assert not study.store.rankings() and not study.store.completions()


def test_hostile_text_survives(study, file) -> None:
    row = {"prompt": HOSTILE + "?", "chosen": HOSTILE, "rejected": "w6"}
    assert study.import_preferences(write(file, row), rater=HOSTILE) == 1
    (ranking,) = study.store.rankings()
    chosen = study.store.completion(ranking.tiers[0][0])
    assert (chosen.prompt, chosen.text) == (clean(HOSTILE + "?"), clean(HOSTILE).strip())
    assert ranking.rater == clean(HOSTILE)
    assert study.import_preferences(file, rater=HOSTILE) == 0
