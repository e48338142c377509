#!/usr/bin/env bash
# json_repair 0.64.6: two objects one after another become a list of both (guessed: the first, or the last), so an
# answer that drafts an object before it gives one is neither; NaN and a key that stands twice pass without a word.
# Output seen: [{'draft': 1}, {'query': 'q'}]; {'a': 2}.
source "$(dirname "$0")/_run.sh"
in_environment json_repair==0.64.6 <<'PY'
import json_repair

two = json_repair.loads('<think>{"draft": 1}</think>{"query": "q"}')
twice = json_repair.loads('{"a": 1, "a": 2}')
print(two, twice)
assert two == [{"draft": 1}, {"query": "q"}]
assert twice == {"a": 2}
PY
