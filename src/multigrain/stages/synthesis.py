"""Stage 2: write queries and negatives, every completion kept in the journal before it counts."""

from __future__ import annotations

import math
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

from multigrain.config import Config, LLMConfig
from multigrain.config.synthesis import LABEL_STRATEGIES
from multigrain.dataset.store import write_rows, writing_rows
from multigrain.display.progress import telling_of_interrupt
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Engine, Failure, Outcome, Unit, Value
from multigrain.errors import ConfigError, UnusableOutputError
from multigrain.llm.build import total_concurrency
from multigrain.llm.protocol import UnusableAnswer
from multigrain.llm.session.session import JournaledClient, PaidSession, paid_session
from multigrain.records import HELD_OUT, Document, Split, SynthesizedRow
from multigrain.sources.store import write_document_table
from multigrain.stages.base import STOPPING, RunContext, Stage
from multigrain.stages.first_rows import FirstRows, remedy_for, said
from multigrain.stages.preflight import lacking_parts
from multigrain.stages.table import invalidate
from multigrain.storage.files import atomic_write
from multigrain.storage.rundir import StageManifest
from multigrain.synthesis.heldout import HELDOUT, dump_heldout_queries, write_heldout_queries
from multigrain.synthesis.inputs import (
    heldout_documents,
    heldout_units,
    parts_to_ask,
    read_inputs,
    training_units,
    written_corpus,
)
from multigrain.synthesis.partners import rows_of
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.query_judge import QUERY_JUDGE, QueryJudge
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit, row_id
from multigrain.synthesis.style import style_queries
from multigrain.synthesis.synthesize import run_strategy, synthesize

Key = TypeVar("Key")


def run(context: RunContext, stage: Stage) -> None:
    """Write rows for what the run starts from, and held-out queries where it has none.

    A synthesis that a limit ended goes on where that limit has been raised, and so does one that has no held-out query
    to judge by; what was made of it is made again.

    Raises:
        RunMismatchError: it is complete, but from other settings or inputs, and redoing was not asked for; a limit
            that has been raised besides makes no difference.
    """
    if why := _goes_on(context, stage):
        context.progress.say(f"synthesis: {why}; it continues, and so does what follows")
        invalidate(context, stage)
        shutil.rmtree(context.run.checkpoints_path, ignore_errors=True)
    with telling_of_interrupt(context.progress, STOPPING):
        stage.complete(context, lambda: _write(context))


def _goes_on(context: RunContext, stage: Stage) -> str:
    """Why a complete synthesis goes on, in words; empty where it does not."""
    manifest = context.run.manifest(stage.folder)
    # Of other settings, all of it would be written and paid for again: that is for --redo to say.
    if manifest is None or not (context.redo or manifest.fingerprint == stage.fingerprints(context)[stage.folder]):
        return ""
    if _limit_raised(context.config, manifest):
        return "the limit that ended it has been raised"
    if lacking_parts(context.config, manifest.counts) and "over_limit" not in manifest.counts["heldout_failed"]:
        return "no held-out query was written for one of the parts that need them"
    return ""


def _limit_raised(config: Config, manifest: StageManifest) -> bool:
    """Whether a limit ended the synthesis, and allows more now."""
    before, now = manifest.settings.get("synthesis", {}), config.synthesis.model_dump(mode="json")
    ended_by = {
        "stopped_by_budget": ("budget_seconds",),
        "stopped_by_limit": ("max_cost", "max_total_tokens"),
    }
    names = [name for mark, limits in ended_by.items() if manifest.counts.get(mark) for name in limits]
    return any(before.get(name) is not None and (now[name] or math.inf) > before[name] for name in names)


@dataclass
class _HeldoutTally:
    """Counts held-out queries as they are written.

    Attributes:
        wanted: those that are needed, by the part of the documents that they are for.
        written: those that there are.
        failed: those that came to nothing, by kind.
    """

    wanted: Counter[Split] = field(default_factory=Counter)
    written: Counter[Split] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, Any]:
        """For the manifest. What a limit cut off is counted whole, though asking for it stopped early."""
        failed = dict(self.failed)
        if "over_limit" in failed:
            failed["over_limit"] += self.wanted.total() - self.written.total() - self.failed.total()
        return {
            "heldout_queries_requested": self.wanted.total(),
            "heldout_failed": failed,
            "heldout_missing": [split.value for split in self.wanted if not self.written[split]],
        }


@dataclass
class _Writing:
    """One model at work: who asks it, and how often the spending limit has turned it away.

    Attributes:
        context: the run.
        session: the model, its journal and the run's budget.
        engine: where the work runs.
        llm: the model's section of the config.
        heldout: counts of its held-out queries.
    """

    context: RunContext
    session: PaidSession
    engine: Engine
    llm: LLMConfig
    heldout: _HeldoutTally = field(default_factory=_HeldoutTally)
    _over_limit: int = 0
    _asked_for_rows: int = 0

    def begin(self) -> None:
        """Begin with other units: what was turned away before says nothing of them."""
        self._over_limit = 0

    def done(self, failure: Failure | None) -> None:
        """Count units in a row that the spending limit turned away."""
        self._over_limit = self._over_limit + 1 if failure is not None and failure.kind == "over_limit" else 0

    def must_stop(self) -> bool:
        """Whether the limit is reached, and whatever the journal holds beyond has been read."""
        # Rows are finished out of order, by as much as the concurrency: so far ahead there may be answered ones.
        return self._over_limit >= 4 * total_concurrency(self.llm)

    def resumed(self, client: JournaledClient) -> bool:
        """Whether a finished row came from the journal alone: nothing was asked since the one before."""
        if self._asked_for_rows >= client.asked:
            return True
        self._asked_for_rows += 1
        return False


@contextmanager
def _writing(context: RunContext, heldout_model: LLMConfig | None = None) -> Iterator[_Writing]:
    config, llm = context.config, heldout_model or context.config.llm
    with (
        build_engine(config.engine, concurrency=total_concurrency(llm)) as engine,
        paid_session(config, context.run, engine, heldout_model=heldout_model) as session,
    ):
        yield _Writing(context, session, engine, llm)


def _write(context: RunContext) -> dict[str, Any]:
    config, run = context.config, context.run
    Prompts(config.synthesis.templates).check()
    inputs = read_inputs(config, run)
    strategy = run_strategy(config, run, ask=True, progress=context.progress)
    other = config.evaluation.llm
    heldout: dict[str, str] = {}
    with _writing(context) as writing:
        units = training_units(config, inputs)
        if config.start_from == "tasks":
            rows: list[SynthesizedRow] = []
            counts = _write_rows(writing, strategy, units, rows.append)
            heldout_rows = _write_heldout_rows(writing, strategy, heldout_units(config, inputs))
            corpus = written_corpus(
                [*((row, Split.TRAIN) for row in rows), *heldout_rows],
                similarity=config.documents.near_duplicate_similarity,
            )
            rows, heldout = list(corpus.rows), corpus.heldout
            counts |= {"near_heldout": corpus.near_heldout, "kinds": dict(Counter(row.query_type for row in rows))}
            write_rows(run.rows_path, rows)
            write_document_table(run.written_documents_path, corpus.documents)
        else:
            with writing_rows(run.rows_path) as table:
                counts = _write_rows(writing, strategy, units, lambda row: table.add([row]))
        documents = heldout_documents(config, inputs)
        if documents and other is None:
            heldout = _write_heldout(writing, documents)
        usage = writing.session.usage()
    cost, written = usage.cost, counts["written"]
    counts |= {
        "prompt_tokens": usage.totals.prompt_tokens,
        "completion_tokens": usage.totals.completion_tokens,
        "cost": cost,
        "cost_per_row": None if cost is None or not written else round(cost / written, 8),
        "model": writing.session.model.identity,
        "strategy": strategy.name,
    }
    if documents and other is not None:
        with _writing(context, other) as writing:
            heldout = _write_heldout(writing, documents)
            usage = writing.session.usage()
        counts |= {
            "heldout_model": writing.session.model.identity,
            "heldout_prompt_tokens": usage.totals.prompt_tokens,
            "heldout_completion_tokens": usage.totals.completion_tokens,
            "heldout_cost": usage.cost,
        }
    atomic_write(run.heldout_queries_path, dump_heldout_queries(heldout))
    counts |= {"heldout_queries_written": len(heldout), **writing.heldout.counts()}
    if heldout_documents(config, inputs, HELD_OUT):
        counts["heldout_not_asked"] = [part.value for part in HELD_OUT if part not in parts_to_ask(config)]
    counts["stopped_by_limit"] |= "over_limit" in counts["heldout_failed"]
    context.progress.say(_summary(counts))
    return counts


def _write_rows(
    writing: _Writing, strategy: Strategy, units: Sequence[WritingUnit], keep: Callable[[SynthesizedRow], None]
) -> dict[str, Any]:
    """Write the rows of units; `keep` gets them in the units' order, whichever are finished first."""
    config, session = writing.context.config, writing.session
    client = session.client(strategy.name)
    session.journal.forget_failures_of_rows()
    in_order = _InOrder(keep)
    writers: Counter[str] = Counter()
    limited = False
    failed: Counter[str] = Counter()
    last: dict[str, str] = {}
    first = FirstRows(config.audit, config.synthesis.unfit_share)
    with writing.context.progress.task(_what_is_written(config), len(units)) as task:
        for outcome in synthesize(
            in_order.begun(units),
            strategy,
            client,
            writing.engine,
            budget_seconds=config.synthesis.budget_seconds,
            stop=lambda: writing.must_stop() or bool(first.verdict),
            style=style_queries(config),
        ):
            writing.done(outcome.failure)
            first.done(outcome.value, outcome.failure)
            in_order.done(outcome.unit, outcome.value)
            if outcome.value is not None:
                writers[outcome.value.strategy] += 1
            elif outcome.failure is not None and outcome.failure.kind == "over_limit":
                limited = True
            elif outcome.failure is not None:
                failed[outcome.failure.kind] += 1
                last[outcome.failure.kind] = said(outcome.failure)
                if isinstance(outcome.failure.error, UnusableAnswer):
                    session.journal.record_failure(
                        f"row:{row_id(strategy.name, outcome.unit)}",
                        outcome.failure.error,
                        strategy=strategy.name,
                        client=client.identity,
                    )
            note = _note(writers.total(), failed.total(), session.budget.cost)
            task.advance(note=note, resumed=writing.resumed(client))
    in_order.end()
    if first.verdict:
        raise UnusableOutputError(f"model {client.identity}: {first.verdict}")
    requested = writers.total() + failed.total()
    if not writers:
        if limited:
            raise ConfigError(
                "synthesis: the spending limit was reached before any row was finished: "
                "raise synthesis.max_cost or synthesis.max_total_tokens"
            )
        kinds = ", ".join(f"{count} {kind}" for kind, count in failed.most_common()) or "nothing was asked for"
        raise UnusableOutputError(
            f"model {client.identity}: none of {requested} answers could be used ({kinds}); {remedy_for(failed, last)}"
        )
    return {
        "planned": len(units),
        "requested": requested,
        "written": writers.total(),
        "failed": dict(failed),
        "written_by": dict(writers),
        "stopped_by_budget": requested < len(units) and not limited,
        "stopped_by_limit": limited,
    }


@dataclass
class _InOrder:
    """Passes rows on in the order of their units; only those that wait for a slower one are held back."""

    keep: Callable[[SynthesizedRow], None]
    _begun: deque[WritingUnit] = field(default_factory=deque)
    _waiting: dict[WritingUnit, SynthesizedRow | None] = field(default_factory=dict)

    def begun(self, units: Iterable[WritingUnit]) -> Iterator[WritingUnit]:
        """The units, noted as they are taken: to make one again from its document would cost more than to hold it."""
        for unit in units:
            self._begun.append(unit)
            yield unit

    def done(self, unit: WritingUnit, row: SynthesizedRow | None) -> None:
        """A unit is finished, with a row or without."""
        self._waiting[unit] = row
        while self._begun and self._begun[0] in self._waiting:
            unit = self._begun.popleft()
            self._pass_on(unit, self._waiting.pop(unit))

    def end(self) -> None:
        """No more is coming: units that were never finished hold nothing up any longer."""
        while self._begun:
            unit = self._begun.popleft()
            self._pass_on(unit, self._waiting.pop(unit, None))

    def _pass_on(self, unit: WritingUnit, row: SynthesizedRow | None) -> None:
        for part in rows_of(unit, row) if row is not None else ():
            self.keep(part)


def _write_heldout_rows(
    writing: _Writing, strategy: Strategy, units: Sequence[WritingUnit]
) -> list[tuple[SynthesizedRow, Split]]:
    """Query and positive of rows that are never trained on, in the order they were asked for."""
    client = writing.session.client(strategy.name)
    outcomes = synthesize(units, strategy, client, writing.engine, stop=writing.must_stop)
    split_of = {unit: unit.document.split for unit in units}
    rows = _heldout(writing, "Writing held-out rows", split_of, outcomes, lambda unit: unit)
    return [(rows[unit], unit.document.split) for unit in units if unit in rows]


def _write_heldout(writing: _Writing, documents: Sequence[Document]) -> dict[str, str]:
    """Held-out queries by the document's id, in the order of the documents."""
    config = writing.context.config
    outcomes = write_heldout_queries(
        documents,
        writing.session.client(HELDOUT),
        writing.engine,
        writing.llm,
        characters=config.synthesis.document_characters,
        seed=config.seed,
        prompts=Prompts(config.synthesis.templates),
        stop=writing.must_stop,
        style=style_queries(config),
    )
    split_of = {document.id: document.split for document in documents}
    queries = _heldout(writing, "Writing held-out queries", split_of, outcomes, attrgetter("id"))
    in_order = {identifier: queries[identifier] for identifier in split_of if identifier in queries}
    return _judged(writing, documents, in_order)


def _judged(writing: _Writing, documents: Sequence[Document], queries: dict[str, str]) -> dict[str, str]:
    """The held-out queries that the judge of queries lets pass; all of them where none is asked for."""
    config = writing.context.config
    settings = config.audit.query_judge
    if settings is None or not settings.heldout:
        return queries
    client, prompts = writing.session.client(QUERY_JUDGE), Prompts(config.synthesis.templates)
    judge = QueryJudge(client, writing.engine, config.seed, prompts, writing.llm.max_tokens, config=settings)
    with writing.context.progress.task("Judging held-out queries", None):
        asked = [document for document in documents if document.id in queries]
        problems = judge.problems([(queries[document.id], document.text) for document in asked])
    passed = {}
    for document, wrong in zip(asked, problems, strict=True):
        if wrong:
            writing.heldout.written[document.split] -= 1
            writing.heldout.failed["judged_query"] += 1
        else:
            passed[document.id] = queries[document.id]
    return passed


def _heldout(
    writing: _Writing,
    title: str,
    split_of: Mapping[Key, Split],
    outcomes: Iterable[Outcome[Unit, Value]],
    key: Callable[[Unit], Key],
) -> dict[Key, Value]:
    """What was written for units of the held-out parts, by their keys."""
    values: dict[Key, Value] = {}
    writing.begin()
    writing.heldout.wanted.update(split_of.values())
    with writing.context.progress.task(title, len(split_of)) as task:
        for outcome in outcomes:
            writing.done(outcome.failure)
            if outcome.failure is not None:
                writing.heldout.failed[outcome.failure.kind] += 1
            else:
                writing.heldout.written[split_of[key(outcome.unit)]] += 1
            if outcome.value is not None:
                values[key(outcome.unit)] = outcome.value
            task.advance()
    return values


def _what_is_written(config: Config) -> str:
    """What progress calls the rows: the queries of pairs are given, and some strategies write no negatives."""
    if config.start_from != "pairs":
        return "Writing queries and negatives"
    return "Preparing rows" if config.synthesis.strategy_weights.keys() <= LABEL_STRATEGIES else "Writing negatives"


def _note(written: int, failed: int, cost: float | None) -> str:
    """How it goes, for somebody who may want to stop it: the share of answers that are of use, and what they cost."""
    usable = f"{written / max(written + failed, 1):.0%} usable"
    return f"{usable}, ${cost:.2f} so far" if cost else usable


def _summary(counts: dict[str, Any]) -> str:
    line = f"synthesis: {counts['written']} rows of {counts['requested']} asked for"
    ended = "time budget" if counts["stopped_by_budget"] else "spending limit" if counts["stopped_by_limit"] else ""
    if ended:
        planned = counts["planned"]
        line += f" (the {ended} ended it{f'; {planned} were planned' if planned > counts['requested'] else ''})"
    if failed := counts["heldout_failed"]:
        kinds = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in failed.items())
        asked_for = counts["heldout_queries_requested"]
        line += f", {asked_for - sum(failed.values())} of {asked_for} held-out queries ({kinds})"
    line += f", {counts['completion_tokens']} tokens written"
    if counts["cost"]:
        line += f", ${counts['cost']:.4f} (${counts['cost_per_row']:.6f} a row)"
    return line
