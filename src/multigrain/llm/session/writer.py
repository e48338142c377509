"""The journal's writing thread: many completions a transaction, none acknowledged before it is on the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from multigrain.errors import RunDirectoryError

_LARGEST_GROUP: Final = 1000
_ROWS_A_STATEMENT: Final = 64
_RESERVE_BYTES: Final = 8 * 2**20
_NO_SPACE: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


class Statement(NamedTuple):
    """Something to write.

    Attributes:
        head: the SQL up to the values; whole where `tail` is None.
        values: what is bound.
        tail: the SQL after a row of values. Statements that differ in their values alone are run as one, which is
            what keeps the event loop's thread from waiting for this one a thousand times a second.
    """

    head: str
    values: Sequence[Any]
    tail: str | None = None


_Waiter = Future[None] | asyncio.Future[None]


class JournalWriter:
    """Owns the writing connection. Takes statements from any thread and commits them in groups.

    While one group is being flushed to the disk, the next one gathers, so a slow disk makes groups larger instead
    of completions slower. A reserve file keeps room for what is in flight when the disk fills up: then it is
    given up, what arrives is still written, and `check` lets nothing new begin.

    Args:
        connection: in autocommit mode; used by no one else from now on.
        path: of the journal.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._reserve = path.with_name(f"{path.name}.reserve")
        self._queue: queue.SimpleQueue[list[tuple[Statement, _Waiter]] | None] = queue.SimpleQueue()
        self._gathered: dict[asyncio.AbstractEventLoop, list[tuple[Statement, _Waiter]]] = {}
        self._problem: RunDirectoryError | None = None
        if not _set_aside(self._reserve):
            self._problem = RunDirectoryError(
                f"{path}: the disk has less than {_RESERVE_BYTES // 2**20} MiB left: free some space and run the same "
                f"command again; nothing was asked"
            )
        self._thread = threading.Thread(target=self._run, name="multigrain-journal", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what keeps new work from being kept.

        Raises:
            RunDirectoryError: the disk is full, or cannot be written any more.
        """
        if self._problem is not None:
            raise self._problem

    def write(self, statement: Statement) -> Future[None]:
        """Queue a statement. The future is done when it is on the disk, or fails with RunDirectoryError."""
        done: Future[None] = Future()
        self._queue.put([(statement, done)])
        return done

    async def write_through(self, statement: Statement) -> None:
        """Write a statement; returns when it is on the disk. For coroutines: cheaper than waiting for `write`.

        Raises:
            RunDirectoryError: it could not be written.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        # What a turn of the loop brings is handed over at its end: each waking of the thread costs the loop its turn.
        if loop not in self._gathered:
            self._gathered[loop] = []
            loop.call_soon(self._hand_over, loop)
        self._gathered[loop].append((statement, done))
        await done

    def close(self) -> None:
        """Write what is queued and end the thread. Does not close the connection."""
        self._queue.put(None)
        self._thread.join()
        self._reserve.unlink(missing_ok=True)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        self._queue.put(self._gathered.pop(loop))

    def _run(self) -> None:
        ending = False
        while not ending:
            group, ending = self._gather()
            if not group:
                continue
            problem = self._settle([statement for statement, _ in group])
            _tell([waiter for _, waiter in group], problem)

    def _gather(self) -> tuple[list[tuple[Statement, _Waiter]], bool]:
        """Wait for a statement, then take whatever else is there. Also says whether the end has been asked for."""
        group: list[tuple[Statement, _Waiter]] = []
        item = self._queue.get()
        while item is not None:
            group += item
            if len(group) >= _LARGEST_GROUP:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _settle(self, statements: list[Statement]) -> RunDirectoryError | None:
        try:
            try:
                self._commit(statements)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _NO_SPACE:
                    raise
                self._problem = RunDirectoryError(
                    f"{self._path}: the disk is full ({error}): free some space and run the same command again; "
                    f"every answer received so far is kept"
                )
                self._reserve.unlink(missing_ok=True)
                self._commit(statements)
        except (sqlite3.Error, OSError) as error:
            self._problem = RunDirectoryError(
                f"{self._path}: cannot be written ({error}): {len(statements)} answers could not be kept, all earlier "
                f"ones are; fix the disk and run the same command again"
            )
            return self._problem
        return None

    def _commit(self, statements: list[Statement]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for (head, tail), alike in groupby(statements, key=lambda statement: (statement.head, statement.tail)):
                _execute(connection, head, tail, [statement.values for statement in alike])
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back after some errors, a full disk among them.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _execute(connection: sqlite3.Connection, head: str, tail: str | None, rows: list[Sequence[Any]]) -> None:
    if tail is None:
        for values in rows:
            connection.execute(head, values)
        return
    row = f"({','.join('?' * len(rows[0]))})"
    start = 0
    while start < len(rows):
        # Few different lengths, so that SQLite's compiled statements are used again.
        count = _ROWS_A_STATEMENT if len(rows) - start >= _ROWS_A_STATEMENT else 1
        part = rows[start : start + count]
        connection.execute(f"{head} {','.join([row] * count)} {tail}", [value for values in part for value in values])
        start += count


def _tell(waiters: list[_Waiter], problem: RunDirectoryError | None) -> None:
    """Wake everybody: threads one by one, each event loop once."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = defaultdict(list)
    for waiter in waiters:
        if isinstance(waiter, asyncio.Future):
            loops[waiter.get_loop()].append(waiter)
        elif waiter.set_running_or_notify_cancel():
            _resolve([waiter], problem)
    for loop, waiting in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, waiting, problem)
        except RuntimeError:
            continue  # the loop is closed: nobody waits any more


def _resolve(waiters: Sequence[_Waiter], problem: RunDirectoryError | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue  # cancelled while it waited
        if problem is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(problem)


def _set_aside(path: Path) -> bool:
    """Keep room on the disk: real blocks, not a hole. Says whether there is that much."""
    reserve: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    try:
        with path.open("wb") as handle:
            if reserve is not None:
                reserve(handle.fileno(), 0, _RESERVE_BYTES)
            else:
                handle.write(b"\0" * _RESERVE_BYTES)
    except OSError as error:
        path.unlink(missing_ok=True)
        return error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return True
