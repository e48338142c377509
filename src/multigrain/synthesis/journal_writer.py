"""The journal's writing thread: many completions a transaction, none acknowledged before it is on the disk."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from multigrain.errors import RunDirectoryError

__all__ = ["JournalWriter", "Statement"]

Statement = tuple[str, Sequence[Any]]
"""SQL and its values."""

_LARGEST_GROUP: Final = 1000
_RESERVE_BYTES: Final = 8 * 2**20
_NO_SPACE: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


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
        self._queue: queue.SimpleQueue[tuple[Statement, Future[None]] | None] = queue.SimpleQueue()
        self._problem: RunDirectoryError | None = None
        _set_aside(self._reserve)
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
        self._queue.put((statement, done))
        return done

    def close(self) -> None:
        """Write what is queued and end the thread. Does not close the connection."""
        self._queue.put(None)
        self._thread.join()
        self._reserve.unlink(missing_ok=True)

    def _run(self) -> None:
        ending = False
        while not ending:
            group, ending = self._gather()
            if not group:
                continue
            outcome = self._settle([statement for statement, _ in group])
            for _, done in group:
                if done.set_running_or_notify_cancel():
                    if outcome is None:
                        done.set_result(None)
                    else:
                        done.set_exception(outcome)

    def _gather(self) -> tuple[list[tuple[Statement, Future[None]]], bool]:
        """Wait for a statement, then take whatever else is there. Also says whether the end has been asked for."""
        group = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) == _LARGEST_GROUP:
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
                f"ones are; mend the disk and run the same command again"
            )
            return self._problem
        return None

    def _commit(self, statements: list[Statement]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in statements:
                connection.execute(sql, values)
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has already rolled back after some errors, a full disk among them.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _set_aside(path: Path) -> None:
    """Keep room on the disk: real blocks, not a hole. Where there is not even that much room, keep none."""
    reserve: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    try:
        with path.open("wb") as handle:
            if reserve is not None:
                reserve(handle.fileno(), 0, _RESERVE_BYTES)
            else:
                handle.write(b"\0" * _RESERVE_BYTES)
    except OSError:
        path.unlink(missing_ok=True)
