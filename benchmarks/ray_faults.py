"""One node of a Ray cluster killed in mid-synthesis: does the run finish, and is anything lost or done twice?

    python benchmarks/ray_faults.py            # about a minute on 2 cores
    python benchmarks/ray_faults.py --json     # one JSON object as the last line

A head and two worker nodes, each with its own raylet, on this machine; a worker of ours on each node; a faulty
endpoint (429, 500, resets, half answers, truncated and wrong JSON) in a process of its own. After a third of the rows
one node is killed: first its worker process with SIGKILL, while its requests are in flight, then its raylet. A row
that comes out is acknowledged to the endpoint, whose log holds everything. As in `synthesis_kill.py` nothing is taken
from the run's own counters. Keys of the JSON object:

    lost          acknowledged rows without their completion in the journal, units without an outcome, and units whose
                  outcome is a failure although the journal holds no completion of theirs
    failed        units whose answers could not be used (the endpoint truncates and misspells on purpose), by kind
    duplicates    completions kept twice, rows that came out twice, and requests for what the journal held already
    asked_again   answers that had left the endpoint and died with the node before they reached the journal
    nodes_before, nodes_after    worker nodes alive
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values
from benchmarks.ray_cluster import cluster
from benchmarks.stub_endpoint import read_log, request_mark, serve
from multigrain.config import EngineConfig, LLMConfig
from multigrain.engine.build import build_engine
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.records import Document
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import synthesize

CONCURRENCY: Final = 32


def measure(rows: int, seed: int, folder: Path) -> dict[str, Any]:
    """Write rows, kill a node on the way, and count."""
    journal_path, log = folder / "journal.sqlite", folder / "endpoint.log"
    units = [WritingUnit(Document(f"d{n}", f"[unit {n}] A text about rivers and bridges.")) for n in range(rows)]
    finished: Counter[int] = Counter()
    failed: dict[int, str] = {}
    killed_at = 0.0
    began = time.monotonic()
    with (
        serve(latency=0.1, jitter=0.1, faults="mixed", log=log, seed=seed) as url,
        cluster(2) as (nodes, workers),
        Journal(journal_path) as journal,
    ):
        config = LLMConfig(
            provider="openai", model="stub", base_url=url, concurrency=CONCURRENCY, timeout_seconds=5, max_retries=8
        )
        before = len(workers)
        with build_engine(EngineConfig(kind="ray", workers=2), concurrency=CONCURRENCY) as engine:
            client = JournaledClient(engine.client(config, seed=seed), journal, strategy="mgh")
            endpoint = HTTPConnection(url.split("/")[2])
            for outcome in synthesize(units, MghStrategy(), client, engine):
                number = int(outcome.unit.document.id[1:])
                if outcome.failure is not None:
                    failed[number] = outcome.failure.kind
                    continue
                finished[number] += 1
                endpoint.request("POST", "/acknowledge", json.dumps({"units": [number]}))
                endpoint.getresponse().read()
                if not killed_at and len(finished) >= rows // 3:
                    held_before_kill = set(_kept_marks(journal_path))
                    _kill(nodes, workers.pop())
                    killed_at = time.monotonic()
            engine.run(client.aclose())
        after = len(workers)
    marks = list(_kept_marks(journal_path))
    kept_units = {int(mark.split("/")[0]) for mark in marks}
    events = list(read_log(log))
    acknowledged = {event.unit for event in events if event.kind == "acknowledged"}
    # CLOCK_MONOTONIC is one clock for every process of a machine.
    repeated = sum(
        event.kind == "asked" and event.at > killed_at and event.mark in held_before_kill for event in events
    )
    answered = Counter(event.mark for event in events if event.kind == "answered")
    return {
        "lost": len(acknowledged - kept_units)
        + sum(n not in finished and n not in failed for n in range(rows))
        + sum(n not in kept_units for n in failed),
        "duplicates": len(marks) - len(set(marks)) + sum(finished.values()) - len(finished) + repeated,
        "asked_again": sum(count - 1 for count in answered.values()),
        "rows": rows,
        "finished": len(finished),
        "failed": dict(Counter(failed.values())),
        "completions": len(marks),
        "requests": sum(event.kind == "asked" for event in events),
        "acknowledged": len(acknowledged),
        "finished_when_killed": rows // 3,
        "nodes_before": before,
        "nodes_after": after,
        "seconds": round(time.monotonic() - began, 1),
        "seed": seed,
    }


def _kill(nodes: Any, node: Any) -> None:
    """Kill a node as a power cut does: what runs on it first, then its raylet."""
    import psutil

    raylet = next(info[0].process for kind, info in node.all_processes.items() if kind == "raylet")
    for child in psutil.Process(raylet.pid).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)
    nodes.remove_node(node, allow_graceful=False)


def _kept_marks(journal: Path) -> Iterator[str]:
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        for (text,) in connection.execute("SELECT request FROM completions"):
            request = json.loads(text)
            yield request_mark(request["messages"], request["max_tokens"])
    finally:
        connection.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        values = measure(arguments.rows, arguments.seed, Path(folder))
    print_values(values, as_json=arguments.json)
    if values["lost"] or values["duplicates"] or values["nodes_after"] >= values["nodes_before"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
