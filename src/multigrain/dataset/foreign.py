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

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, get_args

from multigrain.display.suggest import did_you_mean
from multigrain.errors import ConfigError, SourceError
from multigrain.records import LEVELS
from multigrain.sources.files import read_rows
from multigrain.storage.shards import is_table

__all__ = ["FORMATS", "ForeignRow", "FormatName", "detect_format", "known_format", "open_foreign", "read_foreign"]

FormatName = Literal["sentence-transformers", "flagembedding", "tevatron", "ms-swift", "multigrain"]
FORMATS: Final[tuple[FormatName, ...]] = get_args(FormatName)

_ANCHORS: Final = ("anchor", "query", "question", "sentence1")
_NEGATIVE: Final = re.compile(r"negative(?:_(\d+))?")


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
    rows, found = open_foreign(path, form)
    return list(rows), found


def open_foreign(path: Path, form: FormatName | Literal["auto"] = "auto") -> tuple[Iterator[ForeignRow], FormatName]:
    """As `read_foreign`, with rows that are read as they are asked for; what is wrong with one is raised then."""
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    rows = read_rows(path) if is_table(path) else _saved_dataset(path)
    first = next(rows, None)
    if first is None:
        raise SourceError(f"{path}: no row in it")
    found = detect_format(first[1], f"{path}, line {first[0]}") if form == "auto" else form
    read = _READERS[found]
    return (read(row, number, f"{path}, line {number}") for number, row in chain([first], rows)), found


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
    if "positive" in fields and fields & set(_ANCHORS):
        return "sentence-transformers"
    raise SourceError(
        f"{at}: fields {', '.join(sorted(fields)[:8])} are those of no known form; name it with --format "
        f"({', '.join(FORMATS)})"
    )


def _sentence_transformers(row: Mapping[str, Any], line: int, at: str) -> ForeignRow:
    anchor = next((name for name in _ANCHORS if name in row), "anchor")
    columns = sorted((int(match[1] or 0), name) for name in row if (match := _NEGATIVE.fullmatch(name)))
    negatives = tuple(_text(row, name, at) for _, name in columns if row[name] not in (None, ""))
    return ForeignRow(line, _text(row, anchor, at), (_text(row, "positive", at),), negatives)


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
        given = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
        raise SourceError(f"{at}: `{field}` must be a text, got {given}")
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
    found = []
    for each in value:
        if not isinstance(each, dict) or not isinstance(each.get("text"), str):
            raise SourceError(f"{at}: `{field}` must hold objects with a `text`, got {str(each)[:40]!r}")
        title = each.get("title")
        if title is not None and not isinstance(title, str):
            raise SourceError(f"{at}: `{field}` holds a title that is no text: {str(title)[:40]!r}")
        found.append(f"{title} {each['text']}".strip() if title else each["text"])
    return tuple(found)


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


def _saved_dataset(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from datasets import Dataset, load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (FileNotFoundError, ValueError, OSError) as error:
        raise SourceError(
            f"{path}: not a folder that datasets' save_to_disk wrote ({str(error).splitlines()[0]}); give a file, or "
            "such a folder"
        ) from None
    if not isinstance(loaded, Dataset):
        parts: Sequence[str] = list(loaded)
        if len(parts) != 1:
            raise SourceError(f"{path}: holds the splits {', '.join(parts)}; give the folder of one of them")
        loaded = loaded[parts[0]]
    yield from enumerate((dict(row) for row in loaded), start=1)


def known_format(name: str) -> FormatName | Literal["auto"]:
    """A form by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name == "auto":
        return "auto"
    for each in FORMATS:
        if each == name:
            return each
    raise ConfigError(f"--format {name}{did_you_mean(name, FORMATS, cutoff=0.3)}: there are {', '.join(FORMATS)}")
