"""Query-document pairs: queries that are given, the passages that answer them, and a split that keeps them apart."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from multigrain.config import DocumentsConfig, PairsConfig
from multigrain.errors import SourceError
from multigrain.records import Document, GivenQuery, Split
from multigrain.sources.beir import find_beir, join_title, read_judged_texts
from multigrain.sources.chunking import cut_text
from multigrain.sources.files import existing_path, files_fingerprint, status_hash, table_kind
from multigrain.sources.grouping import divide_group, join_groups, near_duplicate_groups, too_large_group
from multigrain.sources.labels import LABEL, read_label_list, read_labelled_texts
from multigrain.sources.load import PlacedDocuments, read_documents, split_groups, text_place
from multigrain.sources.store import document_list
from multigrain.sources.words import fold_repeated
from multigrain.storage.columns import POSITIVE, QUERY, TEXT, apart
from multigrain.storage.files import unpack_hint
from multigrain.storage.labels import find_labels, is_match, only_matches, tell_if_all_match
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import read_rows
from multigrain.storage.sequences import DiskList, View
from multigrain.storage.shards import is_table, parts_of_table
from multigrain.storage.text import storable

_MIN_QUERIES: Final = 10
_SPLIT_OPTION: Final = "pairs.split"
_MOST_USABLE: Final = {Split.TEST: 0, Split.VALIDATION: 1, Split.TRAIN: 2}


@dataclass
class PairTable:
    """Pairs as they were read.

    Attributes:
        documents: every passage once, whoever names it; on the disk.
        ids: of the documents, in their order.
        positives: by normalised query: its words and the passages that answer it.
        pairs: how many were read.
        incomplete: rows without a query or without a positive.
        notes: what is to be told of the files.
        reading: what became of the rows of a table.
    """

    documents: DiskList[Document] = field(default_factory=document_list)
    ids: list[str] = field(default_factory=list)
    positives: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    pairs: int = 0
    incomplete: int = 0
    notes: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def document(self, text: str, identifier: str | None = None, title: str | None = None) -> str:
        """The id of the passage, which is kept if it is new."""
        text = storable(text).strip()
        folded = fold_repeated(text) or text
        key = _key(folded)
        if (number := self._numbers.get(key)) is None:
            name = storable(identifier or "p-" + hashlib.sha256(folded.encode()).hexdigest()[:12])
            number = self._numbers[key] = len(self.ids)
            self.ids.append(name)
            self.documents.append(Document(id=name, text=text, title=title))
        return self.ids[number]

    def further(self, document: Document) -> None:
        """Keep one more passage to search, unless it is one that is there, with its title or without."""
        joined = fold_repeated(storable(join_title(document.title, document.text)))
        if _key(joined) not in self._numbers:
            self.document(document.text, document.id, document.title)

    def answer(self, query: str, document_id: str) -> None:
        """Note that a passage answers a query."""
        self.pairs += 1
        query = storable(query).strip()
        _, document_ids = self.positives.setdefault(fold_repeated(query) or query, (query, []))
        if document_id not in document_ids:
            document_ids.append(document_id)


def _key(folded: str) -> bytes:
    return hashlib.blake2b(folded.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class PairCorpus:
    """The run's given queries and what is searched for them.

    Attributes:
        documents: the positives, and the documents of `documents.path` where that is set; on the disk.
        queries: each with its positives and its split.
        counts: documents, queries, pairs, train, validation, test, groups, incomplete, split_by, source.
        notes: what is to be told of the files.
    """

    documents: Sequence[Document]
    queries: tuple[GivenQuery, ...]
    counts: dict[str, int | str]
    notes: tuple[str, ...] = ()


def load_pairs(config: PairsConfig, documents: DocumentsConfig, *, seed: int) -> PairCorpus:
    """Read and prepare the pairs that a config names.

    Raises:
        SourceError: they cannot be read, or too few are usable.
    """
    table = read_pairs(config)
    if documents.path is not None or documents.kind != "auto":
        for document in read_documents(documents)[0]:
            if len(document.text.strip()) >= documents.min_characters:
                table.further(document)
    _check_ids(table)
    return prepare_pairs(table, config, documents, seed=seed)


def pairs_fingerprint(config: PairsConfig) -> str:
    """Changes when the files behind `read_pairs` do; reads no content.

    Raises:
        SourceError: the path is missing.
    """
    path = existing_path(config.path, "pairs.path")
    if config.labels is not None:
        labels = existing_path(config.labels, "pairs.labels")
        return f"{files_fingerprint(path)}+{files_fingerprint(labels)}"
    if not path.is_dir():
        return files_fingerprint(path)
    if is_table(path):
        return status_hash(sorted(path.iterdir()))
    if table_kind(path) is not None:
        return files_fingerprint(path)
    try:
        files = find_beir(path, config.split, option=_SPLIT_OPTION)
        tables = [_parts(table) for table in (files.corpus, files.queries, files.qrels)]
    except SourceError:  # reading says what is missing, and not the look whether anything has changed
        return status_hash([])
    return status_hash(chain(*tables))


def _parts(table: Path) -> list[Path]:
    return [table] if table.is_dir() else parts_of_table(table)


def _kind_of(path: Path) -> str | None:
    """What a path holds: a kind of table, or "beir" for any other folder; None where its name does not tell."""
    return table_kind(path) or ("beir" if path.is_dir() else None)


def read_pairs(config: PairsConfig) -> PairTable:
    """Read the pairs that a config names, as they are.

    Raises:
        SourceError: the path is missing, of an unknown kind, malformed at some line, or has no such column.
    """
    path = existing_path(config.path, "pairs.path")
    kind = config.kind if config.kind != "auto" else _kind_of(path)
    if kind is None:
        expected = unpack_hint(path) or (
            "expected a .jsonl, .json, .csv, .tsv or .parquet file, hf:OWNER/NAME, or a BEIR folder"
        )
        raise SourceError(f"pairs.path {path}: cannot tell what it holds; {expected}")
    if config.labels is not None:
        return _read_labelled(path, kind, config, config.labels)
    if kind == "beir":
        return _read_beir(path, config.split)
    table = PairTable()
    reading = table.reading
    asked, answer = apart(QUERY.unless(config.query_field), POSITIVE.unless(config.positive_field))
    labels = find_labels(lambda: read_rows(path, kind))
    named = answer if isinstance(answer, str) else None
    used = using(asked, named, None if labels is None else labels.column)
    for row in read_rows(path, kind):
        reading.see(row, used)
        query = row.text(asked, option="pairs.query_field")
        positive = reading.positive(row, answer)
        positives = only_matches(row, positive, reading).texts(positive, option="pairs.positive_field")
        if query is None or not positives:
            table.incomplete += 1
            reading.leave_out("no query or no positive", f"{row.place}: no query or no positive")
        elif is_match(labels, row, reading):
            for text in positives:
                table.answer(query, table.document(text))
    tell_if_all_match(labels, reading, rows=reading.kept, queries=len(table.positives))
    table.notes = tuple(reading.lines(path.name))
    return table


def prepare_pairs(table: PairTable, config: PairsConfig, shares: DocumentsConfig, *, seed: int) -> PairCorpus:
    """Sample, group and split given queries.

    Queries that share a positive, or a near-duplicate of one, are on the same side, and so are the documents that
    only they name. Where that ties more than half of all queries together (every document answers many queries),
    queries are split by their own words instead, and a held-out query may have positives that training saw.

    Args:
        table: the pairs.
        config: how many.
        shares: how much is held out, what near-duplicates are, and how long a document may be.
        seed: of the sample.

    Raises:
        SourceError: fewer than 10 queries, or none left to train on.
    """
    keys = sorted(table.positives, key=text_place)
    if config.limit is not None and len(keys) > config.limit:
        keys = random.Random(seed).sample(keys, config.limit)
    if len(keys) < _MIN_QUERIES:
        raise SourceError(
            f"pairs.path {config.path}: {len(keys)} queries with a positive ({table.incomplete} rows lack one or the "
            f"other); at least {_MIN_QUERIES} are needed"
        )
    documents = View(
        table.documents, lambda document: replace(document, text=cut_text(document.text, shares.max_characters))
    )
    position_of = {identifier: position for position, identifier in enumerate(table.ids)}
    answering = {key: [position_of[document_id] for document_id in table.positives[key][1]] for key in keys}
    closed = config.labels is not None
    groups, by_query, split_by = (_tie_labels if closed else _tie)(documents, answering, shares)
    sides = split_groups([by_query[key] for key in keys], [text_place(key) for key in keys], shares)
    splits = {key: sides[by_query[key]] for key in keys}
    count = Counter(splits.values())
    if not count[Split.TRAIN]:
        raise SourceError(
            f"pairs.path {config.path}: all {len(keys)} queries fell on the validation and test sides, none is left "
            "to train on; give more pairs, or lower documents.validation_share and documents.test_share"
        )
    by_documents = split_by == "documents"
    # Every label of a closed list is searched and may be a negative, whoever has it.
    document_splits = {} if closed else _document_splits(groups, answering, splits, by_documents=by_documents)
    queries = [
        GivenQuery(
            id=f"q-{hashlib.sha256(key.encode()).hexdigest()[:12]}",
            text=table.positives[key][0],
            document_ids=tuple(table.positives[key][1]),
            split=splits[key],
        )
        for key in keys
    ]
    return PairCorpus(
        PlacedDocuments(
            documents, groups, [document_splits.get(position, Split.TRAIN) for position in range(len(documents))]
        ),
        tuple(queries),
        {
            "documents": len(documents),
            "queries": len(queries),
            "pairs": sum(len(query.document_ids) for query in queries),
            **{str(side): count[side] for side in Split},
            "groups": len(sides),
            "incomplete": table.incomplete,
            "split_by": split_by,
            "source": str(config.path),
        },
        table.notes,
    )


def _tie(
    documents: Sequence[Document], answering: dict[str, list[int]], shares: DocumentsConfig
) -> tuple[list[int], dict[str, int], str]:
    """The group of every document and of every query, and what the split goes by."""
    alike = near_duplicate_groups((document.text for document in documents), shares.near_duplicate_similarity)
    groups = join_groups(alike, ((places[0], other) for places in answering.values() for other in places[1:]))
    by_query = {key: groups[places[0]] for key, places in answering.items()}
    if too_large_group(by_query.values()) is None:
        return groups, by_query, "documents"
    return alike, _tie_words(answering, shares), "queries"


def _tie_labels(
    documents: Sequence[Document], answering: dict[str, list[int]], shares: DocumentsConfig
) -> tuple[list[int], dict[str, int], str]:
    """As `_tie` for labels: none is a near-duplicate of another, however alike their descriptions are."""
    return list(range(len(documents))), _tie_words(answering, shares), "queries"


def _tie_words(queries: Collection[str], shares: DocumentsConfig) -> dict[str, int]:
    """The group of every query by its own words; where most are nearly the same, each of these goes by itself."""
    groups = near_duplicate_groups(queries, shares.near_duplicate_similarity)
    if (group := too_large_group(groups)) is not None:
        groups = divide_group(groups, group, range(len(groups)))
    return dict(zip(queries, groups, strict=True))


def _document_splits(
    groups: Sequence[int], answering: dict[str, list[int]], splits: dict[str, Split], *, by_documents: bool
) -> dict[int, Split]:
    """The side of documents that answer a query and, where the split goes by documents, of their near-duplicates."""
    members: dict[int, list[int]] = {groups[place]: [] for places in answering.values() for place in places}
    for position, group in enumerate(groups):
        if group in members:
            members[group].append(position)
    sides: dict[int, Split] = {}
    for key, places in answering.items():
        for place in places:
            for position in members[groups[place]] if by_documents else [place]:
                # A document that training may use stays usable, whoever else asks for it.
                sides[position] = max(sides.get(position, splits[key]), splits[key], key=_MOST_USABLE.__getitem__)
    return sides


def _check_ids(table: PairTable) -> None:
    if len(set(table.ids)) < len(table.ids):
        twice = next(identifier for identifier, times in Counter(table.ids).items() if times > 1)
        raise SourceError(f"documents.path and pairs.path give different texts the id {twice!r}; ids must be unique")


def _read_beir(folder: Path, split: str) -> PairTable:
    """The pairs that a BEIR folder judges relevant; judgments of what is empty or not there are incomplete."""
    texts = read_judged_texts(find_beir(folder, split, option=_SPLIT_OPTION))
    table = PairTable(incomplete=texts.judgments.dropped, notes=texts.notes)
    ids = {identifier: table.document(text, identifier) for identifier, text in texts.corpus.items()}
    for query_id, grades in texts.qrels.items():
        for document_id in (document_id for document_id, grade in grades.items() if grade > 0):
            table.answer(texts.queries[query_id], ids[document_id])
    return table


def _read_labelled(path: Path, kind: str, config: PairsConfig, labels_path: Path) -> PairTable:
    """Texts with labels: the descriptions of labels answer them."""
    if kind == "beir":
        raise SourceError(f"pairs.path {path}: with pairs.labels it holds a table of texts and labels, no BEIR folder")
    labels = read_label_list(labels_path)
    table = PairTable()
    ids = {name: table.document(label.description, name) for name, label in labels.items()}
    asked = TEXT if config.query_field == QUERY.names[0] else config.query_field
    answer = LABEL if config.positive_field == POSITIVE.names[0] else config.positive_field
    rows = read_labelled_texts(read_rows(path, kind), labels, table.reading, text=asked, label=answer)
    for text, names in rows:
        for name in names:
            table.answer(text, ids[name])
    table.incomplete = table.reading.dropped
    table.notes = tuple(table.reading.lines(path.name))
    return table
