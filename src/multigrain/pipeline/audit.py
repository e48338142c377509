"""Stage 3: measure what was written, and keep the rows whose levels hold."""

from __future__ import annotations

import json
from typing import Any

from multigrain.audit.run import audit_rows
from multigrain.audit.summary import summarise
from multigrain.dataset.store import read_rows, write_examples, write_rejections
from multigrain.errors import SourceError
from multigrain.pipeline.context import RunContext, complete_stage
from multigrain.pipeline.identity import dataset_identity, require_current, synthesis_identity
from multigrain.pipeline.reference import reference_model
from multigrain.records import Split
from multigrain.rundir import StageManifest, atomic_write
from multigrain.sources.store import read_document_table

__all__ = ["audit_stage"]


def audit_stage(context: RunContext) -> StageManifest:
    """Audit the synthesized rows into the graded data set."""
    done = require_current(context, "synthesis", synthesis_identity(context), "multigrain synthesize")
    return complete_stage(context, "dataset", dataset_identity(context), lambda: _audit(context, done.counts))


def _audit(context: RunContext, synthesis: dict[str, Any]) -> dict[str, Any]:
    config, run = context.config, context.run
    rows = read_rows(run.rows_path)
    # Negatives come from the training side alone: held-out documents stay unseen in every role.
    pool = [document for document in read_document_table(run.documents_path) if document.split is Split.TRAIN]
    reference = reference_model(config, cache=context.embeddings)
    with context.progress.task("Measuring the corpus", None):
        pool_vectors = reference.embed_passages([document.text for document in pool])
    with context.progress.task("Auditing rows", None):
        result = audit_rows(
            rows,
            pool,
            config.audit,
            embed_queries=reference.embed_queries,
            embed_passages=reference.embed_passages,
            pool_vectors=pool_vectors,
            seed=config.seed,
        )
    counts = summarise(result, requested=synthesis["requested"], written=len(rows), reference_model=reference.name)
    cost = synthesis.get("cost")
    if cost is not None:
        counts |= {"cost": cost, "cost_per_kept_row": round(cost / max(len(result.examples), 1), 8)}
    write_rejections(run.rejects_path, result.rejections)
    if len(result.examples) < 2:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts["rejected"].items())
        raise SourceError(
            f"audit: {len(result.examples)} of {len(rows)} rows were kept ({reasons}); at least 2 are needed. "
            f"{run.rejects_path} has every reason; the limits are in the config's audit section"
        )
    write_examples(run.dataset_path, result.examples)
    atomic_write(run.audit_path, json.dumps(counts, indent=2))
    context.progress.say(
        f"audit: {counts['kept']} rows kept of {counts['written']} written; negatives: {counts['negatives_mined']} "
        f"mined, {counts['negatives_written']} written (of {counts['written_candidates']} candidates)"
        + (f"; ${counts['cost_per_kept_row']:.6f} a kept row" if cost else "")
    )
    return {key: value for key, value in counts.items() if key != "similarity"}
