"""A base model behind an endpoint: an adapter is trained on its vectors, and nothing is embedded twice."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sentence_transformers import SentenceTransformer
from tests.encoders.embedding_server import EmbeddingServer, embedded
from tests.encoders.test_encoder import static_model
from tests.stages.test_training import _prepared, _values, trained
from typer.testing import CliRunner

import multigrain
from multigrain.ablation.matrix import load_matrix
from multigrain.cli.main import app
from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.dataset.store import open_examples
from multigrain.encoders.journaled import PROBE
from multigrain.encoders.models import Encoding, ModelSpec, load_model
from multigrain.errors import ConfigError, EndpointRefusedError, EvaluationError, ModelError
from multigrain.evaluation.results import read_results
from multigrain.llm.prices import about_text_tokens
from multigrain.sources.store import read_document_table
from multigrain.stages import run_stages
from multigrain.stages.base import RunContext
from multigrain.stages.models import RunModels
from multigrain.stages.table import STAGES
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.moved import vectors_moved
from multigrain.tools.plan import plan_run
from multigrain.tools.synthesis_estimate import dry_run

LENIENT = {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0, "max_copied_share": 1.0}
"""An audit that lets rows of made-up words pass."""


@pytest.fixture
def server(small_bert: Path, api_key: None) -> Iterator[EmbeddingServer]:
    serving = EmbeddingServer(SentenceTransformer(str(small_bert), device="cpu"))
    yield serving
    serving.close()


def _context(
    folder: Path, corpus: Path, server: EmbeddingServer, *, max_cost: float | None = None, **training: Any
) -> RunContext:
    return _prepared(folder, _values_of(corpus, server, max_cost=max_cost, **training))


def _config(corpus: Path, server: EmbeddingServer, **training: Any) -> Config:
    return parse_config(_values_of(corpus, server, **training))


def _values_of(
    corpus: Path, server: EmbeddingServer, *, max_cost: float | None = None, **training: Any
) -> dict[str, Any]:
    adapter = {"side": "query", "query_adapter": {"kind": "mlp", "rank": 4}, "merge": "auto", "learning_rate": 1e-2}
    values = _values(corpus, Path("unused"), **{"base_model": server.model, **adapter, **training})
    values["synthesis"] = {"max_cost": max_cost}
    values["llm"] = {"prices": {"served": {"prompt": 20.0, "completion": 0.0}}}
    return values


def _asked(server: EmbeddingServer, first: int = 0) -> Counter[str]:
    return Counter(text for body in server.bodies[first:] for text in body["input"] if text != PROBE)


def _reader(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("adapter_reader_copy", folder / "adapter_reader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(folder)


def test_an_adapter_is_trained_evaluated_and_read_without_embedding_a_text_twice(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer, small_bert: Path
) -> None:
    context = _context(tmp_path / "run", corpus_file, server, merge=None)
    (manifest,) = trained(context)
    STAGES["evaluation"].run(context)

    assert max(_asked(server).values()) <= 2, "at most once as a query and once as a document"
    evaluated = context.run.manifest("results")
    assert evaluated is not None
    paid = evaluated.counts["base_embeddings"]
    assert paid["requests"] == len(server.bodies)
    assert paid["cost"] == pytest.approx(20e-6 * paid["tokens"])
    results = json.loads((context.run.results_path / "evaluation.json").read_text())
    assert results["models"] == ["base", "tuned"]
    assert manifest.counts["steps"] == 6

    assert results["reembedding"]["spared_by"] == ["tuned"]

    folder = context.run.candidate_path("tuned")
    assert sum(path.stat().st_size for path in folder.iterdir() if "log" not in path.name) < 50_000
    queries = ["river w1", "engine w2 w3"]
    base = SentenceTransformer(str(small_bert), device="cpu").encode(queries)
    model = multigrain.load(str(folder))
    adapted = model.encode_query(queries)
    assert np.abs(adapted - base).max() > 1e-3
    np.testing.assert_allclose(model.encode_document(queries), base, atol=1e-6)
    np.testing.assert_allclose(_reader(folder)(base), adapted, atol=1e-5)
    np.testing.assert_allclose(_reader(folder)(2 * base[0]), 2 * adapted[0], atol=2e-1)
    graph = onnxruntime.InferenceSession(folder / "query_adapter.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(graph.run(None, {"vectors": base})[0], adapted, atol=1e-5)
    with pytest.raises(ValueError, match="vectors of 3 dimensions: the adapter moves 32"):
        _reader(folder)(np.ones((1, 3)))

    other = static_model(1)
    server.refuse = lambda number, body: (200, embedded(body["input"], other), {})
    with pytest.raises(
        EvaluationError, match=r"vectors changed since .* has 8 dimensions, and had 32; train the adapter"
    ):
        multigrain.load(str(folder)).encode_query(queries)


def test_a_failure_half_way_costs_nothing_that_was_answered(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer
) -> None:
    context = _context(tmp_path / "run", corpus_file, server)
    context = RunContext(context.config.updated({"evaluation": {"batch_size": 8}}), context.run)
    server.refuse = lambda number, body: (401, {"error": "no"}, {}) if number >= 6 else None
    with pytest.raises(EndpointRefusedError):
        trained(context)
    answered = {text for body in server.bodies[:6] for text in body["input"]}
    server.refuse, first = (lambda number, body: None), len(server.bodies)
    trained(context)
    STAGES["evaluation"].run(context)

    assert len(answered) > 20
    again = answered & _asked(server, first).keys() - {PROBE}
    both_roles = {text for text in again if _asked(server, first)[text] == 1}
    assert again == both_roles
    assert all(text.startswith("the ") or text.startswith("river") for text in again), "queries are in another role"


def test_more_than_may_be_spent_is_refused_before_a_text_is_sent(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer
) -> None:
    context = _context(tmp_path / "run", corpus_file, server, max_cost=1e-4)
    with pytest.raises(ConfigError, match=r"training.base_model: openai:served.* would read for about \$0\.0"):
        trained(context)
    assert not _asked(server)


def test_what_the_base_has_embedded_counts_where_a_teacher_embeds_and_in_a_dry_run(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer
) -> None:
    context = _context(tmp_path / "run", corpus_file, server, loss="distil", teacher=server.model)
    listed = [document.text for document in read_document_table(context.run.documents_path)]
    with closing(RunModels(context)) as models:
        models.journal.encode_documents(listed)
        spent = models.paid
    assert spent is not None
    assert spent > 0
    rows = open_examples(context.run.dataset_path)
    texts = {text for row in rows for text in (row.query, row.positive, *(each.text for each in row.others))}
    alone, before = 20e-6 * sum(map(about_text_tokens, texts)), len(server.bodies)

    def scored(limit: float) -> None:
        config = context.config.updated({"synthesis": {"max_cost": limit}})
        STAGES["teachers"].run(RunContext(config, context.run))

    with pytest.raises(ConfigError, match=r"training.teacher: openai:served.* are left of the run's limit"):
        scored(1.01 * alone)
    assert len(server.bodies) == before
    scored(1.01 * (alone + spent))
    assert len(server.bodies) > before

    learning, plain = (
        dry_run(_config(corpus_file, server, **more), tmp_path / "new").embeddings[server.model]
        for more in ({"loss": "distil", "teacher": server.model}, {})
    )
    assert learning.tokens > plain.tokens > sum(map(about_text_tokens, listed))
    assert plain.cost == pytest.approx(20e-6 * plain.tokens)


def test_a_base_behind_an_endpoint_needs_an_adapter(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer
) -> None:
    with pytest.raises(ConfigError, match="is behind an endpoint, where only a query adapter can be tuned"):
        _context(tmp_path / "run", corpus_file, server, query_adapter=None)
    with pytest.raises(
        ModelError, match="a model behind an endpoint, and what is asked for needs a model that runs here"
    ):
        multigrain.load(server.model)


def test_teachers_and_mixed_sets_teach_an_adapter_too(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer, small_bert: Path
) -> None:
    rows = [{"query": f"gear w{number}", "positive": f"the gear turns w{number} w{number + 1}"} for number in range(9)]
    (tmp_path / "mix.jsonl").write_text("\n".join(map(json.dumps, rows)))
    context = _context(
        tmp_path / "run",
        corpus_file,
        server,
        merge=None,
        loss="distil",
        teacher=str(small_bert),
        mix=[{"name": "gears", "path": str(tmp_path / "mix.jsonl"), "weight": 1.0}],
        steps=8,
    )
    STAGES["teachers"].run(context)
    (manifest,) = trained(context)
    assert manifest.counts["rows"] == len(open_examples(context.run.dataset_path)) + len(rows)
    asked = _asked(server)
    assert {row["positive"] for row in rows} <= asked.keys()
    assert max(asked.values()) <= 2, "at most once as a query and once as a document"


def test_a_plan_counts_what_a_base_behind_an_endpoint_embeds_and_asks_it_nothing(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer
) -> None:
    values = _plain(corpus_file, server)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    planned = plan_run(parse_config(values), tmp_path / "run", probe=False)
    lines = CliRunner().invoke(app, ["plan", str(path), "--no-probe"], catch_exceptions=False).stdout
    assert not server.bodies
    (name,) = planned.estimate.embeddings
    part = planned.estimate.embeddings[name]
    assert name == server.model
    assert part.cost == pytest.approx(20e-6 * part.tokens)
    assert planned.estimate.cost == pytest.approx(part.cost), "the scripted writer costs nothing"
    assert f"embedding   {server.model}: at most {part.texts:,} texts" in lines

    run_stages(parse_config(values), tmp_path / "run", ["documents", "synthesis", "audit", "training", "evaluation"])
    texts = list(_asked(server).elements())
    assert len(texts) <= part.texts
    assert sum(map(about_text_tokens, texts)) <= part.tokens

    little = {**values, "synthesis": {**values["synthesis"], "max_cost": 1e-4}}
    notes = plan_run(parse_config(little), tmp_path / "other", probe=False).notes
    assert any("the limit is $0.0001: a run stops before it is passed" in note for note in notes)
    stored = {**values, "training": {**values["training"], "document_vectors": {"path": "vectors.npy"}}}
    fewer = plan_run(parse_config(stored), tmp_path / "other", probe=False)
    assert fewer.estimate.embeddings[name].texts == part.texts - planned.documents["documents"]
    assert any("documents that training.document_vectors lacks are embedded" in note for note in fewer.notes)


def test_bases_and_label_ask_a_base_behind_an_endpoint_for_nothing_twice(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer, small_bert: Path
) -> None:
    values = _plain(corpus_file, server)
    path, run = tmp_path / "mine.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(values))
    asked = ["bases", str(path), f"other={small_bert}", "--run", str(run), "--json"]
    compared = json.loads(CliRunner().invoke(app, asked, catch_exceptions=False).stdout)
    assert compared["base"] == server.model
    (other,) = compared["candidates"]
    assert other["sets"]["validation"]["score"] == pytest.approx(compared["sets"]["validation"]["base"], abs=0.02)
    assert compared["costs"]["base"] | {"dimensions": 32, "texts_per_second": None} == compared["costs"]["base"]

    run_stages(parse_config(values), run, ["documents", "synthesis", "audit", "training", "evaluation"])
    assert max(_asked(server).values()) <= 2
    sent = len(server.bodies)
    queries = tmp_path / "queries.txt"
    queries.write_text("river w1\nengine w3\n")
    labelled = ["label", str(run), "--queries", str(queries), "--json"]
    told = CliRunner().invoke(app, labelled, input="y\n" * 40, catch_exceptions=False)
    assert told.exit_code == 0
    texts = [text for body in server.bodies[sent:] for text in body["input"]]
    assert sorted(set(texts) - {PROBE}) == ["engine w3", "river w1"], "no document is embedded again"
    assert vectors_moved(RunDirectory(run), parse_config(values)) >= 0


def test_an_ablation_refuses_a_base_behind_an_endpoint_in_one_line(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer
) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(_plain(corpus_file, server)))
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(yaml.safe_dump({"config": "mine.yaml", "vary": {"learning_rate": [1e-3, 1e-2]}}))
    with pytest.raises(ConfigError, match=r"arms are tuned from a base that runs here.* candidates of a run"):
        load_matrix(matrix)
    assert not server.bodies


def _plain(corpus: Path, server: EmbeddingServer) -> dict[str, Any]:
    """A run from documents to results, written by the scripted model."""
    values = _values(
        corpus,
        Path("unused"),
        base_model=server.model,
        side="query",
        query_adapter={"rank": 4},
        learning_rate=1e-2,
    )
    values["llm"] = {"provider": "scripted", "prices": {"served": {"prompt": 20.0, "completion": 0.0}}}
    values["synthesis"] = {"strategy": "mined-bands"}
    values["audit"] = LENIENT
    return values


def _store(folder: Path, form: str, ids: list[str], vectors: np.ndarray) -> dict[str, str]:
    path = folder / f"vectors.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"id": ids, "vector": list(vectors)}), path)
    elif form == "npy":
        np.save(path, vectors)
        (folder / "ids.txt").write_text("\n".join(ids))
        return {"path": str(path), "ids": str(folder / "ids.txt")}
    else:
        points = (
            {"id": n, "vector": v.tolist(), "payload": {"doc": i}}
            for n, (i, v) in enumerate(zip(ids, vectors, strict=True))
        )
        path.write_text("\n".join(map(json.dumps, points)))
        return {"path": str(path), "id": "payload.doc"}
    return {"path": str(path)}


@pytest.mark.parametrize("form", ["parquet", "npy", "jsonl"])
def test_a_stores_vectors_are_not_embedded_again(
    form: str, tmp_path: Path, corpus_file: Path, server: EmbeddingServer, small_bert: Path
) -> None:
    context = _context(tmp_path / "run", corpus_file, server)
    documents = read_document_table(context.run.documents_path)[5:]
    vectors = SentenceTransformer(str(small_bert), device="cpu").encode([document.text for document in documents])
    settings = _store(tmp_path, form, [document.id for document in documents], vectors)
    context = _context(tmp_path / "run", corpus_file, server, document_vectors=settings)
    models = RunModels(context)
    texts = [document.text for document in documents]
    np.testing.assert_allclose(models.journal.encode_documents(texts), vectors, atol=1e-6)
    assert len(_asked(server)) == 3, "a sample was compared"
    models.close()
    RunModels(context).journal.encode_documents(texts)
    assert len(_asked(server)) == 3, "what was taken in once is there"


def test_a_store_whose_identifiers_are_mended_is_read_again(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer, small_bert: Path
) -> None:
    context = _context(tmp_path / "run", corpus_file, server)
    documents = read_document_table(context.run.documents_path)
    texts, ids = [document.text for document in documents], [document.id for document in documents]
    vectors = SentenceTransformer(str(small_bert), device="cpu").encode(texts)
    settings = _store(tmp_path, "npy", [*ids[:10], *(f"other-{name}" for name in ids[10:])], vectors)
    context = _context(tmp_path / "run", corpus_file, server, document_vectors=settings)
    assert len(RunModels(context).journal.missing(texts, "document")) == len(ids) - 10
    Path(settings["ids"]).write_text("\n".join(ids))
    assert not RunModels(context).journal.missing(texts, "document")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("width", "holds vectors of 16 dimensions, and .* gives 32: they are of different models"),
        ("length", "holds vectors of length 5 to 5, and they are compared at length 1; .* set normalise: true"),
        ("model", r"holds other vectors than .* gives \(document .*: cosine 0.*: another model, prompt or text"),
        ("ids", "holds a vector of none of the run's 60 documents; its identifiers must be"),
        ("column", "cannot be read with id: key and vector: vector"),
        ("number", "cannot be read with id: id and vector: number .*a number in place of a vector"),
        ("gone", "no such file"),
    ],
)
def test_vectors_that_are_not_the_endpoints_are_refused_in_one_line(
    fault: str, words: str, tmp_path: Path, corpus_file: Path, server: EmbeddingServer, small_bert: Path
) -> None:
    documents = read_document_table(_context(tmp_path / "run", corpus_file, server).run.documents_path)
    vectors = SentenceTransformer(str(small_bert), device="cpu").encode([document.text for document in documents])
    ids = [document.id for document in documents]
    if fault == "width":
        vectors = vectors[:, :16]
    elif fault == "length":
        vectors = 5 * vectors
    elif fault == "model":
        vectors = vectors[::-1].copy()
    elif fault == "ids":
        ids = [f"other-{identifier}" for identifier in ids]
    settings = _store(tmp_path, "parquet", ids, vectors)
    if fault == "number":
        pq.write_table(pa.table({"id": ids, "number": [1.0] * len(ids)}), settings["path"])
        settings |= {"vector": "number"}
    settings |= {"id": "key"} if fault == "column" else {}
    settings |= {"path": str(tmp_path / "gone.parquet")} if fault == "gone" else {}
    context = _context(tmp_path / "run", corpus_file, server, document_vectors=settings)
    with pytest.raises(ConfigError, match=words) as refused:
        _ = RunModels(context).journal
    assert "\n" not in str(refused.value)


def test_a_reranker_beside_an_adapter_sorts_what_the_endpoint_finds(
    tmp_path: Path, corpus_file: Path, server: EmbeddingServer, small_bert: Path
) -> None:
    reranker = {"kind": "reranker", "base_model": str(small_bert), "max_seq_length": 32}
    context = _context(
        tmp_path / "run",
        corpus_file,
        server,
        merge=None,
        early_stopping=3,
        candidates={"tuned": {}, "second": reranker},
    )
    trained(context)
    STAGES["evaluation"].run(context)

    results = read_results(context.run.results_path / "evaluation.json")
    assert all({"base", "tuned"} <= {each.first_stage for each in table.pipelines} for table in results.reranking)
    assert any(each.reranker == "second" for table in results.reranking for each in table.pipelines)
    with pytest.raises(EvaluationError, match="trained behind prompts of its own"):
        load_model(ModelSpec("a", str(context.run.candidate_path("tuned")), query_prompt="find: "), Encoding())
