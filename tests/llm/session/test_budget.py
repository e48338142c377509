"""One budget over every journal, model and purpose of a run, counted before anything is asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.config import Config, LLMConfig, PriceConfig
from multigrain.config.file import parse_config
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError, EndpointRefusedError
from multigrain.llm.prices import about_prompt_tokens, cost_of
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient, Message
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.budget import Budget, Reservation
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalTotals
from multigrain.llm.session.session import JournaledClient, paid_session
from multigrain.llm.session.usage import JournalUsage, read_usage
from multigrain.storage.rundir import RunDirectory

PRICE = PriceConfig(prompt=1, completion=10)
FREE = PriceConfig(prompt=0, completion=0)

REQUEST = CompletionRequest((Message("user", "x" * 376),), max_tokens=100)
"""At most two hundred tokens: a hundred to read, a hundred to write."""

ANSWER = Completion("x", "stop", "m", prompt_tokens=100, completion_tokens=100)


def usage(prompt: int, completion: int, price: PriceConfig | None = PRICE) -> JournalUsage:
    return JournalUsage(Path("journal.sqlite"), JournalTotals(1, prompt, completion), price)


def reserved(budget: Budget, price: PriceConfig | None = PRICE) -> Reservation:
    reservation = budget.reserve(REQUEST, price)
    assert reservation is not None
    return reservation


def calibrated(*journals: JournalUsage, **limits: Any) -> Budget:
    """A budget that has seen one answer, of two hundred tokens."""
    budget = Budget(journals, **limits)
    budget.settle(reserved(budget), ANSWER)
    return budget


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def test_earlier_sessions_other_journals_and_requests_in_flight_count() -> None:
    budget = calibrated(usage(800, 200), usage(0, 300), max_tokens=1900)
    in_flight = [reserved(budget), reserved(budget)]
    assert budget.reserve(REQUEST, PRICE) is None  # 1500 are spent, and the third would make 2100
    budget.settle(in_flight.pop(), None)
    in_flight.append(reserved(budget))  # what came to nothing is free again
    for reservation in in_flight:
        budget.settle(reservation, ANSWER)
    with pytest.raises(CompletionFailure, match="over_limit: the run's spending limit is reached"):
        budget.reserve(REQUEST, PRICE)


def test_each_journal_counts_at_its_own_price() -> None:
    dear = PriceConfig(prompt=1000, completion=1000)
    assert Budget([usage(1000, 0), usage(1000, 0, dear)]).cost == pytest.approx(1.001)
    with pytest.raises(CompletionFailure):
        Budget([usage(1000, 0), usage(1000, 0, dear)], max_cost=1.0).reserve(REQUEST, PRICE)


def test_before_an_answer_has_told_prompts_count_as_a_token_a_byte() -> None:
    budget = Budget(max_tokens=1100)
    first = reserved(budget)  # 400 to read, as the template's tokens count as bytes too, and 100 to write
    reserved(budget)
    assert budget.reserve(REQUEST, PRICE) is None
    budget.settle(first, ANSWER)
    assert reserved(budget).tokens == pytest.approx(200)


def test_an_endpoint_that_reports_more_tokens_than_estimated_is_believed() -> None:
    budget = Budget(max_tokens=10**6)
    budget.settle(reserved(budget), Completion("x", "stop", "m", prompt_tokens=350, completion_tokens=1))
    assert reserved(budget).tokens == pytest.approx(450)
    budget.settle(reserved(budget), ANSWER)
    assert reserved(budget).tokens == pytest.approx(450)


def test_one_request_is_tried_below_its_most_and_none_where_nothing_is_left() -> None:
    tight = Budget(max_cost=1e-9)
    reserved(tight)
    assert tight.reserve(REQUEST, PRICE) is None
    for limits in ({"max_cost": 0.0}, {"max_tokens": 0}):
        with pytest.raises(CompletionFailure):
            Budget(**limits).reserve(REQUEST, PRICE)
    free = Budget([usage(10**6, 0)], max_cost=0.5)
    assert all(free.reserve(REQUEST, FREE) for _ in range(99))  # a model that costs nothing is asked all the same
    assert all(Budget([usage(10**9, 10**9)]).reserve(REQUEST, None) for _ in range(99))


def test_a_limit_in_dollars_needs_every_price() -> None:
    with pytest.raises(ConfigError, match=r"set llm\.prices"):
        Budget([usage(1, 1, None)], max_cost=1.0)
    assert Budget([usage(1, 1, None)], max_tokens=3).tokens == 2


def test_a_limit_holds_among_requests_that_are_all_sent_at_once(journal: Journal) -> None:
    dear = Completion("x", "stop", "m", prompt_tokens=500_000, completion_tokens=50_000)  # a dollar

    async def at_once(max_cost: float) -> list[object]:
        client = JournaledClient(
            ScriptedLLM(lambda _: dear), journal, strategy="mgh", budget=Budget(max_cost=max_cost), price=PRICE
        )
        requests = [CompletionRequest((Message("user", str(n)),), max_tokens=10**6) for n in range(29)]
        return await asyncio.gather(*map(client.complete, requests), return_exceptions=True)

    answered = asyncio.run(at_once(3.0))

    assert sum(isinstance(outcome, Completion) for outcome in answered) == 3
    assert {str(outcome) for outcome in answered if isinstance(outcome, Exception)} == {
        "over_limit: the run's spending limit is reached"
    }
    assert journal.totals().cost(PRICE) == pytest.approx(3.0)


def test_a_limit_stops_asking_and_still_gives_out_what_is_known(journal: Journal) -> None:
    llm = ScriptedLLM(lambda _: Completion("x", "stop", "m", prompt_tokens=90, completion_tokens=10))
    client = JournaledClient(llm, journal, strategy="mgh", budget=Budget(max_tokens=1000))

    async def one_after_another() -> list[object]:
        outcomes: list[object] = []
        for number in range(50):
            try:
                outcomes.append(await client.complete(CompletionRequest((Message("user", str(number)),))))
            except CompletionFailure as failure:
                outcomes.append(failure)
        return outcomes

    first = asyncio.run(one_after_another())
    assert llm.calls == 10
    assert journal.totals().failures == {}  # a limit is no failure
    assert sum(isinstance(outcome, Completion) for outcome in first) == 10
    assert sum(isinstance(outcome, Completion) for outcome in asyncio.run(one_after_another())) == 10
    assert llm.calls == 10


class Random(LocalEngine):
    """An engine whose models answer with random lengths after random times, and remember the dearest request."""

    def __init__(self, seed: int, concurrency: int) -> None:
        super().__init__(concurrency=concurrency)
        self._chance = random.Random(seed)
        self.dearest: dict[str, float] = {"cost": 0.0, "tokens": 0.0}

    def client(self, config: LLMConfig, *, seed: int) -> LLMClient:
        price = config.prices[config.model]

        class Model(ScriptedLLM):
            async def complete(model, request: CompletionRequest) -> Completion:  # noqa: N805
                reading, most = round(about_prompt_tokens(request)), request.max_tokens
                cost = cost_of(price, prompt_tokens=reading, completion_tokens=most)
                self.dearest["cost"] = max(self.dearest["cost"], cost)
                self.dearest["tokens"] = max(self.dearest["tokens"], reading + most)
                await asyncio.sleep(self._chance.random() / 2000)
                if self._chance.random() < 0.1:
                    raise CompletionFailure("server_error", "by chance")
                return Completion(
                    "x", "stop", "m", reading, self._chance.choice([most, self._chance.randint(1, most)])
                )

        return Model(name=config.model)


def run_config(limits: dict[str, float]) -> Config:
    prices = {"one": {"prompt": 3.0, "completion": 9.0}, "two": {"prompt": 50.0, "completion": 200.0}}
    return parse_config(
        {
            "llm": {"provider": "scripted", "model": "one", "prices": prices},
            "evaluation": {"llm": {"provider": "scripted", "model": "two", "prices": prices}},
            "synthesis": limits,
        }
    )


def request_by_chance(chance: random.Random, number: int) -> CompletionRequest:
    text = "word " * chance.randint(1, 60)
    return CompletionRequest((Message("user", text),), seed=number, max_tokens=chance.choice([8, 64, 300]))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    concurrency=st.sampled_from([1, 3, 16]),
    share=st.floats(0.05, 0.9),
    limited=st.sampled_from(["max_cost", "max_total_tokens"]),
)
def test_all_purposes_together_never_pass_a_limit_by_more_than_one_request(
    tmp_path_factory: pytest.TempPathFactory, seed: int, concurrency: int, share: float, limited: str
) -> None:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    limit = share * (0.4 if limited == "max_cost" else 30_000)
    config = run_config({limited: limit if limited == "max_cost" else round(limit)})
    chance = random.Random(seed)
    over_limit = 0

    def ask(engine: Random, *clients: JournaledClient) -> None:
        nonlocal over_limit
        requests = [(client, request_by_chance(chance, number)) for number in range(30) for client in clients]
        for outcome in engine.map(lambda pair: pair[0].complete(pair[1]), requests):
            over_limit += outcome.failure is not None and outcome.failure.kind == "over_limit"

    with Random(seed, concurrency) as engine:
        for purposes in (["brainstorm"], ["mgh", "heldout"]):
            with paid_session(config, run, engine) as session:
                ask(engine, *map(session.client, purposes))
        with paid_session(config, run, engine, heldout_model=config.evaluation.llm) as session:
            ask(engine, session.client("heldout"))
        with paid_session(config, run, engine) as session:
            ask(engine, session.client("judge"), session.client("regenerate"))  # side by side, as the audit asks
        dearest = engine.dearest
    used = read_usage(run, config)
    tokens = sum(journal.totals.tokens for journal in used.journals)
    assert used.cost is not None
    if limited == "max_cost":
        assert used.cost < limit + dearest["cost"]
        assert not over_limit or used.cost >= limit * (1 - 1e-6)
    else:
        assert tokens < limit + dearest["tokens"]
        assert not over_limit or tokens >= limit - 1


def test_what_lies_in_batch_files_is_set_aside_until_it_is_answered(tmp_path: Path) -> None:
    run, config = RunDirectory(tmp_path / "run"), run_config({"max_total_tokens": 1000})
    with Journal(run.journal_path) as journal:
        for number in range(4):
            journal.want_in_batch(str(number), REQUEST, strategy="mgh", client="c", round_id="r").result()
        journal.mark_written(["0", "1", "2"])
    with Random(1, 1) as engine, paid_session(config, run, engine) as session:
        # Three requests in files may come to 500 tokens each.
        with pytest.raises(CompletionFailure, match="over_limit"):
            engine.run(session.client("mgh").complete(REQUEST))
        session.journal.record_failure(
            "0", CompletionFailure("batch_expired", "too late"), strategy="mgh", client="c"
        ).result()
        assert len(list(session.journal.awaited())) == 2


def test_the_next_session_knows_how_many_tokens_prompts_are(tmp_path: Path) -> None:
    run, config = RunDirectory(tmp_path / "run"), run_config({"max_total_tokens": 10**6})
    with LocalEngine() as engine, paid_session(config, run, engine) as session:
        client = JournaledClient(ScriptedLLM([ANSWER]), session.journal, strategy="mgh", budget=session.budget)
        engine.run(client.complete(REQUEST))
    with LocalEngine() as engine, paid_session(config, run, engine) as session:
        assert reserved(session.budget).tokens == pytest.approx(200)


def test_an_endpoint_that_reports_no_tokens_is_limited_by_estimates(journal: Journal, tmp_path: Path) -> None:
    silent = ScriptedLLM(lambda request: Completion("word " * 80, "stop", "m"))
    budget = Budget(max_tokens=1000)
    client = JournaledClient(silent, journal, strategy="mgh", budget=budget)

    async def ask_until_it_ends() -> int:
        for number in range(100):
            try:
                await client.complete(CompletionRequest((Message("user", f"{number} " + "x" * 376),), max_tokens=100))
            except CompletionFailure as failure:
                assert failure.kind == "over_limit"  # noqa: PT017
                return number
        return 100

    asked = asyncio.run(ask_until_it_ends())
    assert 3 <= asked <= 6  # two hundred tokens each, at about four bytes a token
    totals = journal.totals()
    assert (totals.uncounted, totals.completions) == (asked, asked)
    assert totals.tokens == budget.tokens >= 1000
    assert Budget([JournalUsage(journal.path, totals, None)]).tokens == budget.tokens  # another session goes on so


def test_room_for_thoughts_is_set_aside() -> None:
    roomy = CompletionRequest(REQUEST.messages, max_tokens=40, room=5000)
    budget = calibrated(max_tokens=4000)
    in_flight = reserved(budget)
    assert budget.reserve(roomy, PRICE) is None
    budget.settle(in_flight, None)
    assert budget.reserve(roomy, PRICE) is not None  # alone it is sent: what is spent passes the limit by one request


def test_a_refusal_is_in_the_journal_with_its_words(journal: Journal) -> None:
    refusal = EndpointRefusedError("llm.base_url answers 404: Unexpected endpoint")
    client = JournaledClient(ScriptedLLM([refusal]), journal, strategy="mgh")
    with pytest.raises(EndpointRefusedError):
        asyncio.run(client.complete(REQUEST))
    totals = journal.totals()
    assert totals.failures == {"refused": 1}
    assert "Unexpected endpoint" in totals.details["refused"]
