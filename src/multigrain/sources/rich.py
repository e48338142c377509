"""HTML, PDF and Word files as Markdown text, by markitdown (the extra `documents`)."""

from __future__ import annotations

import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any, Final

from multigrain.errors import MissingExtraError, SourceError

RICH_SUFFIXES: Final = (".docx", ".htm", ".html", ".pdf")

_BLANK_LINES: Final = re.compile(r"\n{3,}")
_CID: Final = re.compile(r"\(cid:\d+\)")  # what pdfminer writes for glyphs of fonts that map to no characters


class UnreadableError(SourceError):
    """A file without text: scanned, encrypted, broken. It can be skipped."""


def read_rich(path: Path) -> tuple[str | None, str]:
    """A file's title, where it says one, and its text.

    Raises:
        MissingExtraError: markitdown is not installed.
        UnreadableError: the file is encrypted, broken, or holds no text.
    """
    converter = _converter(path.suffix.lower())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pdfminer warns of fonts and colours; we read words alone
            content = converter.convert_local(path)
    except Exception as error:
        # Its parsers raise whatever they like (zipfile, XML, PDF errors), wrapped or not.
        raise UnreadableError(_explain(path, error)) from None
    text = _BLANK_LINES.sub("\n\n", _CID.sub("", content.markdown.replace("\f", "\n\n"))).strip()
    if not text:
        hint = "a scan? run OCR first, e.g. `ocrmypdf in.pdf out.pdf`" if path.suffix.lower() == ".pdf" else "empty"
        raise UnreadableError(f"{path}: no text in it ({hint}); or set documents.unreadable: skip")
    title = content.title.strip() if isinstance(content.title, str) else ""
    return title or None, text


def _explain(path: Path, error: Exception) -> str:
    words = f"{type(error).__name__} {error} {error.__cause__!r}"
    if "Password" in words or "Encrypt" in words:
        return f"{path}: encrypted; save it without a password, or set documents.unreadable: skip"
    kind = path.suffix.lower().lstrip(".").upper()
    return f"{path}: not a readable {kind} file; mend it, or set documents.unreadable: skip"


@cache
def _converter(suffix: str) -> Any:
    """One converter a kind of file: only that kind's parser is loaded, and no file is taken for another kind."""
    try:
        from markitdown import MarkItDown
        from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter
    except ImportError:
        raise MissingExtraError(
            "markitdown", f"reading {suffix} files", 'pip install "multigrain[documents]"'
        ) from None
    chosen = MarkItDown(enable_builtins=False, enable_plugins=False)
    kinds: dict[str, Any] = {".pdf": PdfConverter, ".docx": DocxConverter}
    chosen.register_converter(kinds.get(suffix, HtmlConverter)())
    return chosen
