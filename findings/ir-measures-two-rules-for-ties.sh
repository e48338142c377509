#!/usr/bin/env bash
# ir_measures 0.4.3: in one call, RR@10 puts the smaller identifier first among documents of equal score, and RR, AP and
# nDCG@10 the greater one, as trec_eval does (guessed: one rule for all, so that RR@10 is never above RR). Figures of one
# run that should agree then do not, and RR@10 differs from what trec_eval's own tools give.
# Output seen, three documents of one score: where "a" is relevant, RR@10 1.0 and RR 0.33; where "c" is, 0.33 and 1.0.
source "$(dirname "$0")/_run.sh"
in_environment ir-measures==0.4.3 pytrec_eval-terrier==0.5.11 <<'PY'
import ir_measures
from ir_measures import AP, RR, nDCG

for order in (["a", "b", "c"], ["c", "b", "a"]):
    run = {"query": dict.fromkeys(order, 0.5)}
    first, last = (
        ir_measures.calc_aggregate([RR @ 10, RR, AP, nDCG @ 10], {"query": {relevant: 1}}, run) for relevant in "ac"
    )
    print(first, last)
    assert [round(first[measure], 2) for measure in (RR @ 10, RR, AP, nDCG @ 10)] == [1.0, 0.33, 0.33, 0.5]
    assert [round(last[measure], 2) for measure in (RR @ 10, RR, AP, nDCG @ 10)] == [0.33, 1.0, 1.0, 1.0]
PY
