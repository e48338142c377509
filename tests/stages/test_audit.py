"""The audit as a user meets it: a run with a scripted model, somebody's file, marks from the report."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from multigrain.audit.file import audit_file
from multigrain.audit.judges import open_judges
from multigrain.config.file import load_config, parse_config
from multigrain.dataset.store import open_examples, read_rows
from multigrain.errors import ConfigError, ModelError, RunDirectoryError, SourceError
from multigrain.records import Level, Origin
from multigrain.stages.labels import apply_labels_file
from multigrain.stages.run import run_stages
from multigrain.stages.status import run_status
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import row_units

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


def rows_of(run: RunDirectory, query: str, *values: str) -> list[Any]:
    with sqlite3.connect(run.journal_path) as connection:
        found = connection.execute(query, values).fetchall()
    connection.close()
    return found


def asked(run: RunDirectory, strategy: str) -> int:
    return len(rows_of(run, "SELECT 1 FROM completions WHERE strategy = ?", strategy))


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


def test_a_mix_asks_the_member_again_that_wrote_the_row(tmp_path, corpus_file, small_bert) -> None:
    values = settings(corpus_file, small_bert, repair=["relevel", "regenerate", "refill"])
    config = parse_config(values | {"synthesis": {"strategy": {"mgh": 1, "mined-bands": 1}}})
    run = run_stages(config, tmp_path / "run", STAGES[:2])
    rows = read_rows(run.rows_path)
    graded = {row.id for row in rows if row.strategy == "mgh"}
    assert 3 < len(graded) < len(rows) - 3

    with open_judges(config, run, lambda: row_units(config, run, rows)) as (_, rewrite):
        assert rewrite is not None
        for turn in (1, 2):
            found = rewrite(rows, turn)
            # Only mgh writes negatives.
            assert {row for row, levels in found.items() if levels} == graded


def test_every_model_and_stage_that_was_paid_for_is_in_the_cost(tmp_path, corpus_file, small_bert) -> None:
    values = settings(corpus_file, small_bert, judge={"positive_at_least": 0, "max_passages": 30})
    values["llm"]["prices"] = {"auto": {"prompt": 100.0, "completion": 0.0}}
    values["evaluation"] = {
        "queries": "synthetic",
        "llm": {"provider": "scripted", "prices": {"auto": {"prompt": 0.0, "completion": 3000.0}}},
    }
    config = parse_config(values)
    run = run_stages(config, tmp_path / "run", STAGES)

    writing = run.require("synthesis", "").counts
    read = sum(int(tokens) for (tokens,) in rows_of(run, "SELECT prompt_tokens FROM completions"))
    counts = json.loads(run.audit_path.read_text(encoding="utf-8"))

    assert asked(run, "judge") > 0 < writing["heldout_cost"]
    assert read > writing["prompt_tokens"]
    assert counts["cost"] == pytest.approx(read * 1e-4 + writing["heldout_cost"])
    assert counts["cost_per_kept_row"] == pytest.approx(counts["cost"] / counts["kept"], abs=1e-7)
    shown = run_status(run.path).journal
    assert shown["cost"] == counts["cost"]
    assert shown["prompt_tokens"] == read + writing["heldout_prompt_tokens"]
    assert shown["completions"] == len(rows_of(run, "SELECT 1 FROM completions")) + writing["heldout_queries_written"]


def test_rows_marked_bad_leave_the_data_set_and_stay_out(tmp_path, corpus_file, small_bert) -> None:
    config = parse_config(settings(corpus_file, small_bert))
    run = run_stages(config, tmp_path / "run", STAGES)
    before = tuple(open_examples(run.dataset_path))
    marks = tmp_path / "marks.jsonl"
    marks.write_text(
        "".join(json.dumps({"id": each.id, "mark": "bad"}) + "\n" for each in before[:2]), encoding="utf-8"
    )

    counts = apply_labels_file(run.path, marks)

    assert tuple(open_examples(run.dataset_path)) == before[2:]
    assert counts["marked"] == 2
    assert counts["rejected"]["marked_bad"] == 2
    # Marks add up, and auditing again does not bring a row back.
    marks.write_text(json.dumps([{"id": before[3].id, "mark": "bad"}]), encoding="utf-8")
    assert apply_labels_file(run.path, marks)["marked"] == 3
    assert [each.id for each in tuple(open_examples(run.dataset_path))] == [before[2].id, *(e.id for e in before[4:])]
    run_stages(load_config(run.config_path), run.path, ["audit"])
    assert len(tuple(open_examples(run.dataset_path))) == len(before) - 3


def test_marks_of_another_run_and_of_no_run_are_refused(tmp_path, corpus_file, small_bert) -> None:
    run = run_stages(parse_config(settings(corpus_file, small_bert)), tmp_path / "run", STAGES)
    marks = tmp_path / "marks.jsonl"
    marks.write_text('{"id": "of another", "mark": "bad"}\n', encoding="utf-8")

    with pytest.raises(SourceError, match="none of its 1 marked rows"):
        apply_labels_file(run.path, marks)
    with pytest.raises(RunDirectoryError, match="no audited run"):
        apply_labels_file(tmp_path, marks)
    assert not run.labels_path.exists()


def test_an_evaluation_set_s_queries_are_kept_out_of_training(tmp_path, corpus_file, small_bert) -> None:
    run = run_stages(parse_config(settings(corpus_file, small_bert)), tmp_path / "run", STAGES)
    before = tuple(open_examples(run.dataset_path))
    held = tmp_path / "held-out.jsonl"
    held.write_text("\n".join(json.dumps({"query": f"{each.query}?!"}) for each in before[:3]), encoding="utf-8")
    guarded = settings(corpus_file, small_bert, decontamination={"sets": [str(held)], "max_similarity": 1.0})

    run_stages(parse_config(guarded), tmp_path / "run", ["audit"], redo=True)

    gone = {each.id for each in before} - {each.id for each in tuple(open_examples(run.dataset_path))}
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
    assert tuple(open_examples(run.dataset_path))
    assert rejected.get("negative:false_negative", 0) > 0
    # Random weights put every pair near one half: nothing is .9 below its positive.
    with pytest.raises(SourceError, match=r"0 of .* rows were kept"):
        run_stages(parse_config(hard), tmp_path / "run", ["audit"], redo=True)


def test_a_folder_that_is_no_cross_encoder_is_one_line(tmp_path, corpus_file, small_bert) -> None:
    values = settings(corpus_file, small_bert, cross_encoder={"model": str(tmp_path / "missing")})

    with pytest.raises(ModelError, match="cannot be loaded as a cross-encoder"):
        run_stages(parse_config(values), tmp_path / "run", STAGES)


WORDS = ["river", "engine", "garden", "market", "signal", "bridge", "planet", "fabric", "recipe", "valley"]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Thirty rows with none to seven negatives, some of them copies of the positive."""
    path = tmp_path / "theirs.jsonl"
    rows = []
    for number in range(30):
        one, two = WORDS[number % 10], WORDS[(number * 3 + 1) % 10]
        positive = f"{one} {two} w{number} w{number + 1} w{number + 2}"
        negatives = [f"{two} w{number + 50 + step} w{step} {WORDS[step]}" for step in range(number % 8)]
        rows.append(
            {"query": f"{one} {two} w{number}", "pos": [positive], "neg": [*negatives, positive][: number % 8]}
        )
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def file_config(model: Path, **audit: Any) -> Any:
    return parse_config(
        {
            "audit": {"round_trip_rank": None, "false_negative_margin": 0.0, "min_level_gap": 0.0, **audit},
            "training": {"base_model": str(model), "max_seq_length": 32, "precision": "float32"},
        }
    )


def test_somebody_s_file_gets_four_measured_levels_however_many_negatives_it_had(tmp_path, theirs, small_bert) -> None:
    counts = audit_file(theirs, tmp_path / "out", file_config(small_bert))

    examples = tuple(open_examples(RunDirectory(tmp_path / "out").dataset_path))
    assert counts["format"] == "flagembedding"
    assert counts["kept"] == len(examples) > 15
    assert counts["kept"] + counts["dropped"] == 30
    positives = {json.loads(line)["pos"][0] for line in theirs.read_text(encoding="utf-8").splitlines()}
    for each in examples:
        similarities = [negative.similarity for negative in each.negatives]
        assert similarities == sorted(similarities)
        assert all(negative.written_level is None for negative in each.negatives)
        for negative in each.negatives:
            own = negative.origin is Origin.WRITTEN
            assert f"{'levelled' if own else 'refilled'}:{int(negative.level)}" in each.actions or own
            assert own or negative.text in positives
            assert negative.text != each.positive
    assert any(negative.origin is Origin.WRITTEN for each in examples for negative in each.negatives)
    # Each of their negatives is in its row, or turned away with a reason.
    rejected = pq.read_table(RunDirectory(tmp_path / "out").rejects_path).to_pylist()
    assert {each["part"] for each in rejected} <= {"row", "negative"}
    assert all(each["reason"] and each["detail"] for each in rejected)
    given = {row["query"]: row["neg"] for row in map(json.loads, theirs.read_text(encoding="utf-8").splitlines())}
    for each in examples:
        used = [negative.text for negative in each.negatives if negative.origin is Origin.WRITTEN]
        out = [row["text"] for row in rejected if row["id"] == each.id]
        assert sorted(used + out) == sorted(given[each.query])
    assert {each.id for each in examples} <= {f"theirs-{line}" for line in range(1, 31)}


def test_a_file_s_missing_levels_can_be_written_within_a_budget(tmp_path, theirs, small_bert) -> None:
    config = file_config(
        small_bert,
        negatives="written",
        repair=["relevel", "regenerate"],
        regenerate_budget=9,
        max_copied_share=1.0,
        checks={"repeats": False, "copied": False},
    ).model_copy(update={"llm": parse_config({"llm": {"provider": "scripted"}}).llm})

    counts = audit_file(theirs, tmp_path / "out", config)
    run = RunDirectory(tmp_path / "out")

    assert counts["asked_again"] == asked(run, "regenerate") == 9
    examples = tuple(open_examples(run.dataset_path))
    assert all(negative.origin is Origin.WRITTEN for each in examples for negative in each.negatives)
    given = {row["query"]: set(row["neg"]) for row in map(json.loads, theirs.read_text(encoding="utf-8").splitlines())}
    fresh = {
        (each.id, negative.level)
        for each in examples
        for negative in each.negatives
        if negative.text not in given[each.query]
    }
    # What was written anew is in the data set, and nothing else says that it was.
    assert fresh
    assert fresh == {
        (each.id, Level(int(action[12:])))
        for each in examples
        for action in each.actions
        if action.startswith("regenerated:")
    }
    assert len({row for row, _ in fresh}) <= 9
    # Asked once more, the journal answers.
    assert audit_file(theirs, tmp_path / "out", config)["kept"] == counts["kept"]
    assert asked(run, "regenerate") == 9


def test_without_refilling_a_file_s_rows_need_four_negatives_of_their_own_or_none(
    tmp_path, theirs, small_bert
) -> None:
    audit_file(theirs, tmp_path / "out", file_config(small_bert, repair=[]))

    examples = tuple(open_examples(RunDirectory(tmp_path / "out").dataset_path))
    # Rows that came without any negative have nothing to repair, and are mined.
    without = {f"theirs-{n + 1}" for n in range(0, 30, 8)}
    enough = {f"theirs-{n + 1}" for n in range(30) if n % 8 >= 4}
    assert {each.id for each in examples} <= without | enough
    for each in examples:
        origin = Origin.MINED if each.id in without else Origin.WRITTEN
        assert all(negative.origin is origin for negative in each.negatives)


def test_a_file_with_too_few_passages_needs_a_corpus(tmp_path, small_bert) -> None:
    few = tmp_path / "few.csv"
    few.write_text("anchor,positive,negative\nriver engine,river engine w1,garden w2\n", encoding="utf-8")
    more = tmp_path / "more.jsonl"
    texts = [f"{WORDS[n % 10]} {WORDS[n // 10]} w{n}" for n in range(40)]
    more.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")

    with pytest.raises(SourceError, match=r"only 1 different usable positives.*--corpus"):
        audit_file(few, tmp_path / "out", file_config(small_bert))
    counts = audit_file(few, tmp_path / "out", file_config(small_bert), corpus=more)

    assert counts["kept"] == 1
    assert counts["documents"] == 41


def test_a_query_s_other_positives_are_never_its_negatives(tmp_path, small_bert) -> None:
    path = tmp_path / "several.jsonl"
    answers = [f"river engine w{number}" for number in range(6)]
    others = [f"{WORDS[2 + n % 8]} {WORDS[2 + n // 8]} w{n}" for n in range(40)]
    rows = [{"query": "river engine", "pos": answers[:3], "neg": []}, {"query": "River  engine!", "pos": answers[3:]}]
    rows += [{"query": f"{text} query", "pos": [text], "neg": []} for text in others]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")

    audit_file(path, tmp_path / "out", file_config(small_bert))

    examples = tuple(open_examples(RunDirectory(tmp_path / "out").dataset_path))
    mine = [each for each in examples if each.query.lower().startswith("river")]
    assert {each.positive for each in mine} == set(answers)
    for each in mine:
        assert not {negative.text for negative in each.negatives} & set(answers)


def test_the_level_of_a_kept_row_s_negatives_is_its_place(tmp_path, theirs, small_bert) -> None:
    audit_file(theirs, tmp_path / "out", file_config(small_bert, negatives="mined"))

    for each in tuple(open_examples(RunDirectory(tmp_path / "out").dataset_path)):
        assert [negative.level for negative in each.negatives] == list(Level)
        assert all(negative.origin is Origin.MINED for negative in each.negatives)
