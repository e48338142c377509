"""Strategies mixed by weight, and strategies of other packages."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.installed import install

from multigrain.config import LLMConfig, SynthesisConfig
from multigrain.config.file import parse_config
from multigrain.config.synthesis import STRATEGIES
from multigrain.engine.local import LocalEngine
from multigrain.errors import ConfigError
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.records import Document
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import build_strategy, synthesize
from multigrain.tools.synthesis_estimate import Estimate, ModelEstimate

UNITS = [
    WritingUnit(Document(f"d{number}", f"[{number}] A text about one thing of {number}.")) for number in range(400)
]


def written_by(weights: dict[str, float], units: list[WritingUnit], *, seed: int = 1) -> dict[str, str]:
    strategy = build_strategy(SynthesisConfig(strategy=weights), LLMConfig(), seed=seed)
    with LocalEngine(concurrency=8) as engine:
        rows = [outcome.value for outcome in synthesize(units, strategy, ScriptedLLM(), engine)]
    return {row.document_id or "": row.strategy for row in rows if row is not None}


def test_rows_are_shared_out_by_weight_and_the_same_way_each_time() -> None:
    first = written_by({"single": 3, "mined-bands": 1}, UNITS)

    assert Counter(first.values())["single"] == pytest.approx(300, abs=35)
    assert written_by({"mined-bands": 0.25, "single": 0.75, "mgh": 0}, UNITS[::-1]) == first
    assert written_by({"single": 3, "mined-bands": 1}, UNITS[:50]) == {f"d{n}": first[f"d{n}"] for n in range(50)}
    assert written_by({"single": 3, "mined-bands": 1}, UNITS, seed=2) != first


def test_a_mix_of_one_member_hands_every_unit_to_it() -> None:
    mix = build_strategy(SynthesisConfig(strategy={"single": 3, "mined-bands": 1}), LLMConfig(), seed=1)
    assert isinstance(mix, MixedStrategy)

    for name in ("single", "mined-bands"):
        assert {mix.only(name).member(replace(unit, query=query)).name for unit in UNITS for query in (None, "q")} == {
            name
        }
    assert mix.only("mgh") == mix


def test_a_mix_reuses_what_its_members_asked_before(tmp_path: Path) -> None:
    def asked(strategy: str | dict[str, float]) -> tuple[int, int]:
        built = build_strategy(SynthesisConfig(strategy=strategy, query_first=False), LLMConfig(), seed=1)
        with Journal(tmp_path / "j.sqlite") as journal, LocalEngine(concurrency=4) as engine:
            client = JournaledClient(ScriptedLLM(), journal, strategy=built.name)
            rows = [each.value for each in synthesize(UNITS[:40], built, client, engine)]
            assert None not in rows
            assert {entry.strategy for entry in journal.entries()} <= {"single", "mined-bands"}
        return client.asked, client.reused

    assert asked("single") == (40, 0)
    new, reused = asked({"single": 1, "mined-bands": 1})
    assert new + reused == 40
    assert min(new, reused) > 8
    assert asked({"single": 1, "mined-bands": 1}) == (0, 40)


def test_an_estimate_of_a_mix_says_what_each_strategy_costs() -> None:
    built = build_strategy(SynthesisConfig(strategy={"mgh": 1, "mined-bands": 1}), LLMConfig(), seed=1)
    with LocalEngine(concurrency=4) as engine:
        model = ModelEstimate(None)
        model.add_rows(UNITS[:200], built, engine)
    estimate = Estimate.of([model])

    shares = estimate.strategies
    assert set(shares) == {"mgh", "mined-bands"}
    assert sum(share.rows for share in shares.values()) == estimate.rows == 200
    assert sum(share.requests for share in shares.values()) == estimate.requests
    assert shares["mgh"].completion_tokens > 5 * shares["mined-bands"].completion_tokens
    assert build_strategy(SynthesisConfig(strategy={"mgh": 1, "mined": 0}), LLMConfig(), seed=1).name == "mgh"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mgh_levels", "did you mean 'mgh-levels'"),
        ({"mgh": 1, "hibrid": 1}, "did you mean 'hybrid'"),
        ({"mgh": 0}, "at least one weight"),
        ({"mgh": -1, "mined": 2}, "at least 0"),
        ({}, "at least one weight"),
    ],
)
def test_what_is_wrong_with_a_strategy_is_said_when_the_config_is_read(given: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config({"synthesis": {"strategy": given}})


def test_levels_that_nobody_writes_must_be_allowed_to_be_mined() -> None:
    values = {"synthesis": {"strategy": {"mgh": 1, "single": 1}}, "audit": {"negatives": "written"}}
    with pytest.raises(ConfigError, match="'single' leaves levels to be mined"):
        parse_config(values)
    parse_config(values | {"synthesis": {"strategy": {"mgh": 1, "single": 0}}})


FOREIGN = """
from multigrain.synthesis.strategies.writer import written_row


class Shout:
    name = "shout"

    def __init__(self, settings):
        self.writer = settings.writer

    async def write(self, unit, client):
        query = await self.writer.query(client, unit)
        return written_row(self.name, unit, query=query.upper())


NOT_CALLABLE = 3


def build_nothing(settings):
    return object()
"""


@pytest.fixture
def foreign_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"shout": "Shout", "gone": "Gone", "three": "NOT_CALLABLE", "nothing": "build_nothing", "mgh": "Shout"}
    values = {name: f"shouting:{attribute}" for name, attribute in parts.items()}
    monkeypatch.syspath_prepend(str(install(tmp_path, "shouting", {STRATEGIES.group: values}, {"shouting": FOREIGN})))


@pytest.mark.usefixtures("foreign_package")
def test_another_package_can_bring_a_strategy_and_it_mixes_with_ours() -> None:
    config = parse_config({"synthesis": {"strategy": {"shout": 1, "mined-bands": 1}}})
    built = build_strategy(config.synthesis, config.llm, seed=1)

    rows = [asyncio.run(built.write(unit, ScriptedLLM(lambda _: "how does it go"))) for unit in UNITS[:20]]

    assert {row.query for row in rows if row.strategy == "shout"} == {"HOW DOES IT GO"}
    assert {row.query for row in rows if row.strategy == "mined-bands"} == {"how does it go"}


@pytest.mark.usefixtures("foreign_package")
def test_our_own_names_cannot_be_taken_over() -> None:
    with pytest.raises(ConfigError, match="package shouting offers one of that name, which is built in"):
        build_strategy(SynthesisConfig(query_first=False), LLMConfig(), seed=1)
    with pytest.raises(ConfigError, match="package shouting offers one of that name"):
        parse_config({"synthesis": {"strategy": "mgh"}})


@pytest.mark.usefixtures("foreign_package")
@pytest.mark.parametrize(
    ("name", "words"), [("gone", "cannot be loaded"), ("three", "no callable"), ("nothing", "no `name` and `write`")]
)
def test_a_broken_plug_in_is_named(name: str, words: str) -> None:
    config = SynthesisConfig(strategy=name)
    with pytest.raises(ConfigError, match=words):
        build_strategy(config, LLMConfig(), seed=1)
