"""The audit of a set of written rows: from what a model wrote to rows whose levels were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from multigrain.audit.check import Problem
from multigrain.audit.duplicates import Embed
from multigrain.audit.judges import Judge, QueryCheck, Rewrite, of_passages
from multigrain.audit.steps import AuditSteps
from multigrain.config import AuditConfig
from multigrain.encoders.protocol import Floats
from multigrain.mining.best import Rows
from multigrain.records import Document, GradedExample, Rejection, SynthesizedRow

if TYPE_CHECKING:
    from multigrain.audit.evaluation_sets import Contamination

_BATCH_ROWS: Final = 8_192  # vectors of a batch's texts are in memory: about 10 KB a row at 384 dimensions


@dataclass(frozen=True)
class AuditResult:
    """What the audit kept, and what it turned away.

    Attributes:
        examples: rows with four measured levels, in the order they came in.
        rejections: rows and single negatives that were turned away, each with a reason.
        written_candidates: how many written negatives were looked at.
        asked_again: how many rows the strategy was asked for again.
        written_vectors: reference vectors of the written negatives that were measured, by text.
    """

    examples: Sequence[GradedExample]
    rejections: Sequence[Rejection]
    written_candidates: int
    asked_again: int = 0
    written_vectors: Mapping[str, Floats] = field(default_factory=dict, repr=False)


def audit_rows(
    rows: Sequence[SynthesizedRow], pool: Sequence[Document], config: AuditConfig, **options: Any
) -> AuditResult:
    """The whole of `audit_batches`, in memory."""
    batches = list(audit_batches(rows, pool, config, **options))
    return AuditResult(
        tuple(example for batch in batches for example in batch.examples),
        tuple(rejection for batch in batches for rejection in batch.rejections),
        sum(batch.written_candidates for batch in batches),
        sum(batch.asked_again for batch in batches),
        {text: vector for batch in batches for text, vector in batch.written_vectors.items()},
    )


def audit_batches(
    rows: Sequence[SynthesizedRow],
    pool: Sequence[Document],
    config: AuditConfig,
    *,
    encode_queries: Embed,
    encode_documents: Embed,
    pool_vectors: Rows,
    seed: int,
    judges: Sequence[Judge] = (),
    contamination: Contamination | None = None,
    rewrite: Rewrite | None = None,
    tell_spares: bool = False,
    batch_rows: int = _BATCH_ROWS,
) -> Iterator[AuditResult]:
    """Check, measure, level and complete written rows, a batch at a time; no more than one is in memory.

    Rows are compared with each other first, all of them; what else becomes of a row does not depend on its batch.

    Args:
        rows: what was written; gone through in order a few times, and not kept.
        pool: documents that negatives may be mined from; they must hold every row's own document.
        config: checks and limits.
        encode_queries: the reference model's query side.
        encode_documents: the reference model's passage side.
        pool_vectors: (len(pool), d) the reference vectors of the pool.
        seed: decides which members of a band are drawn.
        judges: who else looks at negatives; asked in order.
        contamination: the evaluation sets that no row may be in.
        rewrite: asks the strategy again, where `config.repair` says so.
        tell_spares: whether candidates of kept rows that no level took are among the rejections.
        batch_rows: how many rows are a batch.

    Yields:
        What the audit made of each batch, in order.
    """
    audit = AuditSteps(pool, config, encode_queries, encode_documents, pool_vectors, seed, tell_spares=tell_spares)
    problems = audit.compare(rows)
    for start in range(0, len(rows), batch_rows):
        batch = rows[start : start + batch_rows]
        wrong = [problems.get(start + place) for place in range(len(batch))]
        yield _audit_batch(audit, batch, wrong, contamination, judges, rewrite, config)


def _audit_batch(
    audit: AuditSteps,
    rows: Sequence[SynthesizedRow],
    problems: Sequence[Problem | None],
    contamination: Contamination | None,
    judges: Sequence[Judge],
    rewrite: Rewrite | None,
    config: AuditConfig,
) -> AuditResult:
    audit.begin_batch(rows)
    works = audit.measure(audit.sound_rows(rows, problems), contamination)
    if rewrite is not None and "regenerate" in config.repair and config.negatives != "mined":
        audit.write_again(works, rewrite)
    for work in works:
        audit.pick(work)
    for judge in judges:
        if isinstance(judge, QueryCheck):  # before others are paid for what goes anyway
            audit.ask_about_positives(works, judge)
    judges = of_passages(judges)
    if config.checks.false_negatives:
        for judge in judges:
            audit.ask_about_positives(works, judge)
        if judges:
            audit.settle(works, judges)
    audit.choose_candidates(works, judges)
    examples = [audit.example(work) for work in works if audit.complete(work)]
    return AuditResult(tuple(examples), tuple(audit.rejections), audit.looked_at, audit.asked_again, audit.vectors)
