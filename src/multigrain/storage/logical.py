"""Columns of Arrow tables whose values only stand for others: JSON in a text, UUIDs, and NaN.

`datasets` and DuckDB give a column one of these types by themselves: JSON where a cell is a text in one row and a list
in another, UUID (DuckDB) where all ids look so. NaN is what pandas and polars have for a missing number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Reader = Callable[[Any], Any]


def logical_readers(schema: Any, parse: Reader) -> dict[str, Reader]:
    """What makes the meant values of a column's, by column; those that stand for nothing else are left out.

    Numbers in lists stay as they are: a missing one has its place there.

    Args:
        schema: of the Arrow table.
        parse: reads JSON.
    """
    import pyarrow as pa

    readers = {
        field.name: _unless_nan if pa.types.is_floating(field.type) else _reader(field.type, parse) for field in schema
    }
    return {name: reader for name, reader in readers.items() if reader is not None}


def _reader(kind: Any, parse: Reader) -> Reader | None:
    import pyarrow as pa

    name = getattr(kind, "extension_name", "")
    if name == "arrow.json":
        return _unless_missing(parse)
    if name == "arrow.uuid":
        return _unless_missing(str)
    if pa.types.is_struct(kind):
        return _of_fields(logical_readers(kind, parse))
    is_list = pa.types.is_nested(kind) and hasattr(kind, "value_type")
    return _of_entries(_reader(kind.value_type, parse)) if is_list else None


def _unless_nan(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else number


def _unless_missing(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


def _of_entries(read: Reader | None) -> Reader | None:
    return None if read is None else _unless_missing(lambda values: list(map(read, values)))


def _of_fields(readers: dict[str, Reader]) -> Reader | None:
    if not readers:
        return None
    return _unless_missing(
        lambda values: {name: readers[name](value) if name in readers else value for name, value in values.items()}
    )
