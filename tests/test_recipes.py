"""Every recipe loads, and trains a step on a tiny model of its architecture with its own pooling and prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from sentence_transformers import CrossEncoder
from tests.stand_ins import STAND_INS, make_stand_in
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.candidates import candidate_named
from multigrain.config.file import load_config
from multigrain.encoders.encoder import encode
from multigrain.errors import ConfigError
from multigrain.model.attention.direction import is_bidirectional
from multigrain.model.encoder import build_candidate, load, save_candidate
from multigrain.model.replacing import pooling_name
from multigrain.model.reranker import build_reranker, save_reranker
from multigrain.recipes import recipe, recipe_names, recipe_text
from multigrain.records import LEVELS, GradedExample, Negative, Origin
from multigrain.training.train import train_candidate


def _examples() -> list[GradedExample]:
    def negative(row: int, level: int) -> Negative:
        return Negative(f"w{row} w{30 + level} w{level * 5 + row}", LEVELS[level - 1], Origin.MINED, 0.1 * level)

    return [
        GradedExample(
            id=f"r{row}",
            document_id=f"d{row}",
            query=f"w{row} w{row + 1}",
            positive=f"w{row} w{row + 9} w{row + 20}",
            negatives=tuple(negative(row, level) for level in (1, 2, 3, 4)),  # type: ignore[arg-type]
            positive_similarity=0.9,
        )
        for row in range(8)
    ]


def test_every_recipe_has_a_stand_in() -> None:
    assert recipe_names() == sorted(STAND_INS)


@pytest.mark.parametrize("name", sorted(STAND_INS))
def test_a_recipe_trains_a_step_on_a_tiny_model_of_its_architecture(name: str, tmp_path: Path) -> None:
    training = recipe(name).training
    changes = {"base_model": str(make_stand_in(name, tmp_path)), "max_seq_length": 32, "steps": 1, "batch_size": 4}
    # One process takes the step here; tests/training/test_sharding.py shards the fsdp recipe over two.
    changes |= {"precision": "float32", "warmup_share": 0.0, "fsdp": False}
    training = training.model_copy(update=changes)
    assert training.candidates
    for candidate in training.embedders:
        settings = training.resolve(candidate)
        model = build_candidate(settings, device="cpu")
        before = {key: value.clone() for key, value in model.state_dict().items()}
        assert settings.pooling == "keep" or pooling_name(model) == settings.pooling
        prompts = settings.prompts.resolved({})
        assert {kind: model.prompts[kind] for kind in prompts} == prompts

        log = train_candidate(
            model, _examples(), settings, name=candidate, seed=1, checkpoints=tmp_path / "checkpoints"
        )

        changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
        assert log.steps == 1
        assert changed
        assert settings.lora is None or all("lora_" in key for key in changed)
        save_candidate(model, tmp_path / candidate, settings)
        again = load(str(tmp_path / candidate), device="cpu")
        assert encode(again, ["w1 w2"], role="query").shape == (1, 32)
        assert not list((tmp_path / candidate).rglob("adapter*"))
        if settings.attention == "bidirectional":
            assert is_bidirectional(again.transformers_model)


def test_the_rerankers_recipe_trains_a_step_on_its_tuned_embedder(tmp_path: Path) -> None:
    training = recipe("reranker").training
    assert training.in_order == ("embedder", "reranker")
    settings = training.resolve("reranker")
    assert candidate_named(settings.base_model) == "embedder"
    changes = {"base_model": str(make_stand_in("reranker", tmp_path)), "max_seq_length": 32, "steps": 1}
    settings = settings.model_copy(update=changes | {"batch_size": 4, "precision": "float32", "warmup_share": 0.0})
    model = build_reranker(settings, device="cpu")
    before = {key: value.clone() for key, value in model.state_dict().items()}

    log = train_candidate(model, _examples(), settings, name="reranker", seed=1, checkpoints=tmp_path / "checkpoints")

    assert (log.steps, log.loss, log.schedule) == (1, "lambda", "listwise")
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())
    save_reranker(model, tmp_path / "reranker")
    again = CrossEncoder(str(tmp_path / "reranker"), device="cpu")
    pairs = [("w1 w2", "w1 w9"), ("w1 w2", "w30")]
    assert again.predict(pairs).tolist() == pytest.approx(model.predict(pairs).tolist(), abs=1e-6)


def test_recipes_with_a_reasoning_writer_switch_its_reasoning_off() -> None:
    writers = [recipe(name).llm for name in recipe_names()]
    reasoning = [llm for llm in writers if "Qwen3" in llm.model]
    assert reasoning
    assert all(llm.extra_body == {"chat_template_kwargs": {"enable_thinking": False}} for llm in reasoning)


def test_init_lists_recipes_and_writes_the_one_asked_for(tmp_path: Path, corpus_file: Path) -> None:
    listed = CliRunner().invoke(app, ["init", "--recipe", "list"])
    assert [line.split()[0] for line in listed.output.splitlines()] == recipe_names()
    assert all(len(line.split()) > 4 for line in listed.output.splitlines())

    target = tmp_path / "own.yaml"
    named = ["--recipe", "multilingual", "-d", corpus_file.name]
    CliRunner().invoke(app, ["init", str(target), *named], catch_exceptions=False)
    assert load_config(target).documents.path == tmp_path.resolve() / corpus_file.name
    assert yaml.safe_load(target.read_text())["training"] == yaml.safe_load(recipe_text("multilingual"))["training"]
    assert "# " in target.read_text()
    with pytest.raises(ConfigError, match="did you mean 'multilingual'"):
        CliRunner().invoke(app, ["init", str(tmp_path / "b.yaml"), "--recipe", "multilingal"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="brings its own documents"):
        CliRunner().invoke(
            app, ["init", str(tmp_path / "b.yaml"), "--recipe", "demo", "-d", "texts"], catch_exceptions=False
        )
    assert not (tmp_path / "b.yaml").exists()


def test_the_papers_recipe_marks_what_it_knows(tmp_path: Path) -> None:
    text = recipe_text("paper-mistral-7b")
    settings = recipe("paper-mistral-7b").training

    assert all(mark in text for mark in ("[fact]", "[notes]", "[ours]"))
    assert (settings.steps, settings.batch_size, settings.warmup_share * settings.steps) == (1600, 512, 300)
    assert settings.lora is not None
    assert (settings.lora.r, settings.lora.alpha, settings.lora.dropout) == (16, 32, 0.05)
    assert (settings.attention, settings.pooling, settings.temperature) == ("bidirectional", "ata", 0.02)
