"""Stage 3: measure what was written, and keep the rows whose levels hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from multigrain.audit.evaluation_sets import find_contamination
from multigrain.audit.heldout import judge_heldout, write_heldout_positives
from multigrain.audit.judges import Judge, judge_counts, of_passages, open_judges
from multigrain.audit.probe import run_probe
from multigrain.audit.run import AuditResult, audit_batches
from multigrain.audit.summary import say_summary, summarise
from multigrain.dataset.store import (
    open_examples,
    open_rejections,
    open_rows,
    writing_examples,
    writing_rejections,
)
from multigrain.display.progress import Task
from multigrain.encoders.protocol import Encoder, Floats
from multigrain.encoders.reference import reference_name
from multigrain.errors import SourceError
from multigrain.llm.session.usage import read_usage
from multigrain.mining.vectors import corpus_vectors
from multigrain.records import Split
from multigrain.sources.store import document_list, open_document_table
from multigrain.stages.base import RunContext, Stage
from multigrain.stages.labels import apply_labels, read_labels
from multigrain.stages.models import open_audit_reference
from multigrain.storage.files import atomic_write, remove
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.sequences import View
from multigrain.synthesis.heldout import read_heldout_queries
from multigrain.synthesis.inputs import row_units

_REMEMBERED: Final = 50_000  # written texts whose vectors are kept for the probe


def run(context: RunContext, stage: Stage) -> None:
    """Audit the synthesized rows into the graded data set."""

    def work() -> dict[str, Any]:
        with open_audit_reference(context) as reference:
            return _audit(context, reference)

    stage.complete(context, work)


def _audit(context: RunContext, reference: Encoder) -> dict[str, Any]:
    config, run = context.config, context.run
    rows = open_rows(run.rows_path)
    # Negatives come from the training side alone: held-out documents stay unseen in every role.
    pool = document_list(
        document for document in open_document_table(run.documents_path) if document.split is Split.TRAIN
    )
    with context.progress.task("Measuring the corpus", None):
        texts: Sequence[str] = View(pool, attrgetter("text"))
        pool_vectors = corpus_vectors(reference, texts, _shards(context, "vectors"))
    contamination = find_contamination(config, reference)
    with (
        context.progress.task("Auditing rows", len(rows)) as task,
        open_judges(config, run, lambda: row_units(config, run, rows)) as (judges, rewrite),
    ):
        batches = audit_batches(
            rows,
            pool,
            config.audit_in_use,
            encode_queries=reference.encode_queries,
            encode_documents=reference.encode_documents,
            pool_vectors=pool_vectors,
            seed=config.seed,
            judges=judges,
            contamination=contamination,
            rewrite=rewrite,
        )
        result = _write(run, batches, task)
        further = _judge_heldout(context, reference, judges)
        judged = judge_counts(judges)
    probe = run_probe(result, pool, pool_vectors, config, reference.encode_documents)
    counts = summarise(
        result,
        requested=run.require("synthesis", "multigrain synthesize").counts["requested"],
        written=len(rows),
        reference_model=reference_name(config),
        probe=probe,
        reference=reference,
    )
    counts |= judged
    if further is not None:
        counts |= {"heldout_further_positives": further}
    # Judging and regenerating are paid for too, and so is another model that writes the held-out queries.
    cost = read_usage(run, config).cost
    if cost is not None:
        counts |= {"cost": cost, "cost_per_kept_row": round(cost / max(len(result.examples), 1), 8)}
    if len(result.examples) < 2:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts["rejected"].items())
        raise SourceError(
            f"audit: {len(result.examples)} of {len(rows)} rows were kept ({reasons}); at least 2 are needed. "
            f"{run.rejects_path} has every reason; the limits are in the config's audit section"
        )
    atomic_write(run.audit_path, json.dumps(counts, indent=2))
    say_summary(counts, context.progress)
    return {key: value for key, value in counts.items() if key != "similarity"}


def _shards(context: RunContext, name: str) -> Path | str:
    """Where vectors lie that are too many for memory: in the run, or where the workers of a cluster see them too."""
    if context.store is not None and context.config.engine.kind == "ray":
        return f"{context.store.place}/dataset/{name}"
    return context.run.path / "dataset" / name


def _judge_heldout(context: RunContext, reference: Encoder, judges: Sequence[Judge]) -> int | None:
    """Have judges find what else answers the held-out queries; how many documents, or None where none is kept."""
    config, run = context.config, context.run
    remove(run.heldout_positives_path)
    queries, judges = read_heldout_queries(run.heldout_queries_path), of_passages(judges)
    if config.audit.false_negatives != "keep-as-positive" or not judges or not queries:
        return None
    documents = document_list(open_document_table(run.documents_path))
    texts: Sequence[str] = View(documents, attrgetter("text"))
    vectors = corpus_vectors(reference, texts, _shards(context, "heldout-vectors"))
    further = judge_heldout(queries, documents, vectors, reference.encode_queries, judges)
    write_heldout_positives(run.heldout_positives_path, further)
    return sum(map(len, further.values()))


def _write(run: RunDirectory, batches: Iterator[AuditResult], task: Task) -> AuditResult:
    """Write what the audit makes of every batch as it comes; the whole result then lies on the disk."""
    labelled = frozenset(read_labels(run.labels_path)) if run.labels_path.exists() else frozenset()
    looked_at = asked_again = 0
    vectors: dict[str, Floats] = {}
    with writing_rejections(run.rejects_path) as turned_away, writing_examples(run.dataset_path) as graded:
        for unlabelled in batches:
            batch = apply_labels(unlabelled, labelled) if labelled else unlabelled
            graded.add(batch.examples)
            turned_away.add(batch.rejections)
            looked_at, asked_again = looked_at + batch.written_candidates, asked_again + batch.asked_again
            if len(vectors) + len(batch.written_vectors) <= _REMEMBERED:
                vectors |= batch.written_vectors
            task.advance(len(batch.examples) + sum(rejection.part == "row" for rejection in batch.rejections))
    examples, rejections = open_examples(run.dataset_path), open_rejections(run.rejects_path)
    return AuditResult(examples, rejections, looked_at, asked_again, vectors)
