"""Studies of several raters become one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from studies import small_study

import lab
from lab.__main__ import main
from lab.errors import LabError
from lab.merge import merge
from lab.votes import Vote, Votes


def shorter(prompt: str, text: str) -> float:
    return -len(text)


def longer(prompt: str, text: str) -> float:
    return len(text)


@pytest.fixture
def two(tmp_path, model):
    """Two studies of one seed and model, ranked by two raters of opposite taste."""
    studies = []
    for name, rater in {"anna": shorter, "ben": longer}.items():
        study = small_study(tmp_path, model, name)
        study.session().simulate(lab.Rater("me", rater, 0.01), 5)
        studies.append(study)
    return studies


def test_the_same_completions_become_one_and_raters_keep_apart(two, tmp_path, model) -> None:
    agreement = merge([study.folder for study in two], tmp_path / "class")
    assert agreement.rankings == {"me (anna)": 5, "me (ben)": 5}
    assert agreement.alpha.value < -0.5
    assert len(agreement.disagreements) == 5
    both = small_study(tmp_path, model, "class")
    assert len(both.store.completions()) == len(two[0].store.completions())
    assert len(both.store.rankings()) == 10
    assert both.store.rankings()[7].predicted == two[1].store.rankings()[2].predicted
    assert both.reward_model.accuracies.rankings == 10
    assert json.loads((both.folder / "experiment.json").read_text())["merged"] == ["anna", "ben"]


def test_merging_leaves_the_studies_as_they_were(two, tmp_path) -> None:
    before = [study.store.rankings() for study in two]
    merge([study.folder for study in two], tmp_path / "class")
    assert [study.store.rankings() for study in two] == before


def test_repeats_stay_repeats_and_what_was_taken_back_stays_behind(two, tmp_path, model) -> None:
    store = two[0].store
    first = store.rankings()[0]
    store.add_ranking(replace(first, id=0, repeats=first.id))
    two[1].store.undo()
    agreement = merge([study.folder for study in two], tmp_path / "class")
    assert agreement.rankings == {"me (anna)": 5, "me (ben)": 4}
    assert agreement.consistency["me (anna)"].value == 1.0


def test_votes_come_along_and_runs_are_told_apart(two, tmp_path, model) -> None:
    for study in two:
        vote = Vote("p", ("reference", "ppo-1@5"), ("a", "b"), "b", "me", sampling={"seed": 3})
        Votes(study.store).add(vote)
    merge([study.folder for study in two], tmp_path / "class")
    votes = Votes(small_study(tmp_path, model, "class").store).all()
    assert [v.variants for v in votes] == [("reference", f"{n}/ppo-1@5") for n in ("anna", "ben")]
    assert [v.rater for v in votes] == ["me (anna)", "me (ben)"]
    assert votes[0].winner == "b" and votes[0].sampling == {"seed": 3}


def test_studies_that_do_not_belong_together_are_refused(two, tmp_path, model) -> None:
    other = small_study(tmp_path, model, "hot", temperature=0.5)
    for studies, words in (
        ([two[0].folder, other.folder], "temperature"),
        ([two[0].folder], "two studies"),
        ([two[0].folder, two[0].folder], "two studies"),
        ([two[0].folder, tmp_path / "nothing"], "no study"),
    ):
        with pytest.raises(LabError, match=words):
            merge(studies, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(LabError, match="exists already"):
        merge([s.folder for s in two], two[0].folder)


def test_the_command_shows_the_agreement(two, tmp_path, capsys) -> None:
    folders = [str(study.folder) for study in two]
    assert main(["merge", *folders, "--out", str(tmp_path / "class")]) == 0
    out = capsys.readouterr().out
    assert "Krippendorff's alpha" in out and "me (ben): " in out and "100%" in out
    assert main(["merge", *folders, "--out", str(tmp_path / "class")]) == 1


def test_studies_of_the_same_name_keep_their_raters_apart(tmp_path, model) -> None:
    folders = []
    for person, taste in {"anna": shorter, "ben": longer}.items():
        study = small_study(tmp_path / person, model, "first")
        study.session().simulate(lab.Rater("me", taste, 0.01), 3)
        Votes(study.store).add(Vote("p", ("reference", "ppo-1@3"), ("a", "b"), "a", "judge"))
        folders.append(study.folder)
    agreement = merge([*folders, folders[0]], tmp_path / "class")  # one of them twice
    assert agreement.rankings == {"me (anna/first)": 3, "me (ben/first)": 3}
    votes = Votes(small_study(tmp_path, model, "class").store).all()
    assert {v.rater for v in votes} == {"judge (anna/first)", "judge (ben/first)"}
    assert {v.variants[1] for v in votes} == {"anna/first/ppo-1@3", "ben/first/ppo-1@3"}
