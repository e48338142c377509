"""200 kills: is a completion that was received and acknowledged ever lost, or paid for twice?

    python benchmarks/synthesis_kill.py                # about 10 minutes on 2 cores
    python benchmarks/synthesis_kill.py --kills 20     # a minute
    python benchmarks/synthesis_kill.py --json         # one JSON object as the last line

A writer works through rows against a faulty endpoint (429, 500, resets, half answers, truncated and wrong JSON) in a
process of its own. The writer's whole process group is killed with SIGKILL at a random moment, started again on the
same journal, killed again, and at last left alone to finish. Each row that comes out is acknowledged to the endpoint,
which notes it in its log with everything else. Nothing is taken from the writer's own counters: all figures come from
the endpoint's log and the SQLite file. Keys of the JSON object:

    kills         how often the process group was killed
    lost          acknowledged rows without their completion in the journal, looked up after every kill
    duplicates    requests that were kept twice
    repeated      requests for completions that were in the journal when the writer that asked was started
    missing       rows without any completion after the last, unkilled run
    in_flight     answers sent but not yet kept when a kill came, at most: they are asked again, as they must be
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from multigrain.config import LLMConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.build import build_client
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.records import Document
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import synthesize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values
from benchmarks.stub_endpoint import Event, read_log, request_mark, serve

CONCURRENCY: Final = 32
_ENDLESS: Final = 10**9
ROOT: Final = Path(__file__).resolve().parent.parent


def write(url: str, journal_path: Path, rows: int) -> None:
    """The writer: goes on where the journal stops, and acknowledges every row that comes out."""
    config = LLMConfig(
        provider="openai", model="stub", base_url=url, concurrency=CONCURRENCY, timeout_seconds=5, max_retries=8
    )
    units = (WritingUnit(Document(f"d{n}", f"[unit {n}] A text about rivers and bridges.")) for n in range(rows))
    with Journal(journal_path) as journal, LocalEngine(concurrency=CONCURRENCY) as engine:
        client = JournaledClient(build_client(config, seed=0), journal, strategy="mgh")
        endpoint = HTTPConnection(url.split("/")[2])
        done: list[int] = []
        asked = 0
        for outcome in synthesize(units, MghStrategy(), client, engine):
            if outcome.value is not None:
                done.append(int(outcome.unit.document.id[1:]))
            # New rows one by one; those that come out of the journal again, at the start, in lots.
            if client.asked > asked or len(done) >= 500:
                asked = client.asked
                _acknowledge(endpoint, done)
                done = []
        _acknowledge(endpoint, done)
        engine.run(client.aclose())


def _acknowledge(endpoint: HTTPConnection, units: list[int]) -> None:
    endpoint.request("POST", "/acknowledge", json.dumps({"units": units}))
    endpoint.getresponse().read()


@dataclass
class _Books:
    """What the log and the journal say, kept up after every kill."""

    log: Path
    journal: Path
    read: int = 0
    acknowledged: set[int] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    lost: int = 0
    repeated: int = 0
    in_flight: int = 0
    asked: int = 0

    def balance(self) -> None:
        """Read on in the log up to now, then look at what the journal holds."""
        for event in self._news():
            if event.kind == "acknowledged":
                self.acknowledged.add(event.unit)
            elif event.kind == "answered":
                self.answered.add(event.mark)
            elif event.kind == "asked":
                self.asked += 1
                # `kept` is what the journal held before the writer that asked this was started.
                self.repeated += event.mark in self.kept
        marks = list(_kept_marks(self.journal))
        self.kept = set(marks)
        units = {int(mark.split("/")[0]) for mark in marks}
        self.lost += len(self.acknowledged - units)
        self.in_flight = max(self.in_flight, len(self.answered - self.kept))
        self.answered &= self.kept

    def _news(self) -> Iterator[Event]:
        events = list(read_log(self.log))
        yield from events[self.read :]
        self.read = len(events)


def _kept_marks(journal: Path) -> Iterator[str]:
    if not journal.exists():
        return
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        for (text,) in connection.execute("SELECT request FROM completions"):
            request = json.loads(text)
            yield request_mark(request["messages"], request["max_tokens"])
    finally:
        connection.close()


def _start(url: str, journal: Path, rows: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.synthesis_kill", "--writer", url, str(journal), str(rows)]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def _kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill the whole group; says whether it was still at work."""
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def measure(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill so many times, let it finish, and count."""
    chance = random.Random(seed)
    journal, log = folder / "journal.sqlite", folder / "endpoint.log"
    books = _Books(log, journal)
    began = time.monotonic()
    with serve(latency=0.01, jitter=0.05, faults="mixed", log=log, seed=seed) as url:
        for number in range(kills):
            process = _start(url, journal, _ENDLESS)
            _wait_until_it_asks(process, log, books)
            time.sleep(chance.uniform(0.0, 1.5))
            if not _kill(process):
                raise SystemExit(f"the writer ended by itself after {number} kills")
            books.balance()
            if number % 20 == 19:
                print(f"  {number + 1} kills: {len(books.kept)} kept, {books.lost} lost", flush=True)
        killed_at = len(books.kept)
        rows = 1 + max(event.unit for event in read_log(log))
        if _start(url, journal, rows).wait():
            raise SystemExit("the last writer failed")
        books.balance()
    per_unit = Counter(mark for mark in _kept_marks(journal))
    first_marks = Counter(mark.split("/")[0] for mark in per_unit)
    twice = sum(count - 1 for count in per_unit.values())
    missing = sum(str(unit) not in first_marks for unit in range(rows))
    return {
        "kills": kills,
        "lost": books.lost,
        "duplicates": twice,
        "repeated": books.repeated,
        "missing": missing,
        "in_flight": books.in_flight,
        "rows": rows,
        "kept_when_killed_last": killed_at,
        "completions": len(per_unit),
        "requests": books.asked,
        "acknowledged": len(books.acknowledged),
        "seconds": round(time.monotonic() - began, 1),
    }


def _wait_until_it_asks(process: subprocess.Popen[bytes], log: Path, books: _Books) -> None:
    """Python's own start takes longer than the work between two kills: the clock starts at the first request."""
    deadline = time.monotonic() + 60
    size = log.stat().st_size if log.exists() else 0
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.stat().st_size > size:
            return
        time.sleep(0.01)


def main() -> None:
    """Measure and print; or, with --writer, be the process that is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--writer", nargs=3, metavar=("URL", "JOURNAL", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        url, journal, rows = arguments.writer
        write(url, Path(journal), int(rows))
        return
    with tempfile.TemporaryDirectory() as folder:
        values = measure(arguments.kills, arguments.seed, Path(folder))
    print_values(values, as_json=arguments.json)
    if any(values[name] for name in ("lost", "duplicates", "repeated", "missing")):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
