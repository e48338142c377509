"""Every kind of encoder of one model gives the same vectors for the same texts, and names itself by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer
from tests.conftest import SUBJECTS, VERBS

from multigrain.config.file import parse_config
from multigrain.encoders import reference
from multigrain.encoders.cache import CachedEncoder
from multigrain.encoders.distributed import DistributedEncoder
from multigrain.encoders.encoder import SentenceTransformerEncoder
from multigrain.encoders.models import Encoding, ModelSpec, open_encoder
from multigrain.encoders.protocol import Encoder, Floats
from multigrain.encoders.served import ServedEncoder
from multigrain.engine.local import LocalEngine
from multigrain.evaluation.sets.mteb_tasks import MtebEncoder
from multigrain.export.cost import ExportedEncoder
from multigrain.export.embedder import Embedder
from multigrain.export.job import ExportJob
from multigrain.export.targets.onnx import ONNX_FILE, export

from .embedding_server import EmbeddingServer

PROMPTS = {"query": "river engine ", "document": "garden "}


class ThroughMteb:
    """MTEB's wrapper, asked as MTEB asks: queries by their prompt type."""

    def __init__(self, encoder: Encoder) -> None:
        self._wrapped = MtebEncoder(encoder)
        self.fingerprint = encoder.fingerprint

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        return self._wrapped.encode([{"text": list(texts)}], prompt_type=PromptType.query)

    def encode_documents(self, texts: Sequence[str]) -> Floats:
        return self._wrapped.encode([{"text": list(texts)}], prompt_type=PromptType.document)


@pytest.fixture(scope="module")
def encoders(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Encoder]]:
    """By kind; the first is the loaded model itself."""
    folder = tmp_path_factory.mktemp("encoders")
    place, graph = str(folder / "model"), folder / "graph"
    model = SentenceTransformer(str(small_bert), device="cpu", prompts=PROMPTS)
    model.save(place)
    graph.mkdir()
    export(ExportJob(model=model.eval(), source="model", destination=graph), graph)
    config = parse_config({"training": {"base_model": place, "max_seq_length": 32, "precision": "float32"}})
    loaded = SentenceTransformerEncoder(model, batch_size=3)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "supports_native_bf16", lambda _: False)
        patch.setenv("OPENAI_API_KEY", "sk-none")
        engine = stack.enter_context(LocalEngine(computing=2))
        server = stack.enter_context(closing(EmbeddingServer(model)))
        deferred = reference.deferred_encoder(place)
        yield {
            "loaded": loaded,
            "cached in memory": stack.enter_context(closing(CachedEncoder(loaded, loaded.fingerprint))),
            "cached in a file": stack.enter_context(closing(CachedEncoder(loaded, loaded.fingerprint, folder))),
            "by reference": stack.enter_context(open_encoder(ModelSpec("m", place), Encoding(device="cpu")))[0],
            "deferred": deferred,
            "distributed": DistributedEncoder(deferred, engine),
            "reference": reference.reference_encoder(config),
            "reference with a cache": stack.enter_context(reference.open_reference(config, cache=folder / "kept")),
            "served": ServedEncoder(server.model, query_prompt=PROMPTS["query"], document_prompt=PROMPTS["document"]),
            "mteb": ThroughMteb(loaded),
            "exported": ExportedEncoder(Embedder(graph), graph / ONNX_FILE, cosine=True),
        }


KINDS = (
    *("cached in memory", "cached in a file", "by reference", "deferred", "distributed", "reference"),
    *("reference with a cache", "served", "mteb", "exported"),
)
TEXTS = st.lists(st.lists(st.sampled_from(SUBJECTS + VERBS), min_size=1, max_size=6).map(" ".join), max_size=7)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_the_same_texts_get_the_same_vectors(kind: str, texts: list[str], encoders: dict[str, Encoder]) -> None:
    loaded, other = encoders["loaded"], encoders[kind]
    for vectors, expected in (
        (other.encode_queries(texts), loaded.encode_queries(texts)),
        (other.encode_documents(texts), loaded.encode_documents(texts)),
    ):
        assert vectors.dtype == np.float32
        assert len(vectors) == len(texts)
        if texts:
            np.testing.assert_allclose(vectors, expected, atol=2e-5)
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_prompts_are_in_the_vectors_and_sides_differ(encoders: dict[str, Encoder]) -> None:
    queries, documents = (
        encode(["planet fades"]) for encode in (encoders["loaded"].encode_queries, encoders["loaded"].encode_documents)
    )
    assert np.abs(queries - documents).max() > 1e-3


def test_one_model_has_one_fingerprint_wherever_it_runs_here(encoders: dict[str, Encoder]) -> None:
    same = ("cached in memory", "by reference", "deferred", "distributed", "mteb")
    assert {encoders[kind].fingerprint for kind in same} == {encoders["loaded"].fingerprint}
    apart = ("loaded", "served", "exported")
    assert len({encoders[kind].fingerprint for kind in apart}) == len(apart)
