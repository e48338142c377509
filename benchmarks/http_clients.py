"""Why aiohttp: requests a second and processor time a request of three HTTP clients for OpenAI's wire format.

    python benchmarks/http_clients.py            # about 4 minutes on 2 idle cores, most of them httpx2
    python benchmarks/http_clients.py --json     # one JSON object as the last line

Each client sends the same chat request, 256 at a time, to a stub in a process of its own that answers after 200 ms,
and parses the answer: aiohttp and httpx2 as plain JSON, AsyncOpenAI into its own objects. They take turns; the figures
are medians. A client that needs more than 0.78 ms of processor time a request cannot keep 256 in flight here. Keys of
the JSON object, for each of aiohttp, httpx2 and openai:

    rate         requests a second
    cpu_ms       processor milliseconds a request
    ratio        rate / aiohttp's
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx2
from openai import AsyncOpenAI

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values
from benchmarks.stub_endpoint import serve

CONCURRENCY: Final = 256
BODY: Final[dict[str, Any]] = {
    "model": "stub",
    "messages": [
        {"role": "system", "content": "You make training data for a search engine."},
        {"role": "user", "content": "[unit 0] " + "A passage about rivers and the towns between them. " * 25},
    ],
    "temperature": 0.8,
    "top_p": 0.9,
    "max_tokens": 768,
}

Drive = Callable[[str, int], Awaitable[None]]


async def _spread(send: Callable[[], Awaitable[None]], count: int) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for _ in numbers:
            await send()

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))


async def drive_aiohttp(url: str, count: int) -> None:
    """aiohttp, one session."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

        async def send() -> None:
            async with session.post(f"{url}/chat/completions", json=BODY) as response:
                assert (await response.json())["choices"]

        await _spread(send, count)


async def drive_httpx2(url: str, count: int) -> None:
    """httpx2, one client; the SDK stands on it."""
    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as client:

        async def send() -> None:
            assert (await client.post(f"{url}/chat/completions", json=BODY)).json()["choices"]

        await _spread(send, count)


async def drive_openai(url: str, count: int) -> None:
    """OpenAI's SDK, one client."""
    async with AsyncOpenAI(base_url=url, api_key="none", timeout=60) as client:

        async def send() -> None:
            assert (await client.chat.completions.create(**BODY)).choices

        await _spread(send, count)


CLIENTS: Final[dict[str, Drive]] = {"aiohttp": drive_aiohttp, "httpx2": drive_httpx2, "openai": drive_openai}


def measure(rounds: int, count: int) -> dict[str, dict[str, float]]:
    """All clients in turn, so often."""
    rates: dict[str, list[float]] = {name: [] for name in CLIENTS}
    used: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with serve(latency=0.2) as url:
        for drive in CLIENTS.values():
            asyncio.run(_run(drive, url, CONCURRENCY))
        for _ in range(rounds):
            for name, drive in CLIENTS.items():
                began, before = time.perf_counter(), _processor_seconds()
                asyncio.run(_run(drive, url, count))
                rates[name].append(count / (time.perf_counter() - began))
                used[name].append(1000 * (_processor_seconds() - before) / count)
                print(f"  {name:>8}: {rates[name][-1]:.0f}/s, {used[name][-1]:.3f} ms CPU a request", flush=True)
    best = statistics.median(rates["aiohttp"])
    return {
        name: {
            "rate": round(statistics.median(rates[name]), 1),
            "cpu_ms": round(statistics.median(used[name]), 4),
            "ratio": round(statistics.median(rates[name]) / best, 4),
        }
        for name in CLIENTS
    }


async def _run(drive: Drive, url: str, count: int) -> None:
    await drive(url, count)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2560, help="a round and client")
    arguments = parser.parse_args()
    values = measure(arguments.rounds, arguments.requests)
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
