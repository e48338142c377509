"""Index a corpus with a tuned model in an embedded vector store (Qdrant, in this process), and search it.

    pip install multigrain qdrant-client
    python examples/vector_store.py index  runs/handbook/model corpus.jsonl ./index
    python examples/vector_store.py search runs/handbook/model ./index "how do I rotate the logs?"

The corpus is JSON lines with `id` and `text`. Qdrant's local mode keeps everything in one folder and compares with
every vector, exactly; for millions of texts start its server and pass `QdrantClient(url=...)` instead: the rest stays.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

import multigrain

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

COLLECTION = "documents"
BATCH = 256  # texts embedded and stored at once: bounds memory


def read_corpus(path: Path) -> Iterator[dict[str, str]]:
    """The documents of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def index(client: QdrantClient, model: SentenceTransformer, documents: Iterable[dict[str, str]]) -> int:
    """Embed documents and store them. A document that is there already is replaced. Returns how many were stored."""
    # ATA, mean and every other pooling end in the same kind of vector; cosine fits them normalised or not.
    if not client.collection_exists(COLLECTION):
        size = model.get_embedding_dimension()
        client.create_collection(COLLECTION, vectors_config=VectorParams(size=size, distance=Distance.COSINE))
    stored, waiting = 0, iter(documents)
    while batch := list(islice(waiting, BATCH)):
        vectors = model.encode_document([document["text"] for document in batch], show_progress_bar=False)
        points = [
            PointStruct(id=str(uuid5(NAMESPACE_URL, document["id"])), vector=vector.tolist(), payload=document)
            for document, vector in zip(batch, vectors, strict=True)
        ]
        client.upsert(COLLECTION, points)
        stored += len(batch)
    return stored


def search(client: QdrantClient, model: SentenceTransformer, query: str, limit: int = 5) -> list[tuple[float, Any]]:
    """The nearest documents with their cosine, best first."""
    vector = model.encode_query([query], show_progress_bar=False)[0]
    found = client.query_points(COLLECTION, query=vector.tolist(), limit=limit).points
    return [(point.score, point.payload) for point in found]


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    indexing = commands.add_parser("index")
    indexing.add_argument("model")
    indexing.add_argument("corpus", type=Path)
    indexing.add_argument("store", type=Path)
    searching = commands.add_parser("search")
    searching.add_argument("model")
    searching.add_argument("store", type=Path)
    searching.add_argument("query")
    arguments = parser.parse_args()
    model = multigrain.load(arguments.model)
    client = QdrantClient(path=str(arguments.store))
    try:
        if arguments.command == "index":
            print(f"{index(client, model, read_corpus(arguments.corpus))} documents indexed")
        else:
            for score, document in search(client, model, arguments.query):
                print(f"{score:.3f}  {document['id']}  {document['text'][:80]}")
    finally:
        client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
