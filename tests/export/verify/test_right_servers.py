"""Servers that give the folder's vectors, behind each protocol; and what a client has to know of them."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from multigrain.encoders.server import find_server
from multigrain.encoders.wires import WireName
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.export.verify.check import VerifyJob, verify

from .conftest import changed, served
from .scripted import ScriptedServer
from .test_wrong_servers import in_bfloat16, mixed_up, verified

PATHS = {"openai": "/v1/embeddings", "tei": "/embed", "llamacpp": "/embedding", "ollama": "/api/embed"}


@pytest.mark.parametrize("protocol", get_args(WireName))
def test_the_same_vectors_by_each_protocol(protocol: str, tiny: SentenceTransformer) -> None:
    with ScriptedServer(served(tiny), protocol) as server:
        found_server = find_server(server.url)
        found = verify(VerifyJob(model=tiny, source="it", server=found_server))
        assert set(server.paths) == {PATHS[protocol]}
        assert any(
            text.startswith("query: ") for body in server.bodies for text in body.get("inputs", body.get("input"))
        )
    assert found_server.wire.name == protocol
    assert found.same
    assert found.reasons == ()
    assert found.max_difference is not None
    assert found.max_difference < 1e-6
    assert next(found.lines()).startswith("the same vectors: 50 texts, each alone and in a batch")


def test_a_server_that_puts_the_prompt_itself_is_asked_by_its_name(tiny: SentenceTransformer) -> None:
    right = served(tiny)

    def prompted(texts: list[str], body: dict[str, Any]) -> Any:
        prompt = tiny.prompts[body.get("prompt_name", "document")]
        return right([prompt + text for text in texts], body)

    assert verified(tiny, prompted, "named", "tei").same
    assert not verified(tiny, prompted, "added", "tei").same


def test_texts_that_a_server_refuses_are_left_out_and_told(tiny: SentenceTransformer) -> None:
    with ScriptedServer(served(tiny), "llamacpp") as server:
        server.refuse = lambda path, body: (
            (500, {"error": {"message": "input is too large to process"}})
            if any(len(text) > 1500 for text in body.get("input", ()))
            else None
        )
        found = verify(VerifyJob(model=tiny, source="it", server=find_server(server.url)))
    assert found.same
    assert found.texts < 50
    assert any("it refuses long texts instead of cutting them" in note for note in found.notes)


def test_unit_vectors_of_a_model_that_does_not_normalise_are_the_same_where_it_compares_by_cosine(
    tiny: SentenceTransformer,
) -> None:
    raw = SentenceTransformer(modules=[tiny[0], tiny[1]], device="cpu", prompts=tiny.prompts)
    for similarity, same in (("cosine", True), ("dot", False)):
        raw.similarity_fn_name = similarity
        found = verified(raw, served(tiny))
        assert found.same == same
        assert "length 1, and the folder does not normalise" in " ".join(found.lines())


def test_a_larger_tolerance_accepts_lower_precision(tiny: SentenceTransformer) -> None:
    assert verified(tiny, in_bfloat16(tiny), tolerance=0.05).same


def test_what_search_loses_is_measured_with_an_interval(tiny: SentenceTransformer, small_set: EvaluationSet) -> None:
    right, wrong = (verified(tiny, make, sets=(small_set,)).costs[0] for make in (served(tiny), mixed_up(tiny)))
    assert (right.loss, right.queries) == (0, 12)
    assert right.low == right.high == 0
    assert wrong.after < right.after
    assert np.isclose(wrong.loss, wrong.before - wrong.after)


def test_a_static_model_is_compared_too(tiny: SentenceTransformer) -> None:
    weights = np.random.default_rng(1).normal(size=(len(tiny.tokenizer), 16)).astype(np.float32)
    static = SentenceTransformer(
        modules=[StaticEmbedding(tiny.tokenizer.backend_tokenizer, embedding_weights=weights)], device="cpu"
    )
    assert verified(static, served(static)).same
    halved = changed(
        static, lambda copied: copied[0].embedding.weight.data.mul_(torch.from_numpy(np.sign(weights[::-1].copy())))
    )
    assert [reason.kind for reason in verified(static, halved).reasons] == ["another-model"]
