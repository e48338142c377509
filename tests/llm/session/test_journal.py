from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from multigrain.config import LLMConfig
from multigrain.errors import EndpointRefusedError, RunDirectoryError
from multigrain.llm.build import client_identity
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import request_key
from multigrain.llm.session.schema import CURRENT_VERSION
from multigrain.llm.session.session import JournaledClient

STORED = Path(__file__).parent / "data"


def request(text: str = "a prompt") -> CompletionRequest:
    return CompletionRequest((Message("system", "s"), Message("user", text)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "run" / "journal.sqlite") as opened:
        yield opened


def committed(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM completions").fetchone()[0])
    finally:
        connection.close()


def test_an_answer_is_on_the_disk_before_it_is_given_out_and_asked_for_once(journal: Journal) -> None:
    llm = ScriptedLLM(["first"])
    client = JournaledClient(llm, journal, strategy="mgh")
    answer = asyncio.run(client.complete(request()))
    assert committed(journal.path) == 1
    assert asyncio.run(client.complete(request())) == answer
    assert (llm.calls, client.asked, client.reused) == (1, 1, 1)


def test_the_next_process_asks_nothing_again(tmp_path: Path) -> None:
    for calls in (1, 0):
        llm = ScriptedLLM()
        with Journal(tmp_path / "journal.sqlite") as journal:
            asyncio.run(JournaledClient(llm, journal, strategy="mgh").complete(request()))
        assert llm.calls == calls


@pytest.mark.parametrize(
    "other",
    [
        replace(request(), messages=(Message("user", "a prompt"),)),
        replace(request(), schema={"type": "object"}),
        replace(request(), temperature=0.7),
        replace(request(), top_p=0.8),
        replace(request(), max_tokens=9),
        replace(request(), seed=1),
        replace(request(), stop=("\n",)),
    ],
)
def test_whatever_decides_an_answer_is_in_its_key(other: CompletionRequest) -> None:
    assert request_key("client", "mgh", other) != request_key("client", "mgh", request())


def test_a_key_stays_what_it_was_and_extra_keys_of_requests_make_another() -> None:
    question = CompletionRequest((Message("user", "a prompt"),))
    plain = LLMConfig(provider="openai", model="m")
    extended = LLMConfig(provider="openai", model="m", extra_body={"reasoning_effort": "low"})
    headed = LLMConfig(provider="openai", model="m", extra_headers={"X-Team": "search"})
    key, other, same = (request_key(client_identity(llm), "mgh", question) for llm in (plain, extended, headed))

    assert key == same == "ba7d95792b3ef85d80b19e8fac6517f7aca8636192a91b9d011aa3a57857a4b6"
    assert other != key


def test_models_and_strategies_share_nothing() -> None:
    keys = {request_key(client, strategy, request()) for client in ("a", "b") for strategy in ("mgh", "stepwise")}
    assert len(keys) == 4


def test_equal_requests_in_flight_are_asked_once(journal: Journal) -> None:
    llm = ScriptedLLM(seconds=0.05)
    client = JournaledClient(llm, journal, strategy="mgh")

    async def together() -> list[Completion]:
        return await asyncio.gather(*(client.complete(request()) for _ in range(5)))

    assert len(set(asyncio.run(together()))) == 1
    assert llm.calls == 1


def test_a_failure_is_counted_and_never_reused(journal: Journal) -> None:
    llm = ScriptedLLM([CompletionFailure("timeout", "120 s"), CompletionFailure("timeout", "120 s"), "at last"])
    client = JournaledClient(llm, journal, strategy="mgh")
    for _ in range(2):
        with pytest.raises(CompletionFailure):
            asyncio.run(client.complete(request()))
    assert journal.totals().failures == {"timeout": 1}
    assert asyncio.run(client.complete(request())).text == "at last"
    assert journal.totals().failures == {}
    assert journal.totals().completions == 1


def test_errors_that_end_the_run_are_noted_with_what_was_said(journal: Journal) -> None:
    client = JournaledClient(ScriptedLLM([EndpointRefusedError("401")]), journal, strategy="mgh")
    with pytest.raises(EndpointRefusedError):
        asyncio.run(client.complete(request()))
    assert journal.totals().completions == 0
    assert (journal.totals().failures, journal.totals().details) == ({"refused": 1}, {"refused": "401"})


def test_totals_and_export(journal: Journal) -> None:
    answers = [
        Completion("one", "stop", "m", prompt_tokens=10, completion_tokens=2, seconds=0.5),
        Completion("two\n\0\N{GRINNING FACE}", "length", "m", prompt_tokens=20, completion_tokens=3),
    ]
    client = JournaledClient(ScriptedLLM(answers), journal, strategy="mgh")
    for text in ("p1", "p2"):
        asyncio.run(client.complete(request(text)))
    totals = journal.totals()
    assert (totals.completions, totals.prompt_tokens, totals.completion_tokens, totals.cut) == (2, 30, 5, 1)
    stream = io.StringIO()
    assert journal.export(stream) == 2
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [row["completion"]["text"] for row in rows] == [answer.text for answer in answers]
    assert rows[0]["request"]["messages"][1] == {"role": "user", "content": "p1"}
    assert rows[0]["key"] == request_key(client.identity, "mgh", request("p1"))


def test_text_that_utf8_cannot_hold_is_kept_with_a_mark(journal: Journal) -> None:
    client = JournaledClient(ScriptedLLM(["half \ud83d"]), journal, strategy="mgh")
    question = request("broken \ud800 prompt")
    first = asyncio.run(client.complete(question))
    assert first.text == "half \N{REPLACEMENT CHARACTER}"
    assert asyncio.run(client.complete(question)) == first
    assert journal.export(io.StringIO()) == 1


def test_many_writers_are_committed_together(journal: Journal) -> None:
    client = JournaledClient(ScriptedLLM(), journal, strategy="mgh")

    async def together() -> None:
        await asyncio.gather(*(client.complete(request(str(number))) for number in range(500)))

    asyncio.run(together())
    assert committed(journal.path) == 500


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from multigrain.llm.protocol import CompletionRequest, Message
        from multigrain.llm.scripted import ScriptedLLM
        from multigrain.llm.session.journal import Journal
        from multigrain.llm.session.session import JournaledClient

        async def main():
            client = JournaledClient(ScriptedLLM(), Journal(Path(sys.argv[1])), strategy="mgh")
            async def one(number):
                await client.complete(CompletionRequest((Message("user", str(number)),)))
                print(number, flush=True)
            for start in range(0, 100_000, 50):
                await asyncio.gather(*(one(start + number) for number in range(50)))

        asyncio.run(main())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(333)]
    process.kill()
    acknowledged += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    process.wait()
    process.stdout.close()
    with Journal(path) as journal:
        numbers = {int(entry.request["messages"][0]["content"]) for entry in journal.entries()}
    assert len(acknowledged) >= 333
    assert numbers >= set(acknowledged)


def fill_the_disk(journal: Journal) -> None:
    """Let SQLite itself report a full disk, until the reserve is given up."""
    connection = journal._writing
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    reserve = journal.path.with_name("journal.sqlite.reserve")

    def freed(*_: object) -> int:
        if not reserve.exists():
            connection.execute("PRAGMA max_page_count = 1000000")
        return 0

    connection.set_trace_callback(freed)


def test_a_full_disk_keeps_what_is_in_flight_and_begins_nothing_new(journal: Journal) -> None:
    llm = ScriptedLLM(lambda _: "x" * 3000, seconds=0.02)
    client = JournaledClient(llm, journal, strategy="mgh")
    asyncio.run(client.complete(request("before")))
    fill_the_disk(journal)

    async def together() -> list[object]:
        completions = (client.complete(request(str(number))) for number in range(40))
        return await asyncio.gather(*completions, return_exceptions=True)

    assert not [answer for answer in asyncio.run(together()) if isinstance(answer, BaseException)]
    assert committed(journal.path) == 41
    with pytest.raises(RunDirectoryError, match="the disk is full"):
        asyncio.run(client.complete(request("after")))
    assert llm.calls == 41


def test_a_disk_without_room_is_told_before_anything_is_asked(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    journal.close()
    monkeypatch.setattr(os, "posix_fallocate", full)
    llm = ScriptedLLM()
    with Journal(journal.path) as again, pytest.raises(RunDirectoryError, match="less than 8 MiB left"):
        asyncio.run(JournaledClient(llm, again, strategy="mgh").complete(request()))
    assert llm.calls == 0


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small disk, which needs root")
def test_a_really_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("this root may not mount")
    try:
        llm = ScriptedLLM(lambda _: "x" * 3000)
        with Journal(disk / "journal.sqlite") as journal:
            client = JournaledClient(llm, journal, strategy="mgh")

            async def fill() -> None:
                for start in range(0, 100_000, 100):
                    await asyncio.gather(*(client.complete(request(str(start + n))) for n in range(100)))

            with pytest.raises(RunDirectoryError, match="every answer received so far is kept"):
                asyncio.run(fill())
        assert committed(disk / "journal.sqlite") == llm.calls
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_stays_full_says_what_was_lost(journal: Journal) -> None:
    client = JournaledClient(ScriptedLLM(lambda _: "x" * 100_000), journal, strategy="mgh")
    asyncio.run(client.complete(request("before")))
    pages = journal._writing.execute("PRAGMA page_count").fetchone()[0]
    journal._writing.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(RunDirectoryError, match="1 answers could not be kept"):
        asyncio.run(client.complete(request("lost")))
    journal.close()
    with Journal(journal.path) as again:
        assert again.totals().completions == 1


def test_a_clean_close_leaves_one_file(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        asyncio.run(JournaledClient(ScriptedLLM(), journal, strategy="mgh").complete(request()))
    assert [path.name for path in tmp_path.iterdir()] == ["journal.sqlite"]


@pytest.mark.parametrize("version", range(1, CURRENT_VERSION + 1))
def test_files_of_every_version_still_open(version: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    shutil.copy(STORED / f"journal-v{version}.sqlite", path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone()[0] == version
    connection.close()
    with Journal(path) as journal:
        texts = [entry.completion.text for entry in journal.entries()]
        assert texts == ["the first answer", "the second answer, cut at"]
        told = [entry.completion.alternatives for entry in journal.entries()]
        assert told == [None, (("4", (("4", -0.5), ("3", -1.5))),) if version > 2 else None]
        assert journal.totals().failures == {"timeout": 1}
        llm = ScriptedLLM(["new"], name="stored")
        client = JournaledClient(llm, journal, strategy="mgh")
        stored = asyncio.run(client.complete(CompletionRequest((Message("user", "first"),))))
        assert (stored.text, llm.calls) == ("the first answer", 0)
        assert asyncio.run(client.complete(request())).text == "new"


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with pytest.raises(RunDirectoryError, match="no journal there"):
        Journal(path, create=False)
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(RunDirectoryError, match="cannot be opened"):
        Journal(path)
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    with pytest.raises(RunDirectoryError, match="not a journal of multigrain"):
        Journal(path)
    assert committed_tables(path) == ["other"]


def test_a_later_version_is_left_alone(journal: Journal) -> None:
    journal.close()
    connection = sqlite3.connect(journal.path)
    connection.execute(f"PRAGMA user_version = {CURRENT_VERSION + 1}")
    connection.close()
    with pytest.raises(RunDirectoryError, match="upgrade"):
        Journal(journal.path)


def committed_tables(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    finally:
        connection.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunDirectoryError, match="cannot be opened"):
        Journal(tmp_path / "file" / "journal.sqlite")
