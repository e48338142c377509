from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from multigrain.cli.evaluate import evaluate
from multigrain.errors import EvaluationError
from multigrain.evaluation.metrics import METRICS, Metric, measure_queries, metric_title, metrics_for
from multigrain.evaluation.results import EvaluationResults, read_results, summarise_set, write_results
from multigrain.evaluation.retrieval import score_ranking
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more line in the table, for the time of a test."""
    monkeypatch.setitem(METRICS.built_in, "precision_at_5", Metric("precision@5", "P_5"))  # type: ignore[arg-type]


@pytest.mark.usefixtures("precision")
def test_a_line_in_the_table_is_measured_kept_and_shown(animals: EvaluationSet, tmp_path: Path) -> None:
    scores = score_ranking({"q1": ["cat"], "q2": ["owl", "cat"], "q3": ["dog", "bee"]}, animals)
    assert [query.metrics["precision_at_5"] for query in scores.queries] == pytest.approx([0.2, 0.4, 0.2])

    result = summarise_set(animals, {"base": scores, "tuned": scores}, CompareSettings(samples=50))
    path = tmp_path / "evaluation.json"
    write_results(path, EvaluationResults("tuned", ("base", "tuned"), (result,), 50, 0.95, 1))
    written = json.loads(path.read_text())["sets"][0]["models"]["tuned"]["precision_at_5"]
    assert written == read_results(path).sets[0].models["tuned"].metrics["precision_at_5"] == pytest.approx(0.8 / 3)

    (tmp_path / "queries.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in animals.queries.items()))
    (tmp_path / "docs.csv").write_text(
        "id,text\n" + "".join(f"{key},{text}\n" for key, text in animals.corpus.items())
    )
    (tmp_path / "qrels.trec").write_text("q1 0 cat 1\nq2 0 owl 1\nq3 0 bee 1\n")
    own = "own=" + ",".join(str(tmp_path / name) for name in ("queries.tsv", "docs.csv", "qrels.trec"))
    table, values = (CliRunner().invoke(app, ["bm25", "--set", own, *more]).stdout for more in ((), ("--json",)))
    assert "precision@5 bm25 0.200" in table
    assert json.loads(values)["scores"][0]["models"]["bm25"]["precision_at_5"] == pytest.approx(0.2)


def test_a_metric_whose_package_is_gone_is_still_read_and_named_by_its_key(
    tmp_path: Path, animals: EvaluationSet
) -> None:
    scores = score_ranking({query: ["cat"] for query in animals.queries}, animals)
    result = summarise_set(animals, {"base": scores}, CompareSettings())
    path = tmp_path / "evaluation.json"
    write_results(path, EvaluationResults("base", ("base",), (result,), 50, 0.95, 1))
    values = json.loads(path.read_text())
    values["sets"][0]["models"]["base"]["err_at_20"] = 0.25
    path.write_text(json.dumps(values))
    assert read_results(path).sets[0].models["base"].metrics["err_at_20"] == 0.25
    assert metric_title("err_at_20") == "err_at_20"
    assert metric_title("mrr_at_10") == "MRR@10"


def test_metrics_of_judged_documents_need_judges_who_said_no() -> None:
    assert metrics_for(pooled=True).keys() - metrics_for(pooled=False).keys() == {"judged_at_10", "condensed"}


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2), min_size=1),
    st.lists(st.sampled_from("abcdefghijklmn"), unique=True),
)
def test_every_metric_is_a_share_and_nothing_found_is_zero(grades: dict[str, int], ranking: list[str]) -> None:
    figures = measure_queries({"q": ranking, "none": []}, {"q": grades, "none": grades}, metrics_for(pooled=True))
    assert all(0 <= figure <= 1 for figure in figures["q"].values())
    judged = figures["none"].pop("judged_at_10")
    assert set(figures["none"].values()) == {0.0}
    assert judged == 1
    assert figures["q"]["condensed"] >= 0
    if ranking and all(document_id in grades for document_id in ranking):
        assert figures["q"]["judged_at_10"] == 1


def test_a_measure_that_trec_eval_does_not_know_is_one_line() -> None:
    with pytest.raises(EvaluationError, match="name a measure that trec_eval knows"):
        measure_queries({"q": ["a"]}, {"q": {"a": 1}}, {"odd": Metric("odd", "no_such_measure")})
