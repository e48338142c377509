"""The files that documents, pairs and tasks lie in: whether they are there, and whether they have changed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from multigrain.config.paths import is_hub
from multigrain.display.suggest import near_path
from multigrain.errors import SourceError
from multigrain.sources.beir import is_beir
from multigrain.storage.files import UNPACK, files_inside, walk_folders
from multigrain.storage.hub import is_saved, parse_hub
from multigrain.storage.rows import TABLES_OF_FOLDERS, row_kind
from multigrain.storage.shards import is_table

MARKDOWN_SUFFIXES: Final = (".md", ".markdown")
RICH_SUFFIXES: Final = (".docx", ".htm", ".html", ".pdf")
READ_SUFFIXES: Final = (*MARKDOWN_SUFFIXES, ".rst", ".txt", *RICH_SUFFIXES)
"""File names of documents end on one of these."""

_CARDS: Final = ("readme", "license")
_LOCK: Final = "~$"
_HIDDEN: Final = (".", "_")
_RUN_MARK: Final = "documents/manifest.json"


def existing_path(path: Path | None, option: str) -> Path:
    """A path that is there, or that names a data set of the hub.

    Args:
        path: as configured.
        option: the config key, for the message.

    Raises:
        SourceError: it is not set, or not there.
    """
    if path is None:
        raise SourceError(
            f"{option} is not set: give a folder of files, a .jsonl, .csv or .parquet file, or hf:OWNER/NAME"
        )
    if not is_hub(path) and not path.exists():
        raise SourceError(f"{option} {path}: no such file or folder{near_path(path)}")
    return path


def table_kind(path: Path) -> str | None:
    """What the table at a path holds, see `row_kind`: a file, a data set, or a folder that is one table.

    None where the name does not tell, and for other folders. A folder is one table where `datasets` saved it, or where
    it holds Parquet files, and no other tables or documents but a README at its top. BEIR folders and run directories
    are none.
    """
    if is_hub(path) or is_table(path):
        return row_kind(path)
    return "parquet" if path.is_dir() and _is_one_table(path) else None


def _is_one_table(folder: Path) -> bool:
    if is_saved(folder) or is_beir(folder):
        return is_saved(folder)
    has_tables = False
    for root, names in walk_folders(folder, lambda path: not path.name.startswith(_HIDDEN)):
        if (root / _RUN_MARK).is_file():
            return False
        for name in (Path(name) for name in names if not name.startswith((*_HIDDEN, _LOCK))):
            suffix = name.suffix.lower()
            is_card = root == folder and name.stem.lower() in _CARDS
            if suffix == ".parquet":
                has_tables = True
            elif suffix in TABLES_OF_FOLDERS or (suffix in READ_SUFFIXES and not is_card):
                return False
    return has_tables


def files_fingerprint(path: Path) -> str:
    """A hash over the names, sizes and times of change of the files at a path.

    Of a data set it is the reference and, for a folder, its files. What the hub holds is not looked at.
    """
    if is_hub(path):
        folder = parse_hub(path).folder
        return status_hash(files_inside(folder) if folder is not None else (), folder, start=str(path))
    if path.is_file():
        return status_hash([path], path.parent)
    if is_table(path):
        return status_hash(sorted(path.iterdir()), path.parent)
    if table_kind(path) is not None:
        inside = (file for file in files_inside(path) if not file.name.startswith("."))
        return status_hash(inside, path.parent)
    # A link to nothing is no file.
    return status_hash((file for file in document_files(path) if file.exists()), path.parent)


def status_hash(files: Iterable[Path], folder: Path | None = None, *, start: str = "") -> str:
    """A hash over files' names (as seen from a folder, where one is given), their sizes and times of change."""
    digest = hashlib.sha256(start.encode())
    for file in files:
        name, status = file.name if folder is None else file.relative_to(folder), file.stat()
        digest.update(f"{name}\x1f{status.st_size}\x1f{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def document_files(folder: Path) -> list[Path]:
    """The documents in a folder by name, without those in hidden folders and in run directories.

    Passed over, too, are the lock files that office programs leave beside a document that is open, such as
    `~$report.docx`.
    """
    return sorted(path for path in _files(folder) if path.suffix.lower() in READ_SUFFIXES)


def other_files(folder: Path) -> Counter[str]:
    """How many files are where `document_files` looks and are none, by ending: ".ipynb", ".txt.gz", "" for none."""
    endings = (path.suffixes[-2 if path.suffix.lower() in UNPACK else -1 :] for path in _files(folder))
    counts = Counter("".join(each).lower() for each in endings)
    return Counter({ending: count for ending, count in sorted(counts.items()) if ending not in READ_SUFFIXES})


def _files(folder: Path) -> Iterator[Path]:
    def enters(path: Path) -> bool:
        return not path.name.startswith(".") and not (path / _RUN_MARK).is_file()

    for here, names in walk_folders(folder, enters):
        yield from (here / name for name in names if not name.startswith((".", _LOCK)))
