"""`similarities.parquet`: every pair of every similarity set, with people's score and each model's similarity."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multigrain.errors import EvaluationError
from multigrain.evaluation.sets.sts import Floats, SimilaritySet
from multigrain.storage.files import atomic_write

_SCHEMA: Final = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),
        pa.field("role", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("sentence1", pa.string(), nullable=False),
        pa.field("sentence2", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
    ]
)


def write_similarities(
    path: Path, sets: Mapping[str, SimilaritySet], similarities: Mapping[str, Mapping[str, Floats]]
) -> None:
    """Write the table, whole or not at all; where there are no similarity sets, no file is left."""
    if not sets:
        path.unlink(missing_ok=True)
        return
    rows = [
        {
            "set": name,
            "role": chosen.role,
            "label": chosen.provenance,
            "model": model,
            "sentence1": pair[0],
            "sentence2": pair[1],
            "score": gold,
            "similarity": float(similarity),
        }
        for name, chosen in sets.items()
        for model, found in similarities[name].items()
        for pair, gold, similarity in zip(chosen.pairs, chosen.gold, found, strict=True)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink)
    atomic_write(path, sink.getvalue())


def read_similarities(path: Path) -> tuple[dict[str, SimilaritySet], dict[str, dict[str, Floats]]]:
    """Read the table: sets by name, and set to model to similarities. A file that is not there holds none.

    Raises:
        EvaluationError: the file was not written by this version.
    """
    if not path.exists():
        return {}, {}
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"{path}: similarities cannot be read ({error}); evaluate again") from None
    if not table.schema.equals(_SCHEMA):
        raise EvaluationError(f"{path}: not similarities of this version; evaluate again")
    rows: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in table.to_pylist():
        rows.setdefault((row["set"], row["model"]), []).append(row)
    sets: dict[str, SimilaritySet] = {}
    similarities: dict[str, dict[str, Floats]] = {}
    for (name, model), found in rows.items():
        columns = {column: [row[column] for row in found] for column in _SCHEMA.names}
        similarities.setdefault(name, {})[model] = np.array(columns["similarity"], dtype=np.float64)
        pairs = tuple(zip(columns["sentence1"], columns["sentence2"], strict=True))
        sets.setdefault(
            name,
            SimilaritySet(name, columns["role"][0], columns["label"][0], pairs, tuple(columns["score"])),  # type: ignore[arg-type]
        )
    return sets, similarities
