"""Stage 2: write queries and negatives, every completion kept in the journal before it counts."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from multigrain.config import Config, LLMConfig
from multigrain.dataset.store import write_rows, writing_rows
from multigrain.display.progress import telling_of_interrupt
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Engine, Failure
from multigrain.errors import ConfigError, UnusableOutputError
from multigrain.llm.build import total_concurrency
from multigrain.llm.prices import find_price
from multigrain.llm.reasoning import REASONING_ADVICE
from multigrain.llm.session.budget import Spending
from multigrain.llm.session.journal import Journal, JournaledClient
from multigrain.llm.session.records import JournalTotals
from multigrain.llm.structured import UnusableAnswer
from multigrain.records import Document, Split, SynthesizedRow
from multigrain.sources.store import write_document_table
from multigrain.sources.titles import titles_suffice
from multigrain.stages.base import Stage
from multigrain.stages.context import STOPPING, RunContext
from multigrain.stages.heldout import HeldoutTally, lacking_parts
from multigrain.stages.table import invalidate
from multigrain.storage.disk_list import Spool
from multigrain.storage.rundir import StageManifest, atomic_write
from multigrain.synthesis.heldout import dump_heldout_queries
from multigrain.synthesis.inputs import heldout_units, read_material, training_units
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.run_strategy import run_strategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit, row_id
from multigrain.synthesis.synthesize import synthesize, write_heldout_queries
from multigrain.synthesis.written import written_corpus

__all__ = ["run"]


def run(context: RunContext, stage: Stage) -> None:
    """Write rows for what the run starts from, and held-out queries where it has none.

    A synthesis that a limit ended goes on where that limit has been raised, and so does one that has no held-out query
    to judge by; what was made of it is made again.

    Raises:
        RunMismatchError: it is complete, but from other settings or inputs, and redoing was not asked for; a limit
            that has been raised besides makes no difference.
    """
    if why := _goes_on(context, stage):
        context.progress.say(f"synthesis: {why}; it goes on, and so does what follows")
        invalidate(context, stage)
        shutil.rmtree(context.run.checkpoints_path, ignore_errors=True)
    with telling_of_interrupt(context.progress, STOPPING):
        stage.complete(context, lambda: _write(context))


def _goes_on(context: RunContext, stage: Stage) -> str:
    """Why a complete synthesis goes on, in words; empty where it does not."""
    made = context.run.manifest(stage.folder)
    # Of other settings, all of it would be written and paid for again: that is for --redo to say.
    if made is None or not (context.redo or made.fingerprint == stage.fingerprints(context)[stage.folder]):
        return ""
    if _limit_raised(context.config, made):
        return "the limit that ended it has been raised"
    if lacking_parts(context.config, made.counts) and "over_limit" not in made.counts["heldout_failed"]:
        return "no held-out query was written for one of the parts that need them"
    return ""


def _limit_raised(config: Config, made: StageManifest) -> bool:
    """Whether a limit ended the synthesis, and allows more now."""
    before, now = made.settings.get("synthesis", {}), config.synthesis.model_dump(mode="json")
    ended_by = {
        "stopped_by_budget": ("budget_seconds",),
        "stopped_by_limit": ("max_cost", "max_total_tokens"),
    }
    names = [name for mark, limits in ended_by.items() if made.counts.get(mark) for name in limits]
    return any(before.get(name) is not None and (now[name] or math.inf) > before[name] for name in names)


@dataclass
class _Session:
    """What one session of writing works with."""

    context: RunContext
    journal: Journal
    client: JournaledClient
    engine: Engine
    spending: Spending
    patience: int
    over_limit: int = 0
    asked_for_rows: int = 0
    heldout: HeldoutTally = field(default_factory=HeldoutTally)

    def done(self, failure: Failure | None) -> None:
        """Count rows in a row that the spending limit turned away."""
        self.over_limit = self.over_limit + 1 if failure is not None and failure.kind == "over_limit" else 0

    def resumed(self) -> bool:
        """Whether a finished row came from the journal alone: nothing was asked since the one before."""
        if self.asked_for_rows >= self.client.asked:
            return True
        self.asked_for_rows += 1
        return False

    def must_stop(self) -> bool:
        """Whether the limit is reached, and whatever the journal holds beyond has been read."""
        return self.over_limit >= self.patience


def _write(context: RunContext) -> dict[str, Any]:
    config = context.config
    Prompts(config.synthesis.templates).check()
    material = read_material(config, context.run)
    price = find_price(config.llm)
    strategy = run_strategy(config, context.run, ask=True, progress=context.progress)
    with (
        Journal(context.run.journal_path) as journal,
        build_engine(config.engine, concurrency=total_concurrency(config.llm)) as engine,
    ):
        spending = Spending(
            journal.totals(),
            price=price,
            max_cost=config.synthesis.max_cost,
            max_tokens=config.synthesis.max_total_tokens,
        )
        client = JournaledClient(
            engine.client(config.llm, seed=config.seed),
            journal,
            strategy=strategy.name,
            may_ask=spending.decide,
            on_answer=spending.add,
        )
        # Rows are finished out of order, by as much as the concurrency: so far ahead there may be answered ones.
        session = _Session(context, journal, client, engine, spending, 4 * total_concurrency(config.llm))
        try:
            units = training_units(config, material)
            if config.start_from == "tasks":
                rows: list[SynthesizedRow] = []
                counts = _write_rows(session, strategy, units, rows.append)
                asked = _write_heldout_rows(session, strategy, heldout_units(config, material))
                corpus = written_corpus(
                    [*((row, Split.TRAIN) for row in rows), *asked],
                    similarity=config.documents.near_duplicate_similarity,
                )
                rows, heldout = list(corpus.rows), corpus.heldout
                counts |= {"near_heldout": corpus.near_heldout, "kinds": dict(Counter(row.query_type for row in rows))}
                write_rows(context.run.rows_path, rows)
                write_document_table(context.run.written_documents_path, corpus.documents)
            else:
                with writing_rows(context.run.rows_path) as kept:
                    counts = _write_rows(session, strategy, units, lambda row: kept.add([row]))
                heldout = {} if config.evaluation.llm is not None else _write_heldout(session, material.documents)
        finally:
            engine.run(client.aclose())
        totals = journal.totals()
    others: dict[str, Any] = {}
    if config.evaluation.llm is not None:
        heldout, others = _write_heldout_by_another(context, config.evaluation.llm, material.documents, spent=totals)
    atomic_write(context.run.heldout_queries_path, dump_heldout_queries(heldout))
    cost = None if price is None else round(totals.cost(price), 6)
    counts |= {
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "cost": cost,
        "cost_per_row": None if cost is None or not counts["written"] else round(cost / counts["written"], 8),
        "model": client.identity,
        "strategy": strategy.name,
        "heldout_queries_written": len(heldout),
        **session.heldout.counts(),
        **others,
    }
    counts["stopped_by_limit"] |= "over_limit" in counts["heldout_failed"]
    context.progress.say(_summary(counts))
    return counts


def _write_rows(
    session: _Session, strategy: Strategy, units: Sequence[WritingUnit], keep: Callable[[SynthesizedRow], None]
) -> dict[str, Any]:
    """Write the rows of units; `keep` gets them in the units' order, whichever are finished first."""
    config = session.context.config
    session.journal.forget_failures_of_rows()
    in_order = _InOrder(units, keep)
    writers: Counter[str] = Counter()
    limited = False
    failed: Counter[str] = Counter()
    with session.context.progress.task("Writing queries and negatives", len(units)) as task:
        for outcome in synthesize(
            units,
            strategy,
            session.client,
            session.engine,
            budget_seconds=config.synthesis.budget_seconds,
            stop=session.must_stop,
        ):
            session.done(outcome.failure)
            in_order.done(outcome.unit, outcome.value)
            if outcome.value is not None:
                writers[outcome.value.strategy] += 1
            elif outcome.failure is not None and outcome.failure.kind == "over_limit":
                limited = True
            elif outcome.failure is not None:
                failed[outcome.failure.kind] += 1
                if isinstance(outcome.failure.error, UnusableAnswer):
                    session.journal.record_failure(
                        f"row:{row_id(strategy.name, outcome.unit)}",
                        outcome.failure.error,
                        strategy=strategy.name,
                        client=session.client.identity,
                    )
            note = _note(writers.total(), failed.total(), session.spending.cost)
            task.advance(note=note, resumed=session.resumed())
    in_order.end()
    asked = writers.total() + failed.total()
    if not writers:
        if limited:
            raise ConfigError(
                "synthesis: the spending limit was reached before any row was finished: "
                "raise synthesis.max_cost or synthesis.max_total_tokens"
            )
        kinds = ", ".join(f"{count} {kind}" for kind, count in failed.most_common()) or "nothing was asked for"
        usual = "a small model needs synthesis.strategy: stepwise, an endpoint may need llm.structured_output: false"
        raise UnusableOutputError(
            f"model {session.client.identity}: none of {asked} answers could be used ({kinds}); "
            f"{REASONING_ADVICE if failed['reasoning'] else usual}"
        )
    return {
        "requested": asked,
        "written": writers.total(),
        "failed": dict(failed),
        "written_by": dict(writers),
        "stopped_by_budget": asked < len(units) and not limited,
        "stopped_by_limit": limited,
    }


class _InOrder:
    """Passes rows on in the order of their units; only those that wait for a slower one are held.

    Args:
        units: all of them.
        keep: who gets the rows.
    """

    def __init__(self, units: Sequence[WritingUnit], keep: Callable[[SynthesizedRow], None]) -> None:
        self._units, self._keep = units, keep
        self._next = 0
        self._waiting: dict[WritingUnit, SynthesizedRow | None] = {}

    def done(self, unit: WritingUnit, row: SynthesizedRow | None) -> None:
        """A unit is finished, with a row or without."""
        self._waiting[unit] = row
        while self._next < len(self._units) and self._units[self._next] in self._waiting:
            self._pass_on(self._waiting.pop(self._units[self._next]))
            self._next += 1

    def end(self) -> None:
        """No more is coming: units that were never finished hold nothing up any longer."""
        for unit in self._units[self._next :]:
            self._pass_on(self._waiting.pop(unit, None))

    def _pass_on(self, row: SynthesizedRow | None) -> None:
        if row is not None:
            self._keep(row)


def _write_heldout_rows(
    session: _Session, strategy: Strategy, units: Sequence[WritingUnit]
) -> list[tuple[SynthesizedRow, Split]]:
    """Query and positive of rows that are never trained on, in the order they were asked for."""
    found: dict[WritingUnit, SynthesizedRow] = {}
    session.over_limit = 0
    session.heldout.expect(unit.document.split for unit in units)
    with session.context.progress.task("Writing held-out rows", len(units)) as task:
        for outcome in synthesize(units, strategy, session.client, session.engine, stop=session.must_stop):
            session.done(outcome.failure)
            session.heldout.done(outcome.unit.document.split, outcome.failure)
            if outcome.value is not None:
                found[outcome.unit] = outcome.value
            task.advance()
    return [(found[unit], unit.document.split) for unit in units if unit in found]


def _write_heldout_by_another(
    context: RunContext, llm: LLMConfig, documents: Sequence[Document], *, spent: JournalTotals
) -> tuple[dict[str, str], dict[str, Any]]:
    """Held-out queries by the model of `evaluation.llm`, in a journal of its own: it has a price of its own too."""
    config = context.config
    if not _needs_written_queries(config, Spool(each for each in documents if each.split is not Split.TRAIN)):
        return {}, {}
    price, own = find_price(llm), find_price(config.llm)
    cost_before = 0.0 if own is None else spent.cost(own)
    tokens_before = spent.prompt_tokens + spent.completion_tokens
    limits = config.synthesis
    with (
        Journal(context.run.heldout_journal_path) as journal,
        build_engine(config.engine, concurrency=total_concurrency(llm)) as engine,
    ):
        spending = Spending(
            journal.totals(),
            price=price,
            max_cost=None if limits.max_cost is None else max(0.0, limits.max_cost - cost_before),
            max_tokens=None if limits.max_total_tokens is None else max(0, limits.max_total_tokens - tokens_before),
        )
        client = JournaledClient(
            engine.client(llm, seed=config.seed),
            journal,
            strategy="heldout",
            may_ask=spending.decide,
            on_answer=spending.add,
        )
        session = _Session(context, journal, client, engine, spending, 4 * total_concurrency(llm))
        try:
            queries = _write_heldout(session, documents, llm)
        finally:
            engine.run(client.aclose())
        totals = journal.totals()
    return queries, {
        **session.heldout.counts(),
        "heldout_model": client.identity,
        "heldout_prompt_tokens": totals.prompt_tokens,
        "heldout_completion_tokens": totals.completion_tokens,
        "heldout_cost": None if price is None else round(totals.cost(price), 6),
    }


def _write_heldout(session: _Session, documents: Sequence[Document], llm: LLMConfig | None = None) -> dict[str, str]:
    config = session.context.config
    heldout = Spool(document for document in documents if document.split is not Split.TRAIN)
    if not _needs_written_queries(config, heldout):
        return {}
    queries: dict[str, str] = {}
    session.over_limit = 0
    session.heldout.expect(document.split for document in heldout)
    with session.context.progress.task("Writing held-out queries", len(heldout)) as task:
        for outcome in write_heldout_queries(
            heldout,
            session.client,
            session.engine,
            llm or config.llm,
            characters=config.synthesis.document_characters,
            seed=config.seed,
            prompts=Prompts(config.synthesis.templates),
            stop=session.must_stop,
        ):
            session.done(outcome.failure)
            session.heldout.done(outcome.unit.split, outcome.failure)
            if outcome.value is not None:
                queries[outcome.unit.id] = outcome.value
            task.advance()
    return {document.id: queries[document.id] for document in heldout if document.id in queries}


def _needs_written_queries(config: Config, heldout: Sequence[Document]) -> bool:
    if config.start_from == "pairs":
        return False
    wanted = config.evaluation.queries
    return wanted == "synthetic" or (wanted == "auto" and not titles_suffice(heldout))


def _note(written: int, failed: int, cost: float | None) -> str:
    """How it goes, for somebody who may want to stop it: the share of answers that are of use, and what they cost."""
    usable = f"{written / max(written + failed, 1):.0%} usable"
    return f"{usable}, ${cost:.2f} so far" if cost else usable


def _summary(counts: dict[str, Any]) -> str:
    line = f"synthesis: {counts['written']} rows of {counts['requested']} asked for"
    if counts["stopped_by_budget"]:
        line += " (the time budget ended it)"
    if counts["stopped_by_limit"]:
        line += " (the spending limit ended it)"
    if failed := counts["heldout_failed"]:
        kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in failed.items())
        asked_for = counts["heldout_queries_requested"]
        line += f", {asked_for - sum(failed.values())} of {asked_for} held-out queries ({kinds})"
    line += f", {counts['completion_tokens']} tokens written"
    if counts["cost"]:
        line += f", ${counts['cost']:.4f} (${counts['cost_per_row']:.6f} a row)"
    return line
