"""Stage 2: write queries and negatives, every completion kept in the journal before it counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from multigrain.config import Config, fingerprint
from multigrain.dataset.store import write_rows
from multigrain.engine.local import LocalEngine
from multigrain.errors import UnusableOutputError
from multigrain.llm.build import build_client
from multigrain.llm.protocol import LLMClient
from multigrain.pipeline.context import RunContext, complete_stage
from multigrain.records import Document, Split, SynthesizedRow
from multigrain.rundir import StageManifest, atomic_write
from multigrain.sources.store import read_document_table
from multigrain.sources.titles import titles_suffice
from multigrain.synthesis.heldout import dump_heldout_queries
from multigrain.synthesis.journal import Journal, JournaledClient
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import build_strategy, synthesize, write_heldout_queries, writing_units

__all__ = ["synthesis_stage"]

_FORMAT = 1
_PASSING_SETTINGS = {"concurrency", "threads", "timeout_seconds", "max_retries", "api_key_env"}
"""Settings of the LLM that decide how fast it answers, and not what."""


def synthesis_stage(context: RunContext) -> StageManifest:
    """Write rows for the training documents, and held-out queries where the documents have no titles."""
    documents_done = context.run.require("documents", "multigrain synthesize")
    config = context.config
    identity = fingerprint(
        _FORMAT,
        documents_done.fingerprint,
        config.synthesis,
        config.llm.model_dump(mode="json", exclude=_PASSING_SETTINGS),
        config.evaluation.queries,
        config.seed,
    )
    return complete_stage(context, "synthesis", identity, lambda: _write(context))


def _write(context: RunContext) -> dict[str, Any]:
    config = context.config
    documents = read_document_table(context.run.documents_path)
    engine = LocalEngine(concurrency=config.llm.concurrency)
    with Journal(context.run.journal_path) as journal:
        client = JournaledClient(
            build_client(config.llm, seed=config.seed), journal, strategy=config.synthesis.strategy
        )
        with engine:
            try:
                rows, counts = _write_rows(context, documents, client, engine)
                heldout = _write_heldout(context, documents, client, engine)
            finally:
                engine.run(client.aclose())
        tokens = journal.totals()
    write_rows(context.run.rows_path, rows)
    atomic_write(context.run.heldout_queries_path, dump_heldout_queries(heldout))
    counts |= {
        "prompt_tokens": tokens.prompt_tokens,
        "completion_tokens": tokens.completion_tokens,
        "model": client.identity,
        "strategy": config.synthesis.strategy,
        "heldout_queries_written": len(heldout),
    }
    context.progress.say(
        f"synthesis: {counts['written']} rows of {counts['requested']} asked for"
        + (" (the time budget ended it)" if counts["stopped_by_budget"] else "")
        + f", {tokens.completion_tokens} tokens written"
    )
    return counts


def _write_rows(
    context: RunContext, documents: Sequence[Document], client: LLMClient, engine: LocalEngine
) -> tuple[list[SynthesizedRow], dict[str, Any]]:
    config = context.config
    train = [document for document in documents if document.split is Split.TRAIN]
    units = writing_units(train, config.synthesis, seed=config.seed)
    strategy = build_strategy(config.synthesis, config.llm, seed=config.seed)
    rows: dict[WritingUnit, SynthesizedRow] = {}
    failed: Counter[str] = Counter()
    with context.progress.task("Writing queries and negatives", len(units)) as task:
        for outcome in synthesize(units, strategy, client, engine, budget_seconds=config.synthesis.budget_seconds):
            if outcome.value is not None:
                rows[outcome.unit] = outcome.value
            elif outcome.failure is not None:
                failed[outcome.failure.kind] += 1
            task.advance(note=f"{len(rows)} written" + (f", {failed.total()} failed" if failed else ""))
    if not rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in failed.most_common()) or "nothing was asked for"
        raise UnusableOutputError(
            f"model {client.identity}: none of {failed.total()} answers could be used ({kinds}); "
            f"a small model needs synthesis.strategy: stepwise, an endpoint may need llm.structured_output: false"
        )
    counts = {
        "requested": len(rows) + failed.total(),
        "written": len(rows),
        "failed": dict(failed),
        "stopped_by_budget": len(rows) + failed.total() < len(units),
    }
    return [rows[unit] for unit in units if unit in rows], counts


def _write_heldout(
    context: RunContext, documents: Sequence[Document], client: LLMClient, engine: LocalEngine
) -> dict[str, str]:
    config = context.config
    heldout = [document for document in documents if document.split is not Split.TRAIN]
    if not _needs_written_queries(config, heldout):
        return {}
    queries: dict[str, str] = {}
    with context.progress.task("Writing held-out queries", len(heldout)) as task:
        for outcome in write_heldout_queries(
            heldout, client, engine, config.llm, characters=config.synthesis.document_characters, seed=config.seed
        ):
            if outcome.value is not None:
                queries[outcome.unit.id] = outcome.value
            task.advance()
    return {document.id: queries[document.id] for document in heldout if document.id in queries}


def _needs_written_queries(config: Config, heldout: Sequence[Document]) -> bool:
    wanted = config.evaluation.queries
    return wanted == "synthetic" or (wanted == "auto" and not titles_suffice(heldout))
