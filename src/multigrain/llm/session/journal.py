"""The journal: every completion ever received, durable before it counts, found again by what made it.

A file of SQLite in WAL mode with full synchronisation: what is acknowledged survives a killed process and, as far
as the disk keeps its word, a power cut.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from multigrain.errors import RunDirectoryError
from multigrain.llm.alternatives import dump_alternatives, load_alternatives
from multigrain.llm.prices import about_text_tokens, about_tokens
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest
from multigrain.llm.session.keys import KeyFilter
from multigrain.llm.session.records import (
    JournalEntry,
    JournalTotals,
    TokenSums,
    now,
    plain_request,
    restored_request,
    storable_text,
)
from multigrain.llm.session.schema import migrate
from multigrain.llm.session.writer import JournalWriter, Statement

_BUSY_SECONDS: Final = 30.0
# Constants of this module are all that is ever put into SQL text; values are bound.
_COMPLETION_COLUMNS: Final = "text, finish_reason, model, prompt_tokens, completion_tokens, cached_tokens, seconds"
_COMPLETION_VALUES: Final = attrgetter(*_COMPLETION_COLUMNS.split(", "))
_ANSWER_COLUMNS: Final = f"{_COMPLETION_COLUMNS}, alternatives"


class Journal:
    """Completions on disk. Safe to use from several threads; `close()` or a `with` block ends it.

    Args:
        path: the file; made, with its folder, where there is none.
        create: False refuses where there is none.

    Raises:
        RunDirectoryError: no file, no journal, a later version's, or it cannot be opened.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        if not create and not path.is_file():
            raise RunDirectoryError(f"{path}: no journal there yet; `multigrain synthesize` writes one")
        self.path = path
        self._lock = threading.Lock()
        self._writer: JournalWriter | None = None
        self._kept: KeyFilter | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writing = _connect(path)
            self._writing.execute("PRAGMA journal_mode = WAL")
            self._writing.execute("PRAGMA synchronous = FULL")
            migrate(self._writing, path)
            self._reading = _connect(path)
        except (sqlite3.Error, OSError) as error:
            raise RunDirectoryError(
                f"{path}: cannot be opened as a journal ({error}): check the file and the disk, or move it away"
            ) from None

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def find(self, key: str) -> Completion | None:
        """The completion of a key, if there is one."""
        if self._kept is None:
            self._kept = self._look_at_keys()
        if key not in self._kept:
            return None
        sql = f"SELECT {_ANSWER_COLUMNS} FROM completions WHERE key = ?"  # noqa: S608
        row = self._first_row(sql, key)
        return None if row is None else _completion(row)

    def check(self) -> None:
        """Raise what keeps new completions from being kept.

        Raises:
            RunDirectoryError: the disk has filled up.
        """
        self._start_writer().check()

    def record(self, entry: JournalEntry) -> Future[None]:
        """Keep a completion. The future is done when it is on the disk; the first one under a key stays."""
        if self._kept is not None:
            self._kept.add(entry.key)
        return self._start_writer().write(_insert(entry))

    async def keep(self, entry: JournalEntry) -> None:
        """Keep a completion; returns when it is on the disk.

        Raises:
            RunDirectoryError: it could not be written.
        """
        if self._kept is not None:
            self._kept.add(entry.key)
        await self._start_writer().write_through(_insert(entry))

    def record_failure(self, key: str, failure: CompletionFailure, *, strategy: str, client: str) -> Future[None]:
        """Count a request, or a row, that came to nothing. It is for the books only: nothing is reused from it."""
        head = "INSERT INTO failures (key, kind, strategy, client, detail, times, last_at) VALUES"
        tail = (
            "ON CONFLICT (key, kind) "
            "DO UPDATE SET times = times + 1, detail = excluded.detail, last_at = excluded.last_at"
        )
        values = (key, failure.kind, strategy, client, storable_text(failure.detail), 1, now())
        return self._start_writer().write(Statement(head, values, tail))

    def forget_failures_of_rows(self) -> None:
        """Drop what `record_failure` noted under keys of rows (`row:…`): every session finds them anew."""
        self._start_writer().write(Statement("DELETE FROM failures WHERE key GLOB 'row:*'", ())).result()

    def want_in_batch(
        self, key: str, request: CompletionRequest, *, strategy: str, client: str, round_id: str
    ) -> Future[None]:
        """Remember a request that a round of batch files is to ask, so that its answer can be told what made it."""
        head = "INSERT INTO batch_requests (key, strategy, client, request, round) VALUES"
        values = (key, strategy, client, json.dumps(plain_request(request)), round_id)
        tail = "ON CONFLICT (key) DO UPDATE SET round = excluded.round"
        return self._start_writer().write(Statement(head, values, tail))

    def wanted_in_batch(self, round_id: str, *, again: bool = False) -> Iterator[tuple[str, CompletionRequest]]:
        """What a round wants and no file has asked yet, or a file has asked in vain, read as it is needed.

        Args:
            round_id: as it was given to `want_in_batch`.
            again: also what lies in a file whose answers have not been read yet.
        """
        sql = """
            SELECT key, request FROM batch_requests AS wanted
            WHERE round = ? AND NOT EXISTS (SELECT 1 FROM completions WHERE completions.key = wanted.key)
            AND (? OR written_at IS NULL OR EXISTS (
                SELECT 1 FROM failures WHERE failures.key = wanted.key AND last_at >= written_at))
            ORDER BY key
        """
        for key, request in self._rows(sql, round_id, again):
            yield key, restored_request(json.loads(request))

    def awaited(self) -> Iterator[CompletionRequest]:
        """The requests that lie in batch files and have neither been answered nor come back as failures."""
        sql = """
            SELECT request FROM batch_requests AS wanted WHERE written_at IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM completions WHERE completions.key = wanted.key)
            AND NOT EXISTS (SELECT 1 FROM failures WHERE failures.key = wanted.key AND last_at >= written_at)
        """
        return (restored_request(json.loads(request)) for (request,) in self._rows(sql))

    def latest_prompts(self, count: int) -> list[tuple[CompletionRequest, int]]:
        """The latest requests whose endpoint has reported how many tokens it read, each with that number."""
        sql = "SELECT request, prompt_tokens FROM completions WHERE prompt_tokens > 0 ORDER BY rowid DESC LIMIT ?"
        return [(restored_request(json.loads(request)), tokens) for request, tokens in self._rows(sql, count)]

    def mark_written(self, keys: Iterable[str]) -> None:
        """Note that requests lie in a batch file now. Returns when that is on the disk."""
        sql = "UPDATE batch_requests SET written_at = ? WHERE key = ?"
        moment = now()
        for done in [self._start_writer().write(Statement(sql, (moment, key))) for key in keys]:
            done.result()

    def find_batch_request(self, key: str) -> tuple[str, str, dict[str, Any]] | None:
        """Strategy, client and request that were written to a batch file under a key."""
        sql = "SELECT strategy, client, request FROM batch_requests WHERE key = ? AND written_at IS NOT NULL"
        row = self._first_row(sql, key)
        return None if row is None else (row[0], row[1], json.loads(row[2]))

    def totals(self) -> JournalTotals:
        """Counts and token sums over everything in the journal."""
        # SQLite takes the other columns from the row that has the maximum.
        failures = list(
            self._rows(
                "SELECT kind, count(*), detail, max(last_at) FROM failures "
                "WHERE key NOT IN (SELECT key FROM completions) GROUP BY kind ORDER BY kind"
            )
        )
        awaiting = self._first_row(
            "SELECT count(*) FROM batch_requests "
            "WHERE written_at IS NOT NULL AND key NOT IN (SELECT key FROM completions)"
        )
        sources = self._rows(
            "SELECT source, count(*), total(prompt_tokens), total(completion_tokens), total(cached_tokens), "
            "total(finish_reason = 'length') FROM completions GROUP BY source"
        )
        sums = {source: [int(value) for value in values] for source, *values in sources}
        uncounted = 0
        for source, request, text in self._rows(
            "SELECT source, request, text FROM completions WHERE prompt_tokens = 0 AND completion_tokens = 0"
        ):
            uncounted += 1
            sums[source][1] += about_tokens(restored_request(json.loads(request)))
            sums[source][2] += about_text_tokens(text)
        return JournalTotals(
            *map(sum, zip(*sums.values(), strict=True)),
            batch=TokenSums(*sums.get("batch", ())),
            failures={kind: count for kind, count, _, _ in failures},
            details={kind: detail for kind, _, detail, _ in failures},
            uncounted=uncounted,
            awaiting_batch=awaiting[0],
        )

    def usual_lengths(self) -> dict[str, float]:
        """Mean tokens of the answers to each strategy."""
        sql = "SELECT strategy, avg(completion_tokens) FROM completions GROUP BY strategy"
        return {name: mean for name, mean in self._rows(sql) if mean}

    def entries(self) -> Iterator[JournalEntry]:
        """Everything in the journal, in the order in which it was kept, read as it is needed."""
        columns = f"key, strategy, client, request, created_at, source, {_ANSWER_COLUMNS}"
        sql = f"SELECT {columns} FROM completions ORDER BY rowid"  # noqa: S608
        for key, strategy, client, request, created_at, source, *answer in self._rows(sql):
            yield JournalEntry(key, strategy, client, json.loads(request), _completion(answer), created_at, source)

    def export(self, stream: TextIO) -> int:
        """Write every entry as a JSON line; returns how many."""
        count = 0
        for entry in self.entries():
            stream.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
            count += 1
        return count

    def close(self) -> None:
        """Write what is queued and close the file. Safe to call twice."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._reading.close()
        self._writing.close()

    def _look_at_keys(self) -> KeyFilter:
        with self._lock:
            return KeyFilter(key for (key,) in self._reading.execute("SELECT key FROM completions"))

    def _first_row(self, sql: str, *values: Any) -> Any:
        with self._lock:
            return self._reading.execute(sql, values).fetchone()

    def _rows(self, sql: str, *values: Any) -> Iterator[Any]:
        """Rows, read as they are needed, on a connection of their own."""
        with closing(_connect(self.path)) as connection:
            yield from connection.execute(sql, values)

    def _start_writer(self) -> JournalWriter:
        with self._lock:
            if self._writer is None:
                self._writer = JournalWriter(self._writing, self.path)
            return self._writer


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit: transactions are begun and ended in plain sight. The lock and the writer keep threads apart.
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _insert(entry: JournalEntry) -> Statement:
    head = (
        "INSERT OR IGNORE INTO completions "
        f"(key, strategy, client, request, created_at, source, {_ANSWER_COLUMNS}) VALUES"
    )
    request = entry.request if isinstance(entry.request, str) else json.dumps(entry.request)
    made_by = (entry.key, entry.strategy, entry.client, request, entry.created_at, entry.source)
    alternatives = dump_alternatives(entry.completion.alternatives)
    return Statement(head, (*made_by, *_COMPLETION_VALUES(entry.completion), alternatives), "")


def _completion(row: Sequence[Any]) -> Completion:
    """A completion from the values of its columns."""
    *values, alternatives = row
    completion = Completion(*values)
    return completion if alternatives is None else replace(completion, alternatives=load_alternatives(alternatives))
