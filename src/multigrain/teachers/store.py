"""Scores of pairs on disk: what a teacher said once is never asked again."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from multigrain.encoders.served import EmbeddingUsage
from multigrain.errors import RunDirectoryError

_LOOKUP: Final = 900  # keys of one statement; SQLite's oldest limit on parameters is 999


class PairScores:
    """One teacher's scores by the key of a pair, durable once `add` returns.

    Args:
        path: the file; made, with its folder, where there is none.

    Raises:
        RunDirectoryError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(path, timeout=60)
            self._store.execute("PRAGMA journal_mode=WAL")
            self._store.execute("PRAGMA synchronous=FULL")
            self._store.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, score REAL) WITHOUT ROWID")
            self._store.execute("CREATE TABLE IF NOT EXISTS embedded (requests INTEGER, tokens INTEGER)")
        except (OSError, sqlite3.Error) as error:
            raise RunDirectoryError(
                f"{path}: cannot be opened as a file of scores ({error}); delete it to have them made again"
            ) from None

    def find(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """The scores that are known, by key."""
        known: dict[bytes, float] = {}
        for start in range(0, len(keys), _LOOKUP):
            chunk = keys[start : start + _LOOKUP]
            parameters = ",".join("?" * len(chunk))
            known.update(self._store.execute(f"SELECT key, score FROM scores WHERE key IN ({parameters})", chunk))  # noqa: S608
        return known

    def add(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores.

        Raises:
            RunDirectoryError: the disk is full.
        """
        try:
            with self._store:
                self._store.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores.items())
        except sqlite3.Error as error:
            raise RunDirectoryError(f"{self.path}: scores could not be kept ({error}): free some disk") from None

    def note(self, usage: EmbeddingUsage) -> None:
        """Keep what an embedder's endpoint was asked, beside what was noted before.

        Raises:
            RunDirectoryError: the disk is full.
        """
        try:
            with self._store:
                self._store.execute("INSERT INTO embedded VALUES (?, ?)", (usage.requests, usage.tokens))
        except sqlite3.Error as error:
            raise RunDirectoryError(
                f"{self.path}: what was paid could not be noted ({error}): free some disk"
            ) from None

    def usage(self) -> EmbeddingUsage:
        """What was noted, over all sessions."""
        requests, tokens = self._store.execute("SELECT total(requests), total(tokens) FROM embedded").fetchone()
        return EmbeddingUsage(int(requests), int(tokens))

    def close(self) -> None:
        """Let go of the file."""
        self._store.close()
