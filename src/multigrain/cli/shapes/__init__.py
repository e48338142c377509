"""What `--json` prints: the shape of every object, by the command that prints it.

The one home of these shapes: docs/reference/json.md and the JSON schema beside it are made from them, and tests hold
every object that a command prints against them. Only those two import this module; commands print plain values.
Shares and scores are on a scale of 0 to 1, and so are differences; times are in seconds, costs in US dollars.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter

from multigrain.ablation.plan import AblationPlan
from multigrain.cli.shapes import evaluation, runs, tools
from multigrain.mining.job import MinePlan
from multigrain.tools.synthesis_estimate import Estimate

SHAPES: Final[Mapping[str, Any]] = {
    "run": runs.StagesSummary,
    "synthesize": runs.StagesSummary,
    "audit": runs.StagesSummary,
    "train": runs.StagesSummary,
    "evaluate RUN": runs.StagesSummary,
    "report": runs.StagesSummary,
    "synthesize --dry-run": Estimate,
    "train --dry-run": runs.TrainingEstimates,
    "audit FILE": tools.AuditCounts,
    "evaluate": evaluation.Comparison,
    "compare": evaluation.Comparison,
    "ablate": evaluation.Ablation,
    "ablate --dry-run": AblationPlan,
    "anchors": tools.Anchors,
    "bases": tools.Bases,
    "batch write": tools.BatchWritten,
    "batch read": tools.BatchRead,
    "dataset export": tools.DatasetFile,
    "dataset convert": tools.Converted,
    "dataset push": tools.DatasetPushed,
    "demo": tools.Demo,
    "diagnose": tools.Causes,
    "doctor": tools.Diagnosis,
    "export": tools.Export,
    "journal": runs.JournalUsage,
    "label": tools.Labelled,
    "mine": tools.Mined,
    "mine --dry-run": MinePlan,
    "plan": tools.Planned,
    "plugins": tools.Plugins,
    "push": tools.Pushed,
    "verify": tools.ServerVerified,
    "writer tune": tools.TunedWriter,
    "status": runs.RunStanding | runs.RunsStanding,
}
"""Command, as it is typed, to the shape of what its `--json` prints."""


@cache
def schema_of(command: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what a command prints.

    Args:
        command: a key of `SHAPES`.
    """
    schema = TypeAdapter(SHAPES[command]).json_schema(mode="serialization")
    for record in (schema, *schema.get("$defs", {}).values()):
        _describe(record)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _describe(record: dict[str, Any]) -> None:
    """Give each key the sentence that the record's docstring has for it."""
    about, _, attributes = record.get("description", "").partition("Attributes:\n")
    if attributes:
        record["description"] = about.strip()
        for found in re.finditer(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE):
            if found[1] in record.get("properties", {}):
                record["properties"][found[1]].setdefault("description", _as_json(found[2]))


def _as_json(words: str) -> str:
    """What a docstring says of an attribute, in JSON's words."""
    return re.sub(r"\bNone\b", "null", " ".join(words.split()))
