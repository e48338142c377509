"""Rerankers: the losses that they are trained by, and training that is stopped and resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoModel, AutoTokenizer, Qwen3Config

from multigrain.config import TrainingConfig
from multigrain.curriculum.pools import GradedShape
from multigrain.model.reranker import build_reranker, save_reranker
from multigrain.records import LEVELS, Origin, Passage
from multigrain.training.data import listed_source
from multigrain.training.train import train_candidate

from .graded import examples, largest_difference, scored_examples

SEED = 7
PAIRS = [("river w1", "engine w2 w3"), ("garden", "w9")]
CASES: dict[str, dict[str, Any]] = {
    "levels": {"loss": "binary", "schedule": "coarse-to-fine", "accumulation": 2},
    "lists": {},
    "distil": {"loss": "distil", "teacher": "judge", "schedule": "cumulative"},
    "lora": {"loss": "binary", "lora": {"r": 4, "dropout": 0.1}},
    "decoder": {"lora": {"r": 4, "dropout": 0.1}},
}


@pytest.fixture(scope="module")
def small_decoder(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random decoder that reads the same words."""
    folder = tmp_path_factory.mktemp("decoder")
    tokenizer = AutoTokenizer.from_pretrained(small_bert)
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    config = Qwen3Config(vocab_size=len(tokenizer), attention_dropout=0.1, **shape, **heads)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def settings(base: Path, **values: object) -> TrainingConfig:
    """A reranker's settings: eight steps that drop as the model does."""
    shared = {
        "kind": "reranker",
        "base_model": str(base),
        "steps": 8,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "precision": "float32",
        "checkpoint_every": 3,
        "dropout": None,
        "max_seq_length": 32,
        "schedule": "listwise",
    }
    return TrainingConfig.model_validate({**shared, **values}).resolve("tuned")


class StoppedError(Exception):
    """Plays the machine that goes down."""


@pytest.mark.parametrize("case", CASES)
def test_resuming_ends_with_the_same_weights(small_bert: Path, small_decoder: Path, tmp_path: Path, case: str) -> None:
    config = settings(small_decoder if case == "decoder" else small_bert, **CASES[case])

    def train(checkpoints: Path, stop_at: int = 0) -> tuple[CrossEncoder, Any]:
        model = build_reranker(config, seed=SEED, device="cpu")

        def on_step(step: int, steps: int, loss: float) -> None:
            if step == stop_at:
                raise StoppedError

        log = train_candidate(
            model, scored_examples(), config, name="r", seed=SEED, checkpoints=checkpoints, on_step=on_step
        )
        return model, log

    whole, log = train(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(tmp_path / "cut", stop_at=5)
    resumed, again = train(tmp_path / "cut")

    assert largest_difference(whole, resumed) <= 1e-6
    assert [step.loss for step in again.history] == pytest.approx([step.loss for step in log.history], abs=1e-6)
    before = build_reranker(config, seed=SEED, device="cpu")
    assert largest_difference(whole, before) > 1e-4
    if case != "decoder":
        old, new = (model.transformers_model.classifier.bias for model in (before, whole))
        moved = bool((new - old).abs().max() > 0)
        assert moved == (config.loss == "binary"), "a shift of all scores is nothing to a loss over lists"
    if config.lora is not None:
        _merged_as_any_cross_encoder(whole, before, tmp_path / "saved")


def test_a_default_prompt_stands_before_pairs_in_training_as_in_use(
    small_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(small_bert, steps=1)
    model = build_reranker(config, seed=SEED, device="cpu")
    model.prompts, model.default_prompt_name = {"task": "market w7 "}, "task"
    read, preprocess = [], model.preprocess

    def reading(*given: Any, **options: Any) -> Any:
        features = preprocess(*given, **options)
        if isinstance(given[0][0], tuple):  # the trainer counts the tokens of single columns, too
            read.append(features["input_ids"])
        return features

    monkeypatch.setattr(model, "preprocess", reading)
    train_candidate(model, examples(), config, name="r", seed=SEED, checkpoints=tmp_path)
    model.predict(PAIRS)
    tokenizer: Any = model.tokenizer
    prompt = tokenizer("market w7", add_special_tokens=False)["input_ids"]
    assert len(read) > 1
    assert all(ids[:, :2].tolist() == [prompt] * len(ids) for ids in read)


@pytest.mark.parametrize("shape", ["lists", "triples"])
def test_a_row_is_met_with_each_of_its_answers_in_turn(tmp_path: Path, shape: GradedShape) -> None:
    rows = examples(3)
    rows[1] = replace(rows[1], further_positives=(Passage("w9 w99", Origin.MINED, 0.8),))
    source = listed_source(rows, shape, tmp_path, (3.0, 0.0, 1.0, 1.0, 2.0))
    for number, row in enumerate(rows):
        answers = [row.positive, *(each.text for each in row.further_positives)]
        for level in LEVELS:
            for visit in range(3):
                place = source.pool.index(number, level, visit)
                found = source.dataset[place]
                assert source.pool.row_at(place) == number
                assert (found["query"], found["positive"]) == (row.query, answers[visit % len(answers)])
                passage = row.negatives[0 if shape == "lists" else level - 1].text
                assert found["passage_1"] == passage
    assert len(source.pool) == 3


def _merged_as_any_cross_encoder(tuned: CrossEncoder, before: CrossEncoder, folder: Path) -> None:
    """Adapters and head have learnt, nothing else has, and what is saved needs no peft."""
    learnt = {name for name, weight in tuned.named_parameters() if weight.requires_grad}
    assert any("lora_B" in name for name in learnt)
    heads = {name for name in learnt if "lora_" not in name}
    assert {name.removeprefix("0.model.") for name in heads} in (
        {"score.weight"},
        {f"{part}.{kind}" for part in ("classifier", "bert.pooler.dense") for kind in ("weight", "bias")},
    )
    now, then = tuned.state_dict(), before.state_dict()
    changed = {name for name, weight in now.items() if not torch.equal(weight, then[name])}
    assert changed <= learnt
    assert heads <= changed
    scores = tuned.predict(PAIRS)
    save_reranker(tuned, folder)
    assert not list(folder.glob("adapter*"))
    np.testing.assert_allclose(CrossEncoder(str(folder), device="cpu").predict(PAIRS), scores, atol=1e-5)
