#!/usr/bin/env bash
# ranx 0.3.21: documents of equal score stay in the order in which the run names them, so that one run gives two values of
# nDCG, by the order of its lines (guessed: ties are broken by identifier, as trec_eval does). pytrec_eval puts the greater
# identifier first, whatever the order. Scores in int8 or float16 tie often.
# Output seen: ranx 1.0 and 0.5; pytrec_eval 0.5 and 0.5.
source "$(dirname "$0")/_run.sh"
in_environment ranx==0.3.21 pytrec_eval-terrier==0.5.11 <<'PY'
import pytrec_eval
from ranx import Qrels, Run, evaluate

judged = {"query": {"a": 1}}
runs = [{"query": dict.fromkeys(order, 0.5)} for order in (["a", "b", "c"], ["c", "b", "a"])]
by_ranx = [float(evaluate(Qrels(judged), Run(run), "ndcg@3")) for run in runs]
evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.3"})
by_trec = [evaluator.evaluate(run)["query"]["ndcg_cut_3"] for run in runs]
print(by_ranx, by_trec)
assert by_ranx == [1.0, 0.5]
assert by_trec == [0.5, 0.5]
PY
