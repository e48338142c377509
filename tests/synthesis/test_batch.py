"""Batch files, spending limits and estimates: what there is besides asking one by one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from multigrain.synthesis.estimate import estimate_synthesis

from multigrain.config import PriceConfig
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError, SourceError
from multigrain.llm.protocol import Completion, CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM, plausible_answer
from multigrain.llm.session.budget import Spending
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalTotals, TokenSums, restored_request
from multigrain.llm.session.session import JournaledClient
from multigrain.records import Document
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.strategies.stepwise import StepwiseStrategy
from multigrain.synthesis.synthesize import synthesize
from multigrain.tools.batches import BatchRound, import_batch_results, write_batch_round

UNITS = [WritingUnit(Document(f"d{n}", f"document number {n} about rivers and bridges")) for n in range(12)]
PRICE = PriceConfig(prompt=1, completion=10)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as each:
        yield each


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(concurrency=4) as each:
        yield each


def write(
    strategy: Strategy, journal: Journal, engine: LocalEngine, folder: Path, *, again: bool = False
) -> BatchRound:
    return write_batch_round(
        UNITS, strategy, journal, engine, folder, identity="scripted:plausible", model="m", again=again
    )


def serve(files: tuple[Path, ...], folder: Path, *, fail: int = 0) -> Path:
    """Answer request files as a batch service does: in another order, with some failures."""
    rows = []
    for path in files:
        for number, line in enumerate(path.read_text().splitlines()):
            asked = json.loads(line)
            messages = tuple(Message(**message) for message in asked["body"]["messages"])
            form = asked["body"].get("response_format")
            schema = form["json_schema"]["schema"] if form else None
            text = plausible_answer(CompletionRequest(messages, schema=schema, seed=asked["body"]["seed"]))
            answer = {
                "choices": [{"finish_reason": "stop", "message": {"content": text}}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10},
            }
            response = {"status_code": 200, "body": answer}
            if number < fail:
                response = {"status_code": 500, "body": {"error": {"message": "later"}}}
            rows.append(json.dumps({"custom_id": asked["custom_id"], "response": response, "error": None}))
    results = folder / "results.jsonl"
    results.write_text("\n".join(reversed(rows)))
    return results


@pytest.mark.parametrize("strategy", [MghStrategy(), StepwiseStrategy()], ids=lambda each: each.name)
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
    from_batches = {each.unit: each.value for each in synthesize(UNITS, strategy, client, engine)}
    assert llm.calls == 0
    live = {each.unit: each.value for each in synthesize(UNITS, strategy, ScriptedLLM(), engine)}
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


def test_a_broken_line_keeps_what_came_before(journal: Journal, engine: LocalEngine, tmp_path: Path) -> None:
    results = serve(write(MghStrategy(), journal, engine, tmp_path).files, tmp_path)
    lines = results.read_text().splitlines()
    results.write_text("\n".join([*lines[:4], lines[4][:50]]))
    with pytest.raises(SourceError, match="line 5"):
        import_batch_results([results], journal)
    assert journal.totals().batch.completions == 4


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
    found = journal.find_batch_request("key")
    assert found is not None
    assert restored_request(found[2]) == request


def spent(prompt: int, completion: int, completions: int = 1) -> JournalTotals:
    return JournalTotals(TokenSums(completions, prompt, completion))


REQUEST = CompletionRequest((Message("user", "x" * 376),), max_tokens=100)
"""At most two hundred tokens: a hundred to read, a hundred to write."""


def test_limits_count_earlier_sessions_and_what_is_in_flight() -> None:
    spending = Spending(spent(800, 200, completions=10), price=PRICE, max_tokens=1500)
    assert spending.decide(0, REQUEST) == "send"
    assert spending.decide(4, REQUEST) == "send"
    assert spending.decide(5, REQUEST) == "stop"  # six more at a hundred tokens each
    spending.add(Completion("x", "stop", "m", prompt_tokens=400, completion_tokens=100))
    assert spending.decide(0, REQUEST) == "stop"
    by_cost = Spending(spent(1_000_000, 0, completions=1000), price=PRICE, max_cost=1.002)
    assert by_cost.decide(1, REQUEST) == "send"
    assert by_cost.decide(2, REQUEST) == "stop"
    assert Spending(spent(10**9, 10**9), price=None).decide(10**6, REQUEST) == "send"
    with pytest.raises(ConfigError, match=r"set llm\.prices"):
        Spending(spent(0, 0), price=None, max_cost=1.0)


def test_before_anything_is_answered_requests_in_flight_count_as_the_most_that_they_may_take() -> None:
    by_tokens = Spending(JournalTotals(), price=None, max_tokens=650)
    assert [by_tokens.decide(in_flight, REQUEST) for in_flight in range(4)] == ["send", "send", "send", "wait"]
    longer = replace(REQUEST, max_tokens=300)
    assert by_tokens.decide(1, longer) == "wait"
    assert by_tokens.decide(2, REQUEST) == "wait"  # the longer one may be among those in flight
    price = PriceConfig(prompt=1.0, completion=3.0)
    by_cost = Spending(JournalTotals(), price=price, max_cost=2 * 400e-6)
    assert [by_cost.decide(in_flight, REQUEST) for in_flight in range(3)] == ["send", "send", "wait"]
    by_cost.add(Completion("x", "stop", "m", prompt_tokens=10, completion_tokens=10))
    assert by_cost.decide(17, REQUEST) == "send"  # what was answered is what counts from here on
    assert by_cost.decide(19, REQUEST) == "stop"


def test_one_request_is_tried_below_its_most_and_none_where_nothing_is_left() -> None:
    tight = Spending(JournalTotals(), price=PRICE, max_cost=1e-9)
    assert [tight.decide(0, REQUEST), tight.decide(1, REQUEST)] == ["send", "wait"]
    assert Spending(JournalTotals(), price=PRICE, max_cost=0.0).decide(0, REQUEST) == "stop"
    assert Spending(JournalTotals(), price=None, max_tokens=0).decide(0, REQUEST) == "stop"
    free = Spending(JournalTotals(), price=PriceConfig(prompt=0, completion=0), max_cost=0.0)
    assert free.decide(99, REQUEST) == "send"


def test_a_limit_holds_among_requests_that_are_all_sent_at_once(journal: Journal) -> None:
    dear = Completion("x", "stop", "m", prompt_tokens=500_000, completion_tokens=50_000)
    price = PriceConfig(prompt=1.0, completion=10.0)  # a dollar a request

    async def at_once(max_cost: float) -> list[object]:
        spending = Spending(journal.totals(), price=price, max_cost=max_cost)
        llm = ScriptedLLM(lambda asked: dear)
        client = JournaledClient(llm, journal, strategy="mgh", may_ask=spending.decide, on_answer=spending.add)
        requests = [CompletionRequest((Message("user", str(n)),), max_tokens=10**6) for n in range(29)]
        return await asyncio.gather(*map(client.complete, requests), return_exceptions=True)

    answered = asyncio.run(at_once(3.0))

    assert sum(isinstance(each, Completion) for each in answered) == 3
    assert {str(each) for each in answered if isinstance(each, Exception)} == {
        "over_limit: the run's spending limit is reached"
    }
    assert journal.totals().cost(price) == pytest.approx(3.0)


def test_a_limit_stops_asking_and_still_gives_out_what_is_known(journal: Journal) -> None:
    llm = ScriptedLLM(lambda asked: Completion("x", "stop", "m", prompt_tokens=90, completion_tokens=10))
    spending = Spending(journal.totals(), price=None, max_tokens=1000)
    client = JournaledClient(llm, journal, strategy="mgh", may_ask=spending.decide, on_answer=spending.add)

    async def all_of_them() -> list[object]:
        asked = (client.complete(CompletionRequest((Message("user", str(number)),))) for number in range(50))
        return [await each for each in asked_in_turn(asked)]

    def asked_in_turn(asked: Iterator[object]) -> Iterator[object]:
        return (asyncio.ensure_future(guarded(each)) for each in asked)

    async def guarded(each: object) -> object:
        try:
            return await each  # type: ignore[misc]
        except Exception as failure:
            return failure

    first = asyncio.run(all_of_them())
    assert llm.calls == 10
    assert journal.totals().failures == {}  # a limit is no failure
    assert sum(isinstance(each, Completion) for each in first) == 10
    assert sum(isinstance(each, Completion) for each in asyncio.run(all_of_them())) == 10
    assert llm.calls == 10


def test_an_estimate_asks_nothing_and_knows_the_journal(journal: Journal, engine: LocalEngine) -> None:
    strategy = StepwiseStrategy()
    before = estimate_synthesis(UNITS, strategy, engine, identity="scripted:plausible", price=PRICE, journal=journal)
    assert (before.rows, before.requests, before.in_journal) == (12, 60, 0)
    assert before.prompts[0][-1].role == "user"
    assert "rivers" in before.prompts[0][-1].content
    assert before.cost is not None
    assert before.cost_at_most is not None
    assert 0 < before.cost <= before.cost_at_most
    client = JournaledClient(ScriptedLLM(), journal, strategy=strategy.name)
    list(synthesize(UNITS[:6], strategy, client, engine))
    after = estimate_synthesis(UNITS, strategy, engine, identity=client.identity, price=PRICE, journal=journal)
    assert (after.requests, after.in_journal) == (60, 30)
    assert after.prompt_tokens == pytest.approx(before.prompt_tokens / 2, rel=0.05)
    unknown = estimate_synthesis(UNITS, strategy, engine, identity="x", price=None)
    assert unknown.cost is None
    assert estimate_synthesis([], strategy, engine, identity="x", price=PRICE).requests == 0


def test_an_estimate_of_many_rows_samples_them(engine: LocalEngine) -> None:
    many = [WritingUnit(Document(f"d{n}", f"document {n} " + "words " * 50)) for n in range(5000)]
    estimate = estimate_synthesis(many, MghStrategy(), engine, identity="x", price=PRICE)
    assert estimate.requests == 5000
    assert len(estimate.prompts) == 3
