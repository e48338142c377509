from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

from multigrain.encoders.encoder import SentenceTransformerEncoder, encode, encoding_facts, model_fingerprint
from multigrain.errors import EvaluationError
from multigrain.model.prompts import document_prompt, query_prompt, set_prompts, settle_prompts

WORDS = ["[UNK]", "cat", "dog", "owl", "query", "passage", ":"]


def static_model(seed: int = 0, **options: object) -> SentenceTransformer:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(seed).normal(size=(len(WORDS), 8)).astype(np.float32)
    module = StaticEmbedding(tokenizer, embedding_weights=weights)
    return SentenceTransformer(modules=[module], device="cpu", **options)


def test_a_copy_of_a_folder_is_the_same_model_and_other_weights_are_not(tmp_path: Path) -> None:
    model = static_model()
    model.save(str(tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters())[1, 0] += 1e-3
    changed.save(str(tmp_path / "changed"))
    one, same, other = (
        model_fingerprint(SentenceTransformer(str(tmp_path / name), device="cpu"))
        for name in ("one", "copy", "changed")
    )
    assert one == same
    assert one != other


def test_prompts_similarity_and_kept_numbers_decide_the_fingerprint() -> None:
    prints = {
        model_fingerprint(static_model(**options))
        for options in ({}, {"prompts": {"query": "query:"}}, {"similarity_fn_name": "dot"}, {"truncate_dim": 2})
    }
    assert len(prints) == 4


def test_encoding_does_not_change_the_fingerprint() -> None:
    model = static_model()
    before = model_fingerprint(model)
    SentenceTransformerEncoder(model).encode_documents(["cat", "dog owl"])
    assert model_fingerprint(model) == before


def test_queries_and_documents_get_their_own_prompts_and_unit_length() -> None:
    encoder = SentenceTransformerEncoder(static_model(prompts={"query": "query: ", "document": "passage: "}))
    query, document = encoder.encode_queries(["cat"]), encoder.encode_documents(["cat"])
    plain = SentenceTransformerEncoder(static_model())
    np.testing.assert_allclose(query, plain.encode_queries(["query: cat"]), rtol=1e-5)
    np.testing.assert_allclose(document, plain.encode_queries(["passage: cat"]), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(query, axis=1), 1, rtol=1e-5)
    assert query.dtype == np.float32


@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({"s2p_query": "find: "}, "find: ", ""),
        ({"Retrieval-query": "query: ", "Retrieval-document": "passage: "}, "query: ", "passage: "),
        ({"retrieval.query": "query: ", "retrieval.passage": "passage: "}, "query: ", "passage: "),
        ({"query": "query: ", "STS-query": "sts: "}, "query: ", ""),
        ({"s2p_query": "find: ", "s2s_query": "like: "}, "", ""),
        ({"subquery": "part: "}, "", ""),
        ({"query": "", "document": "", "web_search_query": "find: "}, "find: ", ""),
    ],
)
def test_a_prompt_is_known_by_the_end_of_its_name_where_no_other_ends_so(
    prompts: dict[str, str], query: str, document: str
) -> None:
    model = static_model(prompts=prompts)

    assert (query_prompt(model), document_prompt(model)) == (query, document)
    settle_prompts(model)
    assert (query_prompt(model), document_prompt(model)) == (query, document)
    set_prompts(model, query="", document="")
    assert (query_prompt(model), document_prompt(model)) == ("", "")


def test_prompts_of_other_names_are_named_where_none_is_used() -> None:
    model = static_model(prompts={"s2p_query": "find: ", "s2s_query": "like: "})

    said = str(encoding_facts(model))

    assert "no prompts (of the model's own, s2p_query, s2s_query, none is known to be the queries'" in said
    assert "(of" not in str(encoding_facts(static_model()))


def test_dot_product_models_keep_their_lengths_and_distances_are_refused() -> None:
    vectors = SentenceTransformerEncoder(static_model(similarity_fn_name="dot")).encode_queries(["cat", "dog"])
    assert not np.allclose(np.linalg.norm(vectors, axis=1), 1)
    with pytest.raises(EvaluationError, match="compares by euclidean"):
        SentenceTransformerEncoder(static_model(similarity_fn_name="euclidean"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompts": {"query": "query: ", "document": "passage: "}},
        {"prompts": {"passage": "passage: "}},
        {"prompts": {"plain": "owl "}, "default_prompt_name": "plain"},
    ],
)
def test_the_prompts_that_training_and_exports_are_told_are_those_that_go_before_texts(options: dict) -> None:
    model = static_model(**options)
    encoder = SentenceTransformerEncoder(model)
    for prompt, encoded in (
        (query_prompt(model), encoder.encode_queries(["cat"])),
        (document_prompt(model), encoder.encode_documents(["cat"])),
    ):
        np.testing.assert_allclose(encoded, encode(model, [f"{prompt}cat"], prompt=""), rtol=1e-5)
