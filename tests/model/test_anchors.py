"""Anchor tokens: the weights that are shown are the weights that are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from multigrain.encoders.encoder import encode
from multigrain.errors import ModelError
from multigrain.model.anchors import anchors
from multigrain.model.encoder import build_encoder, weights_fingerprint
from multigrain.model.pooling import AtaOptions

TEXTS = ["A database, or store, of vectors.", "Embeddings!"]


def test_weights_are_those_that_pool(minilm_ata: SentenceTransformer) -> None:
    for anchored, text in zip(anchors(minilm_ata, TEXTS), TEXTS, strict=True):
        assert anchored.text == text
        names = [token.token for token in anchored.tokens]
        assert names[0] == "[CLS]"
        assert names[-1] == "[SEP]"
        assert "[PAD]" not in names
        assert sum(token.weight for token in anchored.tokens) == pytest.approx(1)
        with torch.no_grad():
            states = minilm_ata[0](minilm_ata.preprocess([text]))["token_embeddings"][0].numpy()
        pooled = sum(token.weight * state for token, state in zip(anchored.tokens, states, strict=True))
        np.testing.assert_allclose(pooled / np.linalg.norm(pooled), encode(minilm_ata, [text])[0], atol=1e-5)


def test_a_mean_pooled_model_is_read_and_left_alone(minilm_reference: str, minilm_ata: SentenceTransformer) -> None:
    model = build_encoder(minilm_reference, max_seq_length=128, device="cpu")
    implementation, fingerprint = model.config._attn_implementation, weights_fingerprint(model)
    vectors = encode(model, TEXTS)
    anchored = anchors(model, TEXTS)
    assert anchored == anchors(minilm_ata, TEXTS)
    assert anchored != anchors(model, TEXTS, options=AtaOptions(reduce="sum"))
    assert model.config._attn_implementation == implementation
    assert weights_fingerprint(model) == fingerprint
    assert np.array_equal(encode(model, TEXTS), vectors)


def test_a_model_without_attention_is_refused() -> None:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models

    static = StaticEmbedding(Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, "[UNK]")), embedding_dim=4)
    with pytest.raises(ModelError, match="StaticEmbedding has none of"):
        anchors(SentenceTransformer(modules=[static], device="cpu"), ["a"])
