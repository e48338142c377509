"""Labelled texts: each label is a document, its description, which answers the texts that have the label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from multigrain.display.suggest import did_you_mean
from multigrain.errors import SourceError
from multigrain.records import GivenQuery, Split
from multigrain.sources.files import existing_path
from multigrain.sources.words import fold_repeated
from multigrain.storage.columns import Column
from multigrain.storage.reading import Reading, using
from multigrain.storage.rows import Row, read_rows

LABEL: Final = Column("label", ("label", "labels", "category", "categories", "topic", "topics", "class", "classes"))
"""What the column of a text's label, or of its labels, is called."""

_DESCRIPTION: Final = ("description", "definition", "text")
_FEWEST: Final = 5  # a positive, and a negative for each of four levels


@dataclass(frozen=True, slots=True)
class Label:
    """A label of a closed list.

    Attributes:
        name: unique; what texts are labelled with.
        description: what is embedded of it: its description, or its name where it has none.
    """

    name: str
    description: str


def read_label_list(path: Path) -> dict[str, Label]:
    """The labels by name, in the order of their table.

    Args:
        path: a table with a column `label` and, where labels have descriptions, `description`.

    Raises:
        SourceError: it cannot be read, has fewer than five labels, or two that are the same.
    """
    labels: dict[str, Label] = {}
    described: dict[str, str] = {}
    for row in read_rows(existing_path(path, "pairs.labels")):
        name = row.text(LABEL, option="pairs.labels")
        if name is None:
            raise SourceError(f"{row.place}: a label without a name")
        description = row.first(Column("description", _DESCRIPTION))
        if description is not None and not isinstance(description, str):
            raise SourceError(f"{row.place}: the description of {name!r} is {type(description).__name__}, not text")
        label = Label(name, (description or name).strip())
        words = fold_repeated(label.description) or label.description
        if name in labels or words in described:
            other = name if name in labels else described[words]
            raise SourceError(f"{row.place}: {name!r} is there before, or has the description of {other!r}")
        labels[name], described[words] = label, name
    if len(labels) < _FEWEST:
        raise SourceError(
            f"pairs.labels {path}: {len(labels)} labels; at least {_FEWEST} are needed, one that answers and one for "
            "each of four levels"
        )
    return labels


def read_labelled_texts(
    rows: Iterable[Row],
    labels: Mapping[str, Label],
    reading: Reading,
    *,
    text: Column | str,
    label: Column | str,
) -> Iterator[tuple[str, list[str]]]:
    """Read texts with the names of their labels; rows that lack one or the other are left out and counted.

    Args:
        rows: the table's.
        labels: by name.
        reading: notes what is left out.
        text: the column with the text.
        label: the column with its label, or a list of them.

    Raises:
        SourceError: a label that is not in the list.
    """
    used = using(text, label)
    for row in rows:
        reading.see(row, used)
        words, own = row.text(text, option="pairs.query_field"), row.texts(label, option="pairs.positive_field")
        unknown = next((name for name in own if name not in labels), None)
        if unknown is not None:
            raise SourceError(
                f"{row.place}: {unknown!r} is not among the {len(labels)} labels{did_you_mean(unknown, list(labels))}"
            )
        if words is None or not own:
            reading.leave_out("no text or no label", f"{row.place}: no text or no label")
        else:
            yield words, own


def in_rounds(queries: Sequence[GivenQuery]) -> list[GivenQuery]:
    """Training texts in rounds, each with one text of every label that has any left: EPIC's balanced groups.

    A text with several labels counts for the rarest of them. Texts of other splits are left out. The layout is that
    of arXiv 2404.12404 (there for examples in a prompt; for rows to train on: **ours**).

    Args:
        queries: in the order in which a label's texts are to be taken.
    """
    train = [query for query in queries if query.split is Split.TRAIN]
    count = Counter(name for query in train for name in query.document_ids)
    taken: Counter[str] = Counter()
    rounds: dict[str, int] = {}
    for query in train:
        rarest = min(query.document_ids, key=lambda name: (count[name], name))
        rounds[query.id] = taken[rarest]
        taken[rarest] += 1
    return sorted(train, key=lambda query: rounds[query.id])


def texts_of_labels(queries: Sequence[GivenQuery]) -> dict[str, list[str]]:
    """The training texts of each label, by its name."""
    texts: dict[str, list[str]] = defaultdict(list)
    for query in queries:
        if query.split is Split.TRAIN:
            for name in query.document_ids:
                texts[name].append(query.text)
    return texts
