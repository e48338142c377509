from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from datasets import load_dataset
from typer.testing import CliRunner

from multigrain.cli.mine import mine as mine_command
from multigrain.encoders.reference import deferred_encoder
from multigrain.mining.job import store_fingerprint

TOPICS = ["rivers and bridges", "bread and ovens", "stars and telescopes", "knots and sails", "violins and bows"]


def _texts(count: int) -> list[str]:
    return [f"Note {n}: what a person should know of {TOPICS[n % 5]} in year {1900 + n}." for n in range(count)]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "multigrain", "mine", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    texts = _texts(120)
    corpus, pairs = tmp_path / "corpus.jsonl", tmp_path / "pairs.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, texts[0].upper()]))
    rows = [{"question": f"{TOPICS[n % 5]} in {1900 + n}", "answer": texts[n]} for n in range(10)]
    rows.append({"question": rows[0]["question"], "answer": texts[5]})  # a second positive
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pairs, corpus


def test_pairs_and_a_corpus_become_rows_that_sentence_transformers_reads(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs, corpus = files
    out = tmp_path / "mined.parquet"
    arguments = [str(pairs), "--corpus", str(corpus), "--out", str(out), "-n", "3", "--margin", "0.02", "--json"]
    planned = _run(*arguments, "--dry-run")
    done = _run(*arguments)
    again = _run(*arguments, "--dry-run")

    assert json.loads(planned.stdout) == {"queries": 10, "pairs": 11, "corpus": 121, "embedded": 0}
    assert json.loads(again.stdout)["embedded"] == 121
    summary = json.loads(done.stdout)
    assert (summary["queries"], summary["pairs"], summary["corpus"], summary["short"]) == (10, 11, 121, 0)
    table = load_dataset("parquet", data_files=str(out), cache_dir=str(tmp_path / "cache"), split="train")
    assert table.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    assert len(table) == 11
    positives = {json.loads(line)["question"]: set() for line in pairs.read_text().splitlines()}
    for line in pairs.read_text().splitlines():
        row = json.loads(line)
        positives[row["question"]].add(row["answer"].casefold())
    for row in table:
        negatives = [row[f"negative_{n}"].casefold() for n in (1, 2, 3)]
        assert len(set(negatives)) == 3
        assert positives[row["anchor"]].isdisjoint(negatives)


def test_graded_triplets_with_scores_to_jsonl(files: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, corpus = files
    out = tmp_path / "mined.jsonl"
    done = _run(
        str(pairs), "--corpus", str(corpus), "--out", str(out), "--graded", "--format", "triplet", "--scores",
        "--rank-by", "both",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 44
    assert all(set(row) == {"anchor", "positive", "negative", "scores"} for row in rows)


def test_prompts_go_before_what_they_are_for() -> None:
    plain = deferred_encoder("auto")
    with_own = deferred_encoder("auto", query_prompt="query: ", document_prompt="passage: ")

    np.testing.assert_allclose(with_own.encode_queries(["knots"]), plain.encode_queries(["query: knots"]), atol=1e-6)
    np.testing.assert_allclose(
        with_own.encode_documents(["knots"]), plain.encode_documents(["passage: knots"]), atol=1e-6
    )
    assert store_fingerprint(with_own) != store_fingerprint(plain)


def test_options_of_the_model_reach_the_model(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders: list[object] = []

    def noted(encoder: object) -> str:
        encoders.append(encoder)
        return "noted"

    monkeypatch.setattr("multigrain.mining.job.store_fingerprint", noted)
    app = typer.Typer()
    app.command()(mine_command)
    done = CliRunner().invoke(
        app,
        [str(files[0]), "--out", str(tmp_path / "x.jsonl"), "--dry-run", "--model", "owner/name",
         "--trust-remote-code", "--query-prompt", "query: ", "--document-prompt", "passage: "],
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    prompts = {"query_prompt": "query: ", "document_prompt": "passage: "}
    assert encoders == [deferred_encoder("owner/name", batch_size=64, trust_remote_code=True, **prompts)]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (["--out", "x.csv"], 2, ".parquet or .jsonl"),
        (["--query-field", "nope"], 3, "pairs.jsonl:1: no column 'nope'; its columns are 'question', 'answer'"),
        (["--text-field", "body"], 3, "corpus.jsonl:1: no column 'body'; its columns are 'text'"),
        (["--corpus", "missing.jsonl"], 3, "missing.jsonl: no such file"),
        (["--max-similarity", "-1"], 3, "lower the margins"),
        (["--graded", "--first-rank", "3"], 2, "--graded has ranks of its own"),
        (["--first-rank", "3", "--last-rank", "5"], 2, "hold fewer than 5"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    change: list[str], code: int, words: str, files: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from multigrain.cli.main import main

    pairs, corpus = files
    monkeypatch.chdir(tmp_path)
    arguments = ["multigrain", "mine", str(pairs), "--out", "out.jsonl", "--corpus", str(corpus), *change]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exit_:
        main()
    message = " ".join(capsys.readouterr().err.split())
    assert exit_.value.code == code, message
    assert words in message
    assert not (tmp_path / "out.jsonl").exists()
