"""The user's own queries as examples of style."""

from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError
from multigrain.llm.scripted import ScriptedLLM
from multigrain.records import Document
from multigrain.sources.asked import read_asked
from multigrain.synthesis.heldout import write_heldout_queries
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.style import StyleQueries
from multigrain.synthesis.synthesize import build_strategy, synthesize

DOCUMENTS = [Document(id=f"d{number}", text=f"Text number {number} about radiators.") for number in range(40)]


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.txt"
    path.write_text("\n".join(f"boiler error E{number}" for number in range(30)) + "\n\n  \nboiler error E1\n")
    return path


def test_prompts_show_some_of_the_queries_others_each_time_and_none_may_be_repeated(queries: Path) -> None:
    config = SynthesisConfig(strategy="mined", style_queries=queries, style_count=3)
    style = StyleQueries.read(queries, 3, seed=1)
    assert style is not None
    assert len(style.queries) == 30
    strategy = build_strategy(config, LLMConfig(), seed=1)
    llm = ScriptedLLM(["Boiler error e1!", *(f"cold radiator {number}" for number in range(39))])
    with LocalEngine(concurrency=1) as engine:
        units = [WritingUnit(document) for document in DOCUMENTS]
        outcomes = list(synthesize(units, strategy, llm, engine, style=style))

    prompts = [request.messages[-1].content for request in llm.requests]
    shown = [{line for line in style.queries if f"- {line}\n" in prompt} for prompt in prompts]
    assert {len(lines) for lines in shown} == {3}
    assert len(set().union(*shown)) > 15
    failures = [outcome.failure.kind for outcome in outcomes if outcome.failure is not None]
    assert failures == ["copied_style"]


def test_a_given_query_is_no_place_for_examples(queries: Path) -> None:
    strategy = build_strategy(SynthesisConfig(strategy="single", style_queries=queries), LLMConfig(), seed=1)
    llm = ScriptedLLM(['{"level_4": "a passage that looks like it"}'])
    with LocalEngine() as engine:
        list(synthesize([WritingUnit(DOCUMENTS[0], query="boiler error E1")], strategy, llm, engine))

    assert "People of this search engine" not in llm.requests[0].messages[-1].content


def test_held_out_queries_sound_like_them_too(queries: Path) -> None:
    style = StyleQueries.read(queries, 2, seed=1)
    llm = ScriptedLLM(["boiler error E3", "what is E3"])
    with LocalEngine(concurrency=1) as engine:
        outcomes = list(
            write_heldout_queries(DOCUMENTS[:2], llm, engine, LLMConfig(), characters=100, seed=1, style=style)
        )

    assert [outcome.value for outcome in outcomes if outcome.value is not None] == ["what is E3"]
    assert "People of this search engine" in llm.requests[0].messages[-1].content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("queries.txt", "\ufeffwhy is E1\nhow long is E2\n"),
        ("queries.txt", "why is E1\r\nhow long\u2028is E2"),
        ("queries.jsonl", '{"_id": "q1", "text": "why is E1"}\n{"_id": "q2", "text": "how long is E2"}\n'),
        ("queries.jsonl", '{"query": "why is E1", "text": "a passage"}\n{"query": "how long is E2"}\n'),
        ("queries.tsv", "query_id\tquery\n1\twhy is E1\n2\thow long is E2\n"),
        ("queries.csv", '"query"\n"why is E1"\n"how long is E2"\n'),
        ("queries.csv", "why is E1\nhow long is E2\n"),
        ("queries.csv", "query\nwhy is E1\nhow long is E2\n"),
    ],
)
def test_queries_are_read_from_lines_and_from_tables(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")

    style = StyleQueries.read(path, 3, seed=1)

    assert style is not None
    assert style.queries == ("why is E1", "how long is E2")


def test_commas_of_queries_under_a_header_of_one_column_are_theirs(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("query\nwhy, and how\nwhere\n", encoding="utf-8")

    assert list(read_asked(tmp_path / "q.csv")) == ["why, and how", "where"]


def test_a_table_without_queries_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"url": "x"}\n', encoding="utf-8")

    with pytest.raises(ConfigError, match=r"synthesis\.style_queries: .*q\.jsonl:1: no column with the query"):
        StyleQueries.read(tmp_path / "q.jsonl", 3, seed=1)


@pytest.mark.parametrize("content", [b"", b"\n  \n?!\n", b"\xff\xfe\xff"])
def test_a_file_without_queries_is_told_of(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "q.txt"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"synthesis\.style_queries"):
        StyleQueries.read(path, 3, seed=1)
