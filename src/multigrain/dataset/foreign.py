"""Other tools' training files: one query, its positives and its negatives a row, in five forms.

    sentence-transformers   columns anchor (or query), positive, negative or negative_1, negative_2, …
    flagembedding           {"query": …, "pos": […], "neg": […]}
    tevatron                {"query_id": …, "query": …, "positive_passages": [{docid, title, text}],
                            "negative_passages": [{docid, title, text}]}
    ms-swift                {"messages": […], "positive_messages": [[…]], "negative_messages": [[…]]}, or the earlier
                            {"query": …, "response": …, "rejected_response": […]}
    multigrain              our own Parquet

A value of the wrong kind is an error that names file and line: a text where a list belongs would otherwise become a
list of characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, get_args

from multigrain.display.suggest import did_you_mean
from multigrain.errors import ConfigError, SourceError
from multigrain.records import LEVELS
from multigrain.storage.columns import NEGATIVE, QUERY
from multigrain.storage.rows import read_rows

__all__ = ["FORMATS", "ForeignRow", "FormatName", "detect_format", "known_format", "open_foreign", "read_foreign"]

FormatName = Literal["sentence-transformers", "flagembedding", "tevatron", "ms-swift", "multigrain"]
FORMATS: Final[tuple[FormatName, ...]] = get_args(FormatName)


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """One row of somebody's training file.

    Attributes:
        line: where it stands, from 1.
        query: the query.
        positives: passages that answer it; at least one.
        negatives: passages that do not, in their order; may be none.
        id: the query's id where the file gives one.
    """

    line: int
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    id: str | None = None


def read_foreign(path: Path, form: FormatName | Literal["auto"] = "auto") -> tuple[list[ForeignRow], FormatName]:
    """Read a training file, or a folder that `datasets` saved, into memory.

    Args:
        path: JSONL, CSV, TSV or Parquet (a file, or a folder of shards), or the folder.
        form: how rows are laid out; "auto" goes by the first row's fields.

    Returns:
        The rows, and the form they were read in.

    Raises:
        SourceError: the file is missing, malformed, of no known form, or a value is of the wrong kind.
    """
    rows, read_as = open_foreign(path, form)
    return list(rows), read_as


def open_foreign(path: Path, form: FormatName | Literal["auto"] = "auto") -> tuple[Iterator[ForeignRow], FormatName]:
    """As `read_foreign`, with rows that are read as they are asked for; what is wrong with one is raised then."""
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise SourceError(f"{path}: no row in it")
    read_as = detect_format(first.values, first.place) if form == "auto" else form
    read = _READERS[read_as]
    return (read(row.values, row.number, row.place) for row in chain([first], rows)), read_as


def detect_format(row: Mapping[str, Any], at: str) -> FormatName:
    """The form of a row, by its fields.

    Raises:
        SourceError: the fields are those of no known form.
    """
    fields = set(row)
    if {"similarity_1", "origin_1", "negative_1"} <= fields:
        return "multigrain"
    if "positive_passages" in fields:
        return "tevatron"
    if {"messages", "positive_messages"} <= fields or {"query", "response"} <= fields:
        return "ms-swift"
    if "pos" in fields:
        return "flagembedding"
    if "positive" in fields and QUERY.among(fields):
        return "sentence-transformers"
    raise SourceError(
        f"{at}: fields {', '.join(sorted(fields)[:8])} are those of no known form; name it with --format "
        f"({', '.join(FORMATS)})"
    )


def _sentence_transformers(row: Mapping[str, Any], line: int, at: str) -> ForeignRow:
    query = QUERY.among(row) or QUERY.names[0]
    columns = sorted((int(match[1] or 0), name) for name in row if (match := NEGATIVE.fullmatch(name)))
    negatives = tuple(_text(row, name, at) for _, name in columns if row[name] not in (None, ""))
    return ForeignRow(line, _text(row, query, at), (_text(row, "positive", at),), negatives)


def _flagembedding(row: Mapping[str, Any], line: int, at: str) -> ForeignRow:
    positives = _texts(row, "pos", at)
    if not positives:
        raise SourceError(f"{at}: `pos` is empty; a row needs a positive")
    return ForeignRow(line, _text(row, "query", at), positives, _texts(row, "neg", at, optional=True))


def _tevatron(row: Mapping[str, Any], line: int, at: str) -> ForeignRow:
    positives = _passages(row, "positive_passages", at)
    if not positives:
        raise SourceError(f"{at}: `positive_passages` is empty; a row needs a positive")
    key = row.get("query_id")
    return ForeignRow(
        line,
        _text(row, "query", at),
        positives,
        _passages(row, "negative_passages", at, optional=True),
        None if key is None else str(key),
    )


def _ms_swift(row: Mapping[str, Any], line: int, at: str) -> ForeignRow:
    if "messages" not in row:
        negatives = _texts(row, "rejected_response", at, optional=True)
        return ForeignRow(line, _text(row, "query", at), (_text(row, "response", at),), negatives)
    positives = _conversations(row, "positive_messages", at)
    if not positives:
        raise SourceError(f"{at}: `positive_messages` is empty; a row needs a positive")
    return ForeignRow(
        line,
        _last_content(row.get("messages"), "messages", at),
        positives,
        _conversations(row, "negative_messages", at) if row.get("negative_messages") is not None else (),
    )


def _multigrain(row: Mapping[str, Any], line: int, at: str) -> ForeignRow:
    return ForeignRow(
        line,
        _text(row, "query", at),
        (_text(row, "positive", at),),
        tuple(_text(row, f"negative_{int(level)}", at) for level in LEVELS),
        _text(row, "id", at),
    )


_READERS: Final[Mapping[FormatName, Callable[[Mapping[str, Any], int, str], ForeignRow]]] = {
    "sentence-transformers": _sentence_transformers,
    "flagembedding": _flagembedding,
    "tevatron": _tevatron,
    "ms-swift": _ms_swift,
    "multigrain": _multigrain,
}


def _text(row: Mapping[str, Any], field: str, at: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        got = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
        raise SourceError(f"{at}: `{field}` must be a text, got {got}")
    return value


def _texts(row: Mapping[str, Any], field: str, at: str, *, optional: bool = False) -> tuple[str, ...]:
    value = row.get(field)
    if value is None and optional:
        return ()
    if not isinstance(value, list):
        raise SourceError(f"{at}: `{field}` must be a list of texts, got {_kind(value)} {str(value)[:40]!r}")
    wrong = next((each for each in value if not isinstance(each, str)), None)
    if wrong is not None or None in value:
        raise SourceError(f"{at}: `{field}` must hold texts, got {_kind(wrong)} {str(wrong)[:40]!r} in it")
    return tuple(value)


def _passages(row: Mapping[str, Any], field: str, at: str, *, optional: bool = False) -> tuple[str, ...]:
    value = row.get(field)
    if value is None and optional:
        return ()
    if not isinstance(value, list):
        raise SourceError(f"{at}: `{field}` must be a list of passages, got {_kind(value)} {str(value)[:40]!r}")
    texts = []
    for passage in value:
        if not isinstance(passage, dict) or not isinstance(passage.get("text"), str):
            raise SourceError(f"{at}: `{field}` must hold objects with a `text`, got {str(passage)[:40]!r}")
        title = passage.get("title")
        if title is not None and not isinstance(title, str):
            raise SourceError(f"{at}: `{field}` holds a title that is no text: {str(title)[:40]!r}")
        texts.append(f"{title} {passage['text']}".strip() if title else passage["text"])
    return tuple(texts)


def _conversations(row: Mapping[str, Any], field: str, at: str) -> tuple[str, ...]:
    value = row.get(field)
    if not isinstance(value, list):
        raise SourceError(f"{at}: `{field}` must be a list of conversations, got {_kind(value)} {str(value)[:40]!r}")
    return tuple(_last_content(each, field, at) for each in value)


def _last_content(messages: Any, field: str, at: str) -> str:
    """What is embedded of a conversation without an answer: its user's words."""
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise SourceError(f"{at}: `{field}` must be a list of {{role, content}} messages, got {str(messages)[:40]!r}")
    content = messages[-1].get("content")
    if not isinstance(content, str):
        raise SourceError(f"{at}: `{field}` holds a message whose content is no text: {str(content)[:40]!r}")
    return content


def _kind(value: Any) -> str:
    return "a text" if isinstance(value, str) else "nothing" if value is None else type(value).__name__


def known_format(name: str) -> FormatName | Literal["auto"]:
    """A form by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name == "auto":
        return "auto"
    for form in FORMATS:
        if form == name:
            return form
    raise ConfigError(
        f"--format {name}: no such form{did_you_mean(name, FORMATS, cutoff=0.3)}; there are {', '.join(FORMATS)}"
    )
