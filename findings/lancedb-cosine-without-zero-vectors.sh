#!/usr/bin/env bash
# lancedb 0.40.0: a search by cosine leaves out rows whose vector is zeros, so that fewer than `limit` rows come back, and
# a query of zeros finds nothing, without a message (guessed: such rows last, with a distance of 1 or NaN). By l2 they are
# there. Static models give zeros where no token is known.
# Output seen: 3 rows; cosine [1, 3]; l2 [2, 3, 1]; query of zeros [].
source "$(dirname "$0")/_run.sh"
in_environment lancedb==0.40.0 <<'PY'
import tempfile

import lancedb

rows = [{"id": 1, "vector": [3.0, 4.0]}, {"id": 2, "vector": [0.0, 0.0]}, {"id": 3, "vector": [-1.0, 0.0]}]
table = lancedb.connect(tempfile.mkdtemp()).create_table("documents", rows)


def found(query: list[float], metric: str) -> list[int]:
    return [row["id"] for row in table.search(query).distance_type(metric).limit(10).to_list()]


seen = table.count_rows(), found([1.0, 0.0], "cosine"), found([1.0, 0.0], "l2"), found([0.0, 0.0], "cosine")
print(*seen)
assert seen == (3, [1, 3], [2, 3, 1], [])
PY
