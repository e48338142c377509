"""Folders of Parquet files that somebody else wrote: the columns of all files, and the rows of one split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import yaml

from multigrain.errors import SourceError
from multigrain.storage.columns import DOCUMENT_ID, POSITIVE, QUERY_ID, TEXT
from multigrain.storage.files import files_inside
from multigrain.storage.shards import check_parts

_SPLIT: Final = "(?P<split>train|validation|valid|val|dev|test)"
_NUMBER: Final = r"[-_]\d+(?:-of-\d+(?:-[0-9a-f]{16})?)?"  # the hub once put a hash behind it
_SPLIT_FILE: Final = re.compile(rf"(?:.*/)?{_SPLIT}(?:{_NUMBER})?\.parquet", re.IGNORECASE)
_SPLIT_FOLDER: Final = re.compile(rf"(?:.*/)?(?:split=)?{_SPLIT}/.*", re.IGNORECASE)
_FRONT: Final = re.compile(r"\ufeff?---[ \t]*\n(?P<yaml>.*?)\n---[ \t]*(?:\n|$)", re.DOTALL)  # of a card
_WILD: Final = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?(?:0-9|a-z|A-Z|\w)+\])")
_NAMED: Final = 8  # columns or configs in one line
_CALLED: Final = {"valid": "validation", "val": "validation", "dev": "validation"}
"""What `datasets` calls a split by other names."""


def folder_batches(folder: Path, rows: int, *, several: bool = False) -> Iterator[Any]:
    """The rows of somebody else's folder of Parquet files, in the order of their names.

    Args:
        folder: with files in it, or in folders in it; `year=2024/…` is a column too.
        rows: of a batch, at most.
        several: files of several splits are parts of one table, as the queries of a set are.

    Raises:
        SourceError: there are none, they are of several splits or of several tables, or one of a table in parts is
            missing.
    """
    import pyarrow.dataset as ds

    hidden = (".", "_")
    inside = [
        file
        for file in files_inside(folder)
        if file.suffix == ".parquet" and not any(part.startswith(hidden) for part in file.relative_to(folder).parts)
    ]
    if not inside:
        raise SourceError(f"{folder}: the folder holds neither Parquet files nor a data set that `datasets` saved")
    if not several:
        _require_one_split(folder, inside)
        _require_one_config(folder, inside)
    check_parts(inside)
    options = {"format": "parquet", "partitioning": "hive", "partition_base_dir": str(folder)}
    files = list(map(str, inside))
    table = ds.dataset(files, **options)
    # The first file's columns would do for all: a column that another one adds would be lost, and one that holds
    # nothing in the first would be taken for one that never does.
    _require_one_table(folder, {fragment.path: fragment.physical_schema.names for fragment in table.get_fragments()})
    schemas = [table.schema, *(fragment.physical_schema for fragment in table.get_fragments())]
    schema = _unified(_plain_texts(schemas))
    table = ds.dataset(files, schema=schema, **options)
    yield from table.to_batches(batch_size=rows, batch_readahead=1, fragment_readahead=1)


def _unified(schemas: Sequence[Any]) -> Any:
    """One schema for all files; of a column whose types do not go together, the first file's."""
    import pyarrow as pa

    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException:
        columns: dict[str, Any] = {}
        for field in (field for schema in schemas for field in schema):
            try:
                both = pa.unify_schemas(
                    [pa.schema([columns.get(field.name, field)]), pa.schema([field])], promote_options="permissive"
                )
                columns[field.name] = both.field(0)
            except pa.ArrowException:
                continue
        return pa.schema(list(columns.values()), schemas[0].metadata)


def _plain_texts(schemas: Sequence[Any]) -> list[Any]:
    """Schemas with one type for texts.

    Categories are their values, and a column of whole numbers that holds texts in another file is one of texts.
    """
    import pyarrow as pa

    def plain(kind: Any) -> Any:
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return pa.string() if pa.types.is_string_view(kind) else kind

    def is_text(kind: Any) -> bool:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

    schemas = [
        pa.schema([field.with_type(plain(field.type)) for field in schema], schema.metadata) for schema in schemas
    ]
    texts = {field.name for schema in schemas for field in schema if is_text(field.type)}
    return [
        pa.schema(
            [
                field.with_type(pa.string()) if field.name in texts and pa.types.is_integer(field.type) else field
                for field in schema
            ],
            schema.metadata,
        )
        for schema in schemas
    ]


def _require_one_table(folder: Path, columns: Mapping[str, Sequence[str]]) -> None:
    """See that a folder does not hold several tables, as ids and texts beside judgments.

    Folders within it hold different ones where they share no column, or where one has judgments and another texts.
    Those named `key=value` divide one table, whose columns may change from one to the next.

    Args:
        folder: for the message.
        columns: of each file.
    """
    inside: dict[tuple[str, ...], tuple[Path, dict[str, None]]] = {}
    for path, names in columns.items():
        place = Path(path).parent
        undivided = tuple(part for part in place.relative_to(folder).parts if "=" not in part)
        inside.setdefault(undivided, (place, {}))[1].update(dict.fromkeys(names))
    different: dict[frozenset[str], tuple[Path, list[str]]] = {}
    for place, there in inside.values():
        different.setdefault(frozenset(there), (place, list(there)))
    for (one, names), (other, others) in combinations(different.values(), 2):
        if not set(names) & set(others) or _has_judgments(names, others) or _has_judgments(others, names):
            few = (f"{place} ({', '.join(some[:_NAMED])})" for place, some in ((one, names), (other, others)))
            raise SourceError(f"{folder}: the folder holds several tables, {' and '.join(few)}; name one of the two")


def _has_judgments(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether some columns are those of judgments, and others those of texts."""

    def has_texts(there: Sequence[str]) -> bool:
        return any(column.among(there) is not None for column in (TEXT, POSITIVE))

    has_ids = all(column.among(names) is not None for column in (QUERY_ID, DOCUMENT_ID))
    return has_ids and not has_texts(names) and has_texts(others)


def _require_one_config(folder: Path, files: Sequence[Path]) -> None:
    """See that a copy of a data set of the hub is of one config: rows of others would come twice, or differently.

    A config does not count whose files are not here, or are all among those of another.
    """
    paths = [file.relative_to(folder).as_posix() for file in files]
    configs = {
        name: {path for path in paths if any(re.fullmatch(pattern, path) for pattern in patterns)}
        for name, patterns in _configs(folder / "README.md").items()
    }
    here = {name: found for name, found in configs.items() if found}
    largest = max(here.values(), key=len, default=set())
    if any(not found <= largest for found in here.values()):
        raise SourceError(
            f"{folder}: the folder holds the configs {', '.join(list(here)[:_NAMED])}; name one of them, as in "
            f"hf:{folder}:{next(iter(here))}"
        )


def _configs(card: Path) -> dict[str, list[str]]:
    """The configs that a data set's card names, and of each the patterns of its files, as regular expressions.

    A card that cannot be understood names none: the files are here, whatever it says.
    """
    front = _FRONT.match(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    try:
        values = yaml.safe_load(front["yaml"]) if front is not None else None
    except (yaml.YAMLError, ValueError):  # a date that is none is the latter
        return {}
    configs = values.get("configs") if isinstance(values, dict) else None
    named = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    return {
        str(config.get("config_name")): [_expression(f"{config.get('data_dir') or '.'}/{each}") for each in patterns]
        for config in named
        if (patterns := list(_patterns(config.get("data_files"))) or (["**"] if config.get("data_dir") else []))
    }


def _patterns(files: Any) -> Iterator[str]:
    """What a card calls a config's files: a pattern, a list of them, or one or several a split."""
    if isinstance(files, str):
        yield files
    elif isinstance(files, list):
        for entry in files:
            yield from _patterns(entry.get("path") if isinstance(entry, dict) else entry)
    elif isinstance(files, dict):
        yield from _patterns(list(files.values()))


def _expression(pattern: str) -> str:
    """A pattern of paths as a regular expression: `*` is within one folder, `**` in any."""
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = _WILD.split("/".join(part for part in pattern.split("/") if part not in ("", ".")))
    return "".join(
        wild.get(part, part.replace("[!", "[^") if _WILD.fullmatch(part) else re.escape(part)) for part in parts
    )


def _require_one_split(folder: Path, files: Sequence[Path]) -> None:
    """See that a folder does not hold training and test rows side by side, as a copy of the hub's does."""
    paths = [file.relative_to(folder).as_posix() for file in files]
    named = [_SPLIT_FILE.fullmatch(path) or _SPLIT_FOLDER.fullmatch(path) for path in paths]
    found = (match["split"].lower() for match in named if match is not None)
    splits = sorted({_CALLED.get(split, split) for split in found})
    if len(splits) > 1 and all(named):
        example = "train" if "train" in splits else splits[0]
        raise SourceError(
            f"{folder}: the folder holds the splits {', '.join(splits)}; name one of them, as in hf:{folder}:{example}"
        )
