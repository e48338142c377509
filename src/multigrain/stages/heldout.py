"""What became of the held-out queries, and whether a run can be judged by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from multigrain.config import Config
from multigrain.engine.protocol import Failure
from multigrain.errors import ConfigError, UnusableOutputError
from multigrain.records import Split
from multigrain.stages.context import RunContext


@dataclass
class HeldoutTally:
    """Counts held-out queries as they are written.

    Attributes:
        wanted: those that are needed, by the part of the documents that they are for.
        written: those that there are.
        failed: those that came to nothing, by kind.
    """

    wanted: Counter[Split] = field(default_factory=Counter)
    written: Counter[Split] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def expect(self, splits: Iterable[Split]) -> None:
        """Count what is needed."""
        self.wanted.update(splits)

    def done(self, split: Split, failure: Failure | None) -> None:
        """Count one that was written or came to nothing."""
        if failure is None:
            self.written[split] += 1
        else:
            self.failed[failure.kind] += 1

    def counts(self) -> dict[str, Any]:
        """For the manifest. What a limit cut off is counted whole, though asking for it stopped early."""
        failed = dict(self.failed)
        if "over_limit" in failed:
            failed["over_limit"] += self.wanted.total() - self.written.total() - self.failed.total()
        return {
            "heldout_queries_requested": self.wanted.total(),
            "heldout_failed": failed,
            "heldout_missing": [split.value for split in self.wanted if not self.written[split]],
        }


def lacking_parts(config: Config, counts: Mapping[str, Any]) -> list[str]:
    """The parts of the documents that a run cannot be judged on, as none of the queries they need was written.

    Args:
        config: the run's.
        counts: of its synthesis.
    """
    # Without documents no part has to have queries: those that were written are what is judged on.
    if config.start_from == "tasks" and counts.get("heldout_queries_written"):
        return []
    return list(counts.get("heldout_missing", ()))


def check_heldout(context: RunContext) -> None:
    """See, before a model is trained, that the held-out queries that had to be written are there.

    Raises:
        ConfigError: the spending limit was reached before any was written for the validation or the test part.
        UnusableOutputError: none of one part could be used.
    """
    manifest = context.run.manifest("synthesis")
    lacking = [] if manifest is None else lacking_parts(context.config, manifest.counts)
    if manifest is None or not lacking:
        return
    failed, parts = manifest.counts["heldout_failed"], " and ".join(lacking)
    if "over_limit" in failed:
        raise ConfigError(
            f"nothing to evaluate on: the spending limit was reached before any held-out query ({parts}) was written; "
            "raise synthesis.max_cost or synthesis.max_total_tokens, and the same command goes on"
        )
    kinds = ", ".join(f"{count} {kind}" for kind, count in failed.items())
    model = manifest.counts.get("heldout_model", manifest.counts["model"])
    raise UnusableOutputError(
        f"nothing to evaluate on: model {model} wrote no held-out query ({parts}) that could be used ({kinds}); the "
        "same command asks again for what was not answered, and evaluation.llm can name another model"
    )
