"""A folder of text, Markdown, HTML, PDF and Word files as documents; the last three by markitdown (`documents`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from multigrain.config import DocumentsConfig
from multigrain.errors import SourceError
from multigrain.records import Document
from multigrain.sources.beir import is_beir
from multigrain.sources.files import (
    MARKDOWN_SUFFIXES,
    READ_SUFFIXES,
    RICH_SUFFIXES,
    document_files,
    existing_path,
    other_files,
)
from multigrain.sources.headings import take_front_matter, take_heading
from multigrain.sources.rich import no_markitdown, read_rich
from multigrain.sources.source import DataSource
from multigrain.sources.words import fold_repeated
from multigrain.storage.packages import is_installed
from multigrain.storage.text import NotTextError, read_text

_SKIP: Final = "documents.unreadable: skip"
_NAMED: Final = 5  # further files that cannot be read, or endings of files that are not, in one message


class _FolderSource(DataSource):
    """A document a file."""

    def read(self, config: DocumentsConfig) -> tuple[list[Document], int]:
        return read_folder(existing_path(config.path, "documents.path"), unreadable=config.unreadable)

    def glance(self, config: DocumentsConfig) -> tuple[Iterator[str], int]:
        paths = _checked(existing_path(config.path, "documents.path"))
        rich = [path for path in paths if _is_rich(path)]
        if rich and not is_installed("markitdown"):
            raise no_markitdown(rich[0].suffix)
        return _plain_texts([path for path in paths if not _is_rich(path)], config.unreadable), len(rich)

    def notes(self, config: DocumentsConfig) -> Iterable[str]:
        """How many files were left out for their endings."""
        others = other_files(existing_path(config.path, "documents.path"))
        count = others.total()
        if count:
            were = "file was" if count == 1 else "files were"
            yield f"{count} {were} left out, as files with such names are not read: {_by_ending(others)}"


FOLDER: Final = _FolderSource()


def read_folder(folder: Path, *, unreadable: Literal["refuse", "skip"]) -> tuple[list[Document], int]:
    """Read every document in a folder.

    Args:
        folder: the folder; hidden folders and run directories in it are left out.
        unreadable: what becomes of files that hold no text: binaries, scans, links to nothing.

    Returns:
        The documents, and how many files were skipped.

    Raises:
        SourceError: no such folder, no document in it, or one that cannot be read.
        MissingExtraError: there are HTML, PDF or Word files, and what reads them is not installed.
    """
    paths = _checked(folder)
    documents: list[Document] = []
    headings: dict[int, str] = {}  # by place in the documents: of pages whose <title> is another one
    skipped = 0
    for number, path in enumerate(paths):
        try:
            title, heading, text = _read(path)
        except NotTextError as error:
            if unreadable == "refuse":
                raise NotTextError(_with_the_others(str(error), paths[number + 1 :])) from None
            skipped += 1
            continue
        if heading is not None:
            headings[len(documents)] = heading
        documents.append(Document(id=path.relative_to(folder).as_posix(), text=text, title=title))
    return _with_headings(documents, headings), skipped


def _with_headings(documents: list[Document], headings: Mapping[int, str]) -> list[Document]:
    """Pages with the more telling of their two titles: the heading, unless more pages share it than the <title>.

    The site's name is often the title of each page, and now and then its heading. A heading that is no title stands in
    the text.
    """
    shared = Counter(fold_repeated(heading) for heading in headings.values())
    titled = Counter(fold_repeated(documents[place].title or "") for place in headings)
    for place, heading in headings.items():
        page = documents[place]
        if shared[fold_repeated(heading)] <= titled[fold_repeated(page.title or "")]:
            documents[place] = replace(page, title=heading)
        else:
            documents[place] = replace(page, text=f"# {heading}\n\n{page.text}")
    return documents


def _plain_texts(paths: Sequence[Path], unreadable: Literal["refuse", "skip"]) -> Iterator[str]:
    for number, path in enumerate(paths):
        try:
            yield read_text(path)
        except NotTextError as error:
            if unreadable == "refuse":
                raise NotTextError(_with_the_others(str(error), paths[number + 1 :])) from None


def _is_rich(path: Path) -> bool:
    return path.suffix.lower() in RICH_SUFFIXES and path.exists()


def _checked(folder: Path) -> list[Path]:
    """The files of a folder that holds documents.

    Raises:
        SourceError: no such folder, or no document in it.
    """
    if not folder.is_dir():
        raise SourceError(f"documents.path {folder}: not a folder; set documents.kind to what it holds")
    paths = document_files(folder)
    if not paths and is_beir(folder):
        raise SourceError(
            f"documents.path {folder}: a BEIR folder: set documents.path to its corpus.jsonl and name the folder "
            "under evaluation.sets; or set start_from: pairs and pairs.path"
        )
    if not paths:
        others = other_files(folder)
        there = f"; it holds {_by_ending(others)}" if others else ""
        raise SourceError(f"documents.path {folder}: no {', '.join(READ_SUFFIXES)} file in the folder{there}")
    return paths


def _by_ending(others: Counter[str]) -> str:
    named = [f"{count} {ending or 'without an ending'}" for ending, count in others.most_common(_NAMED)]
    rest = others.total() - sum(count for _, count in others.most_common(_NAMED))
    return ", ".join([*named, f"{rest} of other kinds"] if rest else named)


def _with_the_others(problem: str, rest: Sequence[Path]) -> str:
    """What is wrong with a file, and how many of those after it are no text either; PDFs and the like wait."""
    others = [path for path in rest if not _is_rich(path) and _is_bad(path)]
    if not others:
        return problem if _SKIP in problem else f"{problem}, or set {_SKIP}"
    few = ", ".join(path.name for path in others[:_NAMED]) + (", …" if len(others) > _NAMED else "")
    first = problem.removesuffix(f", or set {_SKIP}").removesuffix(f"; or set {_SKIP}")
    return f"{first}; {len(others)} more cannot be read: {few}; {_SKIP} leaves them all out"


def _is_bad(path: Path) -> bool:
    try:
        read_text(path)
    except SourceError:
        return True
    return False


def _read(path: Path) -> tuple[str | None, str | None, str]:
    """A file's title, the heading of a page that says another <title>, and the text without them."""
    suffix = path.suffix.lower()
    if _is_rich(path):
        title, heading, text = read_rich(path)
        if suffix == ".pdf":
            heading, text = take_heading(text)
        if title is not None and heading is not None and not _are_same(title, heading):
            return title, heading, text
        return title or heading, None, text.strip()
    text = read_text(path)
    if suffix == ".txt":
        return None, None, text.strip()
    title, text = take_front_matter(text) if suffix in MARKDOWN_SUFFIXES else (None, text)
    heading, below = take_heading(text, rst=suffix == ".rst")
    if title is None or heading is None or _are_same(title, heading):
        title, text = title or heading, below
    return title, None, text.strip()


def _are_same(title: str, heading: str) -> bool:
    return fold_repeated(title) == fold_repeated(heading)
