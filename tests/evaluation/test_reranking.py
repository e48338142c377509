"""Two-step search: what is asked, what comes first, which pair is named, and the command that any models take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.encoders.test_encoder import static_model
from typer.testing import CliRunner

from multigrain.cli.evaluate import evaluate
from multigrain.config import TrainingConfig
from multigrain.display.progress import SilentProgress
from multigrain.evaluation.deployment import deployment, plain_reranking
from multigrain.evaluation.first_stages import dense_stage, hybrid_stage, rerank_stages, word_stage
from multigrain.evaluation.per_query import read_per_query
from multigrain.evaluation.reranked import Pipeline, RerankTable, read_reranking
from multigrain.evaluation.reranking import Reranker, ScoredPairs
from multigrain.evaluation.results import unselected_results
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import PairedDifference
from multigrain.evaluation.stored import PER_QUERY_FILE, RERANKED_FILE
from multigrain.model.reranker import build_reranker, save_reranker
from multigrain.teachers.models import CrossEncoderTeacher


def test_pairs_are_asked_once_and_only_the_first_documents_move(animals: EvaluationSet) -> None:
    asked: list[tuple[str, str]] = []

    def length(pairs: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(pairs)
        return [len(text) for _, text in pairs]

    ranking = {"q1": ["dog", "cat", "bee", "owl"], "q2": ["cat", "owl"]}
    pairs = ScoredPairs(animals, length)
    pairs.add([ranking, {"q1": ["cat", "dog", "owl"]}], 3)
    pairs.add([ranking], 3)

    assert sorted(asked) == sorted({(animals.queries[q], animals.corpus[d]) for q, d in pairs.known})
    assert len(asked) == len(pairs.known) == 6
    assert pairs.sort(ranking, 3)["q1"] == ["bee", "cat", "dog", "owl"]
    assert pairs.sort(ranking, 1) == ranking


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations("abcdef"), st.lists(st.floats(-9, 9), min_size=6, max_size=6), st.integers(1, 6))
def test_a_fused_order_goes_by_the_ranks_of_both(
    animals: EvaluationSet, order: list[str], scores: list[float], depth: int
) -> None:
    known = {("q1", document): score for document, score in zip("abcdef", scores, strict=True)}
    pairs = ScoredPairs(animals, lambda pairs: [], known)

    fused = pairs.sort({"q1": order}, depth, fused=True)["q1"]
    again = pairs.sort({"q1": order}, depth)["q1"]

    assert fused[depth:] == list(order[depth:])
    assert sorted(fused[:depth]) == sorted(order[:depth])
    for place, better in enumerate(fused[:depth]):
        for worse in fused[place + 1 : depth]:  # none that both put behind goes before
            assert order.index(better) < order.index(worse) or again.index(better) < again.index(worse)
    assert pairs.sort({"q1": again}, depth, fused=True)["q1"] == again, "two that agree"


def test_every_first_stage_is_compared_with_the_reference_alone(animals: EvaluationSet, word_hash) -> None:
    documents = list(animals.corpus.values())
    words = word_stage(documents, 4)
    dense = dense_stage("hashes", word_hash, documents, 4, uncached=word_hash)
    answers = {"cat sleeps warm": "cat", "owl hunts night": "owl", "bees nectar": "bee"}

    def oracle(pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(text == animals.corpus[answers[query]]) for query, text in pairs]

    table = rerank_stages(
        [dense, words, hybrid_stage(words, dense)],
        [Reranker("oracle", oracle, oracle), Reranker("reverse", lambda pairs: [-score for score in oracle(pairs)])],
        animals,
        [4, 1],
        CompareSettings(samples=100),
        reference="hashes",
        progress=SilentProgress(),
    )

    found = {(each.first_stage, each.reranker, each.depth): each for each in table.pipelines}
    assert len(found) == 3 + 3 * 2 * 2
    assert found["hashes", "oracle", 4].score >= found["hashes", "", 0].score > found["hashes", "reverse", 4].score
    assert found["bm25", "oracle", 1].score == found["bm25", "", 0].score, "one document cannot be sorted"
    assert table.alone.over is None
    assert found["hashes", "reverse", 4].over.mean < 0
    assert found["hybrid", "oracle", 4].milliseconds > 0
    assert found["hybrid", "reverse", 4].milliseconds is None, "it has no way of being asked as a service is"


def pipeline(depth: int, score: float, low: float, milliseconds: float) -> Pipeline:
    gain = PairedDifference(score - 0.6, low, 2 * (score - 0.6) - low, 1e-4 if low > 0 else 0.5)
    return Pipeline("tuned", "r", depth, score, {}, gain, milliseconds)


def table(*pipelines: Pipeline) -> RerankTable:
    alone = Pipeline("tuned", "", 0, 0.6, {}, None, 5.0)
    return RerankTable("test", 100, 100, 1000, "tuned", (alone, *pipelines))


def test_the_fastest_of_the_best_that_are_better_is_deployed() -> None:
    shown = deployment(
        table(pipeline(10, 0.63, 0.01, 50), pipeline(30, 0.645, 0.02, 140), pipeline(100, 0.65, 0.03, 500)),
        confidence=0.95,
    )

    assert shown.pipeline.depth == 30, "10 loses two points on the best, 100 gains half a point for 360 ms"
    assert "140 ms a query" in str(shown)
    assert "tuned + r, 100 reaches .650" in str(shown)


def test_nothing_is_deployed_over_the_embedder_that_is_not_better() -> None:
    shown = deployment(table(pipeline(10, 0.7, -0.01, 1)), confidence=0.95)

    assert (shown.pipeline.name, shown.pipeline.depth) == ("tuned", 0)


def test_tables_are_read_as_they_were_written() -> None:
    tables = (table(pipeline(10, 0.63, 0.01, 50)),)
    results = unselected_results(["tuned"], [], CompareSettings(), reranking=tables)

    assert read_reranking(json.loads(json.dumps(plain_reranking(results)))) == tables


def test_any_reranker_sorts_what_any_models_find(
    tmp_path: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static_model(0).save(str(tmp_path / "model"))
    settings = TrainingConfig(kind="reranker", base_model=str(small_bert), max_seq_length=32)
    save_reranker(build_reranker(settings.resolve("tuned"), device="cpu"), tmp_path / "reranker")
    words = ["cat", "dog", "owl"]
    (tmp_path / "q.tsv").write_text("".join(f"q-{word}\t{word}\n" for word in words))
    (tmp_path / "d.csv").write_text("id,text\n" + "".join(f"{word},the {word} lives\n" for word in words))
    (tmp_path / "r.trec").write_text("".join(f"q-{word} 0 {word} 1\n" for word in words))
    app = typer.Typer()
    app.command()(evaluate)
    arguments = [
        *(f"one={tmp_path / 'model'}", "bm25", "--samples", "200", "--out", str(tmp_path / "out")),
        *("--set", f"own={tmp_path / 'q.tsv'},{tmp_path / 'd.csv'},{tmp_path / 'r.trec'}"),
        *("--rerank", f"mine={tmp_path / 'reranker'}", "--depths", "2,3"),
    ]

    found = CliRunner().invoke(app, [*arguments, "--json"])

    assert found.exit_code == 0, found.output
    (shown,) = json.loads(found.stdout.strip().splitlines()[-1])["reranking"]
    assert shown["reference"] == "one"
    names = ["one", "bm25", "hybrid"]
    assert [each["name"] for each in shown["pipelines"]] == [
        *names,
        *(f"{name} + mine, {depth}{order}" for name in names for depth in (2, 3) for order in ("", ", fused")),
    ]
    assert shown["deploy"]["name"] in {each["name"] for each in shown["pipelines"]}

    kept = read_per_query(tmp_path / "out" / RERANKED_FILE)
    for each in shown["pipelines"]:
        rows = [row for row in kept if row.model == each["name"]]
        assert [row.query for row in rows] == words
        assert fmean(row.ndcg_at_10 for row in rows) == pytest.approx(each["score"], abs=1e-6)
    assert {row.model for row in read_per_query(tmp_path / "out" / PER_QUERY_FILE)} == {"one", "bm25"}
    asked: list[int] = []
    scores = CrossEncoderTeacher.scores

    def counting(self: CrossEncoderTeacher, pairs: Any) -> list[float]:
        asked.append(len(pairs))
        return scores(self, pairs)

    monkeypatch.setattr(CrossEncoderTeacher, "scores", counting)
    again = CliRunner().invoke(app, [*arguments, "--json"])
    assert again.exit_code == 0, again.output
    (repeated,) = json.loads(again.stdout.strip().splitlines()[-1])["reranking"]
    assert [each["score"] for each in repeated["pipelines"]] == [each["score"] for each in shown["pipelines"]]
    assert sorted(asked) == [2, 2, 2, 3, 3, 3], "only what is timed, query by query"

    told = CliRunner().invoke(app, [*arguments[:-1], "nine"])
    assert told.exit_code != 0
    assert "'nine' is no depth" in " ".join(told.output.split())
