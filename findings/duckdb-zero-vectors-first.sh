#!/usr/bin/env bash
# duckdb 2.0.1: the cosine similarity with a vector of zeros is NaN, which ORDER BY puts above every number, so that the
# usual "ORDER BY array_cosine_similarity(...) DESC LIMIT k" gives the rows without a direction first, for every query
# (guessed: NULL, and last). By distance, ascending, they come last. Static models give zeros where no token is known.
# Output seen: [(2, nan), (1, 0.6...), (3, -1.0)] and [1, 3, 2].
source "$(dirname "$0")/_run.sh"
in_environment duckdb==2.0.1 <<'PY'
import math

import duckdb

database = duckdb.connect()
database.execute("CREATE TABLE documents (id INT, vector FLOAT[2])")
database.execute("INSERT INTO documents VALUES (1, [3, 4]), (2, [0, 0]), (3, [-1, 0])")
query = "[1, 0]::FLOAT[2]"
similar = database.execute(
    f"SELECT id, array_cosine_similarity(vector, {query}) AS score FROM documents ORDER BY score DESC"
).fetchall()
near = database.execute(
    f"SELECT id FROM documents ORDER BY array_cosine_distance(vector, {query})"
).fetchall()
print(similar, [identifier for (identifier,) in near])
assert [identifier for identifier, _ in similar] == [2, 1, 3]
assert math.isnan(similar[0][1])
assert near == [(1,), (3,), (2,)]
PY
