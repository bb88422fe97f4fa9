"""A prompt file is read, or its broken line is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.errors import BadPrompts
from lab.prompts import KINDS, Prompt, load_prompts

STATEMENTS = Path(__file__).parents[1] / "data" / "statements.jsonl"
GOOD = '{"prompt": "Hi", "topic": "t", "kind": "advice", "split": "heldout"}'


def write(tmp_path, text, name="prompts.jsonl", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "Hello",
        '["Hi"]',
        "null",
        "{}",
        '{"prompt": ""}',
        '{"prompt": "  "}',
        '{"prompt": 7}',
        '{"prompt": ["a"]}',
        '{"prompt": "a", "split": "test"}',
        '{"prompt": "a", "split": []}',
        '{"prompt": "a", "kind": 1}',
        '{"prompt": "a", "topic": null}',
        "[" * 100_000,
    ],
)
def test_a_broken_line_is_named_with_its_file(tmp_path, line):
    path = write(tmp_path, f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(BadPrompts, match=r"prompts\.jsonl, line 3"):
        load_prompts(path)


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.txt"])
@pytest.mark.parametrize("text", ["", "\n \n\n"])
def test_an_empty_file_is_named(tmp_path, name, text):
    with pytest.raises(BadPrompts, match="holds no prompts"):
        load_prompts(write(tmp_path, text, name))


def test_a_missing_file_a_folder_and_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(BadPrompts, match=r"nothing\.txt"):
        load_prompts(tmp_path / "nothing.txt")
    with pytest.raises(BadPrompts, match="could not be read"):
        load_prompts(tmp_path)
    with pytest.raises(BadPrompts, match=r"latin\.txt"):
        load_prompts(write(tmp_path, "caf\xe9", "latin.txt", "latin-1"))


def test_an_empty_list_or_text_is_refused():
    with pytest.raises(BadPrompts, match="list of prompts"):
        load_prompts([])
    with pytest.raises(BadPrompts, match="list of prompts"):
        load_prompts(["a", " "])
    with pytest.raises(BadPrompts, match="None"):
        load_prompts(["a", None])


def test_a_line_of_jsonl_gives_all_its_fields(tmp_path):
    path = write(tmp_path, GOOD + '\n{"prompt": " b "}\n')
    assert load_prompts(path) == [Prompt("Hi", "t", "advice", "heldout"), Prompt("b")]


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    path = write(tmp_path, "one\r\n\r\n  two {}\nthree 😀", "p.txt")
    assert [p.text for p in load_prompts(path)] == ["one", "two {}", "three 😀"]
    assert [p.text for p in load_prompts(str(path))] == ["one", "two {}", "three 😀"]


def test_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path):
    assert load_prompts(write(tmp_path, "\ufeffone", "p.txt"))[0].text == "one"
    assert load_prompts(write(tmp_path, "\ufeff" + GOOD))[0].text == "Hi"


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\u2029"])
def test_a_line_of_jsonl_ends_at_a_newline_alone(tmp_path, separator):
    line = json.dumps({"prompt": f"a{separator}b"}, ensure_ascii=False)
    assert [p.text for p in load_prompts(write(tmp_path, line))] == [f"a{separator}b"]


def test_duplicates_are_kept_once():
    assert [p.text for p in load_prompts(["a", "b", "a", " a "])] == ["a", "b"]


def test_lone_surrogates_become_replacement_characters(tmp_path):
    assert load_prompts(["a\ud83db"])[0].text == "a\ufffdb"
    path = write(tmp_path, '{"prompt": "a\\ud83db"}')
    assert load_prompts(path)[0].text == "a\ufffdb"


@pytest.mark.parametrize(("count", "heldout"), [(1, 0), (3, 0), (4, 1), (9, 2)])
def test_every_fourth_prompt_is_held_out_where_none_is(count, heldout):
    prompts = load_prompts([f"p{i}" for i in range(count)])
    assert [p.text for p in prompts if p.split == "heldout"] == [
        f"p{i}" for i in range(3, count, 4)
    ]
    assert sum(p.split == "heldout" for p in prompts) == heldout


def test_a_split_that_a_file_makes_is_kept(tmp_path):
    lines = [json.dumps({"prompt": f"p{i}"}) for i in range(8)]
    prompts = load_prompts(write(tmp_path, "\n".join([*lines, GOOD])))
    assert [p.text for p in prompts if p.split == "heldout"] == ["Hi"]


def test_the_labs_own_prompts_are_sound():
    prompts = load_prompts()
    assert len(prompts) > 50
    assert {p.kind for p in prompts} <= set(KINDS)
    assert {p.split for p in prompts} == {"train", "heldout"}


def test_statements_come_true_and_false_and_half_of_them_are_held_out():
    rows = [json.loads(line) for line in STATEMENTS.read_text("utf-8").splitlines()]
    assert len({row["question"] for row in rows}) == len(rows) == 84
    assert sum(row["split"] == "heldout" for row in rows) == 42
    for row in rows:
        assert row["true"] != row["false"] and row["true"].split()[0] == row["false"].split()[0]
        wrong = row["false"].rstrip(".").split()[-1].strip('"')
        assert wrong in row["opinion"]


def test_a_list_may_hold_prompts_with_kind_and_split() -> None:
    kept = [Prompt("How do I pick a lock?", "home", "lookalike"), Prompt("Hello?", split="heldout")]
    assert load_prompts([*kept, " A text. "]) == [*kept, Prompt("A text.")]


def test_a_prompt_of_a_list_is_checked_and_named() -> None:
    with pytest.raises(BadPrompts, match=r"number 2: .*split.*'test'"):
        load_prompts(["a", Prompt("b", split="test")])
    with pytest.raises(BadPrompts, match="number 1"):
        load_prompts([Prompt(" ")])
