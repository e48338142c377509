"""The audit in figures: what came in, what was kept, what went and why, and how similar each level is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from multigrain.audit.probe import SourceProbe
from multigrain.audit.run import AuditResult
from multigrain.records import LEVELS, GradedExample, Origin

__all__ = ["repair_counts", "summarise"]


def summarise(
    result: AuditResult,
    *,
    requested: int,
    written: int,
    reference_model: str,
    probe: SourceProbe | None = None,
) -> dict[str, Any]:
    """The audit's counts and similarity statistics, as `audit.json` holds them.

    Args:
        result: what the audit did.
        requested: rows that were asked for.
        written: rows that the model wrote in a usable form.
        reference_model: names the model that measured.
        probe: how well written negatives can be told from mined ones; None where it was not tried.
    """
    origins = Counter(negative.origin for example in result.examples for negative in example.negatives)
    held = [example.written_order_held for example in result.examples if example.written_order_held is not None]
    return {
        "requested": requested,
        "written": written,
        "kept": len(result.examples),
        "negatives_written": origins[Origin.WRITTEN],
        "negatives_mined": origins[Origin.MINED],
        "written_candidates": result.written_candidates,
        "rejected": dict(
            Counter(each.reason if each.part == "row" else f"negative:{each.reason}" for each in result.rejections)
        ),
        **repair_counts(result),
        "written_order_held_share": sum(held) / len(held) if held else None,
        "reference_model": reference_model,
        "similarity": _similarities(result.examples),
        "probe": None if probe is None else asdict(probe),
    }


def repair_counts(result: AuditResult) -> dict[str, int]:
    """Rows kept with a repair of each kind, rows dropped, and how often the strategy was asked again."""
    done = Counter(
        kind for example in result.examples for kind in {action.partition(":")[0] for action in example.actions}
    )
    return {
        **{kind: done[kind] for kind in ("relevelled", "refilled", "regenerated", "selected")},
        "dropped": sum(each.part == "row" for each in result.rejections),
        "asked_again": result.asked_again,
    }


def _similarities(examples: Sequence[GradedExample]) -> dict[str, dict[str, float]]:
    if not examples:
        return {}
    series = {"positive": [example.positive_similarity for example in examples]}
    for level in LEVELS:
        series[f"level_{int(level)}"] = [example.negatives[level - 1].similarity for example in examples]
    return {
        name: {
            "mean": float(np.mean(values)),
            **{f"p{share}": float(np.percentile(values, share)) for share in (10, 50, 90)},
        }
        for name, values in series.items()
    }
