"""Stage 3: measure what was written, and keep the rows whose levels hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any, Final

import numpy as np

from multigrain.audit.checks import reason_words
from multigrain.audit.evaluation_sets import find_contamination
from multigrain.audit.judges import Judge, LanguageModelJudge
from multigrain.audit.labels import apply_labels, read_labels
from multigrain.audit.probe import SourceProbe, probe_source
from multigrain.audit.run import AuditResult, audit_batches, summarise
from multigrain.audit.steps import Embed
from multigrain.config import Config
from multigrain.dataset.store import (
    open_examples,
    open_rejections,
    open_rows,
    writing_examples,
    writing_rejections,
)
from multigrain.display.progress import Progress, Task
from multigrain.encoders.protocol import Encoder
from multigrain.encoders.reference import open_reference, reference_name
from multigrain.errors import SourceError
from multigrain.llm.session.usage import read_usage
from multigrain.mining.search import NO_ROW, Floats, Rows, rows_at
from multigrain.mining.vectors import corpus_vectors
from multigrain.records import Document, Split
from multigrain.sources.store import open_document_table
from multigrain.stages.context import RunContext, complete_stage
from multigrain.stages.fingerprints import dataset_identity, require_current, synthesis_identity
from multigrain.stages.judges import open_judges
from multigrain.storage.disk_list import DiskList, View
from multigrain.storage.files import atomic_write
from multigrain.storage.manifests import StageManifest
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import row_units

__all__ = ["audit_stage", "judge_counts", "measured_vectors", "run_probe", "say_summary"]


_REMEMBERED: Final = 50_000  # written texts whose vectors are kept for the probe


def audit_stage(context: RunContext) -> StageManifest:
    """Audit the synthesized rows into the graded data set."""
    done = require_current(context, "synthesis", synthesis_identity(context), "multigrain synthesize")
    return complete_stage(context, "dataset", dataset_identity(context), lambda: _audit(context, done.counts))


def _audit(context: RunContext, synthesis: dict[str, Any]) -> dict[str, Any]:
    with open_reference(context.config, cache=context.embeddings) as reference:
        return _measure_and_keep(context, synthesis, reference)


def _measure_and_keep(context: RunContext, synthesis: dict[str, Any], reference: Encoder) -> dict[str, Any]:
    config, run = context.config, context.run
    rows = open_rows(run.rows_path)
    # Negatives come from the training side alone: held-out documents stay unseen in every role.
    pool = DiskList(document for document in open_document_table(run.documents_path) if document.split is Split.TRAIN)
    with context.progress.task("Measuring the corpus", None):
        texts: Sequence[str] = View(pool, attrgetter("text"))
        pool_vectors = corpus_vectors(reference, texts, run.path / "dataset" / "vectors")
    contamination = find_contamination(config, reference)
    with (
        context.progress.task("Auditing rows", len(rows)) as task,
        open_judges(config, run, lambda: row_units(config, run, rows)) as (judges, rewrite),
    ):
        batches = audit_batches(
            rows,
            pool,
            config.audit,
            encode_queries=reference.encode_queries,
            encode_documents=reference.encode_documents,
            pool_vectors=pool_vectors,
            seed=config.seed,
            judges=judges,
            contamination=contamination,
            rewrite=rewrite,
        )
        result = _write(run, _counted(batches, task))
        judged = judge_counts(judges)
    probe = run_probe(result, pool, pool_vectors, config, reference.encode_documents)
    counts = summarise(
        result,
        requested=synthesis["requested"],
        written=len(rows),
        reference_model=reference_name(config),
        probe=probe,
    )
    counts |= judged
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


def _write(run: RunDirectory, batches: Iterator[AuditResult]) -> AuditResult:
    """Write what the audit makes of every batch as it comes; the whole result then lies on the disk."""
    labelled = frozenset(read_labels(run.marks_path)) if run.marks_path.exists() else frozenset()
    looked_at = asked_again = 0
    vectors: dict[str, Floats] = {}
    with writing_rejections(run.rejects_path) as turned_away, writing_examples(run.dataset_path) as kept:
        for batch in (apply_labels(batch, labelled) if labelled else batch for batch in batches):
            kept.add(batch.examples)
            turned_away.add(batch.rejections)
            looked_at, asked_again = looked_at + batch.written_candidates, asked_again + batch.asked_again
            if len(vectors) + len(batch.written_vectors) <= _REMEMBERED:
                vectors |= batch.written_vectors
    examples, rejections = open_examples(run.dataset_path), open_rejections(run.rejects_path)
    return AuditResult(examples, rejections, looked_at, asked_again, vectors)


def _counted(batches: Iterator[AuditResult], task: Task) -> Iterator[AuditResult]:
    for batch in batches:
        yield batch
        dropped = sum(rejection.part == "row" for rejection in batch.rejections)
        task.advance(len(batch.examples) + dropped)


def judge_counts(judges: Sequence[Judge]) -> dict[str, dict[str, int]]:
    """How many passages were judged, and how many were not, under the key that audit.json has for it."""
    counts = [judge.counts for judge in judges if isinstance(judge, LanguageModelJudge)]
    return {"judge": asdict(counts[0])} if counts else {}


def say_summary(counts: Mapping[str, Any], progress: Progress) -> None:
    """Tell what the audit kept and turned away, in a line or two."""
    cost = counts.get("cost")
    dropped = ", ".join(
        f"{reason_words(reason)} {count}" for reason, count in counts["rejected"].items() if ":" not in reason
    )
    wrote = counts["written_candidates"]
    progress.say(
        f"audit: {counts['kept']} rows kept of {counts['written']}"
        + (f" (not kept: {dropped})" if dropped else "")
        + f"; their negatives: {counts['negatives_mined']} mined from the documents"
        + (f", {counts['negatives_written']} of the {wrote} that the model wrote" if wrote else "")
        + (f"; ${counts['cost_per_kept_row']:.6f} a kept row" if cost else "")
    )
    probe = counts["probe"]
    if probe is not None:
        line = (
            f"audit: written and mined negatives are told apart by {probe['features']} with AUC {probe['auc']:.2f} "
            f"({probe['low']:.2f} to {probe['high']:.2f})"
        )
        if probe["warns"]:
            line += f", above {probe['threshold']:.2f}: a model could learn who wrote a text"
            if probe["advised_share"] is not None:
                line += f"; written ones should be at most {probe['advised_share']:.0%} of all negatives"
            else:
                line += f"; at {probe['written_share']:.0%} of all negatives, written ones are too few for that to pay"
        progress.say(line)


def measured_vectors(
    result: AuditResult, pool: Sequence[Document], pool_vectors: Rows, embed: Embed
) -> Callable[[Sequence[str]], Floats]:
    """The reference vectors of the data set's negatives as they were measured; what is not remembered is encoded."""

    def look_up(texts: Sequence[str]) -> Floats:
        wanted = frozenset(texts)
        rows = {document.text: row for row, document in enumerate(pool) if document.text in wanted}
        places = np.asarray([rows.get(text, NO_ROW) for text in texts], dtype=np.int64)
        mined = places != NO_ROW
        own = iter(rows_at(pool_vectors, places[mined]) if mined.any() else ())
        forgotten = [
            text for text, known in zip(texts, mined, strict=True) if not known and text not in result.written_vectors
        ]
        again = dict(zip(forgotten, embed(forgotten), strict=True)) if forgotten else {}
        return np.stack(
            [
                next(own) if known else again[text] if text in again else result.written_vectors[text]
                for text, known in zip(texts, mined, strict=True)
            ]
        )

    return look_up


def run_probe(
    result: AuditResult, pool: Sequence[Document], pool_vectors: Rows, config: Config, embed: Embed
) -> SourceProbe | None:
    """Try to tell the kept written negatives from the mined ones."""
    look_up = measured_vectors(result, pool, pool_vectors, embed)
    return probe_source(result.examples, config.audit.probe, seed=config.seed, embed=look_up)
