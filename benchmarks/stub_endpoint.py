"""A chat endpoint for benchmarks: real HTTP in a process of its own, with latency, faults and a log on disk.

    python -m benchmarks.stub_endpoint --latency 0.2 --faults mixed --log events.jsonl --answers words

Prints its port on the first line. Written on asyncio's protocols, so that it takes less of a small machine's cores
than the client under test. Every event goes to the log before the answer goes out: the log, and not the client, is
what benchmarks count by. Whatever it does is decided by its seed and the request, never by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["FAULTS", "Event", "read_log", "request_mark", "serve", "unit_of"]

_UNIT: Final = re.compile(r"\[unit (\d+)\]")
_TEXT: Final = "A passage that stands for what a language model writes, about sixty words long in all. " * 4

_ROW: Final = ("query", "level_4", "level_3", "level_2", "level_1")

FAULTS: Final[dict[str, dict[str, float]]] = {
    "none": {},
    "5%": {"429": 0.01, "500": 0.02, "reset": 0.01, "half": 0.01},
    "schema": {"wrong_json": 0.02},
    # A service on a bad day: what a run must get through without losing anything.
    "mixed": {"429": 0.03, "500": 0.03, "reset": 0.02, "half": 0.01, "truncated": 0.03, "wrong_json": 0.03},
    # Hardly anything works: 5% of the answers can be used.
    "hopeless": {
        "429": 0.15,
        "500": 0.10,
        "hang": 0.05,
        "reset": 0.10,
        "half": 0.05,
        "truncated": 0.15,
        "wrong_json": 0.10,
        "prose": 0.10,
        "empty_choices": 0.05,
        "refusal": 0.05,
        "not_json": 0.05,
    },
}
"""Shares of answers that go wrong, by kind; the rest is valid."""


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the log.

    Attributes:
        kind: "asked", "answered" (the answer is on its way), "failed", or "acknowledged".
        unit: the number in the prompt.
        mark: tells requests for one unit apart: see `request_mark`.
        what: how it was answered.
        at: seconds, monotonic over all processes of the machine.
    """

    kind: str
    unit: int
    mark: str
    what: str = ""
    at: float = 0.0


def request_mark(messages: list[dict[str, str]], max_tokens: int) -> str:
    """Unit, length of the chat, token budget: the same for a request sent again, another for a correction."""
    return f"{unit_of(messages)}/{len(messages)}/{max_tokens}"


def _most_tokens(body: dict[str, Any]) -> int:
    return int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)


def unit_of(messages: list[dict[str, str]]) -> int:
    """The unit's number in a chat's first messages; -1 where there is none."""
    found = next((match for message in messages if (match := _UNIT.search(str(message["content"])))), None)
    return int(found[1]) if found else -1


def read_log(path: Path) -> Iterator[Event]:
    """The events so far, a last half line left out."""
    for line in path.read_text().split("\n")[:-1]:
        yield Event(*json.loads(line))


@contextmanager
def serve(
    *,
    latency: float = 0.0,
    jitter: float = 0.0,
    faults: str = "none",
    log: Path | None = None,
    seed: int = 0,
    answers: str = "same",
) -> Iterator[str]:
    """Run the endpoint in a process of its own; yields its base URL."""
    command = [sys.executable, "-m", "benchmarks.stub_endpoint", "--faults", faults, "--seed", str(seed)]
    command += ["--latency", str(latency), "--jitter", str(jitter), "--answers", answers]
    if log is not None:
        command += ["--log", str(log)]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.send_signal(signal.SIGTERM)


@dataclass
class _Stub:
    latency: float
    jitter: float
    faults: dict[str, float]
    seed: int
    log: int | None
    answers: str = "same"
    seen: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, unit: int, mark: str, what: str = "") -> None:
        if self.log is not None:
            line = json.dumps([kind, unit, mark, what, time.monotonic()]) + "\n"
            os.write(self.log, line.encode())

    def choose(self, mark: str) -> tuple[str, float]:
        """What befalls this request, and how long its answer takes."""
        attempt = self.seen[mark]
        self.seen[mark] += 1
        chance = random.Random(hashlib.sha256(f"{self.seed}/{mark}/{attempt}".encode()).digest())
        point, wait = chance.random(), self.latency + self.jitter * chance.random()
        for kind, share in self.faults.items():
            if point < share:
                return kind, wait
            point -= share
        return "valid", wait


class _Connection(asyncio.Protocol):
    def __init__(self, stub: _Stub) -> None:
        self._stub = stub
        self._buffer = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0
            )
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            if self._stub.answers == "instant":
                self._transport.write(_INSTANT)
                continue
            self._take(head.split(b" ", 2)[1], json.loads(body) if body else {})

    def _take(self, path: bytes, body: Any) -> None:
        stub = self._stub
        if path.endswith(b"/acknowledge"):
            for unit in body["units"]:
                stub.note("acknowledged", unit, str(unit))
            self._send(b"{}")
            return
        unit, mark = unit_of(body["messages"]), request_mark(body["messages"], _most_tokens(body))
        stub.note("asked", unit, mark)
        what, wait = stub.choose(mark)
        asyncio.get_running_loop().call_later(wait, self._answer, unit, mark, what, body)

    def _answer(self, unit: int, mark: str, what: str, body: dict[str, Any]) -> None:
        if self._transport.is_closing():
            self._stub.note("failed", unit, mark, "gone")
            return
        if what in ("429", "500", "hang", "reset", "half", "empty_choices", "not_json"):
            self._stub.note("failed", unit, mark, what)
            self._fail(what)
            return
        self._stub.note("answered", unit, mark, what)
        text, finish = _content(what, unit, body, self._stub.answers)
        choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 400, "completion_tokens": 350, "total_tokens": 750}
        self._send(json.dumps({"model": "stub", "choices": [choice], "usage": usage}).encode())

    def _fail(self, what: str) -> None:
        if what == "429":
            self._send(b'{"error": {"message": "slow down"}}', b"429 Too Many Requests", b"Retry-After: 0.05\r\n")
        elif what == "500":
            self._send(b'{"error": {"message": "boom"}}', b"500 Internal Server Error")
        elif what == "reset":
            self._transport.abort()
        elif what == "half":
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b'{"choices": [')
            self._transport.close()
        elif what == "empty_choices":
            self._send(b'{"model": "stub", "choices": []}')
        elif what == "not_json":
            self._send(b"<html>a gateway's page</html>")
        # a hang sends nothing

    def _send(self, body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> None:
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, more, len(body)) + body)


def _content(what: str, unit: int, body: dict[str, Any], answers: str = "same") -> tuple[str, str]:
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    properties = schema.get("properties", {name: {} for name in (_ROW if answers == "row" else ("query",))})
    fields = tuple(properties)
    if answers == "words":
        good = json.dumps(_words(unit, body["messages"][-1]["content"], fields))
    else:
        good = json.dumps(
            {
                # Some clients try an endpoint with a question of their own first, which wants a number.
                name: 25
                if of.get("type") == "integer"
                else f"{name} {unit} {_TEXT if name != 'query' else ''}".strip()
                for name, of in properties.items()
            }
        )
    if what == "truncated":
        return good[: len(good) // 2], "length"
    if what == "wrong_json":
        return '{"something": "else"}', "stop"
    if what == "prose":
        return "Here are some thoughts on the document.", "stop"
    if what == "refusal":
        return "I'm sorry, but I can't help with that.", "stop"
    return good, "stop"


def _words(unit: int, prompt: str, fields: Iterable[str]) -> dict[str, str]:
    """Texts of the document's own words: a query of eight, and passages that share the fewer, the lower the level."""
    document = prompt[prompt.index(f"[unit {unit}]") :].split("\n", 1)[0].split()[2:]
    chance, texts = random.Random(unit), {}
    for name in fields:
        level = int(name[-1]) if name[-1].isdigit() else 0
        own = chance.sample(document, min(len(document), 10 * level if level else 8))
        others = [f"{name} {chance.randrange(1_000_000)}" for _ in range((5 - level) * 4)] if level else []
        texts[name] = " ".join(own + others)
    return texts


def _instant() -> bytes:
    """One answer to everything, made once: what is measured is who asks."""
    content = json.dumps({name: f"{name} of the row {_TEXT if name != 'query' else ''}".strip() for name in _ROW})
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    usage = {"prompt_tokens": 400, "completion_tokens": 350, "total_tokens": 750}
    body = json.dumps({"model": "stub", "choices": [choice], "usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


_INSTANT: Final = _instant()


async def _main(arguments: argparse.Namespace) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    log = os.open(arguments.log, flags, 0o644) if arguments.log is not None else None
    stub = _Stub(arguments.latency, arguments.jitter, FAULTS[arguments.faults], arguments.seed, log, arguments.answers)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(stub), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--jitter", type=float, default=0.0, help="up to so many seconds more")
    parser.add_argument("--faults", choices=FAULTS, default="none")
    parser.add_argument("--log", type=Path)
    parser.add_argument(
        "--answers",
        choices=("same", "row", "words", "instant"),
        default="same",
        help="same texts, the document's words, or one answer at once",
    )
    parser.add_argument("--seed", type=int, default=0)
    asyncio.run(_main(parser.parse_args()))
