"""Stages know their inputs by content: files that change in place make what was made of them out of date."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from multigrain.config.file import parse_config
from multigrain.errors import RunMismatchError
from multigrain.stages.base import RunContext, complete_stage
from multigrain.stages.fingerprints import (
    candidate_fingerprint,
    dataset_fingerprint,
    results_fingerprint,
    synthesis_fingerprint,
)
from multigrain.stages.table import STAGES
from multigrain.storage.files import content_fingerprint
from multigrain.storage.rundir import RunDirectory


@pytest.fixture
def base(tmp_path: Path, small_bert: Path) -> Path:
    return Path(shutil.copytree(small_bert, tmp_path / "base"))


@pytest.fixture
def evaluation_set(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "a"}')
    return folder


def _identities(tmp_path: Path, base: Path, evaluation_set: Path, **synthesis: Any) -> dict[str, str]:
    held = RunDirectory(tmp_path / "run")
    held.finish("documents", "made", {}, 0.0)
    values = {
        "training": {"base_model": str(base)},
        "synthesis": synthesis,
        "evaluation": {"sets": [{"name": "own", "path": str(evaluation_set)}]},
    }
    context = RunContext(parse_config(values), held)
    return {
        "synthesis": synthesis_fingerprint(context),
        "dataset": dataset_fingerprint(context),
        "candidate": candidate_fingerprint(context, "tuned"),
        "results": results_fingerprint(context),
    }


def _changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_a_base_model_that_changes_in_place_is_another(tmp_path: Path, base: Path, evaluation_set: Path) -> None:
    before = _identities(tmp_path, base, evaluation_set)
    (base / "README.md").write_text("another card")
    assert _changed(before, _identities(tmp_path, base, evaluation_set)) == set()

    config = base / "config_sentence_transformers.json"
    config.write_text(config.read_text() + " ")
    assert _changed(before, _identities(tmp_path, base, evaluation_set)) == {"dataset", "candidate", "results"}


def test_an_evaluation_set_that_changes_in_place_asks_for_new_results_alone(
    tmp_path: Path, base: Path, evaluation_set: Path
) -> None:
    before = _identities(tmp_path, base, evaluation_set)
    (evaluation_set / "corpus.jsonl").write_text('{"_id": "d", "text": "b"}')

    assert _changed(before, _identities(tmp_path, base, evaluation_set)) == {"results"}


def test_sets_that_choose_the_share_to_merge_are_part_of_the_model_and_no_others(
    tmp_path: Path, base: Path, evaluation_set: Path
) -> None:
    held = RunDirectory(tmp_path / "chosen")
    held.finish("documents", "made", {}, 0.0)

    def candidate(merge: object, *roles: str) -> str:
        sets = [{"name": role, "path": str(evaluation_set), "role": role} for role in roles]
        fixed = {"base_model": str(base), "learning_rate": 2e-5, "early_stopping": None}
        values = {"training": {**fixed, "merge": merge}, "evaluation": {"sets": sets}}
        return candidate_fingerprint(RunContext(parse_config(values), held), "tuned")

    for merge in (None, 0.5):
        assert candidate(merge) == candidate(merge, "test", "forgetting", "validation")
    assert candidate("auto") == candidate("auto", "test", "forgetting")
    chosen = candidate("auto", "validation")
    assert chosen != candidate("auto")
    (evaluation_set / "corpus.jsonl").write_text('{"_id": "d", "text": "b"}')
    assert candidate("auto", "validation") != chosen


def test_what_may_be_spent_is_no_part_of_what_is_written(tmp_path: Path, base: Path, evaluation_set: Path) -> None:
    before = _identities(tmp_path, base, evaluation_set)
    limits = {"max_cost": 3.0, "budget_seconds": 60.0, "max_total_tokens": 10}

    assert _changed(before, _identities(tmp_path, base, evaluation_set, **limits)) == set()
    assert _changed(before, _identities(tmp_path, base, evaluation_set, queries_per_document=2)) == set(before)


def test_what_is_sent_besides_decides_what_is_written_and_headers_do_not(tmp_path: Path) -> None:
    held = RunDirectory(tmp_path / "run")
    held.finish("documents", "made", {}, 0.0)

    def identity(**llm: Any) -> str:
        values = {"provider": "openai", "model": "m", "base_url": "http://h:1/v1", **llm}
        return synthesis_fingerprint(RunContext(parse_config({"llm": values}), held))

    plain = identity()
    assert identity(extra_body={}, extra_headers={}) == plain
    assert identity(extra_headers={"api-key": "env:GATEWAY_KEY"}) == plain
    low, high = (identity(extra_body={"reasoning_effort": effort}) for effort in ("low", "high"))
    assert len({plain, low, high}) == 3


def test_a_refusal_to_mix_settings_shows_no_credentials(tmp_path: Path) -> None:
    def context(token: str) -> RunContext:
        values = {"base_url": f"http://me:hunter22@h:1/v1?api-version=2024-06-01&token={token}"}
        return RunContext(parse_config({"llm": values}), RunDirectory(tmp_path / "run"))

    complete_stage(context("tok-12345"), "synthesis", "one", dict)
    with pytest.raises(RunMismatchError, match=r"api-version=2024-06-01&token=…") as caught:
        complete_stage(context("tok-67890"), "synthesis", "other", dict)
    assert not any(secret in str(caught.value) for secret in ("hunter22", "tok-"))


def test_a_refusal_names_what_decides_the_stage_and_nothing_else_that_changed(tmp_path: Path, base: Path) -> None:
    held = RunDirectory(tmp_path / "run")

    def context(**training: Any) -> RunContext:
        return RunContext(parse_config({"training": {"base_model": str(base), **training}}), held)

    before = context(max_seq_length=16, batch_size=4, steps=9)
    held.finish("documents", "made", {}, 0.0)
    settings = before.config.model_dump(mode="json")
    held.finish("synthesis", synthesis_fingerprint(before), {}, 0.0, settings=settings)
    held.finish("dataset", dataset_fingerprint(before), {}, 0.0, settings=settings)
    now = context(max_seq_length=32, batch_size=8, steps=3)
    with pytest.raises(RunMismatchError, match=r"training\.max_seq_length was 16, now 32\)") as caught:
        STAGES["audit"].require(now)
    assert "batch_size" not in str(caught.value)
    assert "steps" not in str(caught.value)


def test_a_folder_that_other_settings_name_otherwise_is_refused_in_words(tmp_path: Path, base: Path) -> None:
    held = RunDirectory(tmp_path / "run")
    held.finish("documents", "made", {}, 0.0)

    def context(**training: Any) -> RunContext:
        values = {"base_model": str(base), "teacher": [{"model": str(base)}], **training}
        return RunContext(parse_config({"training": values}), held)

    before, now = context(loss="distil"), context(loss="infonce", teacher_margin=0.1)
    (folder,) = STAGES["teachers"].folders(now.config)
    held.finish(folder, "of other rows", {}, 0.0, settings=before.config.model_dump(mode="json"))
    with pytest.raises(RunMismatchError, match="completed with other settings"):
        STAGES["teachers"].require(now)


def test_every_part_of_a_sets_judgments_decides_the_results(tmp_path: Path, base: Path, evaluation_set: Path) -> None:
    parts = [evaluation_set / "qrels" / f"test-0000{number}-of-00002.parquet" for number in range(2)]
    parts[0].parent.mkdir()
    for part in parts:
        part.write_bytes(b"a")
    before = _identities(tmp_path, base, parts[0])
    parts[1].write_bytes(b"b")

    assert _changed(before, _identities(tmp_path, base, parts[0])) == {"results"}


def test_content_is_names_and_bytes_and_no_places(tmp_path: Path, base: Path) -> None:
    moved = Path(shutil.copytree(base, tmp_path / "elsewhere"))
    assert content_fingerprint(moved) == content_fingerprint(base)

    (moved / "modules.json").rename(moved / "renamed.json")
    assert content_fingerprint(moved) != content_fingerprint(base)
    assert content_fingerprint(tmp_path / "nothing") is None


def test_what_computes_attention_is_no_part_of_an_identity(tmp_path: Path, base: Path) -> None:
    held = RunDirectory(tmp_path / "run")
    held.finish("documents", "made", {}, 0.0)
    found = {
        candidate_fingerprint(
            RunContext(parse_config({"training": {"base_model": str(base), **chosen}}), held), "tuned"
        )
        for chosen in ({}, {"attn_implementation": None}, {"attn_implementation": "sdpa"})
    }

    assert len(found) == 1


@pytest.mark.parametrize("training", [{"append_eos": True}, {"prompts": {"query": "q: "}}])
def test_how_the_base_reads_texts_is_part_of_what_was_measured_with_it(
    training: dict[str, Any], tmp_path: Path, base: Path
) -> None:
    held = RunDirectory(tmp_path / "run")
    held.finish("documents", "made", {}, 0.0)

    def identity(**more: Any) -> str:
        return dataset_fingerprint(RunContext(parse_config({"training": {"base_model": str(base), **more}}), held))

    assert identity(**training) != identity()
