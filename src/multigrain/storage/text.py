"""Text files: UTF-8, read whole or bit by bit; what is no UTF-8 is told by its first line, with a cure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Final, TextIO

from multigrain.errors import SourceError
from multigrain.storage.files import open_binary

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOKED_AT: Final = 8_192
_CONTROL_SHARE: Final = 0.05
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_TEXT_CONTROLS: Final = frozenset(b"\t\n\r\f\v\b\x1b\x1a")


class NotTextError(SourceError):
    """A file that holds no text that can be read. Among many it can be skipped."""


def storable(text: str) -> str:
    """The text without NUL and without lone surrogates, which no UTF-8 file can hold, and no tokenizer reads."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def text_lines(text: str) -> list[str]:
    """The lines of a text, without their ends: a line feed, a carriage return or both.

    Characters such as U+2028 and U+0085, at which `str.splitlines` ends one too, stand within texts of other people.
    """
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def read_text(path: Path) -> str:
    """A whole UTF-8 file.

    Raises:
        NotTextError: it is not UTF-8, or no text at all.
        SourceError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except FileNotFoundError:
        if path.is_symlink():
            raise NotTextError(f"{path}: a link to nothing; fix it or remove it") from None
        raise SourceError(f"{path}: cannot be read (no such file)") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
    if "\0" in text:
        raise NotTextError(f"{path}: not text, by what it holds; take it out of there")
    return text


@contextmanager
def text_stream(path: Path | str, *, newline: str) -> Iterator[TextIO]:
    """A UTF-8 file to read bit by bit.

    Raises:
        SourceError: it is not UTF-8, or cannot be read.
    """
    try:
        with open_binary(path) as stream, TextIOWrapper(stream, encoding="utf-8-sig", newline=newline) as text:
            yield text
    except UnicodeDecodeError:  # the stream knows the place within its buffer only
        raise _not_utf8(path) from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None


def _not_utf8(path: Path | str) -> NotTextError:
    """The error about a file that is not UTF-8, with the first line that is not."""
    with open_binary(path) as stream:
        if _is_binary(stream.read(_LOOKED_AT)):
            return NotTextError(f"{path}: not text, by what it holds; take it out of there")
        stream.seek(0)
        if stream.read(2) in _UTF16:
            return NotTextError(f"{path}:1: not UTF-8 but UTF-16; convert the file, e.g. `iconv -f utf-16 -t utf-8`")
        stream.seek(0)
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return NotTextError(
                    f"{path}:{number}: not UTF-8 (byte {line[error.start]:#04x}); convert the file, e.g. "
                    "`iconv -f latin1 -t utf8`"
                )
    return NotTextError(f"{path}: not UTF-8; convert it, e.g. `iconv -f latin1 -t utf8`")


def _is_binary(start: bytes) -> bool:
    """Whether bytes that are no UTF-8 are no text of another encoding either."""
    if start.startswith(_UTF16):
        return False
    control = sum(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in start)
    return b"\0" in start or control > len(start) * _CONTROL_SHARE
