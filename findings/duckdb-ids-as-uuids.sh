#!/usr/bin/env bash
# duckdb 2.0.1: `read_json` makes UUIDs of texts that all look so, and writes them back in small letters (guessed: what JSON
# has in quotes stays a text). A corpus copied to Parquet or JSON lines by DuckDB then shares no id with judgments that
# have capitals, and times lose their form, too. With `columns` they stay texts.
# Output seen: UUID, TIME and DATE; 6AF613B6-… becomes 6af613b6-…, and 7:05:00 becomes 07:05:00.
source "$(dirname "$0")/_run.sh"
in_environment duckdb==2.0.1 <<'PY'
import json
from pathlib import Path

import duckdb

row = {"_id": "6AF613B6-569C-5C22-9C37-2ED93F31D3AF", "title": "7:05:00", "text": "2024-01-05"}
Path("corpus.jsonl").write_text(json.dumps(row) + "\n")
kinds = duckdb.sql("SELECT typeof(_id), typeof(title), typeof(text) FROM read_json('corpus.jsonl')").fetchall()[0]
duckdb.sql("COPY (SELECT * FROM read_json('corpus.jsonl')) TO 'copy.jsonl' (FORMAT json)")
copied = json.loads(Path("copy.jsonl").read_text())
print(kinds, copied)
assert kinds == ("UUID", "TIME", "DATE")
assert copied["_id"] == row["_id"].lower()
assert copied["title"] == "07:05:00"
kept = duckdb.sql(
    "SELECT * FROM read_json('corpus.jsonl', columns = {_id: 'VARCHAR', title: 'VARCHAR', text: 'VARCHAR'})"
).fetchall()[0]
assert kept == tuple(row.values())
PY
