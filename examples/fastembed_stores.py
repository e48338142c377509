"""Search a corpus in Qdrant or LanceDB, in this process, with what `multigrain export --to fastembed` wrote.

    pip install fastembed qdrant-client lancedb
    python examples/fastembed_stores.py qdrant  handbook-fastembed corpus.jsonl ./store "how do I rotate the logs?"
    python examples/fastembed_stores.py lancedb handbook-fastembed corpus.jsonl ./store "how do I rotate the logs?"

The corpus is JSON lines with `id` and `text`. Neither torch nor multigrain is needed: the folder has a reader.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Found = list[tuple[float, dict[str, Any]]]


def open_model(folder: Path) -> Any:
    """The exported model, with `query_embed` and `passage_embed`, which put its prompts before texts."""
    sys.path.insert(0, str(folder))
    return import_module("fastembed_model").load(folder)


def search_qdrant(model: Any, documents: list[dict[str, Any]], store: Path, query: str, limit: int = 5) -> Found:
    """Store the documents in Qdrant's local mode, and return those nearest to a query, with their cosine."""
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, PointStruct, VectorParams

    client = QdrantClient(path=str(store))
    try:
        vectors = list(model.passage_embed([document["text"] for document in documents]))
        client.create_collection(
            "documents", vectors_config=VectorParams(size=len(vectors[0]), distance=Distance.COSINE)
        )
        points = [
            PointStruct(id=number, vector=vector.tolist(), payload=document)
            for number, (vector, document) in enumerate(zip(vectors, documents, strict=True))
        ]
        client.upsert("documents", points)
        (vector,) = model.query_embed(query)
        found = client.query_points("documents", query=vector.tolist(), limit=limit).points
        return [(float(point.score), dict(point.payload or {})) for point in found]
    finally:
        client.close()


def search_lancedb(model: Any, documents: list[dict[str, Any]], store: Path, query: str, limit: int = 5) -> Found:
    """Store the documents in LanceDB, and return those nearest to a query, with their cosine."""
    import lancedb

    vectors = model.passage_embed([document["text"] for document in documents])
    rows = [
        {"vector": vector, "id": document["id"], "text": document["text"]}
        for vector, document in zip(vectors, documents, strict=True)
    ]
    table = lancedb.connect(str(store)).create_table("documents", data=rows)
    (vector,) = model.query_embed(query)
    found = table.search(vector).distance_type("cosine").limit(limit).to_list()
    return [(1 - float(row["_distance"]), {"id": row["id"], "text": row["text"]}) for row in found]


STORES: dict[str, Callable[..., Found]] = {"qdrant": search_qdrant, "lancedb": search_lancedb}


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=STORES)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("query")
    given = parser.parse_args()
    documents = [json.loads(line) for line in given.corpus.read_text(encoding="utf-8").splitlines() if line.strip()]
    for score, document in STORES[given.kind](open_model(given.model), documents, given.store, given.query):
        print(f"{score:.3f}  {document['id']}  {document['text'][:80]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
