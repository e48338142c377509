"""What `multigrain init` makes of labelled queries: a table of queries with their answers, or a BEIR folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from multigrain.errors import SourceError
from multigrain.sources.beir import find_beir, has_packed_texts, is_beir, iterate_texts
from multigrain.sources.files import table_kind
from multigrain.sources.judgments import find_splits, read_qrels
from multigrain.storage.entries import pair_columns
from multigrain.storage.rows import read_rows
from multigrain.tools.first_look import LOOKED_AT, READ_TOKENS, suggest

ENOUGH_TO_TRAIN: Final = 300
"""Labelled queries below which they are better kept for the test (docs/guides/labels-you-have.md)."""

_VALIDATION: Final = ("validation", "dev", "val", "valid")


@dataclass(frozen=True, slots=True)
class LabelledInput:
    """Settings for labelled queries.

    Attributes:
        settings: by section; `pairs` where the queries train, `documents` where they test alone.
        reasons: one line each, by "SECTION.KEY".
        notes: what was found, and what becomes of it.
    """

    settings: dict[str, dict[str, Any]]
    reasons: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether the queries train, so that none has to be written."""
        return "pairs" in self.settings


def look_for_labels(path: Path, *, shown: str, base_model: str = "auto") -> LabelledInput | None:
    """Look whether a path holds labelled queries; None where it does not.

    A table that cannot be read holds none: the look at it as documents says why.

    Args:
        path: a file or a folder.
        shown: the path as the config is to have it.
        base_model: the model that is tuned; auto reads English alone.

    Raises:
        SourceError: a BEIR folder that cannot be read.
    """
    if is_beir(path) or has_packed_texts(path):
        return _beir(path, shown, base_model)
    if not path.exists() or table_kind(path) is None:
        return None
    try:
        return _table(path, shown, base_model)
    except SourceError:
        return None


def _table(path: Path, shown: str, base_model: str) -> LabelledInput | None:
    rows = list(islice(read_rows(path), LOOKED_AT))
    columns = pair_columns(rows[0].values) if rows else None
    if columns is None:
        return None
    query, positive = columns
    note = (
        f"the columns {query!r} and {positive!r} are taken for queries and their answers: they train and test, and no "
        "language model is asked"
    )
    texts = [str(row.values[positive] or "") for row in rows]
    why = f"A table of queries ({query}) and what answers them ({positive})."
    return _with_lengths(
        LabelledInput({"pairs": {"path": shown}}, {"pairs.path": why}, (note,)), filter(None, texts), base_model
    )


def _beir(folder: Path, shown: str, base_model: str) -> LabelledInput:
    splits = find_splits(folder)
    counts = {name: len(read_qrels(file)) for name, file in splits.items()}
    corpus = find_beir(folder, next(iter(splits), None)).corpus  # or says what is missing
    trains = counts.get("train", 0) >= ENOUGH_TO_TRAIN
    sets = _sets(folder, shown, splits)
    settings: dict[str, dict[str, Any]] = {"evaluation": {"sets": sets}} if sets else {}
    reasons = {"evaluation.sets": "Your labelled queries. test gives the figures, validation chooses the model."}
    if trains:
        settings["pairs"] = {"path": shown}
        reasons["pairs.path"] = "A BEIR folder. The queries of qrels/train are trained on."
        use = "those of qrels/train are trained on, and no language model is asked"
    else:
        settings["documents"] = {"path": f"{shown.rstrip('/')}/{corpus.name}"}
        roles = sorted({each["role"] for each in sets})
        settings["documents"] |= dict.fromkeys((f"{role}_share" for role in roles), 0)
        reasons["documents.path"] = "The documents of a BEIR folder. Queries are written for them" + (
            f", and none is held out: your labelled queries serve as {' and '.join(roles)}." if roles else "."
        )
        use = "they test, and queries to train on are written"
        if "train" in counts:
            few = f"those of qrels/train are too few to start from (below {ENOUGH_TO_TRAIN})"
            use += f"; {few}; as a table of pairs, training.mix adds them"
    found = ", ".join(f"{count:,} {name or 'judged'}" for name, count in counts.items())
    note = f"a BEIR folder with labelled queries ({found}): {use}"
    texts = (text for _, text in islice(iterate_texts(corpus), LOOKED_AT))
    return _with_lengths(LabelledInput(settings, reasons, (note,)), filter(None, texts), base_model)


def _sets(folder: Path, shown: str, splits: Mapping[str, Path]) -> list[dict[str, str]]:
    """The evaluation sets of a folder: test and validation, or its only judgments for the test."""
    roles = {name: "validation" for name in splits if name in _VALIDATION}
    tests = [name for name in splits if name == "test"] or [name for name in splits if name not in {*roles, "train"}]
    roles |= dict.fromkeys(tests[:1], "test")
    stem = folder.resolve().name

    def place(split: str) -> dict[str, str]:
        """The set by its judgments in qrels/; where they lie elsewhere, by its three files."""
        files = find_beir(folder, split)
        parts = {"queries": files.queries, "documents": files.corpus, "qrels": files.qrels}
        named = {"path": files.qrels} if files.qrels.parent.name == "qrels" else parts
        return {key: f"{shown.rstrip('/')}/{file.relative_to(folder).as_posix()}" for key, file in named.items()}

    return [
        {"name": stem if role == "test" else f"{stem}-{name}", **place(name), "role": role}
        for role in ("test", "validation")
        for name in roles
        if roles[name] == role
    ]


def _with_lengths(found: LabelledInput, texts: Iterator[str], base_model: str) -> LabelledInput:
    """Add how much of a text is read while training. Judged documents are searched as they are, and not cut."""
    documents = list(texts)
    if not documents:
        return found
    looked = suggest(documents, base_model=base_model)
    settings = {**found.settings, "training": looked.settings["training"]}
    reasons = found.reasons | {"training.max_seq_length": looked.reasons["training.max_seq_length"]}
    notes = (*found.notes, *looked.notes)
    if "chunk_size" in looked.settings.get("documents", {}):
        reasons["training.max_seq_length"] = "Tokens read from each text while training. Shorter is faster."
        notes = (
            *notes,
            f"many documents are longer than the {READ_TOKENS} tokens that all-MiniLM-L6-v2 reads, and the rest of "
            "them is not searched: cut the corpus into chunks, or take a base that reads more (`multigrain bases`)",
        )
    return LabelledInput(settings, reasons, notes)
