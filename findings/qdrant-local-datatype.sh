#!/usr/bin/env bash
# qdrant-client 1.20.0: the local mode accepts `datatype=UINT8` and goes on with floats (guessed: vectors rounded to
# whole numbers from 0 to 255, as a server stores them), so the loss of small datatypes cannot be measured in it.
# Output seen: [0.3162277936935425, 0.9486833214759827] after [0.3, 0.9] was stored.
source "$(dirname "$0")/_run.sh"
in_environment qdrant-client==1.20.0 numpy==2.4.6 <<'PY'
from qdrant_client import QdrantClient, models

client = QdrantClient(":memory:")
client.create_collection(
    "small",
    vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE, datatype=models.Datatype.UINT8),
)
client.upsert("small", [models.PointStruct(id=1, vector=[0.3, 0.9])])
(record,) = client.retrieve("small", [1], with_vectors=True)
print(record.vector)
assert not all(float(value).is_integer() for value in record.vector)
assert abs(record.vector[0] - 0.3162278) < 1e-5
PY
