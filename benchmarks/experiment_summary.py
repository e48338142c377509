"""Tables over several ablations: each set by itself, and the mean over sets.

    multigrain ablate benchmarks/experiment/1-tuned-perlfaq.yaml --out runs/perlfaq --json > perlfaq.json
    python -m benchmarks.experiment_summary perlfaq=perlfaq.json aptsearch=aptsearch.json

Of each ablation the test set with most queries counts. The mean over sets gives every set the same weight; its
interval takes the sets' intervals for those of independent normal estimates. Differences are in points of nDCG@10.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "mean_over_sets", "table"]


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablations", nargs="+", metavar="NAME=FILE", help="what `multigrain ablate --json` printed")
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for each in given.ablations:
        name, _, path = each.partition("=")
        if not path:
            parser.error(f"{each}: give NAME=FILE")
        found[name] = json.loads(Path(path).read_text(encoding="utf-8").splitlines()[-1])
    print("\n".join(table(found)))
    return 0


def table(ablations: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: a row for each arm on each set, what it forgot, and the means over sets."""
    yield "| set | queries | arm | base | tuned | over base | over the reference | unrelated sets |"
    yield "| --- | ---: | --- | ---: | ---: | --- | --- | --- |"
    from_base: dict[str, list[Mapping[str, float]]] = {}
    from_reference: dict[str, list[Mapping[str, float]]] = {}
    for name, ablation in ablations.items():
        judge = max(
            (each for each, role in ablation["sets"].items() if role == "test"), key=ablation["queries"].__getitem__
        )
        for row in ablation["rows"]:
            cell = row["cells"][judge]
            difference = cell["from_base"]["difference"]
            from_base.setdefault(row["arm"], []).append(difference)
            reference = cell["from_reference"] and cell["from_reference"]["difference"]
            if reference:
                from_reference.setdefault(row["arm"], []).append(reference)
            unrelated = [
                f"{each} {shown(row['cells'][each]['from_base']['difference'])}"
                for each, role in ablation["sets"].items()
                if role == "forgetting"
            ]
            yield (
                f"| {name} | {ablation['queries'][judge]:,} "
                f"| {row['arm']}, {row['seeds']} seeds, {row['rows']} rows | "
                f"{cell['ndcg_at_10'] - difference['mean']:.3f} | {cell['ndcg_at_10']:.3f} | {shown(difference)} | "
                f"{shown(reference) if reference else '–'} | {'; '.join(unrelated)} |"
            )
    for arm, differences in from_base.items():
        reference = from_reference.get(arm)
        yield (
            f"| mean of {len(differences)} | | {arm} | | | {shown(mean_over_sets(differences))} | "
            f"{shown(mean_over_sets(reference)) if reference else '–'} | |"
        )


def mean_over_sets(differences: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The mean difference, each set with the same weight, and its interval."""
    count = len(differences)
    mean = sum(each["mean"] for each in differences) / count
    half = math.sqrt(sum(((each["high"] - each["low"]) / 2) ** 2 for each in differences)) / count
    return {"mean": mean, "low": mean - half, "high": mean + half}


def shown(difference: Mapping[str, float]) -> str:
    """A difference in points with its interval."""
    return f"{100 * difference['mean']:+.1f} [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}]"


if __name__ == "__main__":
    raise SystemExit(main())
