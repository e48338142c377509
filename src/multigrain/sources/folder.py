"""A folder of text, Markdown, HTML, PDF and Word files as documents; the last three by markitdown (`documents`)."""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from multigrain.config import DocumentsConfig
from multigrain.display.install import install_line
from multigrain.errors import MissingExtraError, SourceError
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
from multigrain.sources.html import say_in_words
from multigrain.sources.source import DataSource
from multigrain.storage.packages import is_installed
from multigrain.storage.text import NotTextError, read_text

_BLANK_LINES: Final = re.compile(r"\n{3,}")
_CID: Final = re.compile(r"\(cid:\d+\)")  # what pdfminer writes for glyphs of fonts that map to no characters
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
            raise _no_markitdown(rich[0].suffix)
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
    documents = []
    skipped = 0
    for number, path in enumerate(paths):
        try:
            title, text = _read(path)
        except NotTextError as error:
            if unreadable == "refuse":
                raise NotTextError(_with_the_others(str(error), paths[number + 1 :])) from None
            skipped += 1
            continue
        documents.append(Document(id=path.relative_to(folder).as_posix(), text=text, title=title))
    return documents, skipped


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


def _read(path: Path) -> tuple[str | None, str]:
    suffix = path.suffix.lower()
    if _is_rich(path):
        title, text = _read_rich(path)
    else:
        title, text = None, read_text(path)
        if suffix in MARKDOWN_SUFFIXES:
            title, text = take_front_matter(text)
    heading, text = take_heading(text, rst=suffix == ".rst") if suffix != ".txt" else (None, text)
    return title or heading, text.strip()


def _read_rich(path: Path) -> tuple[str | None, str]:
    """A file's title, where it says one, and its text.

    Raises:
        MissingExtraError: markitdown is not installed.
        NotTextError: the file is encrypted, broken, or holds no text.
    """
    converter = _converter(path.suffix.lower())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pdfminer warns of fonts and colours; we read words alone
            content = converter.convert_local(path)
    except Exception as error:
        # Its parsers raise whatever they like (zipfile, XML, PDF errors), wrapped or not.
        raise NotTextError(_explain(path, error)) from None
    text = _BLANK_LINES.sub("\n\n", _CID.sub("", content.markdown.replace("\f", "\n\n"))).strip()
    if not text:
        hint = "a scan? run OCR first, e.g. `ocrmypdf in.pdf out.pdf`" if path.suffix.lower() == ".pdf" else "empty"
        raise NotTextError(f"{path}: no text in it ({hint}); or set documents.unreadable: skip")
    title = content.title.strip() if isinstance(content.title, str) else ""
    return title or None, text


def _explain(path: Path, error: Exception) -> str:
    words = f"{type(error).__name__} {error} {error.__cause__!r}"
    if "Password" in words or "Encrypt" in words:
        return f"{path}: encrypted; save it without a password, or set documents.unreadable: skip"
    kind = path.suffix.lower().lstrip(".").upper()
    return f"{path}: not a readable {kind} file; fix it, or set documents.unreadable: skip"


@cache
def _converter(suffix: str) -> Any:
    """One converter a kind of file: only that kind's parser is loaded, and no file is taken for another kind."""
    try:
        from bs4 import BeautifulSoup
        from markitdown import MarkItDown
        from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter
    except ImportError:
        raise _no_markitdown(suffix) from None

    class WordyHtml(HtmlConverter):
        def convert(self, file_stream: Any, stream_info: Any, **options: Any) -> Any:
            soup = BeautifulSoup(file_stream, "html.parser", from_encoding=stream_info.charset or "utf-8")
            say_in_words(soup)
            utf8 = dataclasses.replace(stream_info, charset="utf-8")
            return super().convert(io.BytesIO(soup.encode("utf-8")), utf8, **options)

    kinds: dict[str, Any] = {".pdf": PdfConverter, ".docx": DocxConverter}
    reader = kinds.get(suffix, WordyHtml)()
    if suffix == ".docx":
        reader._html_converter = WordyHtml()  # Word files become HTML first
    converter = MarkItDown(enable_builtins=False, enable_plugins=False)
    converter.register_converter(reader)
    return converter


def _no_markitdown(suffix: str) -> MissingExtraError:
    return MissingExtraError("markitdown", f"reading {suffix} files", install_line("documents"))
