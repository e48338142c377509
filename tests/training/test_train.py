from __future__ import annotations

import itertools
import os
import pickle
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Router
from tests.curriculum.measures import level_of, padded_share

from multigrain.config import PromptsConfig, TrainingConfig
from multigrain.errors import ModelError
from multigrain.model.encoder import build_candidate, build_encoder
from multigrain.training.checkpoints import last_complete_checkpoint
from multigrain.training.data import CurriculumSampling, RowTexts, TrainingPlan, plan_training
from multigrain.training.estimate import estimate_training
from multigrain.training.train import column_prompts, train_candidate, training_sources

from .graded import examples

ROWS = 24


def _config(**values: object) -> TrainingConfig:
    settings = {"steps": 8, "batch_size": 6, "learning_rate": 1e-3, "precision": "float32", "checkpoint_every": 3}
    return TrainingConfig.model_validate({**settings, **values})


class StopAtError(Exception):
    """Plays the machine that goes down."""


def _weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("pooling", ["mean", "ata"])
@pytest.mark.parametrize("stopped_at", [3, 5, 7])
def test_training_that_was_killed_and_resumed_ends_where_the_uninterrupted_ended(
    small_bert: Path, tmp_path: Path, pooling: str, stopped_at: int
) -> None:
    config = _config(pooling=pooling)
    whole = build_encoder(str(small_bert), pooling=config.pooling, device="cpu")
    log = train_candidate(whole, examples(), config, name="a", seed=7, checkpoints=tmp_path / "whole")

    def stop(step: int, steps: int, loss: float) -> None:
        if step == stopped_at:
            raise StopAtError

    first = build_encoder(str(small_bert), pooling=config.pooling, device="cpu")
    with pytest.raises(StopAtError):
        train_candidate(first, examples(), config, name="a", seed=7, checkpoints=tmp_path / "cut", on_step=stop)
    seen: list[int] = []
    resumed = build_encoder(str(small_bert), pooling=config.pooling, device="cpu")
    again = train_candidate(
        resumed,
        examples(),
        config,
        name="a",
        seed=7,
        checkpoints=tmp_path / "cut",
        on_step=lambda step, *_: seen.append(step),
    )

    # The first listener runs inside the step, before that step's checkpoint is written.
    last_checkpoint = (stopped_at - 1) // 3 * 3
    assert seen == list(range(last_checkpoint + 1, 9))
    expected, found = _weights(whole), _weights(resumed)
    assert max(float((expected[name] - found[name]).abs().max()) for name in expected) <= 1e-6
    assert [step.loss for step in again.history] == pytest.approx([step.loss for step in log.history], abs=1e-6)
    assert not (tmp_path / "cut").exists()


def test_the_log_names_the_level_of_every_step(small_bert: Path, tmp_path: Path) -> None:
    model = build_encoder(str(small_bert), pooling="mean", device="cpu")
    log = train_candidate(model, examples(), _config(), name="a", seed=1, checkpoints=tmp_path / "c")

    assert [step.level for step in log.history] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert [(each.step, each.level) for each in log.boundaries] == [(1, 1), (3, 2), (5, 3), (7, 4)]
    assert log.history[-1].learning_rate < max(step.learning_rate for step in log.history)


def test_training_learns_its_rows(small_bert: Path, tmp_path: Path) -> None:
    model = build_encoder(str(small_bert), pooling="mean", device="cpu")
    config = _config(steps=60, batch_size=12, checkpoint_every=1000)
    log = train_candidate(model, examples(), config, name="a", seed=1, checkpoints=tmp_path / "c")

    assert log.history[-1].loss < 0.5 * log.history[0].loss


def test_the_same_seed_gives_the_same_model(small_bert: Path, tmp_path: Path) -> None:
    models = []
    for name in ("a", "b"):
        model = build_encoder(str(small_bert), pooling="mean", device="cpu")
        train_candidate(model, examples(), _config(), name=name, seed=3, checkpoints=tmp_path / name)
        models.append(_weights(model))

    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def _plan(folder: Path, config: TrainingConfig, *, seed: int = 0) -> TrainingPlan:
    return plan_training(training_sources(examples(), config, folder, seed=seed), config, seed=seed)


def test_the_sampler_reaches_exactly_the_planned_triples(tmp_path: Path) -> None:
    rows = examples()
    plan = _plan(tmp_path, _config())
    sampler = CurriculumSampling(plan.batches)(dataset=plan.dataset, batch_size=6, drop_last=False, seed=0)

    assert list(sampler) == plan.batches
    assert len(sampler) == 8
    for step, batch in enumerate(sampler):
        for index in batch:
            level, row = level_of(index, ROWS), index % ROWS
            assert int(level) == step // 2 + 1
            assert plan.dataset[index] == {
                "query": rows[row].query,
                "positive": rows[row].positive,
                "negative": rows[row].negatives[level - 1].text,
            }


def test_the_data_set_is_read_from_its_file_and_not_held_in_memory(tmp_path: Path) -> None:
    plan = _plan(tmp_path, _config())

    assert [Path(each["filename"]) for each in plan.dataset.cache_files] == [tmp_path / "graded.arrow"]


def test_in_batch_and_listwise_training_see_the_same_queries_at_the_same_steps(tmp_path: Path) -> None:
    graded = _plan(tmp_path / "a", _config(), seed=5)
    in_batch = _plan(tmp_path / "b", _config(schedule="in-batch"), seed=5)
    lists = _plan(tmp_path / "c", _config(schedule="listwise"), seed=5)

    assert in_batch.batches == [[index % ROWS for index in batch] for batch in graded.batches] == lists.batches
    assert in_batch.dataset.column_names == ["query", "positive"]
    assert lists.dataset[3]["negative_4"] == examples()[3].negatives[3].text


def test_sampling_survives_pickling_as_checkpoints_need() -> None:
    sampling = CurriculumSampling([[0, 1], [2, 3]])

    assert pickle.loads(pickle.dumps(sampling)).batches == sampling.batches


def test_one_row_cannot_be_trained_on(small_bert: Path, tmp_path: Path) -> None:
    model = build_encoder(str(small_bert), pooling="mean", device="cpu")

    with pytest.raises(ModelError, match="1 training rows; at least 2"):
        train_candidate(model, examples()[:1], _config(), name="a", seed=1, checkpoints=tmp_path / "c")


def test_adapters_learn_alone_with_prompts_and_resume_where_they_were_killed(small_bert: Path, tmp_path: Path) -> None:
    prompts = {"query": "w1 w2 ", "document": "w3 "}
    config = _config(
        base_model=str(small_bert),
        max_seq_length=32,
        pooling="ata",
        lora={"r": 4},
        prompts=prompts,
        gradient_checkpointing=True,
    )
    bare = build_candidate(config.model_copy(update={"prompts": PromptsConfig()}), device="cpu")
    assert column_prompts(bare) is None
    train_candidate(bare, examples(), config, name="a", seed=7, checkpoints=tmp_path / "bare")
    whole = build_candidate(config, device="cpu")
    prompted = column_prompts(whole) or {}
    assert (prompted["query"], prompted["positive"], prompted["negative"]) == ("w1 w2 ", "w3 ", "w3 ")
    before = _weights(whole)
    train_candidate(whole, examples(), config, name="a", seed=7, checkpoints=tmp_path / "whole")

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise StopAtError

    cut = build_candidate(config, device="cpu")
    with pytest.raises(StopAtError):
        train_candidate(cut, examples(), config, name="a", seed=7, checkpoints=tmp_path / "cut", on_step=stop)
    torch.rand(3)  # whatever came before
    resumed = build_candidate(config, device="cpu")
    train_candidate(resumed, examples(), config, name="a", seed=7, checkpoints=tmp_path / "cut")

    expected, found = _weights(whole), _weights(resumed)
    changed = {name for name in expected if not torch.equal(before[name], expected[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    assert max(float((expected[name] - found[name]).abs().max()) for name in expected) <= 1e-6
    # The prompts took part: without them the same seed ends elsewhere.
    other = _weights(bare)
    assert any(not torch.allclose(expected[name], other[name]) for name in changed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_its_step_with_a_checkpoint_to_go_on_from(
    small_bert: Path, tmp_path: Path, number: int
) -> None:
    config = _config(checkpoint_every=1000)
    whole = build_encoder(str(small_bert), pooling="mean", device="cpu")
    train_candidate(whole, examples(), config, name="a", seed=7, checkpoints=tmp_path / "whole")
    handler = signal.getsignal(number)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 4:
            os.kill(os.getpid(), number)

    cut = build_encoder(str(small_bert), pooling="mean", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train_candidate(cut, examples(), config, name="a", seed=7, checkpoints=tmp_path / "cut", on_step=interrupt)
    assert signal.getsignal(number) == handler
    left = last_complete_checkpoint(tmp_path / "cut")
    assert left is not None
    stopped_at = int(left.name.removeprefix("checkpoint-"))
    assert 4 <= stopped_at <= 5
    seen: list[int] = []
    resumed = build_encoder(str(small_bert), pooling="mean", device="cpu")
    train_candidate(
        resumed,
        examples(),
        config,
        name="a",
        seed=7,
        checkpoints=tmp_path / "cut",
        on_step=lambda step, *_: seen.append(step),
    )

    assert seen == list(range(stopped_at + 1, 9))
    expected, found = _weights(whole), _weights(resumed)
    assert max(float((expected[name] - found[name]).abs().max()) for name in expected) <= 1e-6


def test_an_estimate_is_measured_and_leaves_nothing_behind(small_bert: Path, tmp_path: Path) -> None:
    config = _config(base_model=str(small_bert), max_seq_length=32, steps=1000, lora={"r": 4})
    found = estimate_training(build_candidate(config, device="cpu"), examples(), config, name="a", seed=1)

    assert found.steps == 1000
    assert found.seconds == pytest.approx(1000 * found.seconds_a_step, rel=0.2)
    assert 0 < found.tuned_weights < found.weights
    assert found.memory_bytes > 100e6
    assert found.memory_of == "process"
    assert list(tmp_path.iterdir()) == []


def test_steps_that_are_left_open_are_planned_from_the_graded_rows(tmp_path: Path) -> None:
    config = _config(steps="auto", batch_size=2)
    plan = plan_training(training_sources(examples(), config, tmp_path, seed=3), config, seed=3)

    assert len(plan.sources) == len(plan.batches) == 2 * ROWS
    visits = Counter(index % ROWS for batch in plan.batches for index in batch)
    assert set(visits.values()) == {4}


def test_grouping_by_length_keeps_levels_and_visits_and_saves_padding(small_bert: Path, tmp_path: Path) -> None:
    rows = [
        replace(each, positive=" ".join([each.positive] * (1 + 9 * (row % 2)))) for row, each in enumerate(examples())
    ]
    plans = [
        plan_training(training_sources(rows, settings, tmp_path / str(number), seed=3), settings, seed=3)
        for number, settings in enumerate((_config(steps=16), _config(steps=16, group_by_length=True)))
    ]
    plain, grouped = (plan.batches for plan in plans)
    assert plain != grouped
    for level in range(4):
        steps = slice(4 * level, 4 * level + 4)
        assert sorted(itertools.chain(*plain[steps])) == sorted(itertools.chain(*grouped[steps]))
        assert {level_of(index, ROWS) for batch in grouped[steps] for index in batch} == {level + 1}
    texts = RowTexts([plans[0].dataset])
    assert padded_share(grouped, texts.length) < 0.6 * padded_share(plain, texts.length)


def test_dropout_is_the_configs_while_training_and_the_models_own_afterwards(small_bert: Path, tmp_path: Path) -> None:
    def trained(dropout: float | Literal["auto"] | None) -> SentenceTransformer:
        model = build_encoder(str(small_bert), max_seq_length=16, device="cpu")
        config = _config(candidates={"a": {}}, dropout=dropout).resolve("a")
        train_candidate(model, examples(), config, name="a", seed=1, checkpoints=tmp_path / "checkpoints")
        return model

    model = trained(0.0)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.1}
    without, own, set_to_own, auto = (_weights(each) for each in (model, trained(None), trained(0.1), trained("auto")))
    assert all(torch.equal(auto[name], without[name]) for name in own)  # on a CPU
    assert any(not torch.equal(without[name], own[name]) for name in own)
    assert all(torch.equal(set_to_own[name], own[name]) for name in own)


def _routed(small_bert: Path, folder: Path) -> str:
    """An asymmetric model whose two sides begin alike."""
    sides = [SentenceTransformer(str(small_bert), device="cpu") for _ in range(2)]
    router = Router.for_query_document(*([side[0], side[1]] for side in sides))
    SentenceTransformer(modules=[router, Normalize()], device="cpu").save_pretrained(str(folder))
    return str(folder)


def _sides(model: SentenceTransformer) -> list[dict[str, torch.Tensor]]:
    return [_weights(model[0].sub_modules[route]) for route in ("query", "document")]


@pytest.mark.parametrize("frozen", [None, "query", "document"])
@pytest.mark.parametrize("settings", [{}, {"mini_batch_size": 2}, {"schedule": "listwise", "loss": "listmle"}])
def test_each_route_of_an_asymmetric_model_learns_from_its_own_columns(
    frozen: str | None, settings: dict, small_bert: Path, tmp_path: Path
) -> None:
    base = _routed(small_bert, tmp_path / "router")
    config = _config(base_model=base, max_seq_length=32, **settings)
    model = build_candidate(config.resolve("tuned"), device="cpu")
    if frozen is not None:
        model[0].sub_modules[frozen].requires_grad_(False)
    before = _sides(model)
    train_candidate(model, examples(), config, name="a", seed=1, checkpoints=tmp_path / "c")
    learnt = [
        sum(not torch.equal(value, start[name]) for name, value in side.items())
        for side, start in zip(_sides(model), before, strict=True)
    ]
    expected = [route != frozen for route in ("query", "document")]
    assert [bool(count) for count in learnt] == expected
    words = [name for name in before[0] if "word_embeddings" in name]
    for side, start, texts in zip(_sides(model), before, ("river", "engine"), strict=True):
        # Every query begins with `river` and every positive with `engine`, and neither stands on the other side.
        moved = (side[words[0]] != start[words[0]]).any(1)
        tokens = model.tokenizer.convert_tokens_to_ids(["river", "engine"])
        seen = [word for word, token in zip(("river", "engine"), tokens, strict=True) if moved[token]]
        assert seen in ([], [texts])


def test_a_base_of_adapters_is_tuned_as_the_model_that_they_make(small_bert: Path, tmp_path: Path) -> None:
    from peft import LoraConfig as PeftConfig

    adapted = SentenceTransformer(str(small_bert), device="cpu")
    adapted.add_adapter(PeftConfig(r=4, target_modules=["query"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(str(tmp_path / "adapters"))
    config = _config(base_model=str(tmp_path / "adapters"), max_seq_length=32)
    model = build_candidate(config.resolve("tuned"), device="cpu")
    texts = ["river w1", "engine w2"]
    torch.testing.assert_close(
        torch.tensor(model.encode(texts)), torch.tensor(adapted.encode(texts)), atol=1e-5, rtol=1e-4
    )
    before = _weights(model)
    train_candidate(model, examples(), config, name="a", seed=1, checkpoints=tmp_path / "c")
    assert any(not torch.equal(value, before[name]) for name, value in _weights(model).items())


@pytest.mark.parametrize("schedule", ["in-batch", "coarse-to-fine", "listwise"])
def test_cached_gradients_are_those_of_the_whole_batch_but_for_what_dropout_draws(
    schedule: str, small_bert: Path, tmp_path: Path
) -> None:
    losses = {}
    for dropout in (0.0, 0.3):
        for size in (None, 2):
            model = build_encoder(str(small_bert), device="cpu")
            config = _config(schedule=schedule, dropout=dropout, mini_batch_size=size)
            log = train_candidate(model, examples(), config, name="a", seed=1, checkpoints=tmp_path / "c")
            losses[dropout, size] = [step.loss for step in log.history]
    assert losses[0.0, 2] == pytest.approx(losses[0.0, None], abs=1e-4)
    assert losses[0.3, 2] != pytest.approx(losses[0.3, None], abs=1e-4), "the docs say that they differ"
