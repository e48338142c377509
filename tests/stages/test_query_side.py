"""Whole trainings and evaluations of candidates whose queries alone are tuned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from tests.stages.test_training import _prepared, _values, trained

from multigrain.config import Config
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.errors import ModelError
from multigrain.evaluation.results import read_results
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.sets.run_sets import validation_sets
from multigrain.model.routes import has_routes
from multigrain.stages import models as models_module
from multigrain.stages import trainees
from multigrain.stages.selection import known_documents, validation_score
from multigrain.stages.table import STAGES
from multigrain.stages.trainees import open_trainee

CANDIDATES = {
    "full": {"side": "both"},
    "queries": {"side": "query"},
    "lora": {"side": "query", "lora": {"r": 4}, "merge": "auto"},
    "adapter": {"side": "query", "query_adapter": {"rank": [2, 4]}, "learning_rate": [1e-2, 1e-3], "merge": "auto"},
}


def test_base_query_side_and_full_tuning_stand_side_by_side(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    values = _values(corpus_file, small_bert, candidates=CANDIDATES)
    values["evaluation"]["reembedding"] = {"documents": 5_000, "price": 0.02}
    context = _prepared(tmp_path / "run", values)
    manifests = dict(zip(CANDIDATES, trained(context), strict=True))
    STAGES["evaluation"].run(context)

    counts = manifests["adapter"].counts
    assert set(counts["ranks_by_validation"]) == {"2", "4"}
    assert set(counts["rates_by_validation"]) == {"0.01", "0.001"}
    assert "0" in counts["merged_by_validation"], "the identity is among the candidates"
    assert counts["merged_by_validation"][f"{counts['merged']:g}"] == max(counts["merged_by_validation"].values())
    log = json.loads((context.run.candidate_path("adapter") / "training_log.json").read_text())
    assert log["ranks"] == counts["ranks_by_validation"]

    results = json.loads((context.run.results_path / "evaluation.json").read_text())
    assert results["models"] == ["base", *CANDIDATES]
    assert results["reembedding"]["needed_by"] == ["full"]
    assert results["reembedding"]["spared_by"] == ["queries", "lora", "adapter"]
    assert results["reembedding"]["cost"] == pytest.approx(results["reembedding"]["tokens"] * 0.02 / 1e6)
    assert results["reembedding"]["texts"] == 5_000
    assert results["reembedding"]["hours"] > 0
    sentence = read_results(context.run.results_path / "evaluation.json").reembedding.sentence
    assert sentence.startswith("full needs 5,000 texts (about ")
    assert sentence.endswith("embedded again; queries, lora and adapter keep the base's document vectors")
    base = SentenceTransformer(str(small_bert), device="cpu")
    texts = ["river flows w1", "engine turns w2 w3"]
    for name in ("queries", "lora", "adapter"):
        model = SentenceTransformer(str(context.run.candidate_path(name)), device="cpu")
        assert np.array_equal(model.encode_document(texts), base.encode_document(texts)), name
    assert not np.array_equal(
        SentenceTransformer(str(context.run.candidate_path("full")), device="cpu").encode_document(texts),
        base.encode_document(texts),
    )


def test_documents_that_are_no_longer_the_bases_are_noticed(
    tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, side="query", steps=2))
    trained(context)
    folder = context.run.candidate_path("tuned")
    (document,) = folder.rglob("document_0_Transformer/model.safetensors")
    (query,) = folder.rglob("query_0_Transformer/model.safetensors")
    document.write_bytes(query.read_bytes())

    with pytest.raises(ModelError, match="its document vectors are not those of"):
        STAGES["evaluation"].run(context)


@pytest.mark.parametrize("change", [{}, {"query_adapter": {"rank": 4}}])
def test_documents_that_are_embedded_once_give_the_scores_of_embedding_them_at_every_look(
    change: dict[str, Any], tmp_path: Path, corpus_file: Path, small_bert: Path
) -> None:
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, side="query", **change))
    config = context.config
    (validation,) = validation_sets(config, context.run)
    with open_trainee(context, config.training.resolve("tuned")) as trainee:
        known = known_documents(trainee.model, [validation], config)
        for seed in range(3):
            torch.manual_seed(seed)
            with torch.no_grad():
                for weight in trainee.model.parameters():
                    if weight.requires_grad:
                        weight.add_(0.05 * torch.randn_like(weight))
            whole = evaluate_retrieval(SentenceTransformerEncoder(trainee.model), validation).ndcg_at_10
            assert validation_score(trainee.model, [validation], config, known) == whole
            assert validation_score(trainee.model, [validation], config) == whole


def test_the_variants_of_an_adapter_share_what_the_base_has_embedded(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    built = models_module.base_model

    def base_model(config: Config) -> SentenceTransformer:
        loaded.append(config.training.base_model)
        return built(config)

    monkeypatch.setattr(models_module, "base_model", base_model)
    adapter = {"side": "query", "query_adapter": {"rank": [2, 4]}, "learning_rate": [1e-2, 1e-3]}
    context = _prepared(tmp_path / "run", _values(corpus_file, small_bert, **adapter))
    (manifest,) = trained(context)
    assert len(manifest.counts["ranks_by_validation"]) == 2
    assert loaded == [str(small_bert)], "four trainings, and one base"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"loss": "masked", "accumulation": 2},
        {"matryoshka": [16], "schedule": "listwise"},
        {"mini_batch_size": 2},
        {"prompts": {"query": "query: ", "document": "passage: "}, "gradient_checkpointing": True},
        {"lora": {"r": 4}, "merge": "auto"},
    ],
    ids=lambda change: "-".join(change) or "plain",
)
def test_documents_are_embedded_once_and_train_as_if_they_were_at_every_step(
    tmp_path: Path, corpus_file: Path, small_bert: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    settings = {"side": "query", "steps": 6, "batch_size": 4, "precision": "float32", "learning_rate": 1e-3}
    values = _values(corpus_file, small_bert, **settings | change)
    seen: list[str] = []
    encode = SentenceTransformerEncoder.encode_documents

    def counting(self: SentenceTransformerEncoder, texts: Any) -> Any:
        if not has_routes(self.model):  # a candidate reads what the base has embedded
            seen.extend(texts)
        return encode(self, texts)

    once = _prepared(tmp_path / "once", values)
    with monkeypatch.context() as patch:
        patch.setattr(SentenceTransformerEncoder, "encode_documents", counting)
        trained(once)
    assert seen
    assert len(set(seen)) == len(seen)

    every = _prepared(tmp_path / "every", values)
    with monkeypatch.context() as patch:
        patch.setattr(trainees, "_beside_vectors", lambda whole, documents: whole)
        trained(every)
    found, expected = (
        load_file(next(context.run.candidate_path("tuned").rglob("query_0_Transformer/model.safetensors")))
        for context in (once, every)
    )
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_processes_train_queries_alone_as_one_does(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    values = _values(corpus_file, small_bert, side="query", dropout=0.0, learning_rate=1e-3)
    alone = _prepared(tmp_path / "alone", values)
    trained(alone)

    together = _prepared(tmp_path / "together", values)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(values))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "multigrain", "train", str(config), "-r", str(together.run.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found, expected = (
        load_file(next(context.run.candidate_path("tuned").rglob("query_0_Transformer/model.safetensors")))
        for context in (together, alone)
    )
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)
