"""Batch files: what is asked in them, what comes back, and what they may cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from multigrain.config import LLMConfig, PriceConfig
from multigrain.engine.local import LocalEngine
from multigrain.errors import SourceError
from multigrain.llm.prices import about_prompt_tokens
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.llm.session.budget import Budget
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import restored_request
from multigrain.llm.session.session import JournaledClient
from multigrain.records import Document
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.strategies.stepwise import StepwiseStrategy
from multigrain.synthesis.synthesize import synthesize
from multigrain.tools.batches import BatchRound, import_batch_results, write_batch_round

UNITS = [WritingUnit(Document(f"d{n}", f"document number {n} about rivers and bridges")) for n in range(12)]
PRICE = PriceConfig(prompt=1, completion=10)
LLM = LLMConfig(provider="scripted", model="m", prices={"m": PRICE})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(concurrency=4) as opened:
        yield opened


def write(strategy: Strategy, journal: Journal, engine: LocalEngine, folder: Path, **options: Any) -> BatchRound:
    return write_batch_round(UNITS, strategy, journal, engine, folder, LLM, **options)


def serve(files: tuple[Path, ...], folder: Path, *, fail: int = 0) -> Path:
    """Answer request files as a batch service does: in another order, with some failures."""
    rows = []
    for path in files:
        for number, line in enumerate(path.read_text().splitlines()):
            row = json.loads(line)
            messages = tuple(Message(**message) for message in row["body"]["messages"])
            form = row["body"].get("response_format")
            schema = form["json_schema"]["schema"] if form else None
            text = plausible_answer(CompletionRequest(messages, schema=schema, seed=row["body"]["seed"]))
            answer = {
                "choices": [{"finish_reason": "stop", "message": {"content": text}}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10},
            }
            response = {"status_code": 200, "body": answer}
            if number < fail:
                response = {"status_code": 500, "body": {"error": {"message": "later"}}}
            rows.append(json.dumps({"custom_id": row["custom_id"], "response": response, "error": None}))
    results = folder / "results.jsonl"
    results.write_text("\n".join(reversed(rows)))
    return results


@pytest.mark.parametrize("strategy", [MghStrategy(), StepwiseStrategy()], ids=lambda strategy: strategy.name)
def test_rounds_of_batches_write_the_same_rows_as_asking_live(
    strategy: Strategy, journal: Journal, engine: LocalEngine, tmp_path: Path
) -> None:
    rounds = 0
    while (done := write(strategy, journal, engine, tmp_path)).requests:
        rounds += 1
        imported = import_batch_results([serve(done.files, tmp_path)], journal)
        assert imported.kept == done.requests
    assert rounds == (1 if strategy.name == "mgh" else 2)  # stepwise asks for the query first
    assert (done.finished, done.waiting) == (len(UNITS), 0)
    llm = ScriptedLLM()
    client = JournaledClient(llm, journal, strategy=strategy.name)
    from_batches = {outcome.unit: outcome.value for outcome in synthesize(UNITS, strategy, client, engine)}
    assert llm.calls == 0
    live = {outcome.unit: outcome.value for outcome in synthesize(UNITS, strategy, ScriptedLLM(), engine)}
    assert from_batches == live


def test_what_is_under_way_is_not_written_twice_and_what_failed_is(
    journal: Journal, engine: LocalEngine, tmp_path: Path
) -> None:
    first = write(MghStrategy(), journal, engine, tmp_path)
    assert (first.requests, first.waiting) == (12, 12)
    assert write(MghStrategy(), journal, engine, tmp_path).requests == 0
    assert write(MghStrategy(), journal, engine, tmp_path, again=True).requests == 12
    assert journal.totals().awaiting_batch == 12
    results = serve(first.files, tmp_path, fail=5)
    imported = import_batch_results([results], journal)
    assert (imported.kept, dict(imported.failed)) == (7, {"server_error": 5})
    assert journal.totals().failures == {"server_error": 5}
    again = import_batch_results([results], journal)
    assert (again.kept, again.known) == (0, 7)
    second = write(MghStrategy(), journal, engine, tmp_path)
    assert (second.requests, second.finished) == (5, 7)
    assert import_batch_results([serve(second.files, tmp_path)], journal).kept == 5
    assert journal.totals().failures == {}
    assert journal.totals().awaiting_batch == 0


def test_another_runs_results_are_refused(journal: Journal, engine: LocalEngine, tmp_path: Path) -> None:
    done = write(MghStrategy(), journal, engine, tmp_path)
    results = serve(done.files, tmp_path)
    with Journal(tmp_path / "other.sqlite") as other, pytest.raises(SourceError, match="none of its 12 lines"):
        import_batch_results([results], other)


def test_a_broken_line_costs_itself_and_is_asked_for_again(
    journal: Journal, engine: LocalEngine, tmp_path: Path
) -> None:
    results = serve(write(MghStrategy(), journal, engine, tmp_path).files, tmp_path)
    lines = results.read_text().splitlines()
    results.write_bytes("\n".join([*lines[:4], lines[4][:50], *lines[5:]]).encode() + b"\n\xff\xfe")
    imported = import_batch_results([results], journal)
    assert imported.kept == journal.totals().batch.completions == 11
    assert [where.split(": ")[0] for where in imported.broken] == [f"{results}:{number}" for number in (5, 13)]
    again = write(MghStrategy(), journal, engine, tmp_path, again=True)
    assert (again.requests, again.finished) == (1, 11)


def test_a_file_of_no_use_costs_itself(journal: Journal, engine: LocalEngine, tmp_path: Path) -> None:
    done = write(MghStrategy(), journal, engine, tmp_path)
    results = serve(done.files, tmp_path)
    (tmp_path / "page.html").write_text("<html>Not here</html>")
    files = [tmp_path / "missing.jsonl", tmp_path / "page.html", *done.files, results]
    imported = import_batch_results(files, journal)
    assert imported.kept == 12
    assert [line.split(":")[0].split(",")[0] for line in imported.refused] == [str(path) for path in files[:3]]


def test_batches_cost_half(journal: Journal, engine: LocalEngine, tmp_path: Path) -> None:
    import_batch_results([serve(write(MghStrategy(), journal, engine, tmp_path).files, tmp_path)], journal)
    assert journal.totals().cost(PRICE) == pytest.approx(12 * (100 * 1 + 10 * 10) / 1e6 / 2)


def test_requests_survive_the_journal(journal: Journal) -> None:
    request = CompletionRequest(
        (Message("system", "s"), Message("user", "u")), schema={"type": "object"}, seed=3, stop=("\n", "x")
    )
    journal.want_in_batch("key", request, strategy="mgh", client="c", round_id="r").result()
    assert list(journal.wanted_in_batch("r")) == [("key", request)]
    assert journal.find_batch_request("key") is None  # no file asks it yet
    journal.mark_written(["key"])
    batch_request = journal.find_batch_request("key")
    assert batch_request is not None
    assert restored_request(batch_request[2]) == request


def test_a_file_holds_no_more_than_the_budget_can_pay_for(
    journal: Journal, engine: LocalEngine, tmp_path: Path
) -> None:
    def at_most(requests: Iterable[CompletionRequest]) -> float:
        counted = Budget(max_cost=1e9)
        assert all(counted.reserve_in_batch(request, PRICE) for request in requests)
        return sum(about_prompt_tokens(request) * 4 * 1 + request.max_tokens * 10 for request in requests) / 1e6 / 2

    first = write(MghStrategy(), journal, engine, tmp_path, budget=Budget(max_cost=4e-2))
    written = list(journal.awaited())
    assert 0 < len(written) == first.requests < 12
    assert first.over_limit == 12 - first.requests
    assert at_most(written) <= 4e-2 < at_most(written) * (first.requests + 1) / first.requests * 1.01
    results = serve(first.files, tmp_path, fail=1)
    import_batch_results([results], journal)
    assert list(journal.awaited()) == []  # answered, or come back as a failure
