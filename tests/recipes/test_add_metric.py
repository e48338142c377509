"""A throw-away metric, added as CONTRIBUTING.md says, and one of another package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.installed import install

from .conftest import Checkout

ENTRY = '    "precision_at_5": Metric("precision@5", "P_5"),\n'
ASK = """
from multigrain.evaluation.metrics import measure_queries, metric_title, metrics_for

figures = measure_queries({"q": ["a", "b"]}, {"q": {"b": 1}}, metrics_for(pooled=False))
print(json.dumps({
    "from": packages_of("metric").get("precision_at_5"),
    "figure": figures["q"]["precision_at_5"],
    "title": metric_title("precision_at_5"),
}))
"""


@pytest.mark.slow
def test_a_metric_is_added_in_one_file(checkout: Checkout, corpus_file: Path, small_bert: Path) -> None:
    checkout.insert("evaluation/metrics.py", '    "mrr_at_10": Metric(', ENTRY)
    assert len(checkout.touched) == 1
    assert checkout.follows("metric")

    assert checkout.evaluate(ASK) == {"from": "multigrain", "figure": 0.2, "title": "precision@5"}
    checkout.configure(corpus_file, small_bert)
    checkout.multigrain("run", "config.yaml")
    run = checkout.folder / "runs" / "config"
    for sets in json.loads((run / "results" / "evaluation.json").read_text(encoding="utf-8"))["sets"]:
        assert all(0 <= model["precision_at_5"] <= 1 for model in sets["models"].values())
    for page in ("report.html", "model/README.md"):
        assert "precision@5" in (run / page).read_text(encoding="utf-8"), page


def test_another_package_brings_a_metric(checkout: Checkout) -> None:
    module = 'from multigrain import Metric\n\nP5 = Metric("precision@5", "P_5")\n'
    parts = {"multigrain.metrics": {"precision_at_5": "own_metric:P5"}}
    install(checkout.folder, "own-metric", parts, {"own_metric": module})

    assert checkout.evaluate(ASK) == {"from": "own-metric", "figure": 0.2, "title": "precision@5"}
    assert not checkout.touched
