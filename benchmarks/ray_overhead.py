"""What sending requests from Ray workers costs next to sending them from this process.

    python benchmarks/ray_overhead.py            # about 2 minutes on 2 cores
    python benchmarks/ray_overhead.py --json     # one JSON object as the last line

The whole path of synthesis is measured (units, prompt, request, journal with fsync, parsing) against one stub endpoint
in a process of its own, by the local engine and by a Ray cluster of two worker nodes with a worker each, both at the
same total concurrency; they take turns. Keys of the JSON object:

    ratio          rows a second of the Ray engine / the local engine's, median over rounds, 1 s latency
    ratio_200ms    the same at 200 ms, where the transport's own work shows (on few cores: Ray's processes, the stub
                   and the driver share them)
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values
from benchmarks.ray_cluster import cluster
from benchmarks.stub_endpoint import serve
from benchmarks.synthesis_throughput import units
from multigrain.config import EngineConfig, LLMConfig
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Engine
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.synthesize import synthesize

CONCURRENCY: Final = 128


def rate(engine: Engine, url: str, count: int, folder: Path) -> float:
    """Rows a second, from the first unit to the last row in the journal."""
    config = LLMConfig(provider="openai", model="stub", base_url=url, concurrency=CONCURRENCY)
    with tempfile.TemporaryDirectory(dir=folder) as place, Journal(Path(place) / "journal.sqlite") as journal:
        client = JournaledClient(engine.client(config, seed=0), journal, strategy="mgh")
        began = time.perf_counter()
        for outcome in synthesize(units(count), MghStrategy(), client, engine):
            assert outcome.failure is None, outcome.failure
        seconds = time.perf_counter() - began
        assert journal.totals().completions == count
        engine.run(client.aclose())
    return count / seconds


def compare(latency: float, count: int, rounds: int, local: Engine, ray: Engine, folder: Path) -> tuple[float, float]:
    """The ratio, and the Ray engine's rate."""
    with serve(latency=latency) as url:
        rate(local, url, CONCURRENCY, folder)  # both are warm
        rate(ray, url, CONCURRENCY, folder)
        ratios, rates = [], []
        for _ in range(rounds):
            own, theirs = rate(local, url, count, folder), rate(ray, url, count, folder)
            print(f"  {latency:g} s: local {own:.0f}/s, ray {theirs:.0f}/s", flush=True)
            ratios.append(theirs / own)
            rates.append(theirs)
    return statistics.median(ratios), statistics.median(rates)


def measure(rounds: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Both latencies."""
    with (
        cluster(2),
        build_engine(EngineConfig(), concurrency=CONCURRENCY) as local,
        build_engine(EngineConfig(kind="ray", workers=2), concurrency=CONCURRENCY) as ray,
    ):
        slow = compare(1.0, int(CONCURRENCY * seconds), rounds, local, ray, folder)
        fast = compare(0.2, int(CONCURRENCY * seconds * 2), rounds, local, ray, folder)
    return {
        "ratio": round(slow[0], 4),
        "ratio_200ms": round(fast[0], 4),
        "rows_per_second": round(slow[1], 1),
        "rows_per_second_200ms": round(fast[1], 1),
        "concurrency": CONCURRENCY,
        "rounds": rounds,
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement at 1 s latency")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        values = measure(arguments.rounds, arguments.seconds, Path(folder))
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
