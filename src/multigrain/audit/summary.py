"""The audit in figures: what came in, what was kept, what went and why, and how similar each level is."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from multigrain.audit.checks import reason_words
from multigrain.audit.probe import SourceProbe
from multigrain.audit.run import AuditResult
from multigrain.display.progress import Progress
from multigrain.encoders.protocol import Encoder, RoleEncoder
from multigrain.records import LEVELS, Origin
from multigrain.sources.words import fold_words

_OPENING_WORDS: Final = 3
_ENOUGH_QUERIES: Final = 20


def summarise(
    result: AuditResult,
    *,
    requested: int,
    written: int,
    reference_model: str,
    probe: SourceProbe | None = None,
    reference: Encoder | None = None,
) -> dict[str, Any]:
    """The audit's counts and similarity statistics, as `audit.json` holds them.

    Args:
        result: what the audit did.
        requested: rows that were asked for.
        written: rows that the model wrote in a usable form.
        reference_model: names the model that measured.
        probe: how well written negatives can be told from mined ones; None where it was not tried.
        reference: the model that measured, for what decides its figures besides its weights.
    """
    facts = reference.facts if isinstance(reference, RoleEncoder) else None
    origins: Counter[Origin] = Counter()
    orders: Counter[bool | None] = Counter()
    done: Counter[str] = Counter()
    further = kept = 0
    similar = array("d")  # of a row: positive, level 1 to 4
    for example in result.examples:
        origins.update(negative.origin for negative in example.negatives)
        orders[example.written_order_held] += 1
        further += len(example.further_positives)
        kept += len(example.candidates)
        done.update({action.partition(":")[0] for action in example.actions})
        similar.extend((example.positive_similarity, *(negative.similarity for negative in example.negatives)))
    reasons = Counter(lost.reason if lost.part == "row" else f"negative:{lost.reason}" for lost in result.rejections)
    return {
        "requested": requested,
        "written": written,
        "kept": len(result.examples),
        "negatives_written": origins[Origin.WRITTEN],
        "negatives_mined": origins[Origin.MINED],
        "written_candidates": result.written_candidates,
        "rejected": dict(reasons),
        **{kind: done[kind] for kind in ("relevelled", "refilled", "regenerated", "selected")},
        "dropped": sum(count for reason, count in reasons.items() if not reason.startswith("negative:")),
        "asked_again": result.asked_again,
        "further_positives": further,
        "candidates": kept,
        "written_order_held_share": orders[True] / judged if (judged := orders[True] + orders[False]) else None,
        "reference_model": reference_model,
        **({} if facts is None else {"reference_facts": {**asdict(facts), "words": str(facts)}}),
        "common_opening": common_opening([example.query for example in result.examples]),
        "similarity": _similarities(similar),
        "probe": None if probe is None else asdict(probe),
    }


def common_opening(queries: Sequence[str]) -> dict[str, Any] | None:
    """The words that most of many queries begin with, and their share; None where no three words do."""
    openings = Counter(" ".join(fold_words(query).split()[:_OPENING_WORDS]) for query in queries)
    if len(queries) < _ENOUGH_QUERIES:
        return None
    ((words, count),) = openings.most_common(1)
    return {"words": words, "share": count / len(queries)} if 2 * count > len(queries) else None


def _similarities(similar: Sequence[float]) -> dict[str, dict[str, float]]:
    if not similar:
        return {}
    names = ("positive", *(f"level_{int(level)}" for level in LEVELS))
    return {
        name: {
            "mean": float(np.mean(values)),
            **{f"p{share}": float(np.percentile(values, share)) for share in (10, 50, 90)},
        }
        for name, values in zip(names, np.asarray(similar).reshape(-1, len(names)).T, strict=True)
    }


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
    if facts := counts.get("reference_facts"):
        progress.say(f"audit: measured by {counts['reference_model']}: {facts['words']}")
    if opening := counts.get("common_opening"):
        progress.remark(
            f"audit: {opening['share']:.0%} of the queries begin with {opening['words']!r}, as no searchers' do: "
            "look at some in the report, and set prompts of your own (synthesis.templates) or another model"
        )
    probe = counts["probe"]
    if probe is not None:
        line = (
            f"audit: written and mined negatives are distinguished by {probe['features']} with AUC {probe['auc']:.2f} "
            f"({probe['low']:.2f} to {probe['high']:.2f})"
        )
        if probe["warns"]:
            line += f", above {probe['threshold']:.2f}: a model could learn who wrote a text"
            if probe["advised_share"] is not None:
                line += f"; written ones should be at most {probe['advised_share']:.0%} of all negatives"
            else:
                line += f"; at {probe['written_share']:.0%} of all negatives, written ones are too few for that to pay"
        progress.say(line)
