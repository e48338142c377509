"""OpenAI's batch files: requests as JSON lines, and the lines that come back. OpenAI, vLLM and others take them.

A request costs about half in a batch and is answered within a day. Nothing is uploaded here: the files are handed to
whichever service takes them, by its own tool or page.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from multigrain.errors import SourceError
from multigrain.llm.complaints import Complaint, read_complaint
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest
from multigrain.llm.wire import ResponseFormat, chat_body, read_completion
from multigrain.storage.files import atomic_stream

_MOST_REQUESTS: Final = 50_000
_MOST_BYTES: Final = 190 * 10**6
"""OpenAI takes 200 MB a file; a margin for whatever it counts besides."""


def write_batch_files(
    requests: Iterable[tuple[str, CompletionRequest]],
    folder: Path,
    *,
    model: str,
    form: ResponseFormat = "json_schema",
    extra_body: Mapping[str, Any] | None = None,
    most_requests: int = _MOST_REQUESTS,
    most_bytes: int = _MOST_BYTES,
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Write requests as `batch-0001.jsonl`, `batch-0002.jsonl`, … in a folder; yields each file with its custom ids.

    Each file is whole or not there, and within what services accept. Files that lie there already are kept: the
    numbers go on after them. Nothing is written where there is no request.

    Args:
        requests: custom ids (unique, at most 64 characters) with what is asked; read as they are needed.
        folder: made where it is missing.
        model: the model's name at the service.
        form: how schemas are passed on.
        extra_body: more keys of every request.
        most_requests: lines a file.
        most_bytes: bytes a file.

    Raises:
        RunDirectoryError: the folder cannot be written.
    """
    keys: list[str] = []
    lines: list[bytes] = []
    size = 0
    for key, request in requests:
        body = chat_body(request, model, form=form, extra=extra_body)
        row = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        line = json.dumps(row).encode() + b"\n"
        if lines and (len(lines) == most_requests or size + len(line) > most_bytes):
            yield _write_part(folder, lines), tuple(keys)
            keys, lines, size = [], [], 0
        keys.append(key)
        lines.append(line)
        size += len(line)
    if lines:
        yield _write_part(folder, lines), tuple(keys)


def read_batch_results(path: Path) -> Iterator[tuple[str | None, Completion | CompletionFailure]]:
    """Read a results file, or an errors file: they have one form. Lines may be in any order, and some missing.

    Yields each request's custom id, with the answer or why there is none. A line that cannot be read costs itself: it
    comes without an id, as a failure of the kind "broken_line".

    Args:
        path: JSON lines, as the service returns them; a byte order mark is passed over.

    Raises:
        SourceError: the file cannot be read, holds requests, or no line of it is a batch result.
    """
    results, broken = 0, ""
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(_decoded(stream), start=1):
                if not line.strip():
                    continue
                try:
                    result = _result(line, f"{path}:{number}")
                except _BrokenLine as problem:
                    broken = broken or str(problem)
                    yield None, CompletionFailure("broken_line", str(problem))
                else:
                    results += 1
                    yield result
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as a batch results file ({error})") from None
    if broken and not results:
        raise SourceError(broken)


def _decoded(stream: BinaryIO) -> Iterator[str]:
    """The lines of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one."""
    start = stream.read(3)
    stream.seek(0)
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        yield from stream.read().decode("utf-16").split("\n")
        return
    for line in stream:
        yield line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")


def _write_part(folder: Path, lines: list[bytes]) -> Path:
    number = 1
    while (path := folder / f"batch-{number:04}.jsonl").exists():
        number += 1
    with atomic_stream(path) as stream:
        stream.writelines(lines)
    return path


class _BrokenLine(Exception):  # noqa: N818 - costs its own line
    """A line that is no batch result."""


def _result(line: str, where: str) -> tuple[str, Completion | CompletionFailure]:
    try:
        row = json.loads(line)
        key, response, error = row["custom_id"], row.get("response"), row.get("error")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise _BrokenLine(f"{where}: not a batch result: expected an object with custom_id and response") from None
    if not isinstance(key, str):
        raise _BrokenLine(f"{where}: custom_id is no text: is this the file that the service returned?")
    if row.get("body") is not None and response is None and error is None:
        raise SourceError(f"{where}: this is a batch request; give the results file that the service returned")
    status = response.get("status_code") if isinstance(response, dict) else None
    body = response.get("body") if isinstance(response, dict) else None
    if isinstance(response, dict) and status is None and body is None and "choices" in response:
        status, body = 200, response  # the completion itself, as vLLM before 0.5.1 and some services have it
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if status == 200 and not error and (complaint := read_complaint(200, body)) is None:
        try:
            return key, read_completion(body)
        except CompletionFailure as failure:
            return key, failure
    if status != 200 or error:
        said = error or body or {}
        code = str(error.get("code", "")) if isinstance(error, dict) else ""
        if "expired" in code or "cancel" in code:
            return key, CompletionFailure("batch_expired", _shown(read_complaint(500, said), status))
        complaint = read_complaint(status if isinstance(status, int) and status != 200 else 500, said)
    assert complaint is not None  # noqa: S101 - only status 200 has none
    return key, CompletionFailure(complaint.kind, _shown(complaint, complaint.status))


def _shown(complaint: Complaint | None, status: Any) -> str:
    said = complaint.sentence if complaint is not None else ""
    return " ".join(f"{status or ''} {said or 'no reason given'}".split())[:200]
