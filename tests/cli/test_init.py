"""`multigrain init` at a terminal and without one: what it asks, what it never asks, what it writes."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from multigrain.config.file import load_config, parse_config
from multigrain.config.queries import USER_QUERIES, UserQueries, query_types, user_queries
from multigrain.config.writers import KNOWN_WRITERS, KnownWriter
from multigrain.errors import ConfigError
from multigrain.recipes import recipe_names, recipe_text
from multigrain.tools.start import Start, start_text

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}


def at_a_terminal(arguments: list[str], answers: list[tuple[str, str]], *, cwd: Path) -> tuple[int, str]:
    """Run init under a pseudo-terminal, giving each answer when its question stands at the end of the screen."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "multigrain", "init", "--no-probe", *arguments],
        cwd=cwd,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**ENVIRONMENT, "TERM": "dumb", "COLUMNS": "200"},
    )
    os.close(theirs)
    screen, asked, deadline = "", 0, time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            read = os.read(terminal, 65536).decode()
        except OSError:  # the other end is closed
            break
        if not read:
            break
        screen += read
        last = screen.rsplit("\n", 1)[-1]
        if asked < len(answers) and last.lstrip().startswith(answers[asked][0]) and last.endswith(": "):
            os.write(terminal, (answers[asked][1] + "\n").encode())
            asked += 1
    else:
        process.kill()
    os.close(terminal)
    status = process.wait()
    assert asked == len(answers), screen
    return status, screen


def test_enter_takes_good_defaults(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(12):
        (tmp_path / "docs" / f"{number}.txt").write_text(f"A text that is long enough to be document {number}.")
    questions = [
        "documents [docs]",
        "recipe [none]",
        "provider [local]",
        "your users type [mixed]",
        "base model [auto]",
    ]

    status, screen = at_a_terminal([], [(question, "") for question in questions], cwd=tmp_path)

    assert status == 0, screen
    config = load_config(tmp_path / "config.yaml")
    assert config.documents.path == tmp_path / "docs"
    assert (config.llm.provider, config.training.base_model) == ("local", "auto")


def test_answers_are_written_down_and_wrong_ones_asked_again(tmp_path: Path) -> None:
    answers = [
        ("documents [documents]", "nowhere"),
        ("Write it down anyway?", "n"),
        ("documents [documents]", "empty.jsonl"),
        ("Write it down anyway?", "n"),
        ("documents [documents]", "notes.jsonl"),
        ("Write it down anyway?", "y"),
        ("recipe", "nonsuch"),
        ("recipe", ""),
        ("provider", "openai"),
        ("endpoint [http://localhost:8000/v1]", "http://gpu1:8000/v1"),
        ("its model", "served: one"),
        ("your users type", "essays"),
        ("your users type", "questions, titles"),
        ("base model", "BAAI/bge-small-en-v1.5"),
    ]

    (tmp_path / "empty.jsonl").touch()

    status, screen = at_a_terminal(["mine.yaml"], answers, cwd=tmp_path)

    assert status == 0, screen
    assert "nothing there" in screen
    assert "0 found; at least 10 are needed" in screen
    config = load_config(tmp_path / "mine.yaml")
    assert config.documents.path == tmp_path / "notes.jsonl"
    assert (config.llm.provider, config.llm.base_url, config.llm.model) == (
        "openai",
        "http://gpu1:8000/v1",
        "served: one",
    )
    assert config.synthesis.query_types == {"question": 1.0, "summary": 1.0}
    assert config.training.base_model == "BAAI/bge-small-en-v1.5"


def test_neither_yes_nor_no_is_asked_again(tmp_path: Path) -> None:
    answers = [
        ("documents [documents]", "nowhere"),
        ("Write it down anyway?", "maybe"),
        ("Write it down anyway?", "yes"),
        ("recipe", ""),
        ("provider", "ollama"),
        ("endpoint [http://localhost:11434/v1]", ""),
        ("its model [qwen2.5:7b]", ""),
        ("your users type", ""),
        ("base model", ""),
    ]

    status, screen = at_a_terminal([], answers, cwd=tmp_path)

    assert status == 0, screen
    assert "'maybe' is neither: y for yes, n or Enter for no." in screen
    config = load_config(tmp_path / "config.yaml")
    assert (config.llm.provider, config.llm.base_url) == ("openai", "http://localhost:11434/v1")


def test_an_end_at_a_question_says_that_nothing_was_written(tmp_path: Path) -> None:
    status, screen = at_a_terminal([], [("documents [documents]", "nowhere"), ("Write it", "\x04")], cwd=tmp_path)

    assert status == 130, screen
    assert "stopped; no file was written, the same command asks again" in screen
    assert "error" not in screen
    assert not (tmp_path / "config.yaml").exists()


def test_only_what_the_options_leave_out_is_asked(tmp_path: Path, corpus_file: Path) -> None:
    answers = [("endpoint [http://localhost:8000/v1]", ""), ("base model [BAAI/bge-small-en-v1.5]", "")]

    given = ["--documents", corpus_file.name, "--recipe", "documents", "--model", "served"]
    status, screen = at_a_terminal(given, answers, cwd=tmp_path)

    assert status == 0, screen
    assert load_config(tmp_path / "config.yaml").llm.model == "served"
    assert "# validation queries choose between them" in (tmp_path / "config.yaml").read_text()


def test_nobody_is_asked_what_users_type_where_a_table_has_it(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text("Question,Answer\n" + "".join(f"how {n}?,so {n}\n" for n in range(12)))
    answers = [("recipe", ""), ("provider", "local"), ("base model", "")]

    status, screen = at_a_terminal(["--documents", "faq.csv"], answers, cwd=tmp_path)

    assert status == 0, screen
    assert load_config(tmp_path / "config.yaml").start_from == "pairs"
    assert "--queries" not in screen


def test_yes_asks_nothing_at_a_terminal(tmp_path: Path) -> None:
    assert at_a_terminal(["--yes"], [], cwd=tmp_path)[0] == 0


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE], ids=["no input", "a pipe"])
def test_nothing_is_asked_without_a_terminal(tmp_path: Path, stdin: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "multigrain", "init"],
        cwd=tmp_path,
        stdin=stdin,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=ENVIRONMENT,
    )

    assert done.stdout == ""
    assert load_config(tmp_path / "config.yaml").llm.provider == "local"


def test_an_address_is_an_endpoint() -> None:
    config = parse_config(yaml.safe_load(start_text(Start(base_url="http://h:1/v1")).text))

    assert (config.llm.provider, config.llm.base_url) == ("openai", "http://h:1/v1")


@pytest.mark.parametrize("name", [name for name in recipe_names() if "\n  path:" in recipe_text(name)])
@pytest.mark.parametrize("odd", ["a: b # c", 'O\'Neill "x"', "été"])
def test_a_recipe_takes_other_values_and_keeps_the_rest(name: str, odd: str) -> None:
    made = yaml.safe_load(start_text(Start(odd, name, base_url="http://h:1/v1", model=odd, base_model=odd)).text)

    expected = yaml.safe_load(recipe_text(name))
    expected["documents"]["path"] = expected["llm"]["model"] = expected["training"]["base_model"] = odd
    expected["llm"]["base_url"] = "http://h:1/v1"
    assert made == expected


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (Start(provider="local", base_url="http://h/v1"), "--base-url"),
        (Start(recipe="documents", provider="local"), "llm.provider openai"),
        (Start(recipe="demo", documents="texts"), "brings its own documents"),
        (Start(recipe="nonsuch"), "no recipe 'nonsuch'"),
        (Start(recipe="documents", queries=("titles",)), "leave --queries out"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(start: Start, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        start_text(start)


@pytest.mark.parametrize("answer", USER_QUERIES)
def test_what_users_type_decides_the_kinds_of_queries(answer: UserQueries) -> None:
    made = start_text(Start(provider="openai", queries=(answer,)))

    assert parse_config(yaml.safe_load(made.text)).synthesis.query_types == query_types([answer])
    assert made.notes == ()


@pytest.mark.parametrize("answer", USER_QUERIES)
@pytest.mark.parametrize("writer", KNOWN_WRITERS, ids=lambda writer: writer.name)
def test_a_small_writer_is_never_asked_for_what_it_cannot_write(
    tmp_path: Path, writer: KnownWriter, answer: UserQueries
) -> None:
    model = tmp_path / f"{writer.mark}.gguf"
    model.touch()
    made = start_text(Start(provider="local", model=str(model), queries=(answer,)))

    asked = parse_config(yaml.safe_load(made.text)).synthesis.query_types
    beyond = query_types([answer]).keys() & writer.fails_at
    assert not asked.keys() & writer.fails_at
    assert bool(made.notes) == bool(beyond)
    assert all(kind in made.notes[0] for kind in beyond)


@given(st.lists(st.sampled_from(list(USER_QUERIES)), min_size=1, max_size=4, unique=True))
def test_several_answers_have_equal_shares(answers: list[UserQueries]) -> None:
    kinds = query_types(answers)
    total = sum(kinds.values())
    for answer in set(answers) - {"mixed"}:
        (only,) = query_types([answer])
        assert kinds[only] >= 0.9 * total / len(answers)


def test_the_option_takes_several_words_and_names_those_it_knows() -> None:
    assert user_queries("titles, questions") == ("questions", "titles")
    for wrong in ("", ",", "questions essays"):
        with pytest.raises(ConfigError, match="is not among questions, keywords"):
            user_queries(wrong)


def test_a_probe_tells_cost_and_time_and_test_queries(tmp_path: Path, corpus_file: Path, small_bert: Path) -> None:
    models = ["--base-model", str(small_bert), "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]
    options = ["--documents", str(corpus_file), *models]
    done = subprocess.run(
        [sys.executable, "-m", "multigrain", "init", "--probe", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
        env=ENVIRONMENT,
    )

    assert "wrote config.yaml" in done.stderr
    assert "cost        unknown: set the price of m under llm.prices" in done.stderr
    assert "time        about " in done.stderr
    assert "the endpoint was not asked" in done.stderr
    assert "test        about " in done.stderr
