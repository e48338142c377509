"""What a base model can be, and what it is given before it is tuned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, BertConfig, LlamaConfig, MistralConfig

from multigrain.config import LoraConfig, PromptsConfig, TrainingConfig
from multigrain.config.file import parse_config
from multigrain.encoders.encoder import encode
from multigrain.errors import ConfigError, MissingExtraError, ModelError
from multigrain.model.adapters import has_adapters, merge_adapters, quantization
from multigrain.model.attention.direction import is_bidirectional
from multigrain.model.encoder import build_candidate, build_encoder, describe_encoder, load, save_candidate
from multigrain.model.pooling import AtaOptions
from multigrain.model.replacing import pooling_name

from .conftest import TEXTS

Folder = Callable[..., Path]
LORA = LoraConfig(r=4, alpha=8, dropout=0.0)


@pytest.fixture
def raw(tiny_folder: Folder) -> Folder:
    """A tiny transformers checkpoint without sentence-transformers' modules."""
    grouped = {"num_key_value_heads": 2}
    return lambda config_class, **settings: tiny_folder(config_class, **{**grouped, **settings}).parent / "weights"


def _stir(model: SentenceTransformer) -> None:
    """Fresh adapters add nothing; give them something to add."""
    torch.manual_seed(8)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2)


@pytest.mark.parametrize(
    ("config_class", "attention", "expected"),
    [
        (BertConfig, "keep", "mean"),
        (LlamaConfig, "keep", "last"),
        (LlamaConfig, "bidirectional", "mean"),
        (MistralConfig, "causal", "last"),
    ],
)
def test_a_checkpoint_that_names_no_pooling_pools_by_its_architecture_and_says_so(
    config_class: Any, attention: Any, expected: str, raw: Folder
) -> None:
    folder = raw(config_class)
    model = build_encoder(str(folder), attention=attention, device="cpu")

    assert pooling_name(model) == expected
    assert f"{expected} pooling (the checkpoint names none" in describe_encoder(model, str(folder))


def test_a_folder_with_modules_keeps_its_own_pooling(tiny_folder: Folder) -> None:
    folder = str(tiny_folder(LlamaConfig))
    model = build_encoder(folder, device="cpu")

    assert pooling_name(model) == "mean"
    assert "names none" not in describe_encoder(model, folder)


@pytest.mark.parametrize("pooling", ["keep", "ata"])
def test_a_decoder_made_bidirectional_stays_so_in_any_sentence_transformers(
    pooling: Any, raw: Folder, tmp_path: Path
) -> None:
    folder = raw(LlamaConfig)
    assert not is_bidirectional(build_encoder(str(folder), device="cpu").transformers_model)

    model = build_encoder(str(folder), attention="bidirectional", pooling=pooling, device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=pooling == "ata")

    assert is_bidirectional(again.transformers_model)
    np.testing.assert_allclose(encode(again, TEXTS), encode(model, TEXTS), atol=1e-6)
    causal = build_encoder(str(tmp_path / "saved"), attention="causal", device="cpu")
    assert not is_bidirectional(causal.transformers_model)


def test_an_encoder_cannot_be_made_causal(tiny_folder: Folder) -> None:
    folder = str(tiny_folder(BertConfig))

    with pytest.raises(ModelError, match="attention: causal needs a decoder; BertModel is none"):
        build_encoder(folder, attention="causal", device="cpu")
    assert pooling_name(build_encoder(folder, attention="bidirectional", device="cpu")) == "mean"


@pytest.mark.parametrize("pooling", ["mean", "ata"])
@pytest.mark.parametrize("config_class", [BertConfig, LlamaConfig])
def test_adapters_give_the_same_vectors_merged_and_apart(
    pooling: Any, config_class: Any, tiny_folder: Folder, tmp_path: Path
) -> None:
    base = str(tiny_folder(config_class))
    settings = TrainingConfig(base_model=base, pooling=pooling, lora=LORA, max_seq_length=32)
    plain = encode(build_encoder(base, pooling=pooling, max_seq_length=32, device="cpu"), TEXTS)
    model = build_candidate(settings, device="cpu")
    _stir(model)
    model.eval()
    expected = encode(model, TEXTS)
    assert np.abs(expected - plain).max() > 1e-3

    save_candidate(model, tmp_path / "apart", settings.model_copy(update={"adapters": "apart"}))
    assert (tmp_path / "apart" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "apart" / "model.safetensors").exists()
    save_candidate(model, tmp_path / "merged", settings)
    assert not list((tmp_path / "merged").rglob("adapter*"))

    for kind in ("apart", "merged"):
        again = load(str(tmp_path / kind), device="cpu")
        assert has_adapters(again) == (kind == "apart")
        np.testing.assert_allclose(encode(again, TEXTS), expected, atol=1e-5)
        # What an export does: adapters that were loaded become part of the weights, and the whole is saved.
        merge_adapters(again)
        again.save_pretrained(str(tmp_path / f"{kind}-whole"), create_model_card=False)
        whole = load(str(tmp_path / f"{kind}-whole"), device="cpu")
        np.testing.assert_allclose(encode(whole, TEXTS), expected, atol=1e-5)


def test_only_adapters_learn_and_merging_frees_the_rest(tiny_folder: Folder) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), lora=LORA, device="cpu")
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    assert learning
    assert all("lora_" in name and "pooler" not in name for name in learning)
    merge_adapters(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("lora_" in name for name in model.state_dict())


def test_layers_that_are_not_there_are_named_with_those_that_are(tiny_folder: Folder) -> None:
    lora = LoraConfig(targets=["q_proj", "c_attn"])

    with pytest.raises(ModelError, match=r"no linear layer named c_attn; it has .*q_proj"):
        build_encoder(str(tiny_folder(LlamaConfig)), lora=lora, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and so no error")
def test_four_bits_without_a_gpu_are_refused_in_a_line(tiny_folder: Folder) -> None:
    with pytest.raises((ModelError, MissingExtraError), match="4bit needs a CUDA GPU, and there is none"):
        build_encoder(str(tiny_folder(LlamaConfig)), lora=LORA, quantize="4bit", device="cpu")
    assert quantization("none") is None


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"quantize": "4bit"}, "quantize: 4bit tunes adapters only; set lora"),
        ({"quantize": "4bit", "candidates": {"a": {"lora": {"r": 4}}, "b": {}}}, "candidate 'b': quantize"),
        (
            {"lora": {}, "adapters": "apart", "attention": "bidirectional"},
            "adapters: apart are saved without the model's config",
        ),
        ({"lora": {"rank": 8}}, "training.lora.rank: unknown key"),
        ({"prompts": {"query": "q: ", "instruction": "find"}}, "give query or instruction, not both"),
        ({"prompts": {"template": "Instruct:"}}, "template must hold"),
    ],
)
def test_settings_of_bases_that_contradict_each_other_are_refused(training: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config({"training": training})


def test_prompts_are_saved_with_the_model_and_used_by_plain_sentence_transformers(
    tiny_folder: Folder, tmp_path: Path
) -> None:
    prompts = PromptsConfig(instruction="the fox", template="query: {instruction} ", document="dog ")
    model = build_encoder(str(tiny_folder(BertConfig)), prompts=prompts, device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu")

    assert again.prompts["query"] == "query: the fox "
    queries = again.encode_query(["quick brown"], normalize_embeddings=True)
    np.testing.assert_allclose(queries, encode(model, ["query: the fox quick brown"]), atol=1e-6)
    documents = again.encode_document(["quick brown"], normalize_embeddings=True)
    np.testing.assert_allclose(documents, encode(model, ["dog quick brown"]), atol=1e-6)


def test_what_the_config_leaves_out_stays_the_base_models_own_prompt(tiny_folder: Folder, tmp_path: Path) -> None:
    model = build_encoder(str(tiny_folder(BertConfig)), prompts=PromptsConfig(query="q: ", document="d: "))
    model.save_pretrained(str(tmp_path / "saved"))
    again = build_encoder(str(tmp_path / "saved"), prompts=PromptsConfig(document=""))

    assert again.prompts == {"query": "q: ", "document": ""}


def test_a_tokenizer_without_padding_is_given_one_that_changes_no_vector(raw: Folder) -> None:
    folder = raw(LlamaConfig)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "[SEP]"}))
    assert tokenizer.pad_token == "[PAD]"
    model = build_encoder(str(folder), device="cpu")

    assert model.tokenizer.pad_token == "[SEP]"
    together = encode(model, TEXTS)
    alone = np.concatenate([encode(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_half_precision_is_widened_for_full_tuning(raw: Folder) -> None:
    folder = raw(LlamaConfig)
    half = build_encoder(str(folder), device="cpu").transformers_model.to(torch.bfloat16)
    half.save_pretrained(folder)
    settings = TrainingConfig(base_model=str(folder), max_seq_length=32)

    assert build_candidate(settings, device="cpu").dtype == torch.float32


def test_a_static_model_starts_from_the_encoders_token_embeddings(tiny_folder: Folder, tmp_path: Path) -> None:
    folder = str(tiny_folder(BertConfig))
    model = build_encoder(f"static:{folder}", max_seq_length=32, device="cpu")
    table = build_encoder(folder, device="cpu").transformers_model.get_input_embeddings().weight

    ids = model.tokenizer.encode("dog fox", add_special_tokens=False).ids
    expected = table[ids].mean(0).detach().numpy()
    np.testing.assert_allclose(encode(model, ["dog fox"])[0], expected / np.linalg.norm(expected), atol=1e-6)
    model.save_pretrained(str(tmp_path / "static"))
    again = load(str(tmp_path / "static"), device="cpu")
    np.testing.assert_allclose(encode(again, TEXTS), encode(model, TEXTS), atol=1e-6)
    with pytest.raises(ModelError, match="no pooling over a transformer's tokens"):
        build_encoder(f"static:{folder}", pooling="ata", device="cpu")
    with pytest.raises(ModelError, match="lora needs a transformer"):
        build_encoder(f"static:{folder}", lora=LORA, device="cpu")


def test_a_checkpoint_with_a_chat_template_reads_texts_as_they_are(raw: Folder, tmp_path: Path) -> None:
    folder = raw(LlamaConfig)
    plain = build_encoder(str(folder), pooling="mean", device="cpu").encode(TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for message in messages %}quick {{ message['content'] }} dog{% endfor %}"
    tokenizer.save_pretrained(folder)

    model = build_encoder(str(folder), pooling="ata", ata=AtaOptions(include_prompt=False), device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))

    np.testing.assert_array_equal(build_encoder(str(folder), pooling="mean", device="cpu").encode(TEXTS), plain)
    for encoder in (model, load(str(tmp_path / "saved"), device="cpu")):
        features = encoder.preprocess(TEXTS, prompt="query: ")
        assert (encoder[1].token_weights(encoder[0](features))[:, :2] == 0).all()


def test_a_bare_checkpoint_is_the_same_encoder_wherever_it_is_loaded(raw: Folder) -> None:
    folder = raw(LlamaConfig)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)

    np.testing.assert_array_equal(
        encode(load(str(folder), device="cpu"), TEXTS), encode(build_encoder(str(folder), device="cpu"), TEXTS)
    )
