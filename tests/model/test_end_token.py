"""What stands for a text where its last token does: the tokenizer's end token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, BertConfig, LlamaConfig

from multigrain.config import LoraConfig, TrainingConfig
from multigrain.encoders.encoder import encode
from multigrain.errors import ModelError
from multigrain.model.adapters import merge_adapters
from multigrain.model.encoder import build_encoder, load, save_candidate
from multigrain.model.end_token import append_end_token, ends_texts

from .conftest import TEXTS

Folder = Callable[..., Path]
Decoder = Callable[..., str]
BEGIN, END = 2, 3


@pytest.fixture
def decoder(tiny_folder: Folder) -> Decoder:
    """A bare causal checkpoint whose tokenizer ends no text, and begins texts as it is told to."""

    def make(*, begins: bool = False, end_token: str | None = "[SEP]", **flags: bool) -> str:
        folder = tiny_folder(LlamaConfig, num_key_value_heads=2).parent / "weights"
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        tokenizer.bos_token, tokenizer.eos_token = "[CLS]", end_token
        tokenizer.sep_token = tokenizer.cls_token = None
        single = "[CLS] $A" if begins else "$A"
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=single, special_tokens=[("[CLS]", BEGIN)] if begins else []
        )
        tokenizer.init_kwargs.update(flags)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


def _ids(model: SentenceTransformer) -> list[list[int]]:
    features = model.preprocess(TEXTS)
    return [
        [int(token) for token, attended in zip(*row, strict=True) if attended]
        for row in zip(features["input_ids"].tolist(), features["attention_mask"].tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    "options", [{}, {"begins": True}, {"begins": True, "add_bos_token": True, "add_eos_token": False}]
)
def test_a_bare_decoder_pooled_by_its_last_token_reads_an_end_token_everywhere(
    options: dict[str, bool], decoder: Decoder, tmp_path: Path
) -> None:
    folder = decoder(**options)
    before = _ids(build_encoder(folder, append_eos=False, device="cpu"))
    model = build_encoder(folder, device="cpu")

    assert _ids(model) == [[*ids, END] for ids in before]
    assert all((ids[0] == BEGIN) == options.get("begins", False) for ids in before)
    model.save_pretrained(str(tmp_path / "saved"))
    file = Tokenizer.from_file(str(tmp_path / "saved" / "tokenizer.json"))  # what vLLM and TEI read
    file.no_padding()
    assert [file.encode(text).ids for text in TEXTS] == _ids(model)
    for again in (SentenceTransformer(str(tmp_path / "saved"), device="cpu"), load(str(tmp_path / "saved"))):
        np.testing.assert_allclose(encode(again, TEXTS), encode(model, TEXTS), atol=1e-6)


def test_a_cut_text_keeps_its_end_token(decoder: Decoder) -> None:
    model = build_encoder(decoder(begins=True), max_seq_length=8, device="cpu")

    long = max(_ids(model), key=len)
    assert len(long) == 8
    assert (long[0], long[-1]) == (BEGIN, END)


@pytest.mark.parametrize(
    "settings", [{"pooling": "mean"}, {"pooling": "ata"}, {"attention": "bidirectional"}, {"append_eos": False}]
)
def test_other_poolings_read_texts_as_the_checkpoint_does(settings: dict[str, Any], decoder: Decoder) -> None:
    assert not ends_texts(build_encoder(decoder(), device="cpu", **settings))


def test_an_end_token_can_be_asked_for_with_any_pooling(decoder: Decoder) -> None:
    assert ends_texts(build_encoder(decoder(), pooling="mean", append_eos=True, device="cpu"))


def test_a_tokenizer_that_ends_texts_already_stays_as_it_is(tiny_folder: Folder) -> None:
    folder = str(tiny_folder(BertConfig))
    model = build_encoder(folder, append_eos=True, pooling="last", device="cpu")

    assert _ids(model) == _ids(build_encoder(folder, device="cpu"))


def test_a_model_that_was_saved_without_end_token_is_not_given_one(decoder: Decoder, tmp_path: Path) -> None:
    build_encoder(decoder(), append_eos=False, device="cpu").save_pretrained(str(tmp_path / "saved"))

    assert not ends_texts(build_encoder(str(tmp_path / "saved"), device="cpu"))


@pytest.mark.parametrize("adapters", ["merged", "apart"])
def test_adapters_are_saved_with_the_tokenizer_that_they_were_tuned_with(
    adapters: Any, decoder: Decoder, tmp_path: Path
) -> None:
    folder, lora = decoder(), LoraConfig(r=4, alpha=8, dropout=0.0)
    model = build_encoder(folder, lora=lora, device="cpu")
    vectors = encode(model, TEXTS)

    save_candidate(model, tmp_path / "saved", TrainingConfig(base_model=folder, lora=lora, adapters=adapters))

    again = load(str(tmp_path / "saved"), device="cpu")
    merge_adapters(again)
    np.testing.assert_allclose(encode(again, TEXTS), vectors, atol=1e-5)


def test_what_cannot_be_appended_is_refused_in_a_line(decoder: Decoder, tiny_folder: Folder) -> None:
    folder = decoder(end_token=None)

    assert not ends_texts(build_encoder(folder, device="cpu"))  # nothing was asked for, so nothing is missing
    with pytest.raises(ModelError, match="append_eos: its tokenizer has no end-of-sequence token"):
        build_encoder(folder, append_eos=True, device="cpu")
    with pytest.raises(ModelError, match="append_eos needs a transformer that reads tokens"):
        append_end_token(build_encoder(f"static:{tiny_folder(BertConfig)}", device="cpu"))
