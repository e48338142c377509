"""Servers that are wrong in one way each: the verdict names the way."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling

from multigrain.encoders.server import find_server
from multigrain.export.verify.check import Verification, VerifyJob, verify
from multigrain.export.verify.prompting import Prompting

from .conftest import changed, served
from .scripted import ScriptedServer, Vectors


def verified(
    model: SentenceTransformer,
    vectors: Vectors,
    prompting: Prompting = "sent",
    protocol: str = "openai",
    **options: Any,
) -> Verification:
    with ScriptedServer(vectors, protocol) as server:
        job = VerifyJob(model=model, source="it", server=find_server(server.url), prompting=prompting, **options)
        return verify(job)


def pooled(mode: str) -> Callable[[SentenceTransformer], Vectors]:
    def wrong(model: SentenceTransformer) -> Vectors:
        def change(copied: SentenceTransformer) -> None:
            copied[1] = Pooling(copied[1].get_embedding_dimension(), pooling_mode=mode)

        return changed(model, change)

    return wrong


def cut_at(limit: int) -> Callable[[SentenceTransformer], Vectors]:
    return lambda model: changed(model, lambda copied: setattr(copied, "max_seq_length", limit))


def prompted_again(model: SentenceTransformer) -> Vectors:
    right = served(model)
    return lambda texts, body: right([text.replace("query: ", "query: query: ") for text in texts], body)


def everything_a_query(model: SentenceTransformer) -> Vectors:
    right = served(model)
    return lambda texts, body: right([f"query: {text}" for text in texts], body)


def not_normalised(model: SentenceTransformer) -> Vectors:
    return changed(model, lambda copied: copied.pop(2))


def in_int8(model: SentenceTransformer) -> Vectors:
    """Every matrix as whole numbers of 8 bits and one scale."""

    def change(copied: SentenceTransformer) -> None:
        for parameter in copied.parameters():
            scale = parameter.data.abs().max() / 127
            parameter.data = (parameter.data / scale).round() * scale if parameter.ndim > 1 else parameter.data

    return changed(model, change)


def in_bfloat16(model: SentenceTransformer) -> Vectors:
    half = copy.deepcopy(model).bfloat16()
    return lambda texts, body: half.encode(list(texts), prompt="", convert_to_tensor=True).float().numpy()


def other_weights(model: SentenceTransformer) -> Vectors:
    torch.manual_seed(1)

    def change(copied: SentenceTransformer) -> None:
        for parameter in copied.parameters():
            if parameter.ndim > 1:
                parameter.data = parameter.data[torch.randperm(len(parameter))]

    return changed(model, change)


def mixed_up(model: SentenceTransformer) -> Vectors:
    right = served(model)
    return lambda texts, body: np.roll(right(texts, body), 1, axis=0)


def cut_vectors(model: SentenceTransformer) -> Vectors:
    right = served(model)
    return lambda texts, body: right(texts, body)[:, :32]


def cut_unit_vectors(model: SentenceTransformer) -> Vectors:
    cut = cut_vectors(model)

    def vectors(texts: list[str], body: dict[str, Any]) -> Any:
        rows = cut(texts, body)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return vectors


def padding_pooled(model: SentenceTransformer) -> Vectors:
    def vectors(texts: list[str], body: dict[str, Any]) -> Any:
        tokens = model.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.no_grad():
            states = model[0](dict(tokens))["token_embeddings"].mean(1)
        return torch.nn.functional.normalize(states).numpy()

    return vectors


def without_specials(model: SentenceTransformer) -> Vectors:
    def vector(text: str) -> Any:
        options = {"add_special_tokens": False, "truncation": True, "max_length": 128, "return_tensors": "pt"}
        with torch.no_grad():
            states = model[0](dict(model.tokenizer(text, **options)))["token_embeddings"].mean(1)
        return torch.nn.functional.normalize(states).numpy()[0]

    return lambda texts, body: np.stack(list(map(vector, texts)))


def ascii_only(model: SentenceTransformer) -> Vectors:
    right = served(model)
    return lambda texts, body: right([text.encode("ascii", "ignore").decode() or "?" for text in texts], body)


WRONG: dict[str, tuple[Callable[[SentenceTransformer], Vectors], list[str], str]] = {
    "cls": (pooled("cls"), ["pooling"], "cls pooling, and the folder has mean"),
    "last": (pooled("lasttoken"), ["pooling"], "last pooling, and the folder has mean"),
    "twice": (prompted_again, ["prompt"], "'query: ' stands before queries twice"),
    "everything a query": (everything_a_query, ["prompt", "prompt"], "instead of ''|stands before queries twice"),
    "cut at 50": (cut_at(50), ["truncation"], "reads 50 tokens of a text, the folder 128"),
    "cut at 16": (cut_at(16), ["truncation"], "reads 16 tokens"),
    "cut at 256": (cut_at(256), ["truncation"], "reads 256 tokens"),
    "not cut": (cut_at(512), ["truncation"], "all that the model has positions for"),
    "not normalised": (not_normalised, ["normalisation"], "the folder's have length 1"),
    "int8": (in_int8, ["precision"], "weights in (8|4) bits"),
    "bfloat16": (in_bfloat16, ["precision"], "weights in bfloat16"),
    "other weights": (other_weights, ["another-model"], "no fault that was tried explains"),
    "order": (mixed_up, ["order"], "belong to another text"),
    "cut vectors": (cut_vectors, ["dimensions", "normalisation"], "the first 32 of"),
    "cut unit vectors": (cut_unit_vectors, ["dimensions"], "the first 32 of"),
    "padding": (padding_pooled, ["batch"], "depends on what shares its request"),
    "no special tokens": (without_specials, ["special-tokens"], "without the tokenizer's special tokens"),
    "other tokens": (ascii_only, ["tokenisation"], "texts differ and the others do not: .*(埋め込み|القطط)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_server_is_named(name: str, model: SentenceTransformer) -> None:
    make, kinds, words = WRONG[name]
    found = verified(model, make(model))

    assert [reason.kind for reason in found.reasons] == kinds
    assert not found.same
    lines = list(found.lines())
    assert lines[0].startswith("OTHER VECTORS")
    assert re.search(words, " ".join(lines))
    assert {f"    {reason.advice}" for reason in found.reasons} <= set(lines)


@pytest.mark.parametrize(("prompting", "protocol"), [("added", "openai"), ("named", "tei")])
def test_a_server_that_adds_no_prompt_although_it_should_is_named(
    prompting: Prompting, protocol: str, model: SentenceTransformer
) -> None:
    (reason,) = verified(model, served(model), prompting, protocol).reasons
    assert reason.kind == "prompt"
    assert "queries are embedded without 'query: ': the query prompt is missing" in reason.finding


def test_a_layer_that_is_left_out_is_named(model: SentenceTransformer) -> None:
    width = model[1].get_embedding_dimension()
    for wide in (width, 16):
        torch.manual_seed(4)
        deep = copy.deepcopy(model)
        deep.insert(2, Dense(width, wide))
        found = verified(deep, served(model))
        assert [reason.kind for reason in found.reasons] == ["layers"], wide
        assert "Dense after the pooling is left out" in found.reasons[0].finding
        assert found.dimensions == width


def test_two_faults_are_both_named(model: SentenceTransformer) -> None:
    wrong = pooled("cls")(model)
    found = verified(model, lambda texts, body: 3 * wrong(texts, body), "added")
    assert [reason.kind for reason in found.reasons] == ["pooling", "prompt", "normalisation"]


def test_vectors_of_other_dimensions_are_another_models(model: SentenceTransformer) -> None:
    def foreign(texts: list[str], body: dict[str, Any]) -> Any:
        return np.stack([np.random.default_rng(len(text)).normal(size=768) for text in texts])

    (reason,) = verified(model, foreign).reasons
    assert reason.kind == "another-model"
    assert f"vectors of 768 dimensions, the folder's have {model.get_embedding_dimension()}" in reason.finding
