"""Wordings of the same requests, side by side: which part of a prompt changes an answer."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from studies import small_study

from lab import statistics
from lab.compare import CHUNK, EVALUATION, answer_chunks
from lab.errors import BadSetting, LabError, NotReady
from lab.prompt_bench import MEASURES, WORDINGS, PromptBench

REQUESTS = ["w20 w21", "w30", "w40 w41 w42"]
OWN = {"plain": "{request}", "first": "w5 w6 {request}", "last": "{request} w7"}


def bench_of(study, **options) -> PromptBench:
    given = {"variants": ["reference"], "requests": REQUESTS, "wordings": OWN} | options
    return PromptBench(study, **given)


@pytest.fixture
def two(study):
    """A study with a second variant: an aligned policy that differs from the reference."""
    study.session().simulate(lambda prompt, text: -len(text), 4)
    study.trainer(batch_size=4, learning_rate=0.05).train(2)
    return study


def test_every_wording_is_the_request_and_something_else() -> None:
    assert list(WORDINGS) == ["plain", "role", "context", "constraint", "politeness"]
    for name, template in WORDINGS.items():
        assert template.count("{request}") == 1
        assert (template == "{request}") == (name == "plain")


@pytest.mark.parametrize(
    ("measure", "text", "value"),
    [
        ("on the subject", "Foxes eat mice.", 1),
        ("on the subject", "Bread is made of flour.", 0),
        ("refuses", "I'm sorry, but I can't help with that.", 1),
        ("refuses", "Foxes eat mice.", 0),
        ("words", "Foxes eat  mice.", 3),
        ("words", "", 0),
        ("ends", "Foxes eat mice. ", 1),
        ("ends", 'She said: "Yes!"', 1),
        ("ends", "She said: \u201cYes.\u201d", 1),
        ("ends", "Foxes eat", 0),
        ("ends", "Foxes eat:\n1. Mice.\n2.", 0),
        ("ends", "", 0),
        ("cheerful", "What a joy, and what fun!", 2.5),
    ],
)
def test_a_measure_reads_an_answer(measure, text, value) -> None:
    assert MEASURES[measure]("What do foxes eat?", text) == value


def test_all_wordings_and_variants_are_asked_with_the_same_random_numbers(two) -> None:
    same = {"plain": "{request}", "again": "{request}", "first": OWN["first"]}
    bench = bench_of(two, variants=["reference", "ppo-1"], wordings=same).run()
    for i, request in enumerate(REQUESTS):
        for draw in (0, 1):
            said = {(v, w): text for v, w, text in bench.samples(request, draw)}
            assert list(said) == [(v, w) for v in ("reference", "ppo-1@2") for w in same]
            assert said["reference", "plain"] == said["reference", "again"]
            assert said["ppo-1@2", "first"] == bench.texts["ppo-1@2"]["first"][2 * i + draw]
    asked = [OWN["first"].replace("{request}", r) for r in REQUESTS for _ in range(2)]
    for name in ("reference", "ppo-1@2"):
        expected = two.variant(name).answer(asked, seed=EVALUATION).texts
        assert bench.texts[name]["first"] == expected
        assert expected != bench.texts[name]["plain"]
    assert bench.texts["reference"] != bench.texts["ppo-1@2"]
    other = bench_of(two, wordings=same, seed=1).run()
    assert other.texts["reference"] != bench.texts["reference"]
    assert bench_of(two, wordings=same).run().texts["reference"] == bench.texts["reference"]


def test_effects_are_paired_differences_clustered_by_request(two) -> None:
    letters = {"letters": lambda request, text: float(len(text))}
    bench = bench_of(two, variants=["reference", "ppo-1"], measures=letters, count=3).run()
    clusters = [r for r in REQUESTS for _ in range(3)]
    for variant, by_wording in bench.texts.items():
        lengths = {w: np.array([len(t) for t in texts]) for w, texts in by_wording.items()}
        rows = {r.wording: r for r in bench.rows() if r.variant == variant}
        assert rows["plain"].effect is None
        for wording in OWN:
            assert rows[wording].value == statistics.mean(lengths[wording], clusters)
        for wording in ("first", "last"):
            difference = lengths[wording] - lengths["plain"]
            assert rows[wording].effect == statistics.mean(difference, clusters)
    assert bench.table("letters")["ppo-1@2"]["last"] == rows["last"].value
    assert bench.effects("letters")["ppo-1@2"] == {w: rows[w].effect for w in ("first", "last")}


def test_a_measure_of_zeros_and_ones_is_a_share_in_every_row(study) -> None:
    measures = {
        "late": lambda request, text: text > "w3",
        "half": lambda request, text: 0.5 * (text > "w3"),
    }
    bench = bench_of(study, measures=measures, count=4).run()
    clusters = [r for r in REQUESTS for _ in range(4)]
    for wording, texts in bench.texts["reference"].items():
        late = np.array([t > "w3" for t in texts], float)
        assert 0 < late.mean() < 1
        assert bench.table("late")["reference"][wording] == statistics.proportion(late, clusters)
        half = statistics.mean(late / 2, clusters)
        assert bench.table("half")["reference"][wording] == half
    highest = bench.texts["reference"]["last"][0]
    bench.measures["to two"] = lambda request, text: 2 if text == highest else text > "w3"
    late = np.array([t > "w3" for t in bench.texts["reference"]["plain"]], float)
    found = bench.table("to two")["reference"]["plain"]
    assert found == statistics.mean(late, clusters), "alone it would look like a share"


def test_a_measure_gets_the_plain_request(study) -> None:
    seen = set()
    measures = {"seen": lambda request, text: seen.add(request) or 0.0}
    bench_of(study, measures=measures).run().rows()
    assert seen == set(REQUESTS)


def test_work_counts_answers_and_holds_the_model_only_while_it_samples(study, monkeypatch) -> None:
    count = CHUNK // len(REQUESTS) + 1  # two chunks of each wording
    bench = bench_of(study, wordings={"plain": "{request}"}, count=count)
    seen = []

    def is_free() -> bool:
        if free := study.compute.acquire(blocking=False):
            study.compute.release()
        return free

    def watched(*args, **options):
        for part in answer_chunks(*args, **options):
            seen.append(("samples", other.submit(is_free).result()))
            yield part

    monkeypatch.setattr("lab.compare.answer_chunks", watched)
    with ThreadPoolExecutor(1) as other:
        for step in bench.work():
            seen.append((step, other.submit(is_free).result()))
    counted = [(i, True) for i in range(1, len(REQUESTS) * count + 1)]
    sampled = ("samples", False)
    assert seen == [sampled, *counted[:CHUNK], sampled, *counted[CHUNK:]]
    assert bench.total == len(counted)


def test_nothing_is_told_before_all_is_done_and_broken_off_work_begins_anew(study) -> None:
    bench = bench_of(study)
    for halfway in (False, True):
        if halfway:
            next(bench.work())
        for ask in (bench.rows, lambda: bench.table("words"), lambda: bench.samples("w30")):
            with pytest.raises(NotReady, match="of 18 answers"):
                ask()
    assert bench.run() is bench
    assert len(bench.rows()) == len(OWN) * len(MEASURES)
    before = bench.texts
    assert bench.run().texts == before and bench.done == bench.total


def test_effects_are_drawn_with_a_title_and_labels(study) -> None:
    figure = bench_of(study).run().figure("words")
    [trace] = figure.data
    assert trace.name == "reference" and list(trace.x) == ["first", "last"]
    assert "words" in figure.layout.title.text and "words" in figure.layout.yaxis.title.text


def test_plain_is_always_among_the_wordings(study) -> None:
    bench = bench_of(study, wordings={"last": OWN["last"]})
    assert bench.wordings == {"plain": "{request}", "last": OWN["last"]}


def test_requests_are_heldout_prompts_that_want_a_plain_answer(tmp_path, model) -> None:
    kinds = ["harmful", "lookalike", "opinion", "advice", *["factual"] * 14]
    splits = ["train" if kind == "advice" else "heldout" for kind in kinds]
    rows = [
        {"prompt": f"Prompt {i}?", "kind": kind, "split": split}
        for i, (kind, split) in enumerate(zip(kinds, splits, strict=True))
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    study = small_study(tmp_path, model, prompts=path)
    assert PromptBench(study, ["reference"]).requests == [f"Prompt {i}?" for i in range(4, 16)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"wordings": {"x": "w5"}}, "'x'.*0 times"),
        ({"wordings": {"x": "{request} {request}"}}, "'x'.*2 times"),
        ({"wordings": {}}, "no wordings"),
        ({"requests": []}, "no requests"),
        ({"measures": {}}, "no measures"),
        ({"variants": []}, "no variants"),
        ({"variants": ["reference", " reference"]}, "mean the same"),
        ({"count": 0}, "count=0"),
        ({"count": 65}, "count=65"),
    ],
)
def test_what_can_not_be_asked_is_said_at_once(study, wrong, words) -> None:
    with pytest.raises(BadSetting, match=words):
        bench_of(study, **wrong)


def test_what_is_not_there_is_named(study) -> None:
    with pytest.raises(LabError, match="nothing named 'ppo-9'"):
        bench_of(study, variants=["ppo-9"])
    bench = bench_of(study).run()
    with pytest.raises(BadSetting, match="No measure is named 'wit'"):
        bench.effects("wit")
    for request, draw in (("w31", 0), ("w30", -1), ("w30", 2)):
        with pytest.raises(BadSetting, match="from 0 to 1"):
            bench.samples(request, draw)


def test_a_notebook_can_import_it_without_torch() -> None:
    code = "import sys, lab.prompt_bench; assert not {'torch', 'plotly'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
