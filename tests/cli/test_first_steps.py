"""The first half hour of somebody new: paths that are not there, too few documents, no config, no run, no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.errors import SourceError

from .test_main import multigrain

TEXT = "A text that is long enough to be a document, the one with the number {}.\n"


def _texts(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"d{number}.txt").write_text(TEXT.format(number))
    return folder


def test_init_refuses_documents_that_are_not_there_and_says_what_was_meant(tmp_path: Path) -> None:
    _texts(tmp_path / "handbook", 12)

    done = multigrain("init", "--documents", "./handbok", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (3, "")
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: documents.path ")
    assert "no such file or folder (did you mean " in error
    assert error.endswith("handbook?)")
    assert not (tmp_path / "config.yaml").exists()
    assert multigrain("init", "--documents", "./handbook", cwd=tmp_path).returncode == 0


def test_init_writes_a_config_for_documents_to_come_where_none_are_named(tmp_path: Path) -> None:
    done = multigrain("init", cwd=tmp_path)

    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == (
        "wrote config.yaml; set documents.path or fix what is there, then: multigrain run config.yaml"
    )
    assert (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", "", "0 found; at least 10 are needed"),
        ("few.csv", "Question,Answer\na,b\n", "1 rows found; at least 10 are needed"),
        (
            "frage.csv",
            "Frage;Antwort\n" + "Wie?;So.\n" * 12,
            "name one of them with documents.text_field; or, if these",
        ),
        ("wide.csv", "Frage;Antwort\n" + "Wie?;So.\n" * 12, "pairs with pairs.query_field and pairs.positive_field"),
        ("handbook.zip", "PK", "unpack"),
    ],
)
def test_init_refuses_a_file_that_no_run_could_use(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)

    done = CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml"), "--documents", str(tmp_path / name)])

    assert isinstance(done.exception, SourceError)
    assert said in str(done.exception)
    assert not (tmp_path / "c.yaml").exists()


def test_init_says_how_many_of_the_documents_are_long_enough(tmp_path: Path) -> None:
    folder = _texts(tmp_path / "handbook", 12)
    (folder / "short.txt").write_text("short\n")

    done = CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml"), "--documents", str(folder)])

    assert f"(13 documents in {folder}, 12 of at least documents.min_characters=40)" in done.stderr


def test_init_counts_the_rows_of_a_table_of_pairs(tmp_path: Path) -> None:
    table = tmp_path / "faq.csv"
    table.write_text("Question,Answer\n" + "".join(f"how {n}?,so {n}\n" for n in range(12)))

    done = CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml"), "--documents", str(table)])

    assert f"(12 rows in {table})" in done.stderr


def test_init_shows_a_path_without_detours(tmp_path: Path) -> None:
    _texts(tmp_path / "handbook", 12)
    (tmp_path / "other").mkdir()
    detour = tmp_path / "other" / ".." / "handbook"

    done = CliRunner().invoke(app, ["init", str(tmp_path / "c.yaml"), "--documents", str(detour)])

    assert f"(12 documents in {tmp_path.resolve() / 'handbook'})" in done.stderr


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "no .md, .markdown"),
        (3, "3 found; at least 10 are needed"),
        (12, "wrote config.yaml (12 documents in "),
    ],
)
def test_init_says_how_many_documents_it_saw(tmp_path: Path, count: int, said: str) -> None:
    _texts(tmp_path / "handbook", count)

    done = multigrain("init", "--documents", "handbook", cwd=tmp_path)

    assert done.returncode == (3 if count < 10 else 0)
    assert said in done.stderr
    assert (tmp_path / "config.yaml").exists() == (count >= 10)


def test_short_documents_are_counted_apart(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "short"}\n' * 30)

    done = multigrain("init", "--documents", "rows.jsonl", cwd=tmp_path)

    assert "30 found, 0 of at least documents.min_characters=40; at least 10 are needed" in done.stderr


def test_without_a_config_the_one_that_lies_here_is_taken(tmp_path: Path) -> None:
    none = multigrain("run", cwd=tmp_path)
    (tmp_path / "config.yaml").write_text("documents: {path: nowhere}")
    taken = multigrain("run", cwd=tmp_path)

    assert none.returncode == 2
    assert "`multigrain init config.yaml` writes one" in none.stderr
    assert taken.returncode == 3
    assert "nowhere" in taken.stderr


def test_a_misspelt_config_is_told_the_near_name(tmp_path: Path) -> None:
    (tmp_path / "handbook.yaml").touch()

    assert "(did you mean handbook.yaml?)" in multigrain("run", "hanbook.yaml", cwd=tmp_path).stderr


def test_evaluate_names_the_runs_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "runs" / "handbook").mkdir(parents=True)
    (tmp_path / "runs" / "handbook" / "config.yaml").touch()

    done = multigrain("evaluate", "runs/hanbook", cwd=tmp_path)

    assert done.returncode == 6
    assert "runs/hanbook: no run is there; there are runs/handbook" in done.stderr
    assert "`multigrain evaluate runs/handbook`" in done.stderr


def test_report_takes_the_only_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    none = CliRunner().invoke(app, ["report"])
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "config.yaml").touch()
    one = CliRunner().invoke(app, ["report"])
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "config.yaml").touch()
    two = CliRunner().invoke(app, ["report"])

    assert "no run is in runs/ here" in str(none.exception)
    assert "runs/a: stage 'documents' is not complete; `multigrain synthesize` completes it" in str(one.exception)
    assert "the run in runs/a" in one.stderr
    assert "there are runs/a, runs/b" in str(two.exception)


def test_what_never_began_leaves_no_run_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _texts(tmp_path / "texts", 12)
    (tmp_path / "texts" / "a.txt").write_bytes(b"\x7fELF\0\0\1\2")
    (tmp_path / "texts" / "b.md").symlink_to(tmp_path / "gone.md")
    (tmp_path / "c.yaml").write_text("documents: {path: texts}\ntraining: {base_model: auto}\n")

    failed = CliRunner().invoke(app, ["synthesize", "c.yaml"])

    said = str(failed.exception)
    assert "a.txt: not text" in said
    assert "1 more cannot be read: b.md" in said
    assert said.endswith("; documents.unreadable: skip leaves them all out")
    assert not (tmp_path / "runs").exists()


def test_status_knows_the_config_by_the_name_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "c").mkdir(parents=True)
    (tmp_path / "runs" / "c" / "lock").touch()
    unknown = multigrain("status", cwd=tmp_path).stdout
    (tmp_path / "c.yaml").touch()
    known = multigrain("status", cwd=tmp_path).stdout

    assert "· documents  not begun" in known
    assert "`multigrain run CONFIG --run runs/c`" in unknown
    assert "`multigrain run c.yaml`" in known


def test_a_server_that_is_not_there_is_said_at_the_first_attempt(tmp_path: Path, corpus_file: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"documents: {{path: {corpus_file}}}\n"
        "llm: {provider: openai, base_url: 'http://127.0.0.1:9/v1', model: m, max_retries: 1}\n"
    )

    done = multigrain("synthesize", "c.yaml", cwd=tmp_path, OPENAI_API_KEY="")

    assert done.returncode == 5
    lines = done.stderr.splitlines()
    told = "no answer from http://127.0.0.1:9/v1 (Connection refused); trying again, 1 of 1"
    assert lines.count(told) == 1
    assert "`multigrain doctor CONFIG`" in lines[-1]


def test_recipes_say_what_they_need(tmp_path: Path) -> None:
    lines = multigrain("init", "--recipe", "list", cwd=tmp_path).stdout.splitlines()
    by_name = {line.split()[0]: line for line in lines}

    assert by_name["documents"].endswith("[needs an endpoint]")
    assert by_name["two-gpus"].endswith("[needs an endpoint, two GPUs]")
    assert "needs" not in by_name["demo"]


def test_ollama_is_the_endpoint_on_this_machine(tmp_path: Path) -> None:
    assert multigrain("init", "--provider", "ollama", cwd=tmp_path).returncode == 0

    written = (tmp_path / "config.yaml").read_text()
    assert "provider: openai" in written
    assert "base_url: http://localhost:11434/v1" in written
    assert "gpt-4o" not in written.replace("gpt-4o-mini is", "")


def test_help_and_welcome_agree_on_where_to_start(tmp_path: Path) -> None:
    said = " ".join(multigrain("--help", cwd=tmp_path, COLUMNS="200", NO_COLOR="1").stdout.split())
    assert "Start with multigrain init" in said.replace("`", "")
