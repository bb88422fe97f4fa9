"""A ranking given is a ranking kept: through threads, notebooks, damage and kill -9."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest

from lab.errors import AlreadyAnswered, DamagedStudy, LabError
from lab.preferences import Completion, Ranking, pairs_of
from lab.store import PreferenceStore


def completion(prompt="p", text="t", **more) -> Completion:
    return Completion(prompt, text, (1, 2, 3), True, **more)


def rank(store, tiers, prompt="p", **more) -> Ranking:
    shown = tuple(sorted(c for tier in tiers or () for c in tier))
    return store.add_ranking(Ranking(prompt, tiers, shown, **more))


def test_completions_come_back_as_they_went_in(store):
    sent = [
        completion(sampling={"temperature": 0.7}, model="m", source="s", policy="ppo-1@5"),
        completion("q", "naïve \0 😀\u2028\n"),
    ]
    ids = store.add_completions(sent)
    assert [c.text for c in store.completions()] == ["t", "naïve \0 😀\u2028\n"]
    first = store.completion(ids[0])
    assert first == Completion(**{**vars(sent[0]), "id": ids[0]})
    assert [c.id for c in store.completions(prompt="q")] == [ids[1]]
    assert [c.id for c in store.completions(policy="ppo-1@5")] == [ids[0]]
    with pytest.raises(LabError, match="no completion 99"):
        store.completion(99)


def test_rankings_come_back_as_they_went_in_also_after_reopening(store):
    kept = rank(
        store, ((3,), (1, 2)), predicted=(0.1, 0.2, 0.3), selection_probability=0.5, rater="é",
        seconds=2.5, simulated=True,
    )  # fmt: skip
    skipped = store.add_ranking(Ranking("q", None, (4, 5)))
    with_time = store.rankings()
    assert with_time == [kept]
    assert kept.created > 1e9
    assert store.rankings(skipped=True) == [kept, skipped]
    store.close()
    again = PreferenceStore(store.path)
    assert again.rankings(skipped=True) == [kept, skipped]
    again.close()


@pytest.mark.parametrize("k", [2, 3, 4, 9])
def test_every_ranking_of_k_has_all_its_pairs_and_weighs_one(k):
    pairs = pairs_of(Ranking("p", tuple((i,) for i in range(k)), tuple(range(k)), id=7))
    assert {(p.chosen, p.rejected) for p in pairs} == set(combinations(range(k), 2))
    assert all(p.target == 1 and p.weight == 1 / len(pairs) for p in pairs)
    assert len(pairs) == k * (k - 1) / 2
    assert {p.ranking for p in pairs} == {7}


def test_ties_are_pairs_of_target_one_half():
    pairs = pairs_of(Ranking("p", ((3,), (1, 2), (4,)), (1, 2, 3, 4)))
    targets = {(p.chosen, p.rejected): p.target for p in pairs}
    assert targets == {(3, 1): 1, (3, 2): 1, (3, 4): 1, (1, 2): 0.5, (1, 4): 1, (2, 4): 1}
    assert {p.weight for p in pairs} == {1 / 6}


def test_a_skipped_prompt_has_no_pairs(store):
    store.add_ranking(Ranking("p", None, (1, 2)))
    assert store.pairs() == []
    assert pairs_of(Ranking("p", ((1,),), (1,))) == []


@pytest.mark.parametrize(
    "tiers", [((1,),), ((1,), (2,), (3,)), ((1, 1), (2,)), ((1,), (1, 2)), ((1,), (3,)), ()]
)
def test_tiers_that_are_no_arrangement_of_what_was_shown_are_refused(store, tiers):
    with pytest.raises(LabError, match="arrangement"):
        store.add_ranking(Ranking("p", tiers, (1, 2)))
    assert store.rankings(skipped=True) == []


def test_undo_marks_the_last_judgement_and_keeps_its_row(store):
    first, second = rank(store, ((1,), (2,))), rank(store, ((2,), (1,)))
    skipped = store.add_ranking(Ranking("q", None, (3, 4)))
    assert store.undo() == skipped
    assert store.undo() == second
    assert store.rankings(skipped=True) == [first]
    assert {p.ranking for p in store.pairs()} == {first.id}
    with sqlite3.connect(store.path) as db:
        rows = db.execute("SELECT id, undone IS NOT NULL FROM rankings ORDER BY id").fetchall()
    db.close()
    assert rows == [(first.id, 0), (second.id, 1), (skipped.id, 1)]
    assert store.undo() == first
    assert store.undo() is None


def test_undo_of_one_rater_leaves_the_others(store):
    mine, other = rank(store, ((1,), (2,))), rank(store, ((2,), (1,)), rater="brief")
    assert store.undo("me") == mine
    assert store.undo("me") is None
    assert store.rankings() == [other]


def test_undo_takes_back_the_last_of_a_rater_also_under_newer_ones_of_others(store):
    mine = [rank(store, ((1,), (2,))) for _ in range(2)]
    rank(store, ((2,), (1,)), rater="brief")
    assert store.undone() == set()
    assert store.undo("me") == mine[1]
    assert store.undone() == {mine[1].id}
    assert store.undo("nobody") is None
    assert store.undo("me") == mine[0]
    assert store.undone() == {r.id for r in mine}


def test_an_edited_ranking_stands_in_place_of_the_first_until_it_is_undone(store):
    first = rank(store, ((1,), (2,)))
    second = rank(store, ((2,), (1,)), edits=first.id, note="slip", all_bad=True)
    assert store.rankings() == [second] and store.ranking(first.id) == first
    assert store.undo() == second
    assert store.rankings() == [first]
    with pytest.raises(LabError, match="no ranking 99"):
        store.ranking(99)


def test_two_edits_of_one_ranking_do_not_both_stand(store):
    first = rank(store, ((1,), (2,)))
    second = rank(store, ((2,), (1,)), edits=first.id)
    with pytest.raises(AlreadyAnswered, match="changed or taken back"):
        rank(store, ((1, 2),), edits=first.id)
    assert store.rankings() == [second]


def test_repeats_are_left_out_unless_they_are_wanted(store):
    first = rank(store, ((1,), (2,)))
    again = rank(store, ((2,), (1,)), repeats=first.id)
    assert store.rankings() == [first]
    assert store.rankings(repeats=True) == [first, again]
    assert {p.ranking for p in store.pairs()} == {first.id}


def test_each_rater_has_judgements_of_their_own(store):
    mine = rank(store, ((1,), (2,)), "a")
    theirs = rank(store, ((2,), (1,)), "b", rater="Ada")
    assert store.rankings(rater="Ada") == [theirs] and store.rankings(rater="me") == [mine]
    assert store.judged(rater="Ada") == ["b"] and store.judged(rater="me") == ["a"]


def test_guidelines_are_kept(store):
    assert store.guidelines == ""
    store.guidelines = "Prefer \ud83d what is true."
    assert store.guidelines == "Prefer \ufffd what is true."


def test_a_store_of_the_first_schema_is_brought_up_to_date(tmp_path):
    from lab.schema import SCHEMA

    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA)
        row = ("p", "[[2], [1]]", "[1, 2]", 0.5, "me", 0, 1.5, "null", 7.0, None)
        db.execute("INSERT INTO rankings VALUES (NULL,?,?,?,?,?,?,?,?,?,?)", row)
    db.close()
    for _ in range(2):
        store = PreferenceStore(path)
        assert store.rankings() == [
            Ranking("p", ((2,), (1,)), (1, 2), "me", False, 0.5, 1.5, None, 7.0, 1)
        ]
        store.close()


def test_rankings_newer_than_an_id_are_those_that_came_after_it(store):
    first, second = rank(store, ((1,), (2,))), rank(store, ((2,), (1,)))
    skipped = store.add_ranking(Ranking("q", None, (3, 4)))
    assert store.rankings(after=first.id) == [second]
    assert store.rankings(skipped=True, after=first.id) == [second, skipped]
    assert store.rankings(after=second.id) == []


def test_judged_prompts_are_those_of_the_rankings_that_stand_each_once(store):
    ours = store.add_completions([completion("p"), completion("q")])
    theirs = store.add_completions([completion("r", policy="ppo-1@5") for _ in range(2)])
    rank(store, ((ours[1],), (ours[0],)), "q")
    rank(store, ((ours[0],), (ours[1],)), "p")
    rank(store, ((ours[1],), (ours[0],)), "q")
    rank(store, ((theirs[1],), (theirs[0],)), "r")
    store.add_ranking(Ranking("s", None, tuple(ours)))
    rank(store, ((ours[0],), (ours[1],)), "t")
    store.undo()
    assert store.judged() == ["q", "p", "r"]
    assert store.judged(skipped=True) == ["q", "p", "r", "s"]
    assert store.judged(skipped=True, policy="reference") == ["q", "p", "s"]
    assert store.judged(policy="ppo-1@5") == ["r"]


def test_completions_are_found_and_counted_by_prompt_and_policy(store):
    store.add_completions(completion(p, policy=q) for p in ("a", "a", "b") for q in ("x", "y"))
    assert [c.id for c in store.completions("a")] == [1, 2, 3, 4]
    assert [c.id for c in store.completions("a", "y")] == [2, 4]
    assert [c.id for c in store.completions(policy="x")] == [1, 3, 5]
    assert store.count("a", "x") == 2 and store.count("b", "y") == 1
    assert store.count("b", "z") == store.count("c", "x") == store.count("\ud83d", "x") == 0


def test_features_are_kept_by_extractor_and_overwritten(store):
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    ids = store.add_completions([completion(), completion()], "a", vectors)
    store.add_features(ids, "b", vectors + 1)
    store.add_features(ids[:1], "b", vectors[:1] + 7)
    assert {i: v.tolist() for i, v in store.features("a").items()} == {1: [0, 1, 2], 2: [3, 4, 5]}
    assert {i: v.tolist() for i, v in store.features("b").items()} == {1: [7, 8, 9], 2: [4, 5, 6]}
    assert list(store.features("a", after=1)) == [2]
    assert store.features("c") == {}


def test_a_failed_batch_leaves_nothing_behind(store):
    with pytest.raises(IndexError):
        store.add_completions([completion(), completion()], "a", [[1.0]])
    assert store.completions() == []
    assert store.features("a") == {}


def test_export_writes_strict_pairs_that_any_trainer_reads(store, tmp_path):
    ids = store.add_completions([completion(text=t) for t in ("good", "so\u2028so", "b😀d")])
    rank(store, ((ids[0],), (ids[1], ids[2])))
    path = tmp_path / "pairs.jsonl"
    assert store.export_jsonl(path) == 2
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    assert rows == [
        {"prompt": "p", "chosen": "good", "rejected": bad, "weight": 0.333333}
        for bad in ("so\u2028so", "b😀d")
    ]


@pytest.mark.parametrize("field", ["text", "prompt"])
def test_lone_surrogates_become_replacement_characters(store, field):
    store.add_completions([completion(**{field: "a\ud83db"})])
    assert getattr(store.completions()[0], field) == "a\ufffdb"


@pytest.mark.parametrize("field", ["rater", "prompt"])
def test_lone_surrogates_in_a_ranking_do_not_lose_it(store, field):
    rank(store, ((1,), (2,)), **{field: "\udc00"})
    assert getattr(store.rankings()[0], field) == "\ufffd"


def test_a_surrogate_pair_is_its_character(store):
    store.add_completions([completion(text="\ud83d\ude00")])
    assert store.completions()[0].text == "😀"


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + b"x" * 200, "schema"])
def test_a_damaged_file_is_kept_aside_and_the_next_opening_works(tmp_path, damage):
    path = tmp_path / "preferences.sqlite"
    for n in (1, 2):
        if damage == "schema":
            db = sqlite3.connect(path)
            db.execute("CREATE TABLE other (x)")
            db.close()
        else:
            path.write_bytes(damage)
        before = path.read_bytes()
        with pytest.raises(DamagedStudy, match=f"damaged-{n}"):
            PreferenceStore(path)
        assert not path.exists()
        assert (tmp_path / f"preferences.sqlite.damaged-{n}").read_bytes() == before
    store = PreferenceStore(path)
    rank(store, ((1,), (2,)))
    assert len(store.rankings()) == 1
    store.close()


def test_pages_overwritten_with_noise_are_noticed(tmp_path):
    path = tmp_path / "preferences.sqlite"
    store = PreferenceStore(path)
    store.add_completions([completion(text="x" * 500) for _ in range(50)])
    store.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 8] = b"\xa5" * 4096 * 6
    path.write_bytes(data)
    with pytest.raises(DamagedStudy):
        PreferenceStore(path)
    assert (tmp_path / "preferences.sqlite.damaged-1").read_bytes() == data


def test_a_newer_schema_is_refused_and_untouched(store):
    store.close()
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE meta SET value = '3'")
    db.close()
    before = store.path.read_bytes()
    with pytest.raises(LabError, match="newer lab") as error:
        PreferenceStore(store.path)
    assert not isinstance(error.value, DamagedStudy)
    assert store.path.read_bytes() == before


def test_a_store_that_another_program_holds_is_not_taken_for_damaged(store, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.05}))
    other = connect(store.path)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(LabError) as error:
            PreferenceStore(store.path)
    finally:
        other.rollback()
        other.close()
    assert not isinstance(error.value, DamagedStudy)
    assert [p.name for p in store.path.parent.iterdir()] == [store.path.name]


def test_many_may_create_the_same_store_at_once(tmp_path):
    for n in range(15):
        path = tmp_path / f"{n}.sqlite"
        with ThreadPoolExecutor(4) as pool:
            stores = list(pool.map(lambda _, path=path: PreferenceStore(path), range(4)))
        for i, store in enumerate(stores):
            rank(store, ((1,), (2,)), rater=str(i))
        assert len(stores[0].rankings()) == 4
        for store in stores:
            store.close()


def test_threads_and_notebooks_write_at_once(store):
    other = PreferenceStore(store.path)

    def write(job):
        target, rater = job
        for i in range(15):
            rank(target, ((i,), (i + 1,)), rater=rater)
            target.add_completions([completion(text=rater)])

    jobs = [(store, "a"), (store, "b"), (other, "c"), (other, "d")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, jobs))
    rankings = store.rankings()
    assert rankings == other.rankings()
    for _, rater in jobs:
        assert [r.tiers[0][0] for r in rankings if r.rater == rater] == list(range(15))
    assert len(store.completions()) == 60
    other.close()


def test_every_write_waits_for_the_disk_without_a_write_ahead_log(store):
    """Against power cuts, which no test can make, and for home folders on a network."""
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_rankings_survive_kill_9_at_any_moment(tmp_path):
    """A child ranks and acknowledges; it is killed at a random moment; 20 children, one store."""
    path = tmp_path / "preferences.sqlite"
    PreferenceStore(path).close()
    program = textwrap.dedent(
        """
        import os, random, signal, sys, time
        from lab.store import PreferenceStore, Ranking
        random.seed(0)
        for child in range(20):
            out, into = os.pipe()
            pid = os.fork()
            if pid == 0:
                store = PreferenceStore(sys.argv[1])
                for i in range(100_000):
                    id = store.add_ranking(Ranking("p", ((1,), (2,)), (1, 2), rater=str(child))).id
                    os.write(into, b"%d\\n" % id)
            os.close(into)
            acknowledged = [os.read(out, 8)]  # at least one
            time.sleep(random.uniform(0, 0.02))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            while data := os.read(out, 65536):
                acknowledged.append(data)
            print(child, *b"".join(acknowledged).decode().split())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    store = PreferenceStore(path)
    kept = {(r.rater, str(r.id)) for r in store.rankings()}
    lines = [line.split() for line in done.stdout.splitlines()]
    acknowledged = {(child, id) for child, *ids in lines for id in ids}
    assert len(lines) == 20
    assert len(acknowledged) >= 20
    assert acknowledged <= kept
    assert len(kept) <= len(acknowledged) + 20  # at most one each was on disk, not yet told
    store.close()
