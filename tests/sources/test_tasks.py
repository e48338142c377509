"""A user's own tasks: every form, every mistake; and which of them are held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.config import DocumentsConfig, TasksConfig
from multigrain.errors import SourceError
from multigrain.records import Split, TaskKind
from multigrain.sources.tasks import make_task, read_task_table, read_tasks, split_tasks, write_task_table

FIRST, SECOND = "Given a fault code, find the repair step.", "Compare sentences by their meaning."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", f"# mine\n{FIRST}\n\n"),
        ("a.jsonl", f'{{"task": "{FIRST}"}}\n{{"task": "{SECOND}", "kind": "sts"}}'),
        ("a.yaml", f"- {FIRST}\n- {{task: {SECOND}, kind: sts}}"),
        ("a.yaml", f"short-long:\n  - {FIRST}\nsts:\n  - {SECOND}"),
    ],
)
def test_tasks_are_read_from_every_form(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    tasks = read_tasks(path)

    found = [(task.kind, task.text) for task in tasks]
    assert found == [(TaskKind.SHORT_LONG, FIRST), (TaskKind.STS, SECOND)][: len(found)]
    assert len(found) == (1 if name == "a.txt" else 2)
    write_task_table(tmp_path / "table.jsonl", tasks)
    assert list(read_task_table(tmp_path / "table.jsonl")) == tasks


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("none.txt", None, "no such file"),
        ("a.docx", "x", "expected a .txt, .jsonl or .yaml"),
        ("a.txt", "\n# only a comment\n", "no task in the file"),
        ("a.yaml", "", "no task in the file"),
        ("a.yaml", "short-long: one text", "a.yaml:short-long: expected a list of tasks, got str"),
        ("a.yaml", "tall-short:\n  - x", ":entry 1: unknown kind 'tall-short'"),
        ("a.yaml", "- [a]", ":entry 1: expected a text"),
        ("a.yaml", "a: [", "not valid YAML"),
        ("a.jsonl", '{"kind": "sts"}', "a.jsonl:1: expected a text, or `task` and `kind`"),
        ("a.jsonl", '{"task": ["a"]}', "a.jsonl:1: `task` must be a text"),
        ("a.txt", f"{FIRST}\n{FIRST.upper()}", "a.txt:2: the task"),
        ("a.txt", "caf\udce9", "not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_list_of_tasks_is_one_line(
    tmp_path: Path, name: str, text: str | None, words: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(SourceError) as caught:
        read_tasks(path)

    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tasks_are_held_out_where_there_are_enough_of_them() -> None:
    shares = DocumentsConfig(validation_share=0.2, test_share=0.2)
    many = [make_task(TaskKind.STS, f"Compare sentences of kind number {n}.") for n in range(60)]

    sides = [task.split for task in split_tasks(many, TasksConfig(), shares)]

    assert sides == [task.split for task in split_tasks(many, TasksConfig(), shares)]
    assert all(2 <= sides.count(side) <= 50 for side in Split)
    assert {task.split for task in split_tasks(many[:5], TasksConfig(), shares)} == {Split.TRAIN}
    assert {task.split for task in split_tasks(many[:8], TasksConfig(hold_out="tasks"), shares)} == set(Split)
