from __future__ import annotations

import json
from pathlib import Path

import pytest

from multigrain.errors import SourceError
from multigrain.llm.batch_files import read_batch_results, write_batch_files
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, Message


def requests(count: int) -> list[tuple[str, CompletionRequest]]:
    return [(f"key-{number}", CompletionRequest((Message("user", f"prompt {number}"),))) for number in range(count)]


def body(text: str) -> dict[str, object]:
    return {"model": "m", "choices": [{"finish_reason": "stop", "message": {"content": text}}]}


def test_files_stay_within_what_services_take(tmp_path: Path) -> None:
    files = list(write_batch_files(requests(7), tmp_path, model="m", most_requests=3))
    assert [path.name for path, _ in files] == ["batch-0001.jsonl", "batch-0002.jsonl", "batch-0003.jsonl"]
    assert [len(keys) for _, keys in files] == [3, 3, 1]
    lines = [json.loads(line) for path, _ in files for line in path.read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == [key for key, _ in requests(7)]
    assert lines[0]["method"] == "POST"
    assert lines[0]["url"] == "/v1/chat/completions"
    assert lines[0]["body"]["model"] == "m"
    size = files[0][0].stat().st_size
    by_size = list(write_batch_files(requests(7), tmp_path, model="m", most_bytes=size))
    assert all(path.stat().st_size <= size for path, _ in by_size)
    assert by_size[0][0].name == "batch-0004.jsonl"  # earlier files are kept
    assert list(write_batch_files([], tmp_path, model="m")) == []
    assert {path.suffix for path in tmp_path.iterdir()} == {".jsonl"}


def test_results_errors_and_blank_lines(tmp_path: Path) -> None:
    rows = [
        {"custom_id": "b", "response": {"status_code": 200, "body": body("second")}, "error": None},
        {"custom_id": "a", "response": {"status_code": 200, "body": body("first")}},
        {"custom_id": "c", "response": {"status_code": 400, "body": {"error": {"message": "too  long"}}}},
        {"custom_id": "d", "response": {"status_code": 429, "body": {}}},
        {"custom_id": "e", "response": None, "error": {"code": "batch_expired", "message": "not in time"}},
        {"custom_id": "f", "response": {"status_code": 200, "body": {"choices": []}}},
        {"custom_id": "g", "response": {"status_code": 500, "body": "oops"}},
    ]
    path = tmp_path / "results.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    results = dict(read_batch_results(path))
    answered = {key: answer.text for key, answer in results.items() if isinstance(answer, Completion)}
    assert answered == {"a": "first", "b": "second"}
    failures = {key: answer for key, answer in results.items() if isinstance(answer, CompletionFailure)}
    assert {key: failure.kind for key, failure in failures.items()} == {
        "c": "bad_request",
        "d": "rate_limited",
        "e": "batch_expired",
        "f": "malformed",
        "g": "server_error",
    }
    assert failures["c"].detail == "400 too long"


def result(key: str, **choice: object) -> str:
    answer = {"model": "m", "choices": choice.get("choices", [{"message": {"content": key}}])}
    return json.dumps({"custom_id": key, "response": {"status_code": 200, "body": answer}, "error": None})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_passed_over(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(f"{result('a')}\n{result('é')}\n", encoding=encoding)
    texts = [answer.text for _, answer in read_batch_results(path) if isinstance(answer, Completion)]
    assert texts == ["a", "é"]


def test_the_completion_may_be_the_response_itself(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    rows = [
        {"custom_id": "a", "response": body("bare"), "error": None},
        {"custom_id": "b", "response": {"status_code": "200", "body": body("status as text")}},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    answers = [getattr(answer, "text", answer) for _, answer in read_batch_results(path)]
    assert answers == ["bare", "status as text"]


def test_a_choice_may_stand_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(result("a", choices={"message": {"content": [{"type": "text", "text": "hi"}]}}))
    ((_, answer),) = read_batch_results(path)
    assert isinstance(answer, Completion)
    assert answer.text == "hi"


FILTERED = [
    {"response": {"status_code": 400, "body": {"error": {"message": "filtered", "code": "content_filter"}}}},
    {"response": {"status_code": 200, "body": {"choices": [{"message": {}, "finish_reason": "content_filter"}]}}},
    {"response": {"status_code": 200, "body": {"error": {"message": "content management policy", "code": 400}}}},
    {"response": None, "error": {"code": "content_filter", "message": "filtered"}},
]


@pytest.mark.parametrize("row", FILTERED)
def test_a_content_filter_has_one_kind_live_and_in_batches(tmp_path: Path, row: dict[str, object]) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"custom_id": "a", **row}))
    ((_, failed),) = read_batch_results(path)
    assert isinstance(failed, CompletionFailure)
    assert failed.kind == "content_filter"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "results.jsonl:1: not a batch result"),
        ("[]", "not a batch result"),
        ('{"response": {}}', "not a batch result"),
        ('{"custom_id": 7, "response": {}}', "custom_id is no text"),
        ('{"custom_id": "a", "method": "POST", "body": {"model": "m"}}', "this is a batch request"),
        ("[" * 50_000, "not a batch result"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(line)
    with pytest.raises(SourceError, match=words):
        list(read_batch_results(path))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        list(read_batch_results(tmp_path / "missing.jsonl"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="cannot be read"):
        list(read_batch_results(tmp_path / "binary"))


def test_extra_keys_are_in_every_line(tmp_path: Path) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    plain, extended = (
        [json.loads(line)["body"] for path, _ in files for line in path.read_text().splitlines()]
        for files in (
            list(write_batch_files(requests(2), tmp_path, model="m")),
            list(write_batch_files(requests(2), tmp_path, model="m", extra_body=extra)),
        )
    )
    assert extended == [body | extra for body in plain]
