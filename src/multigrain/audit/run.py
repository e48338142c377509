"""The audit of a set of written rows: from what a model wrote to rows whose levels were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from multigrain.audit.check import Problem
from multigrain.audit.contamination import Contamination
from multigrain.audit.judges import SecondOpinion
from multigrain.audit.steps import AuditSteps, Embed, Rewrite
from multigrain.config import AuditConfig
from multigrain.mining.search import Floats, Rows
from multigrain.records import Document, GradedExample, Rejection, SynthesizedRow

__all__ = ["AuditResult", "audit_lots", "audit_rows"]

_LOT_ROWS: Final = 8_192  # vectors of a lot's texts are in memory: about 10 KB a row at 384 dimensions


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
    rows: Sequence[SynthesizedRow], pool: Sequence[Document], config: AuditConfig, **asked: Any
) -> AuditResult:
    """The whole of `audit_lots`, in memory."""
    lots = list(audit_lots(rows, pool, config, **asked))
    return AuditResult(
        tuple(example for lot in lots for example in lot.examples),
        tuple(rejection for lot in lots for rejection in lot.rejections),
        sum(lot.written_candidates for lot in lots),
        sum(lot.asked_again for lot in lots),
        {text: vector for lot in lots for text, vector in lot.written_vectors.items()},
    )


def audit_lots(
    rows: Sequence[SynthesizedRow],
    pool: Sequence[Document],
    config: AuditConfig,
    *,
    embed_queries: Embed,
    embed_passages: Embed,
    pool_vectors: Rows,
    seed: int,
    opinions: Sequence[SecondOpinion] = (),
    contamination: Contamination | None = None,
    rewrite: Rewrite | None = None,
    tell_spares: bool = False,
    lot_rows: int = _LOT_ROWS,
) -> Iterator[AuditResult]:
    """Check, measure, level and complete written rows, a lot at a time: so much is in memory, however many there are.

    Rows are compared with each other first, all of them; what else becomes of a row does not depend on its lot.

    Args:
        rows: what was written; gone through in order a few times, and not kept.
        pool: documents that negatives may be mined from; they must hold every row's own document.
        config: checks and limits.
        embed_queries: the reference model's query side.
        embed_passages: the reference model's passage side.
        pool_vectors: (len(pool), d) the reference vectors of the pool.
        seed: decides which members of a band are drawn.
        opinions: who else looks at negatives; asked in order.
        contamination: the evaluation sets that no row may be in.
        rewrite: asks the strategy again, where `config.repair` says so.
        tell_spares: whether candidates of kept rows that no level took are among the rejections.
        lot_rows: how many rows are a lot.

    Yields:
        What the audit made of each lot, in order.
    """
    audit = AuditSteps(pool, config, embed_queries, embed_passages, pool_vectors, seed, tell_spares=tell_spares)
    problems = audit.compare(rows)
    for start in range(0, len(rows), lot_rows):
        lot = rows[start : start + lot_rows]
        wrong = [problems.get(start + place) for place in range(len(lot))]
        yield _audit_lot(audit, lot, wrong, contamination, opinions, rewrite, config)


def _audit_lot(
    audit: AuditSteps,
    rows: Sequence[SynthesizedRow],
    problems: Sequence[Problem | None],
    contamination: Contamination | None,
    opinions: Sequence[SecondOpinion],
    rewrite: Rewrite | None,
    config: AuditConfig,
) -> AuditResult:
    audit.begin_lot(rows)
    works = audit.measure(audit.sound_rows(rows, problems), contamination)
    if rewrite is not None and "regenerate" in config.repair and config.negatives != "mined":
        audit.write_again(works, rewrite)
    for work in works:
        audit.pick(work)
    if config.checks.false_negatives:
        for opinion in opinions:
            audit.ask_about_positives(works, opinion)
        if opinions:
            audit.settle(works, opinions)
    examples = [audit.example(work) for work in works if audit.complete(work)]
    return AuditResult(tuple(examples), tuple(audit.rejections), audit.looked_at, audit.asked_again, audit.vectors)
