"""The synthesis benchmarks in small: real processes, real HTTP, the endpoint's own log."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks import stub_endpoint, synthesis_faults, synthesis_kill
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient


def test_a_few_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    values = synthesis_kill.measure(kills=2, seed=3, folder=tmp_path)
    assert {name: values[name] for name in ("kills", "lost", "duplicates", "repeated", "missing")} == {
        "kills": 2,
        "lost": 0,
        "duplicates": 0,
        "repeated": 0,
        "missing": 0,
    }
    assert values["in_flight"] <= 2 * synthesis_kill.CONCURRENCY
    assert values["completions"] >= values["rows"] > 0


def test_the_books_notice_what_is_lost_and_repeated(tmp_path: Path) -> None:
    log, journal = tmp_path / "endpoint.log", tmp_path / "journal.sqlite"
    with Journal(journal) as opened:
        client = JournaledClient(ScriptedLLM(), opened, strategy="mgh")
        asyncio.run(client.complete(CompletionRequest((Message("user", "[unit 3]"),), max_tokens=8)))
    log.write_text('["asked", 3, "3/1/8", "", 0.0]\n["acknowledged", 3, "3", "", 0.0]\n')
    books = synthesis_kill._Books(log, journal)
    books.balance()
    assert (books.lost, books.repeated) == (0, 0)
    with log.open("a") as stream:
        stream.write('["asked", 3, "3/1/8", "", 0.0]\n["acknowledged", 999, "999", "", 0.0]\n["asked", 4')
    books.balance()
    assert (books.lost, books.repeated) == (1, 1)


def test_every_input_of_a_hopeless_run_is_accounted_for(tmp_path: Path) -> None:
    values = synthesis_faults.measure(rows=40, concurrency=40, seed=2, folder=tmp_path)
    assert values["written"] + sum(values["failed"].values()) == 40
    assert {values[name] for name in ("unaccounted", "lost", "invented", "broken")} == {0}
    assert len(values["failed"]) >= 4


def test_the_hopeless_endpoint_gives_one_good_answer_in_twenty() -> None:
    assert abs(sum(stub_endpoint.FAULTS["hopeless"].values()) - 0.95) < 1e-9
