"""The audit as a user meets it: a run with a scripted model, somebody's file, marks from the report."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from multigrain.config_file import load_config, parse_config
from multigrain.dataset.store import read_examples
from multigrain.errors import ConfigError, ModelError, RunDirectoryError, SourceError
from multigrain.pipeline.marking import apply_marks_file
from multigrain.pipeline.run import run_stages
from multigrain.rundir import RunDirectory

STAGES = ["documents", "synthesis", "audit"]


def settings(corpus: Path, model: Path, **audit: Any) -> dict[str, Any]:
    return {
        "documents": {"path": str(corpus), "validation_share": 0.2, "test_share": 0.3},
        "llm": {"provider": "scripted"},
        "synthesis": {"strategy": "mgh"},
        "audit": {
            "round_trip_rank": None,
            "false_negative_margin": 0.0,
            "min_level_gap": 0.0,
            "max_copied_share": 1.0,
            "checks": {"copied": False, "repeats": False, "near_duplicates": False},
            **audit,
        },
        "training": {"base_model": str(model), "max_seq_length": 32, "precision": "float32"},
    }


def asked(run: RunDirectory, strategy: str) -> int:
    with sqlite3.connect(run.journal_path) as connection:
        found = connection.execute("SELECT count(*) FROM completions WHERE strategy = ?", (strategy,)).fetchone()
    connection.close()
    return int(found[0])


def test_what_is_judged_and_written_again_is_journaled_and_never_paid_twice(tmp_path, corpus_file, small_bert) -> None:
    values = settings(
        corpus_file,
        small_bert,
        judge={"positive_at_least": 0, "negative_at_most": 5, "max_passages": 30},
        repair=["relevel", "regenerate", "refill"],
        regenerate_budget=7,
        false_negative_margin=0.02,
    )
    run = run_stages(parse_config(values), tmp_path / "run", STAGES)
    counts = json.loads(run.audit_path.read_text(encoding="utf-8"))
    judged, again = asked(run, "judge"), asked(run, "regenerate")

    assert 0 < judged <= 30
    assert counts["judge"]["judged"] == judged
    assert counts["judge"]["over_limit"] > 0
    assert 0 < again <= 7 == counts["asked_again"]

    values["audit"]["max_query_words"] = 59  # the same rows, audited anew
    run_stages(parse_config(values), tmp_path / "run", ["audit"], redo=True)

    assert (asked(run, "judge"), asked(run, "regenerate")) == (judged, again)


def test_rows_marked_bad_leave_the_data_set_and_stay_out(tmp_path, corpus_file, small_bert) -> None:
    config = parse_config(settings(corpus_file, small_bert))
    run = run_stages(config, tmp_path / "run", STAGES)
    before = read_examples(run.dataset_path)
    marks = tmp_path / "marks.jsonl"
    marks.write_text(
        "".join(json.dumps({"id": each.id, "mark": "bad"}) + "\n" for each in before[:2]), encoding="utf-8"
    )

    counts = apply_marks_file(run.path, marks)

    assert read_examples(run.dataset_path) == before[2:]
    assert counts["marked"] == 2
    assert counts["rejected"]["marked_bad"] == 2
    # Marks add up, and auditing again does not bring a row back.
    marks.write_text(json.dumps([{"id": before[3].id, "mark": "bad"}]), encoding="utf-8")
    assert apply_marks_file(run.path, marks)["marked"] == 3
    assert [each.id for each in read_examples(run.dataset_path)] == [before[2].id, *(e.id for e in before[4:])]
    run_stages(load_config(run.config_path), run.path, ["audit"])
    assert len(read_examples(run.dataset_path)) == len(before) - 3


def test_marks_of_another_run_and_of_no_run_are_refused(tmp_path, corpus_file, small_bert) -> None:
    run = run_stages(parse_config(settings(corpus_file, small_bert)), tmp_path / "run", STAGES)
    marks = tmp_path / "marks.jsonl"
    marks.write_text('{"id": "of another", "mark": "bad"}\n', encoding="utf-8")

    with pytest.raises(SourceError, match="none of its 1 marked rows"):
        apply_marks_file(run.path, marks)
    with pytest.raises(RunDirectoryError, match="no audited run"):
        apply_marks_file(tmp_path, marks)
    assert not run.marks_path.exists()


def test_an_evaluation_set_s_queries_are_kept_out_of_training(tmp_path, corpus_file, small_bert) -> None:
    run = run_stages(parse_config(settings(corpus_file, small_bert)), tmp_path / "run", STAGES)
    before = read_examples(run.dataset_path)
    held = tmp_path / "held-out.jsonl"
    held.write_text("\n".join(json.dumps({"query": f"{each.query}?!"}) for each in before[:3]), encoding="utf-8")
    guarded = settings(corpus_file, small_bert, decontamination={"sets": [str(held)], "max_similarity": 1.0})

    run_stages(parse_config(guarded), tmp_path / "run", ["audit"], redo=True)

    gone = {each.id for each in before} - {each.id for each in read_examples(run.dataset_path)}
    assert {each.id for each in before[:3]} <= gone
    counts = json.loads(run.audit_path.read_text(encoding="utf-8"))
    # A row that went for another reason before may be among them.
    assert len(before) > len(gone)
    assert counts["rejected"]["contaminated"] >= len(gone)


def test_a_set_that_is_neither_a_name_nor_a_path_is_refused(tmp_path, corpus_file, small_bert) -> None:
    values = settings(corpus_file, small_bert, decontamination={"sets": ["no-such-set"]})

    with pytest.raises(ConfigError, match=r"'no-such-set' is neither the name of one of evaluation.sets"):
        run_stages(parse_config(values), tmp_path / "run", STAGES)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory, small_bert: Path) -> Path:
    """A tiny cross-encoder with random weights."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, set_seed

    set_seed(3)
    folder = tmp_path_factory.mktemp("cross-encoder")
    tokenizer = AutoTokenizer.from_pretrained(str(small_bert))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=64,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CrossEncoder(str(folder), device="cpu").save_pretrained(str(folder))
    return folder


def test_a_real_cross_encoder_has_a_say(tmp_path, corpus_file, small_bert, cross_encoder) -> None:
    easy = settings(corpus_file, small_bert, cross_encoder={"model": str(cross_encoder), "margin": 0.0})
    hard = settings(corpus_file, small_bert, cross_encoder={"model": str(cross_encoder), "margin": 0.9})

    run = run_stages(parse_config(easy), tmp_path / "run", STAGES)

    rejected = json.loads(run.audit_path.read_text(encoding="utf-8"))["rejected"]
    assert read_examples(run.dataset_path)
    assert rejected.get("negative:false_negative", 0) > 0
    # Random weights put every pair near one half: nothing is .9 below its positive.
    with pytest.raises(SourceError, match=r"0 of .* rows were kept"):
        run_stages(parse_config(hard), tmp_path / "run", ["audit"], redo=True)


def test_a_folder_that_is_no_cross_encoder_is_one_line(tmp_path, corpus_file, small_bert) -> None:
    values = settings(corpus_file, small_bert, cross_encoder={"model": str(tmp_path / "missing")})

    with pytest.raises(ModelError, match="cannot be loaded as a cross-encoder"):
        run_stages(parse_config(values), tmp_path / "run", STAGES)
