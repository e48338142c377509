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
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from multigrain.display.suggest import did_you_mean
from multigrain.errors import ConfigError, SourceError
from multigrain.records import LEVELS
from multigrain.storage.columns import NEGATIVE, QUERY
from multigrain.storage.rows import Row, read_rows

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
        scores: similarities of the positive and of each negative to the query; empty where they are not known.
    """

    line: int
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    id: str | None = None
    scores: tuple[float, ...] = ()


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
    return map(read, chain([first], rows)), read_as


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


def _sentence_transformers(row: Row) -> ForeignRow:
    query = QUERY.among(row.values) or QUERY.names[0]
    columns = sorted((int(match[1] or 0), name) for name in row.values if (match := NEGATIVE.fullmatch(name)))
    negatives = tuple(_text(row, name) for _, name in columns if row.values[name] not in (None, ""))
    return ForeignRow(row.number, _text(row, query), (_text(row, "positive"),), negatives)


def _flagembedding(row: Row) -> ForeignRow:
    return _of_lists(row, _text(row, "query"), ("pos", "neg"), "texts", _is_text)


def _tevatron(row: Row) -> ForeignRow:
    passages = ("positive_passages", "negative_passages")
    return replace(_of_lists(row, _text(row, "query"), passages, "passages", _passage), id=row.identifier("query_id"))


def _ms_swift(row: Row) -> ForeignRow:
    if "messages" not in row.values:
        negatives = _list(row, "rejected_response", "texts", _is_text)
        return ForeignRow(row.number, _text(row, "query"), (_text(row, "response"),), negatives)
    query = _last_content(row.values["messages"], f"{row.place}: `messages`")
    return _of_lists(row, query, ("positive_messages", "negative_messages"), "conversations", _last_content)


def _multigrain(row: Row) -> ForeignRow:
    negatives = tuple(_text(row, f"negative_{int(level)}") for level in LEVELS)
    return ForeignRow(row.number, _text(row, "query"), (_text(row, "positive"),), negatives, _text(row, "id"))


_READERS: Final[Mapping[FormatName, Callable[[Row], ForeignRow]]] = {
    "sentence-transformers": _sentence_transformers,
    "flagembedding": _flagembedding,
    "tevatron": _tevatron,
    "ms-swift": _ms_swift,
    "multigrain": _multigrain,
}

_Item = Callable[[Any, str], str]
"""Takes the text out of an entry of a list; its second argument begins errors."""


def _of_lists(row: Row, query: str, fields: tuple[str, str], kind: str, item: _Item) -> ForeignRow:
    """A row with a list of positives and, if there are any, one of negatives."""
    positives = _list(row, fields[0], kind, item)
    if not positives:
        raise SourceError(f"{row.place}: `{fields[0]}` is empty; a row needs a positive")
    return ForeignRow(row.number, query, positives, _list(row, fields[1], kind, item))


def _text(row: Row, field: str) -> str:
    value = row.values.get(field)
    if not isinstance(value, str):
        raise SourceError(f"{row.place}: `{field}` must be a text, got {_shown(value)}")
    return value


def _list(row: Row, field: str, kind: str, item: _Item) -> tuple[str, ...]:
    value = row.values.get(field)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise SourceError(f"{row.place}: `{field}` must be a list of {kind}, got {_shown(value)}")
    return tuple(item(entry, f"{row.place}: `{field}`") for entry in value)


def _is_text(entry: Any, at: str) -> str:
    if not isinstance(entry, str):
        raise SourceError(f"{at} must hold texts, got {_shown(entry)} in it")
    return entry


def _passage(entry: Any, at: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise SourceError(f"{at} must hold objects with a `text`, got {str(entry)[:40]!r}")
    title = entry.get("title")
    if title is not None and not isinstance(title, str):
        raise SourceError(f"{at} holds a title that is no text: {str(title)[:40]!r}")
    return f"{title} {entry['text']}".strip() if title else str(entry["text"])


def _last_content(messages: Any, at: str) -> str:
    """What is embedded of a conversation without an answer: its user's words."""
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise SourceError(f"{at} must be a list of {{role, content}} messages, got {str(messages)[:40]!r}")
    content = messages[-1].get("content")
    if not isinstance(content, str):
        raise SourceError(f"{at} holds a message whose content is no text: {str(content)[:40]!r}")
    return content


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"{'a text' if isinstance(value, str) else type(value).__name__} {str(value)[:40]!r}"


def known_format(name: str) -> FormatName | Literal["auto"]:
    """A form by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name in ("auto", *FORMATS):
        return cast('FormatName | Literal["auto"]', name)
    raise ConfigError(
        f"--format {name}: no such form{did_you_mean(name, FORMATS, cutoff=0.3)}; there are {', '.join(FORMATS)}"
    )
