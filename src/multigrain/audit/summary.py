"""The audit in figures: what came in, what was kept, what went and why, and how similar each level is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from multigrain.audit.run import AuditResult
from multigrain.records import LEVELS, GradedExample, Origin

__all__ = ["summarise"]


def summarise(result: AuditResult, *, requested: int, written: int, reference_model: str) -> dict[str, Any]:
    """The audit's counts and similarity statistics, as `audit.json` holds them.

    Args:
        result: what the audit did.
        requested: rows that were asked for.
        written: rows that the model wrote in a usable form.
        reference_model: names the model that measured.
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
        "written_order_held_share": sum(held) / len(held) if held else None,
        "reference_model": reference_model,
        "similarity": _similarities(result.examples),
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
