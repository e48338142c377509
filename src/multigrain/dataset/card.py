"""A folder that a data set hub takes: the rows as Parquet, the audit's figures, and a card that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from multigrain.dataset.store import write_examples
from multigrain.display.text import excerpt
from multigrain.errors import SourceError
from multigrain.records import LEVELS, GradedExample
from multigrain.storage.files import atomic_directory, remove
from multigrain.storage.shards import table_files

_SIZES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_CARD, _DATA, _AUDIT = "README.md", "data", "audit.json"
_OWN_FILES: Final = frozenset({_CARD, _DATA, _AUDIT})
_SAMPLE: Final = 300  # characters of a text shown on the card


def write_dataset_folder(
    folder: Path,
    examples: Sequence[GradedExample],
    *,
    name: str,
    audit: Mapping[str, Any] | None = None,
    licence: str | None = None,
    languages: Sequence[str] = (),
) -> None:
    """Write README.md, data/train-00000-of-00001.parquet (or several of them) and audit.json, whole or not at all.

    Args:
        folder: where to.
        examples: the rows; passed through once for the files and once for the card.
        name: what the card calls the data set.
        audit: the audit's counts; left out where there are none.
        licence: an identifier that the hub knows, e.g. "cc-by-4.0"; left out where none is given.
        languages: ISO 639-1 codes.

    Raises:
        SourceError: no rows, or the folder holds files of somebody else's.
    """
    if not examples:
        raise SourceError(f"{folder}: there are no rows to write")
    if folder.is_dir() and (others := sorted({entry.name for entry in folder.iterdir()} - _OWN_FILES)):
        raise SourceError(f"{folder}: holds other files already, such as {others[0]}; name another folder")
    with atomic_directory(folder) as draft:
        _write_data(draft / _DATA, examples)
        card = dataset_card(examples, name=name, audit=audit or {}, licence=licence, languages=languages)
        (draft / _CARD).write_text(card, encoding="utf-8")
        if audit is not None:
            (draft / _AUDIT).write_text(json.dumps(audit, indent=2), encoding="utf-8")


def _write_data(folder: Path, examples: Sequence[GradedExample]) -> None:
    """Write rows under the names that a hub gives to the shards of a split."""
    table = folder / "train.parquet"
    write_examples(table, examples)
    shards = table_files(table)
    for number, shard in enumerate(shards):
        shard.rename(folder / f"train-{number:05}-of-{len(shards):05}.parquet")
    remove(table)


def dataset_card(
    examples: Sequence[GradedExample],
    *,
    name: str,
    audit: Mapping[str, Any],
    licence: str | None = None,
    languages: Sequence[str] = (),
) -> str:
    """The card: metadata for the hub, and what a reader must know before training on the rows."""
    from huggingface_hub import DatasetCardData

    metadata = DatasetCardData(
        pretty_name=" ".join(name.split()),
        license=licence,
        language=list(languages) or None,
        task_categories=["sentence-similarity", "text-retrieval"],
        size_categories=[size_category(len(examples))],
        tags=["multigrain", "hard-negatives", "embeddings", "synthetic"],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n".join(_body(examples, name, audit)) + "\n"


def size_category(rows: int) -> str:
    """The hub's word for a number of rows."""
    return next((word for limit, word in _SIZES if rows < limit), "n>10M")


def _body(examples: Sequence[GradedExample], name: str, audit: Mapping[str, Any]) -> list[str]:
    written = 0
    positive, levels = 0.0, [0.0] * len(LEVELS)  # sums of similarities
    for example in examples:
        positive += example.positive_similarity
        for position, negative in enumerate(example.negatives):
            written += negative.origin == "written"
            levels[position] += negative.similarity
    first = examples[0]
    lines = [
        f"# {_plain(' '.join(name.split()))}",
        "",
        f"{len(examples):,} training rows for text-embedding models: a query, a passage that answers it, and one "
        "negative at each of four levels of difficulty (1 is the easiest).",
        "",
        f"Of {4 * len(examples):,} negatives {written:,} were written by a language model or given, and "
        f"{4 * len(examples) - written:,} mined from the corpus. Levels were measured"
        + (f" by `{_plain(str(audit['reference_model']))}`" if audit.get("reference_model") else "")
        + ", not believed; every row records the similarity of each text to its query, where a negative came from, "
        "and what the audit did to the row.",
        "",
        "| text | mean similarity to the query |",
        "| --- | --- |",
        f"| positive | {positive / len(examples):.3f} |",
        *(f"| level {int(level)} | {levels[level - 1] / len(examples):.3f} |" for level in reversed(LEVELS)),
        "",
        "## Columns",
        "",
        "`query`, `positive`, `negative_1` … `negative_4`, and for each negative `similarity_N`, `origin_N` (written "
        "or mined) and `written_level_N` (the level that the writer was asked for); `positive_similarity`, `actions`, "
        "`written_order_held`, `id`, `document_id`.",
        "",
        "## What to know before training",
        "",
    ]
    probe = audit.get("probe")
    if probe:
        lines.append(
            f"- A simple classifier tells written from mined negatives with an AUC of {probe['auc']:.2f} "
            f"({probe['low']:.2f} to {probe['high']:.2f}); .5 is a guess."
        )
    if audit.get("rejected"):
        turned = sum(count for reason, count in audit["rejected"].items() if not reason.startswith("negative:"))
        lines.append(f"- {turned:,} rows were rejected by the audit; `audit.json` has the reasons.")
    return [
        *lines,
        "- Similarities are one model's. Another model agrees on the order of most pairs of levels, not of all.",
        "- Text that a language model wrote may be wrong, and was not checked for facts.",
        "",
        "## An example",
        "",
        f"- **query**: {_plain(excerpt(first.query, _SAMPLE))}",
        f"- **positive**: {_plain(excerpt(first.positive, _SAMPLE))}",
        *(
            f"- **level {int(negative.level)}**: {_plain(excerpt(negative.text, _SAMPLE))}"
            for negative in reversed(first.negatives)
        ),
    ]


def _plain(text: str) -> str:
    """A text that Markdown shows as it is: nothing in a row may become a link, a heading or a tag."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]()<>#|!" else character for character in text)
