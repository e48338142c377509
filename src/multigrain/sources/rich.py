"""HTML, PDF and Word files as titles, headings and texts, by markitdown (`documents`)."""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

from multigrain.display.install import install_line
from multigrain.errors import MissingExtraError
from multigrain.sources.html import WORD_TITLE, say_in_words, take_page_heading, take_page_title
from multigrain.storage.text import NotTextError

_BLANK_LINES: Final = re.compile(r"\n{3,}")
_CID: Final = re.compile(r"\(cid:\d+\)")  # what pdfminer writes for glyphs of fonts that map to no characters
_DIVIDED: Final = re.compile(r"(?<![\w-])(?P<first>[^\W\d_]+)-[ \t]*\n[ \t]*(?P<second>[^\W\d_]+)(?![\w-])")
_SOFTLY_DIVIDED: Final = re.compile(r"(?<=\w)\u00ad[ \t]*\n[ \t]*(?=\w)")
_HYPHENATED: Final = re.compile(r"\w+(?:-\w+)*")
_FIELD: Final = re.compile(rb"""</?w:fldSimple\b(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_WORD_STYLES: Final = f"p[style-name='Title'] => h1.{WORD_TITLE}:fresh"
_AS_SHOWN: Final = {"escape_underscores": False, "escape_asterisks": False}  # texts are read, and never drawn again


def read_rich(path: Path) -> tuple[str | None, str | None, str]:
    """A file's title and its heading, where it says them, and its text without them.

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
    title, heading, text = _parts(content)
    if path.suffix.lower() == ".pdf":
        text = join_hyphenated(text)
    if not text and heading is None:
        hint = "a scan? run OCR first, e.g. `ocrmypdf in.pdf out.pdf`" if path.suffix.lower() == ".pdf" else "empty"
        raise NotTextError(f"{path}: no text in it ({hint}); or set documents.unreadable: skip")
    return title, heading, text


def read_html(page: str) -> tuple[str | None, str | None, str]:
    """A page's title and its heading, where it says them, and its text without them.

    Raises:
        MissingExtraError: markitdown is not installed.
    """
    return _parts(_page_reader(".html").convert_string(page))


def join_hyphenated(text: str) -> str:
    """The text with words whole that a hyphen divides at the end of a line.

    That is done at a soft hyphen. At any other, it is done where the whole word stands elsewhere in the text, and the
    word with its hyphen does not: at the end of a line, "well-known" looks the same.
    """
    text = _SOFTLY_DIVIDED.sub("", text)
    divided = _DIVIDED.findall(text)
    if not divided:
        return text
    seen = set(_HYPHENATED.findall(_DIVIDED.sub(" ", text).casefold()))

    def join(found: re.Match[str]) -> str:
        first, second = found["first"], found["second"]
        whole = f"{first}{second}".casefold() in seen and f"{first}-{second}".casefold() not in seen
        return f"{first}{second}" if whole else found[0]

    return _DIVIDED.sub(join, text)


def _parts(content: Any) -> tuple[str | None, str | None, str]:
    text = _BLANK_LINES.sub("\n\n", _CID.sub("", content.markdown.replace("\f", "\n\n"))).strip()
    title = content.title.strip() if isinstance(content.title, str) else ""
    return title or None, getattr(content, "heading", None), text


def no_markitdown(suffix: str) -> MissingExtraError:
    """The error where markitdown is not installed.

    Args:
        suffix: of the file that it would read.
    """
    return MissingExtraError("markitdown", f"reading {suffix} files", install_line("documents"))


def _explain(path: Path, error: Exception) -> str:
    words = f"{type(error).__name__} {error} {error.__cause__!r}"
    if "Password" in words or "Encrypt" in words:
        return f"{path}: encrypted; save it without a password, or set documents.unreadable: skip"
    kind = path.suffix.lower().lstrip(".").upper()
    return f"{path}: not a readable {kind} file; fix it, or set documents.unreadable: skip"


@cache
def _converter(suffix: str) -> Any:
    """One converter a kind of file: only that kind's parser is loaded, and no file is taken for another kind."""
    pages = _page_reader(suffix)
    from markitdown import MarkItDown
    from markitdown.converters import DocxConverter, PdfConverter

    class WordyDocx(DocxConverter):
        def convert(self, file_stream: Any, stream_info: Any, **options: Any) -> Any:
            return super().convert(_unwrap_fields(file_stream), stream_info, **options, style_map=_WORD_STYLES)

    kinds: dict[str, Any] = {".pdf": PdfConverter, ".docx": WordyDocx}
    reader = kinds[suffix]() if suffix in kinds else pages
    if suffix == ".docx":
        reader._html_converter = pages  # Word files become HTML first
    converter = MarkItDown(enable_builtins=False, enable_plugins=False)
    converter.register_converter(reader)
    return converter


@cache
def _page_reader(suffix: str) -> Any:
    """What reads HTML, for files with such a name.

    Raises:
        MissingExtraError: markitdown is not installed.
    """
    try:
        from bs4 import BeautifulSoup
        from markitdown import DocumentConverterResult
        from markitdown.converters import HtmlConverter
    except ImportError:
        raise no_markitdown(suffix) from None

    class Page(DocumentConverterResult):
        """What a page holds.

        Attributes:
            heading: its own one, which is not in the text.
        """

        heading: str | None = None

    class WordyHtml(HtmlConverter):
        def convert(self, file_stream: Any, stream_info: Any, **options: Any) -> Any:
            soup = BeautifulSoup(file_stream, "html.parser", from_encoding=stream_info.charset or "utf-8")
            say_in_words(soup)
            title = take_page_title(soup)
            heading = take_page_heading(soup, title)
            utf8 = dataclasses.replace(stream_info, charset="utf-8")
            converted = super().convert(io.BytesIO(soup.encode("utf-8")), utf8, **options, **_AS_SHOWN)
            page = Page(converted.markdown, title=title)
            page.heading = heading
            return page

    return WordyHtml()


def _unwrap_fields(word_file: BinaryIO) -> BinaryIO:
    """A Word file whose simple fields (numbers of tables, references) are plain text, as mammoth passes over fields.

    Args:
        word_file: as it is on disk; one that is no ZIP file is given back.
    """
    content = word_file.read()
    word_file.seek(0)
    unwrapped = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(unwrapped, "w") as after:
            for name in before.namelist():
                part = before.read(name)
                after.writestr(name, _FIELD.sub(b"", part) if name.endswith(".xml") else part)
    except zipfile.BadZipFile:
        return word_file
    unwrapped.seek(0)
    return unwrapped
