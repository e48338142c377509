"""The journal's tables, and how older files become the present version.

A version is never edited: a change appends a named migration, and a file of each version lies among the tests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from multigrain.errors import RunDirectoryError

_APPLICATION_ID: Final = 0x6D676A31  # "mgj1": tells a journal from any other SQLite file


def _m1_completions_and_failures(connection: sqlite3.Connection) -> None:
    connection.execute(
        """
        CREATE TABLE completions (
            key TEXT PRIMARY KEY,          -- SHA-256 of what decides the completion
            strategy TEXT NOT NULL,
            client TEXT NOT NULL,          -- the client's identity: provider and model
            request TEXT NOT NULL,         -- JSON
            text TEXT NOT NULL,            -- raw and untrusted
            finish_reason TEXT NOT NULL,
            model TEXT NOT NULL,           -- as the endpoint reports it
            prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            seconds REAL NOT NULL,
            created_at TEXT NOT NULL       -- ISO 8601, UTC
        ) STRICT
        """
    )
    connection.execute(
        """
        CREATE TABLE failures (
            key TEXT NOT NULL,
            kind TEXT NOT NULL,
            strategy TEXT NOT NULL,
            client TEXT NOT NULL,
            detail TEXT NOT NULL,          -- of the last time
            times INTEGER NOT NULL,
            last_at TEXT NOT NULL,
            PRIMARY KEY (key, kind)
        ) STRICT
        """
    )


def _m2_costs_and_batches(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE completions ADD COLUMN cached_tokens INTEGER NOT NULL DEFAULT 0")
    # "live" or "batch": batch files cost less.
    connection.execute("ALTER TABLE completions ADD COLUMN source TEXT NOT NULL DEFAULT 'live'")
    connection.execute(
        """
        CREATE TABLE batch_requests (
            key TEXT PRIMARY KEY,          -- also the request's custom_id in the file
            strategy TEXT NOT NULL,
            client TEXT NOT NULL,
            request TEXT NOT NULL,         -- JSON
            round TEXT NOT NULL,           -- the last round that wanted it
            written_at TEXT                -- when it last went into a file; NULL: never
        ) STRICT
        """
    )


def _m3_alternatives(connection: sqlite3.Connection) -> None:
    # JSON: the tokens that might have stood in an answer's place, with their log-probabilities; NULL: not told.
    connection.execute("ALTER TABLE completions ADD COLUMN alternatives TEXT")


_MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    _m1_completions_and_failures,
    _m2_costs_and_batches,
    _m3_alternatives,
)

CURRENT_VERSION: Final = len(_MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a journal to the present version, each step whole or not at all; an empty file becomes a new journal.

    Args:
        connection: in autocommit mode.
        path: of the file, for messages.

    Raises:
        RunDirectoryError: another program's file, or a later version's journal.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != _APPLICATION_ID and (tables or version):
        raise RunDirectoryError(f"{path}: not a journal of multigrain, but another SQLite file: move it away")
    if version > CURRENT_VERSION:
        raise RunDirectoryError(
            f"{path}: a journal of version {version}, and this multigrain reads up to {CURRENT_VERSION}: upgrade it"
        )
    for number in range(version, CURRENT_VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have got here first.
            if connection.execute("PRAGMA user_version").fetchone()[0] == number:
                _MIGRATIONS[number](connection)
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
