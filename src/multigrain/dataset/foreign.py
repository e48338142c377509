"""Other tools' training files: one query, its positives and its negatives a row, in six forms.

    sentence-transformers   columns anchor (or query), positive, negative or negative_1, negative_2, …; and label, the
                            scores of positive and negatives
    lists                   {"query": …, "docs": […], "labels": […]}: sentence-transformers' list-wise form; passages
                            and documents stand for docs, label, scores and score for labels
    flagembedding           {"query": …, "pos": […], "neg": […], "pos_scores": […], "neg_scores": […]}
    tevatron                {"query_id": …, "query": …, "positive_passages": [{docid, title, text}],
                            "negative_passages": [{docid, title, text}]}; a passage may have a score
    ms-swift                {"messages": […], "positive_messages": [[…]], "negative_messages": [[…]]}, or the earlier
                            {"query": …, "response": …, "rejected_response": […]}
    multigrain              our own Parquet

A value of the wrong kind is an error that names file and line: a text where a list belongs would otherwise become a
list of characters. Scores are a teacher's, and may be left out everywhere but in lists.
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

FormatName = Literal["sentence-transformers", "lists", "flagembedding", "tevatron", "ms-swift", "multigrain"]
FORMATS: Final[tuple[FormatName, ...]] = get_args(FormatName)

_DOCUMENTS: Final = ("docs", "passages", "documents")
_LABELS: Final = ("labels", "label", "scores", "score")
_LARGEST: Final = 3.4e38  # of a float32, in which scores are kept


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """One row of somebody's training file.

    Attributes:
        line: where it stands, from 1.
        query: the query.
        positives: passages that answer it; at least one.
        negatives: passages that do not, in their order; may be none.
        id: the query's id where the file gives one.
        positive_scores: of the positives; empty where they are not known.
        negative_scores: of the negatives; empty where they are not known.
    """

    line: int
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    id: str | None = None
    positive_scores: tuple[float, ...] = ()
    negative_scores: tuple[float, ...] = ()


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
    if QUERY.among(fields) and fields & set(_DOCUMENTS) and fields & set(_LABELS):
        return "lists"
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
    foreign = ForeignRow(row.number, _text(row, query), (_text(row, "positive"),), negatives)
    label = next((name for name in _LABELS if isinstance(row.values.get(name), list)), None)
    if label is None:
        return foreign
    first, *others = _scores(row, label, 1 + len(negatives))
    return replace(foreign, positive_scores=(first,), negative_scores=tuple(others))


def _lists(row: Row) -> ForeignRow:
    names = [next((name for name in known if name in row.values), known[0]) for known in (_DOCUMENTS, _LABELS)]
    texts = _list(row, names[0], "texts", _is_text)
    if not texts:
        raise SourceError(f"{row.place}: `{names[0]}` is empty; a row needs a positive")
    scores = _scores(row, names[1], len(texts))
    best = max(scores)
    answers = [score == best or (score == 1 and set(scores) <= {0, 1}) for score in scores]
    listed = list(zip(texts, scores, answers, strict=True))
    return ForeignRow(
        row.number,
        _text(row, QUERY.among(row.values) or QUERY.names[0]),
        tuple(text for text, _, is_answer in listed if is_answer),
        tuple(text for text, _, is_answer in listed if not is_answer),
        positive_scores=tuple(score for _, score, is_answer in listed if is_answer),
        negative_scores=tuple(score for _, score, is_answer in listed if not is_answer),
    )


def _flagembedding(row: Row) -> ForeignRow:
    foreign = _of_lists(row, _text(row, "query"), ("pos", "neg"), "texts", _is_text)
    return replace(
        foreign,
        positive_scores=_scores(row, "pos_scores", len(foreign.positives)),
        negative_scores=_scores(row, "neg_scores", len(foreign.negatives)),
    )


def _tevatron(row: Row) -> ForeignRow:
    fields = ("positive_passages", "negative_passages")
    foreign = _of_lists(row, _text(row, "query"), fields, "passages", _passage)
    positives, negatives = (_passage_scores(row, field) for field in fields)
    return replace(foreign, id=row.identifier("query_id"), positive_scores=positives, negative_scores=negatives)


def _ms_swift(row: Row) -> ForeignRow:
    if "messages" not in row.values:
        negatives = _list(row, "rejected_response", "texts", _is_text)
        return ForeignRow(row.number, _text(row, "query"), (_text(row, "response"),), negatives)
    query = _last_content(row.values["messages"], f"{row.place}: `messages`")
    return _of_lists(row, query, ("positive_messages", "negative_messages"), "conversations", _last_content)


def _multigrain(row: Row) -> ForeignRow:
    negatives = tuple(_text(row, f"negative_{int(level)}") for level in LEVELS)
    further = _list(row, "further_positives", "passages", _passage)
    foreign = ForeignRow(
        row.number, _text(row, "query"), (_text(row, "positive"), *further), negatives, _text(row, "id")
    )
    own = [row.values.get(name) for name in ("positive_score", *(f"score_{int(level)}" for level in LEVELS))]
    others = _passage_scores(row, "further_positives")
    if None in own or len(others) < len(further):
        return foreign
    first, *rest = (_score(value, f"{row.place}: a score") for value in own)
    return replace(foreign, positive_scores=(first, *others), negative_scores=tuple(rest))


_READERS: Final[Mapping[FormatName, Callable[[Row], ForeignRow]]] = {
    "sentence-transformers": _sentence_transformers,
    "lists": _lists,
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


def _scores(row: Row, field: str, count: int) -> tuple[float, ...]:
    """A list of so many scores; none where there is no such field, or it is empty."""
    values = row.values.get(field)
    if values is None or values == []:
        return ()
    if not isinstance(values, list):
        raise SourceError(f"{row.place}: `{field}` must be a list of numbers, got {_shown(values)}")
    if len(values) != count:
        raise SourceError(f"{row.place}: `{field}` holds {len(values)} scores for {count} texts")
    return tuple(_score(value, f"{row.place}: `{field}`") for value in values)


def _passage_scores(row: Row, field: str) -> tuple[float, ...]:
    """The scores that a row's passages bring along; none where one of them brings none."""
    values = [passage.get("score") for passage in row.values.get(field) or ()]
    return () if None in values else tuple(_score(value, f"{row.place}: `{field}`") for value in values)


def _score(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise SourceError(f"{at} must hold finite numbers as scores, got {_shown(value)} in it")
    return float(value)


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
