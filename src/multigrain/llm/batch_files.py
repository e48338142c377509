"""OpenAI's batch files: requests as JSON lines, and the lines that come back. OpenAI, vLLM and others take them.

A request costs about half in a batch and is answered within a day. Nothing is uploaded here: the files are handed to
whichever service takes them, by its own tool or page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from multigrain.errors import SourceError
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


def read_batch_results(path: Path) -> Iterator[tuple[str, Completion | CompletionFailure]]:
    """Read a results file, or an errors file: they have one form. Lines may be in any order, and some missing.

    Yields each request's custom id, with the answer or why there is none.

    Args:
        path: JSON lines, as the service returns them.

    Raises:
        SourceError: the file cannot be read, or a line of it is no batch result.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield _result(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as a batch results file ({error})") from None


def _write_part(folder: Path, lines: list[bytes]) -> Path:
    number = 1
    while (path := folder / f"batch-{number:04}.jsonl").exists():
        number += 1
    with atomic_stream(path) as stream:
        stream.writelines(lines)
    return path


def _result(line: str, where: str) -> tuple[str, Completion | CompletionFailure]:
    try:
        row = json.loads(line)
        key, response, error = row["custom_id"], row.get("response"), row.get("error")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise SourceError(f"{where}: not a batch result: expected an object with custom_id and response") from None
    if not isinstance(key, str):
        raise SourceError(f"{where}: custom_id is no text: is this the file that the service returned?")
    if row.get("body") is not None and response is None and error is None:
        raise SourceError(f"{where}: this is a batch request; give the results file that the service returned")
    status = response.get("status_code") if isinstance(response, dict) else None
    if status != 200 or error:
        return key, _failure(status, error, response)
    try:
        return key, read_completion(response.get("body"))
    except CompletionFailure as failure:
        return key, failure


def _failure(status: Any, error: Any, response: Any) -> CompletionFailure:
    body = response.get("body") if isinstance(response, dict) else None
    reason = error or (body.get("error") if isinstance(body, dict) else None) or {}
    message = reason.get("message") or reason.get("code") if isinstance(reason, dict) else reason
    detail = " ".join(f"{status or ''} {message or 'no reason given'}".split())[:200]
    code = str(reason.get("code", "")) if isinstance(reason, dict) else ""
    if "expired" in code or "cancel" in code:
        return CompletionFailure("batch_expired", detail)
    if status == 429:
        return CompletionFailure("rate_limited", detail)
    refused = isinstance(status, int) and 400 <= status < 500
    return CompletionFailure("bad_request" if refused else "server_error", detail)
