"""A hopeless endpoint: 5% of its answers can be used. Does the run end, with every input accounted for?

    python benchmarks/synthesis_faults.py              # about 3 minutes
    python benchmarks/synthesis_faults.py --rows 200   # half a minute
    python benchmarks/synthesis_faults.py --json       # one JSON object as the last line

The endpoint, in a process of its own, answers with 429, 500, nothing at all, resets, half answers, bodies that are no
JSON, no choices, truncated and wrong JSON, prose and refusals; see `FAULTS["hopeless"]`. Every input must end as a row
or as a failure of a kind. The endpoint's log is compared with the journal: what it answered is kept, and what it
never answered is nowhere. Keys of the JSON object:

    inputs          rows asked for
    written         rows that came out whole
    failed          the others, by kind
    unaccounted     inputs that ended as neither, or as both
    lost            answers of the endpoint to a whole row that the journal lacks
    invented        completions in the journal that the endpoint never answered
    broken          rows that break the schema
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from multigrain.config import LLMConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.build import build_client
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.records import LEVELS, Document, SynthesizedRow
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import synthesize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values
from benchmarks.stub_endpoint import read_log, request_mark, serve


def measure(rows: int, concurrency: int, seed: int, folder: Path) -> dict[str, Any]:
    """Write rows against the hopeless endpoint and hold its log against the journal."""
    log = folder / "endpoint.log"
    units = [WritingUnit(Document(f"d{n}", f"[unit {n}] A text about rivers and bridges.")) for n in range(rows)]
    ends: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    broken = 0
    began = time.monotonic()
    with serve(latency=0.01, jitter=0.05, faults="hopeless", log=log, seed=seed) as url:
        config = LLMConfig(
            provider="openai", model="stub", base_url=url, concurrency=concurrency, timeout_seconds=1, max_retries=2
        )
        with Journal(folder / "journal.sqlite") as journal, LocalEngine(concurrency=concurrency) as engine:
            client = JournaledClient(build_client(config, seed=seed), journal, strategy="mgh")
            for outcome in synthesize(units, MghStrategy(), client, engine):
                ends[outcome.unit.document.id] += 1
                if outcome.failure is not None:
                    failed[outcome.failure.kind] += 1
                broken += outcome.value is not None and not _is_whole(outcome.value)
            engine.run(client.aclose())
            kept = Counter(
                request_mark(entry.request["messages"], entry.request["max_tokens"]) for entry in journal.entries()
            )
            counted = journal.totals().failures
    answered = Counter(event.mark for event in read_log(log) if event.kind == "answered")
    return {
        "inputs": rows,
        "written": rows - failed.total(),
        "failed": dict(failed.most_common()),
        "unaccounted": sum(ends[unit.document.id] != 1 for unit in units),
        "lost": len(answered - kept),
        "invented": len(kept - answered),
        "broken": broken,
        "requests_failed_in_journal": counted,
        "answers": dict(Counter(event.what for event in read_log(log) if event.what).most_common()),
        "seconds": round(time.monotonic() - began, 1),
    }


def _is_whole(row: SynthesizedRow) -> bool:
    texts = [row.query, row.positive, *(row.negatives.get(level, "") for level in LEVELS)]
    return all(isinstance(text, str) and text.strip() for text in texts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        values = measure(arguments.rows, arguments.concurrency, arguments.seed, Path(folder))
    print_values(values, as_json=arguments.json)
    if any(values[name] for name in ("unaccounted", "lost", "invented", "broken")):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
