"""Other tools' training files: one query, its positives and its negatives a row, in five forms.

    sentence-transformers   a query, a positive and negatives by any of their usual names (`storage.columns`), a text
                            or a list of texts a column; or one list with "labels" or "scores" beside it
    flagembedding           {"query": …, "pos": […], "neg": […]}
    tevatron                {"query_id": …, "query": …, "positive_passages": [{docid, title, text}],
                            "negative_passages": [{docid, title, text}]}; a passage may have a score
    ms-swift                {"messages": […], "positive_messages": [[…]], "negative_messages": [[…]]}, or the earlier
                            {"query": …, "response": …, "rejected_response": […]}
    multigrain              our own Parquet

A value of the wrong kind is an error that names file and line: a text where a list belongs would otherwise become a
list of characters. A row without a query or without a positive is left out and counted. Where rows without negatives
carry a label, those that it calls no match become negatives of their query's other rows; see `storage.labels`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from multigrain.dataset.cells import Item, entry_text, numbers_of, text_in, texts_in, texts_of
from multigrain.display.suggest import did_you_mean
from multigrain.errors import ConfigError, SourceError
from multigrain.records import LEVELS
from multigrain.storage.columns import (
    ANSWERING,
    DOCUMENTS,
    LABELS,
    POSITIVE,
    POSITIVE_SCORE,
    QUERY,
    SCORES,
    name_columns,
    negative_columns,
    negative_score_columns,
)
from multigrain.storage.entries import (
    has_earlier_turns,
    has_system_message,
    last_content,
    passage_text,
    positive_column,
    text_of,
)
from multigrain.storage.labels import (
    LOOKED_AT,
    Labels,
    ListLabels,
    label_of,
    leave_undecided,
    list_labels,
    read_labels,
    tell_if_all_match,
    usual_label_column,
)
from multigrain.storage.reading import Reading
from multigrain.storage.rows import Row, read_rows

FormatName = Literal["sentence-transformers", "lists", "flagembedding", "tevatron", "ms-swift", "multigrain"]
FORMATS: Final[tuple[FormatName, ...]] = get_args(FormatName)

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
        scores: of each positive and then of each negative: a teacher's, or similarities to the query; empty where they
            are not known.
    """

    line: int
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    id: str | None = None
    scores: tuple[float, ...] = ()

    @property
    def positive_scores(self) -> tuple[float, ...]:
        """Of the positives; empty where they are not known."""
        return self.scores[: len(self.positives)]

    @property
    def negative_scores(self) -> tuple[float, ...]:
        """Of the negatives; empty where they are not known."""
        return self.scores[len(self.positives) :]


def read_foreign(
    path: Path, form: FormatName | Literal["auto"] = "auto", *, reading: Reading | None = None
) -> tuple[list[ForeignRow], FormatName]:
    """Read a training file, or a folder that `datasets` saved, into memory.

    Args:
        path: JSONL, CSV, TSV or Parquet (a file, or a folder of shards), or the folder.
        form: how rows are laid out; "auto" goes by the first row's fields.
        reading: notes what is left out, and which columns are not used.

    Returns:
        The rows, and the form they were read in.

    Raises:
        SourceError: the file is missing, malformed, of no known form or without a usable row, or a value is of the
            wrong kind.
    """
    rows, read_as = open_foreign(path, form, reading=reading)
    return list(rows), read_as


def open_foreign(
    path: Path, form: FormatName | Literal["auto"] = "auto", *, reading: Reading | None = None
) -> tuple[Iterator[ForeignRow], FormatName]:
    """As `read_foreign`, with rows that are read as they are asked for; what is wrong with one is raised then.

    Rows with labels are all read first, since a query's negatives may stand anywhere in the file.
    """
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    rows = read_rows(path)
    first = list(islice(rows, LOOKED_AT))
    if not first:
        raise SourceError(f"{path}: no row in it")
    read_as = detect_format(first[0].values, first[0].place) if form == "auto" else form
    reading = reading if reading is not None else Reading()
    usable = _usable(chain(first, rows), read_as, reading, path)
    column = usual_label_column(first)
    if column is None or read_as in ("tevatron", "multigrain"):
        return (row for _, row in usable), read_as
    reading.use(column)
    return _by_label(column, list(usable), reading, path), read_as


def detect_format(row: Mapping[str, Any], at: str) -> FormatName:
    """The form of a row, by its fields.

    Raises:
        SourceError: the fields are those of no known form.
    """
    fields = set(row)
    if {"similarity_1", "origin_1", "negative_1"} <= fields:
        return "multigrain"
    if {"query", "positive_passages"} <= fields:
        return "tevatron"
    further = any(name != "rejected_response" for name in negative_columns(tuple(row)))
    told = _told(row)
    if told is not None and told[1].labels is not None and QUERY.among(row):
        return "sentence-transformers"
    answered = {"query", "response"} <= fields and not further and ANSWERING.among(row) is None
    if {"messages", "positive_messages"} <= fields or answered:
        return "ms-swift"
    if {"query", "pos"} <= fields and isinstance(row["pos"], list):
        return "flagembedding"
    if QUERY.among(row) and (POSITIVE.among(row) or DOCUMENTS.among(row)):
        return "sentence-transformers"
    raise SourceError(
        f"{at}: columns {name_columns(row)} are those of no known form; name it with --format ({', '.join(FORMATS)})"
    )


def _usable(rows: Iterator[Row], form: FormatName, reading: Reading, path: Path) -> Iterator[tuple[Row, ForeignRow]]:
    """The rows that have a query and a positive, each beside the row of the table."""
    read, columns = _READERS[form]
    refused = ""
    empty = 0
    for row in rows:
        reading.see(row, lambda names: _used(columns, names))
        result = read(row)
        _note_lists(row, result, form, reading)
        if form == "ms-swift":
            _note_conversations(row, reading)
        lacking = (
            "query" if not result.query.strip() else "positive" if not any(map(str.strip, result.positives)) else ""
        )
        if lacking:
            refused = refused or f"{row.place}: no {lacking}"
            reading.leave_out(f"no {lacking}", f"{row.place}: no {lacking}")
            continue
        negatives = tuple(text for text in result.negatives if text.strip())
        empty += len(result.negatives) - len(negatives)
        positives = tuple(text for text in result.positives if text.strip())
        texts = (*result.positives, *result.negatives)
        fits = len(result.scores) == len(texts) and all(abs(score) <= _LARGEST for score in result.scores)
        scores = tuple(score for text, score in zip(texts, result.scores, strict=fits) if text.strip()) if fits else ()
        if result.scores and not scores:
            reading.remark("scores that do not fit their row, a number for each positive and negative, are left out")
        yield row, replace(result, positives=positives, negatives=negatives, scores=scores)
    if empty:
        reading.remark(f"{empty:,} empty negatives left out")
    if not reading.kept:
        raise SourceError(f"{path}: none of {reading.rows:,} rows has both a query and a positive; {refused}")


def _note_lists(row: Row, result: ForeignRow, form: FormatName, reading: Reading) -> None:
    """Note the lists of labels and of scores that a row has, and what they do."""
    told = _told(row.values) if form in ("sentence-transformers", "lists") else None
    if form in ("sentence-transformers", "lists"):
        reading.positive(row, POSITIVE)
    if told is not None:
        column, labels = told
        labels.tell(column, reading, "" if POSITIVE.among(row.values) is None else "the others are negatives")
    if result.scores and form not in ("tevatron", "multigrain") and (scores := _score_list(row)) is not None:
        reading.use(scores)


def _note_conversations(row: Row, reading: Reading) -> None:
    """Note what is not used of a row's conversations, of each of which the last message is."""
    if has_system_message(row.values.get("messages")):
        reading.remark("system messages are not used: give them as the model's query prompt")
    for field in ("messages", "positive_messages", "negative_messages"):
        value = row.values.get(field)
        if any(map(has_earlier_turns, [value] if field == "messages" else value if isinstance(value, list) else [])):
            reading.remark(f"of conversations in {field!r} the last message alone is used, and no earlier turn")


def _by_label(
    column: str, rows: Sequence[tuple[Row, ForeignRow]], reading: Reading, path: Path
) -> Iterator[ForeignRow]:
    """The rows whose label calls them a match; the others are negatives of these."""
    labels = read_labels(column, (row for row, _ in rows))
    if labels is None:
        yield from (row for _, row in rows)
    elif not labels.heeded:
        reading.remark(
            f"column {column!r} not used: {labels.lowest:g} to {labels.highest:g} is no scale of labels or "
            "similarities, so all rows count as matches"
        )
        yield from (row for _, row in rows)
    else:
        yield from _by_heeded_label(labels, rows, reading, path)


def _by_heeded_label(
    labels: Labels, rows: Sequence[tuple[Row, ForeignRow]], reading: Reading, path: Path
) -> Iterator[ForeignRow]:
    column = labels.column
    negatives: dict[str, dict[str, float]] = defaultdict(dict)
    matches: dict[str, list[tuple[ForeignRow, float]]] = {}
    others: list[tuple[Row, ForeignRow]] = []
    for row, result in rows:
        label = label_of(row, column)
        if label is None:
            leave_undecided(row, column, reading)
        elif labels.matches(label):
            matches.setdefault(result.query, []).append((result, label))
        else:
            others.append((row, result))
            negatives[result.query] |= dict.fromkeys(result.positives, label)
    for row, result in others:
        if result.query in matches:
            reading.joined += 1
        else:
            reading.leave_out(
                "labelled as no match, and no row has a match for their query",
                f"{row.place}: {column!r} is {row.values[column]}",
            )
    rows_of_matches = sum(map(len, matches.values()))
    if not tell_if_all_match(labels, reading, rows=rows_of_matches, queries=len(matches)):
        reading.remark(
            f"{column!r} calls {len(others):,} of {len(rows):,} rows no match: negatives of their query's other rows "
            f"(a match is {labels.rule})"
        )
    if not matches:
        raise SourceError(f"{path}: no row is a match by its {column!r}; a match is {labels.rule}")
    for query, of_query in matches.items():
        own = {positive for result, _ in of_query for positive in result.positives}
        against = {text: label for text, label in negatives[query].items() if text not in own}
        for result, label in of_query:
            has_scores = not labels.whole and len(result.positives) == 1
            yield replace(result, negatives=tuple(against), scores=(label, *against.values()) if has_scores else ())


def _sentence_transformers(row: Row) -> ForeignRow:
    query = text_in(row, QUERY.among(row.values) or QUERY.names[0])
    if (told := _told(row.values)) is not None:
        return _labelled_list(row, query, *told)
    positive = positive_column(row.values)
    if positive is None and (documents := DOCUMENTS.among(row.values)) is not None:
        return _documents(row, query, documents)
    positives = texts_of(row, positive or POSITIVE.names[0])
    negatives = [text for name in negative_columns(tuple(row.values)) for text in texts_of(row, name)]
    return ForeignRow(row.number, query, positives, tuple(negatives), scores=_scores(row))


def _told(values: Mapping[str, Any]) -> tuple[str, ListLabels] | None:
    """The column with a list of positives and negatives, and what tells which is which; None where there is none."""
    positive = positive_column(values)
    column = DOCUMENTS.among(values) if positive is None else positive
    if column is None or (positive is not None and negative_columns(tuple(values))):
        return None
    labels = list_labels(values, column)
    return None if labels is None else (column, labels)


def _documents(row: Row, query: str, documents: str) -> ForeignRow:
    """A row with a list of documents: one text with its label, or without labels, where the positive is the first.

    Raises:
        SourceError: it has labels, and not as many as texts.
    """
    texts = texts_in(row, documents, "texts", text_of)
    if (column := LABELS.among(row.values)) is None:
        return ForeignRow(row.number, query, texts[:1], texts[1:], scores=_scores(row))
    numbers = numbers_of(row, column)
    listed = replace(row, values=row.values | {documents: list(texts), column: list(numbers)})
    if (told := list_labels(listed.values, documents)) is not None:
        return _labelled_list(listed, query, documents, told)
    raise SourceError(f"{row.place}: `{column}` holds {len(numbers)} labels for {len(texts)} texts in `{documents}`")


def _labelled_list(row: Row, query: str, column: str, told: ListLabels) -> ForeignRow:
    """A row with a list of texts of which some are positives."""
    entries = [entry_text(entry, f"{row.place}: `{column}`") for entry in row.values[column]]
    order = sorted(range(len(entries)), key=lambda place: not told.matches[place])
    texts = tuple(entries[place] for place in order)
    scores = tuple(told.scores[place] for place in order) if told.scores else ()
    positives = sum(told.matches)
    return ForeignRow(row.number, query, texts[:positives], texts[positives:], scores=scores)


def _flagembedding(row: Row) -> ForeignRow:
    return _of_lists(row, text_in(row, "query"), ("pos", "neg"), "texts", text_of)


def _tevatron(row: Row) -> ForeignRow:
    fields = ("positive_passages", "negative_passages")
    foreign = _of_lists(row, text_in(row, "query"), fields, "passages", passage_text)
    given = [passage.get("score") for field in fields for passage in row.values.get(field) or ()]
    numbers = [float(score) for score in given if _is_score(score)]
    scores = tuple(numbers) if len(numbers) == len(given) else ()
    return replace(foreign, id=row.identifier("query_id"), scores=scores)


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _ms_swift(row: Row) -> ForeignRow:
    if "messages" not in row.values:
        negatives = texts_in(row, "rejected_response", "texts", text_of)
        return ForeignRow(row.number, text_in(row, "query"), (text_in(row, "response"),), negatives)
    query = last_content(row.values["messages"], f"{row.place}: `messages`")
    return _of_lists(row, query, ("positive_messages", "negative_messages"), "conversations", last_content)


def _multigrain(row: Row) -> ForeignRow:
    negatives = tuple(text_in(row, f"negative_{int(level)}") for level in LEVELS)
    further = texts_in(row, "further_positives", "passages", passage_text)
    names = [f"{{}}_{int(level)}" for level in LEVELS]
    taught = (row.values.get("positive_score"), *(row.values.get(name.format("score")) for name in names))
    given = [passage.get("score") for passage in row.values.get("further_positives") or ()]
    scores: tuple[Any, ...] = (taught[0], *given, *taught[1:])
    if None in scores:
        others = [passage.get("similarity") for passage in row.values.get("further_positives") or ()]
        measured = (row.values.get(name.format("similarity")) for name in names)
        scores = (row.values.get("positive_similarity"), *others, *measured)
    return ForeignRow(
        row.number,
        text_in(row, "query"),
        (text_in(row, "positive"), *further),
        negatives,
        text_in(row, "id"),
        () if None in scores else tuple(map(float, scores)),
    )


_Reader = Callable[[Row], ForeignRow]

_READERS: Final[Mapping[FormatName, tuple[_Reader, tuple[str, ...]]]] = {
    "sentence-transformers": (_sentence_transformers, ()),
    "lists": (_sentence_transformers, ()),
    "flagembedding": (_flagembedding, ("query", "pos", "neg", "pos_scores", "neg_scores")),
    "tevatron": (_tevatron, ("query_id", "query", "positive_passages", "negative_passages")),
    "ms-swift": (
        _ms_swift,
        ("messages", "positive_messages", "negative_messages", "query", "response", "rejected_response"),
    ),
    "multigrain": (
        _multigrain,
        ("id", "query", "positive", *(f"negative_{int(level)}" for level in LEVELS), "positive_similarity"),
    ),
}
"""For each form what reads a row of it, and its columns; none where they have no names of their own."""


def _used(columns: tuple[str, ...], names: Sequence[str]) -> Iterator[str | None]:
    """The columns that a form's reader uses among those of a table."""
    yield from columns
    there = tuple(names)
    if not columns:
        yield QUERY.among(there)
        yield from negative_columns(there)
        if POSITIVE.among(there) is None:
            yield DOCUMENTS.among(there)
        if (score := POSITIVE_SCORE.among(there)) is not None:
            yield score
            yield from negative_score_columns(there)
    elif "positive_similarity" in columns:
        yield from negative_score_columns(there)


def _score_list(row: Row) -> str | None:
    """The column with a list of scores."""
    return next((name for name in SCORES.all_among(row.values) if isinstance(row.values[name], list)), None)


def _scores(row: Row) -> tuple[float, ...]:
    """Similarities of the positive and of each negative to the query, as far as the row has them."""
    names = tuple(row.values)
    if (column := _score_list(row)) is not None:
        return numbers_of(row, column)
    positive = POSITIVE_SCORE.among(names)
    if positive is None:
        return ()
    return tuple(number for name in (positive, *negative_score_columns(names)) for number in numbers_of(row, name))


def _of_lists(row: Row, query: str, fields: tuple[str, str], kind: str, item: Item) -> ForeignRow:
    """A row with a list of positives and, if there are any, one of negatives."""
    positives, negatives = (texts_in(row, field, kind, item) for field in fields)
    return ForeignRow(row.number, query, positives, negatives, scores=_scores(row))


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
