"""How fast rows are written, how much of that is our doing, and whether memory stays flat.

    python benchmarks/synthesis_throughput.py            # about 12 minutes on 2 idle cores
    python benchmarks/synthesis_throughput.py --quick    # about a minute: fewer rows, the same ratios
    python benchmarks/synthesis_throughput.py --json     # one JSON object as the last line

The whole path is measured: units, the MGH prompt, JSON-schema requests over HTTP, the journal (fsync before a row
counts), parsing, validated rows; concurrency 256. It is compared with a fixed generator that posts bodies of the same
size through aiohttp and parses the JSON of the answers, in the same run, against the same stub in its own process.
Both sides take turns; a ratio is the median over rounds. Keys of the JSON object:

    ratio            our rows a second / the generator's, 1 s latency
    ratio_200ms      the same with 200 ms latency, where a client's own work shows
    cpu_ms_per_row   processor time of our process, 200 ms latency
    rss_growth_mib   resident memory at the last row less that after a tenth of the rows (100,000 rows)
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp

from multigrain.config import LLMConfig
from multigrain.engine.local import LocalEngine
from multigrain.llm.build import build_client
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.session import JournaledClient
from multigrain.llm.wire import chat_body
from multigrain.records import Document
from multigrain.synthesis.strategies.one_call import MghStrategy
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.synthesize import synthesize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values
from benchmarks.stub_endpoint import serve

CONCURRENCY: Final = 256
STRATEGY: Final = MghStrategy()
_WORDS: Final = "A passage about rivers, bridges and the towns between them, as long as a usual document. " * 12


def units(count: int) -> Iterator[WritingUnit]:
    """Rows to write, made as they are needed."""
    for number in range(count):
        yield WritingUnit(Document(f"d{number}", f"[unit {number}] {_WORDS}"))


def write_rows(url: str, count: int, folder: Path) -> Iterator[int]:
    """Write rows through the whole path; yields a running count of those that came out whole."""
    config = LLMConfig(provider="openai", model="stub", base_url=url, concurrency=CONCURRENCY)
    with tempfile.TemporaryDirectory(dir=folder) as place, Journal(Path(place) / "journal.sqlite") as journal:
        client = JournaledClient(build_client(config, seed=0), journal, strategy=STRATEGY.name)
        with LocalEngine(concurrency=CONCURRENCY) as engine:
            done = 0
            try:
                for outcome in synthesize(units(count), STRATEGY, client, engine):
                    assert outcome.failure is None, outcome.failure
                    done += 1
                    yield done
            finally:
                engine.run(client.aclose())
        assert journal.totals().completions == count


def our_rate(url: str, count: int, folder: Path) -> tuple[float, float]:
    """Rows a second, and processor milliseconds a row."""
    began, used = time.perf_counter(), _processor_seconds()
    for _ in write_rows(url, count, folder):
        pass
    elapsed = time.perf_counter() - began
    return count / elapsed, 1000 * (_processor_seconds() - used) / count


def generator_rate(url: str, count: int) -> float:
    """Requests a second of the fixed generator."""
    return asyncio.run(_generate(url, count))


async def _generate(url: str, count: int) -> float:
    sample = await _sample_body()
    numbers = iter(range(count))

    async def worker(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = sample.replace(b"[unit 0]", b"[unit %d]" % number)
            async with session.post(f"{url}/chat/completions", data=body) as response:
                assert json.loads(await response.read())["choices"]

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONCURRENCY), headers={"Content-Type": "application/json"}
    ) as session:
        began = time.perf_counter()
        await asyncio.gather(*(worker(session) for _ in range(CONCURRENCY)))
        return count / (time.perf_counter() - began)


async def _sample_body() -> bytes:
    """The body of a real request, as the strategy makes it."""
    llm = ScriptedLLM()
    await STRATEGY.write(next(units(1)), llm)
    return json.dumps(chat_body(llm.requests[0], "stub")).encode()


def compare(latency: float, rounds: int, seconds: float, folder: Path) -> dict[str, float]:
    """Both sides in turn against one stub."""
    count = int(CONCURRENCY * max(1.0, seconds / max(latency, 0.05)))
    ours, theirs, cpu = [], [], []
    with serve(latency=latency) as url:
        generator_rate(url, CONCURRENCY)  # both sides' code is warm, and so is the stub
        our_rate(url, CONCURRENCY, folder)
        for _ in range(rounds):
            theirs.append(generator_rate(url, count))
            rate, used = our_rate(url, count, folder)
            ours.append(rate)
            cpu.append(used)
            print(
                f"  {latency:g} s: generator {theirs[-1]:.0f}/s, ours {rate:.0f}/s, {used:.3f} ms CPU a row",
                flush=True,
            )
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    return {"ratio": ratio, "rate": statistics.median(ours), "cpu_ms_per_row": statistics.median(cpu)}


def memory_growth(count: int, folder: Path) -> float:
    """MiB between a tenth of the rows and the last one."""
    with serve(latency=0.02) as url:
        before = 0.0
        for done in write_rows(url, count, folder):
            if done == count // 10:
                before = _resident_mib()
        after = _resident_mib()
    print(f"  memory: {before:.0f} MiB after {count // 10:,} rows, {after:.0f} MiB after {count:,}", flush=True)
    return after - before


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where journals lie")
    arguments = parser.parse_args()
    rounds, seconds, rows = (1, 6.0, 5_000) if arguments.quick else (5, 20.0, 100_000)
    slow = compare(1.0, rounds, seconds, arguments.folder)
    fast = compare(0.2, rounds, seconds, arguments.folder)
    values: dict[str, Any] = {
        "ratio": round(slow["ratio"], 4),
        "ratio_200ms": round(fast["ratio"], 4),
        "cpu_ms_per_row": round(fast["cpu_ms_per_row"], 4),
        "rows_per_second": round(slow["rate"], 1),
        "rows_per_second_200ms": round(fast["rate"], 1),
        "rss_growth_mib": round(memory_growth(rows, arguments.folder), 2),
        "rows": rows,
        "concurrency": CONCURRENCY,
        "cores": os.cpu_count(),
    }
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
