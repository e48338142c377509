"""A run with an embedder, a reranker and an embedder that learns from it: one data set, one evaluation, one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sentence_transformers import CrossEncoder, SentenceTransformer
from tests.stages.test_audit import settings

from multigrain.config import Config, TrainingConfig
from multigrain.config.file import parse_config
from multigrain.dataset.store import open_examples
from multigrain.errors import ConfigError, ModelError
from multigrain.evaluation.results import read_results
from multigrain.evaluation.retrieval import score_ranking
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.sets.run_sets import domain_sets, searched_documents
from multigrain.model.precision import supports_native_bf16
from multigrain.records import ScoreScale
from multigrain.stages.preflight import check_base_models, check_training_settings
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory
from multigrain.teachers.models import CrossEncoderTeacher

STAGES = ["documents", "synthesis", "audit", "teachers", "training", "evaluation", "report"]


def config_of(corpus: Path, model: Path, **candidates: Any) -> Config:
    values = settings(corpus, model)
    values["training"] |= {
        "steps": 4,
        "batch_size": 4,
        "merge": None,
        "learning_rate": 1e-3,
        "early_stopping": None,
        "candidates": candidates,
    }
    values["evaluation"] = {
        "bootstrap_samples": 200,
        "vector_lengths": [],
        "seen_documents": False,
        "rivals": [],
        "reranking": {"depths": [3, 10], "max_queries": None},
    }
    return parse_config(values)


@pytest.fixture(scope="module")
def finished(
    small_bert: Path, tmp_path_factory: pytest.TempPathFactory, session_corpus: Path
) -> tuple[Config, RunDirectory]:
    config = config_of(
        session_corpus,
        small_bert,
        distilled={"loss": "distil", "teacher": {"candidate": "reranker"}},
        plain={},
        reranker={"kind": "reranker", "base_model": "candidate:plain", "max_seq_length": 48},
    )
    return config, run_stages(config, tmp_path_factory.mktemp("reranker") / "run", STAGES)


def test_one_run_trains_a_reranker_on_a_tuned_embedder_and_an_embedder_on_the_reranker(
    finished: tuple[Config, RunDirectory],
) -> None:
    config, run = finished

    assert config.training.in_order.index("plain") < config.training.in_order.index("reranker")
    assert config.training.in_order[-1] == "distilled"
    (scored,) = run.path.glob("teachers/*/graded.parquet")
    rows = list(open_examples(scored))
    reranker = CrossEncoder(str(run.candidate_path("reranker")), device="cpu")
    pairs = [(row.query, row.positive) for row in rows]
    assert {row.scale for row in rows} == {ScoreScale.LOGIT}
    teacher = CrossEncoderTeacher(reranker, 10_000, "")
    quick = CrossEncoderTeacher(reranker, 10_000, "", bf16=supports_native_bf16("cpu")).scores(pairs)
    assert [row.positive_score for row in rows] == pytest.approx(quick, abs=0.02)
    assert quick == pytest.approx(teacher.scores(pairs), abs=0.05)


def test_every_first_stage_is_scored_under_the_reranker_and_one_pair_is_named(
    finished: tuple[Config, RunDirectory],
) -> None:
    config, run = finished
    results = read_results(run.results_path / "evaluation.json")

    assert set(results.models) == {"base", "plain", "distilled"}, "a reranker embeds nothing"
    (table,) = results.reranking
    tested = table.reference
    stages = ("base", tested, "bm25", "hybrid")
    assert [(each.first_stage, each.reranker, each.depth, each.fused) for each in table.pipelines] == [
        *((first, "", 0, False) for first in stages),
        *((first, "reranker", depth, fused) for first in stages for depth in (3, 10) for fused in (False, True)),
    ]
    assert all(each.milliseconds is not None and each.milliseconds > 0 for each in table.pipelines)
    # By hand: the tuned embedder's first ten, sorted by the reranker alone.
    documents = searched_documents(run)
    asked = next(each for each in domain_sets(config, run, documents) if each.name == table.set)
    by_hand = {
        each.depth: each.score
        for each in table.pipelines
        if (each.first_stage, each.reranker, each.fused) == (tested, "reranker", False)
    }
    for depth in (3, 10):
        assert by_hand[depth] == pytest.approx(_by_hand(run, asked, tested, depth), abs=1e-6)
    manifest = run.manifest("results")
    assert manifest is not None
    assert manifest.counts["reranking"]["test"]["name"] in {each.name for each in table.pipelines}
    card = (run.candidate_path("reranker") / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-ranking" in card
    assert all(f"{row.score:.3f}".lstrip("0") in card for row in table.pipelines if row.reranker == "reranker")
    page = run.report_path.read_text(encoding="utf-8")
    assert 'id="pipelines"' in page
    assert f"{tested} + reranker, 10" in page


def _by_hand(run: RunDirectory, asked: EvaluationSet, name: str, depth: int) -> float:
    embedder = SentenceTransformer(str(run.candidate_path(name)), device="cpu")
    reranker = CrossEncoder(str(run.candidate_path("reranker")), device="cpu")
    keys = sorted(asked.corpus, reverse=True)
    vectors = embedder.encode([asked.corpus[key] for key in keys], normalize_embeddings=True)
    ranking = {}
    for query, text in asked.queries.items():
        cosines = vectors @ embedder.encode(text, normalize_embeddings=True)
        found = [keys[place] for place in np.argsort(-cosines, kind="stable")]
        scores = reranker.predict([(text, asked.corpus[key]) for key in found[:depth]])
        ranking[query] = [found[place] for place in np.argsort(-scores, kind="stable")] + found[depth:]
    return score_ranking(ranking, asked).ndcg_at_10


def test_an_evaluation_that_is_made_again_asks_the_reranker_nothing_it_has_said(
    finished: tuple[Config, RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = finished
    asked: list[int] = []
    scores = CrossEncoderTeacher.scores

    def counting(self: CrossEncoderTeacher, pairs: Any) -> list[float]:
        asked.append(len(pairs))
        return scores(self, pairs)

    monkeypatch.setattr(CrossEncoderTeacher, "scores", counting)
    before = json.loads((run.results_path / "evaluation.json").read_text(encoding="utf-8"))["reranking"]
    (run.results_path / "manifest.json").unlink()
    run_stages(config, run.path, ["evaluation"])

    after = json.loads((run.results_path / "evaluation.json").read_text(encoding="utf-8"))["reranking"]
    assert [each["score"] for each in after[0]["pipelines"]] == [each["score"] for each in before[0]["pipelines"]]
    assert set(asked) == {3, 10}, "only what is timed, query by query"


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ({"a": {"teacher": {"candidate": "b"}, "loss": "distil"}}, "'b', and there is none of that name"),
        (
            {
                "a": {"loss": "distil", "teacher": {"candidate": "r"}},
                "r": {"kind": "reranker", "base_model": "candidate:a"},
            },
            "made from each other: ",
        ),
        ({"a": {"base_model": "auto"}}, "base_model of its own is for rerankers"),
        (
            {"a": {"side": "query"}, "r": {"kind": "reranker", "base_model": "candidate:a"}},
            "'a' holds one way for queries and one for documents",
        ),
        ({"r": {"kind": "reranker", "pooling": "ata"}}, "pooling: a reranker has none"),
        ({"r": {"kind": "reranker", "schedule": "in-batch"}}, "gives a reranker nothing to compare"),
    ],
)
def test_candidates_that_cannot_be_are_one_line(
    tmp_path: Path, corpus_file: Path, candidates: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        config_of(corpus_file, tmp_path, **candidates)


def test_a_reranker_as_the_base_of_a_run_is_refused_before_anything_is_asked(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    folder = tmp_path / "reranker"
    CrossEncoder(str(small_bert), num_labels=1, device="cpu").save_pretrained(str(folder), create_model_card=False)
    with pytest.raises(ModelError, match=r"reranker: is a reranker, which scores pairs and embeds nothing"):
        check_base_models(config_of(corpus_file, folder, r={"kind": "reranker"}))
    check_base_models(config_of(corpus_file, small_bert, r={"kind": "reranker", "base_model": str(folder)}))


@pytest.mark.parametrize(
    "ignored",
    [
        {"matryoshka": [64]},
        {"side": "query"},
        {"merge": 0.5},
        {"pooling": "ata"},
        {"mini_batch_size": 4},
        {"gather_across_devices": False},
        {"adapters": "apart"},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_run_of_rerankers_alone_names_what_it_would_ignore(ignored: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(ignored))}: this run trains rerankers alone"):
        TrainingConfig(kind="reranker", **ignored)
    TrainingConfig.model_validate(
        {"kind": "reranker", "candidates": {"r": {}, "e": {"kind": "embedder", "loss": "infonce"}}} | ignored
    )
    written = TrainingConfig(kind="reranker").model_dump(mode="json")
    assert TrainingConfig.model_validate(written).rerankers == ("tuned",), "a saved config sets every key"
    with pytest.raises(ValidationError, match="computes in bf16, and rerankers score in float32; use sdpa"):
        TrainingConfig.model_validate({"kind": "reranker", "attn_implementation": "flash_attention_2"})


def test_a_reranker_that_names_no_schedule_takes_lists_alone_as_beside_embedders() -> None:
    alone = TrainingConfig.model_validate({"kind": "reranker"})
    beside = TrainingConfig.model_validate({"candidates": {"e": {}, "r": {"kind": "reranker"}}})
    assert alone.resolve("tuned").schedule == beside.resolve("r").schedule == "listwise"
    assert beside.resolve("e").schedule == "coarse-to-fine"
    assert TrainingConfig.model_validate({"kind": "reranker", "schedule": "reverse"}).schedule == "reverse"


def test_a_teacher_of_a_candidates_own_that_its_loss_ignores_is_refused(tmp_path: Path, corpus_file: Path) -> None:
    candidates: dict[str, Any] = {
        "e": {"loss": "distil", "teacher": "judge"},
        "r": {"kind": "reranker", "teacher": "judge"},
    }
    config, run = config_of(corpus_file, tmp_path, **candidates), RunDirectory(tmp_path / "run")
    with pytest.raises(ConfigError, match="candidate 'r': teacher: loss 'lambda' learns nothing from a teacher"):
        check_training_settings(config, run)
    candidates["r"]["loss"] = "distil"
    check_training_settings(config_of(corpus_file, tmp_path, **candidates), run)
