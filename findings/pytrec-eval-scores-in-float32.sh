#!/usr/bin/env bash
# pytrec_eval 0.5.11 (pytrec_eval-terrier): it takes Python's floats and keeps them in 32 bits, so that scores which
# differ from the eighth digit on count as equal and are ordered by identifier, the greater first (guessed: the floats
# are compared as they are). So with probabilities near 1 of a reranker, and with 16777217 against 16777216.
# Output seen: reciprocal rank 0.5 for each of the three pairs, 1.0 where they differ by 1e-6.
source "$(dirname "$0")/_run.sh"
in_environment pytrec_eval-terrier==0.5.11 <<'PY'
import pytrec_eval

evaluator = pytrec_eval.RelevanceEvaluator({"query": {"a": 1}}, {"recip_rank"})


def of(best: float, other: float) -> float:
    assert best > other
    return evaluator.evaluate({"query": {"a": best, "b": other}})["query"]["recip_rank"]


close = [of(0.99999999, 0.99999998), of(16777217.0, 16777216.0), of(1e9 + 1, 1e9)]
apart = of(0.999999, 0.999998)
print(close, apart)
assert close == [0.5, 0.5, 0.5]
assert apart == 1.0
PY
