"""Mining hard negatives: how fast, in how much memory, next to sentence-transformers' miner.

    python benchmarks/mining.py            # about 5 minutes on 2 idle cores; 3 GB on the disk while it runs
    python benchmarks/mining.py --quick    # half a minute: a tenth of the vectors
    python benchmarks/mining.py --json     # one JSON object as the last line

Part one: 200,000 × 384 vectors, 5,000 queries, the 200 nearest with an absolute margin of 0.05, 5 negatives a query.
Both sides get the same float32 vectors, already embedded: sentence-transformers' `mine_hard_negatives` through a model
whose `encode` hands them out (its own `SentenceTransformer`, so that everything after encoding is its own code). It is
run with and without faiss and with query batches of 16,384 (its default) and 1,024; the fastest of the four counts.
Every measurement is a process of its own; peak memory is VmHWM less the resident memory when the vectors were there.

Part two: 2,000,000 × 384 vectors in shards on disk, 5,000 queries, top 200. Peak resident memory of the whole process
(VmHWM, libraries and all). Exactness: 100 of the queries are ranked again in float64 by one full product, a shard at a
time; every row found must score no less than the 200th true one, to 1e-5. Keys of the JSON object:

    speedup          seconds of the faster peer / ours, median over rounds
    peak_gib         our peak above the vectors, part one
    peer_peak_gib    the same for the peer's faster setting
    rss_2m_gib       peak resident memory, part two
    agreement        share of our negatives that the peer chose as well (ties and rounding aside: 1)
    exact_2m         share of the sampled top-200 rows of part two that stand the check
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values

DIMENSIONS: Final = 384
TOP: Final = 200
NEGATIVES: Final = 5
MARGIN: Final = 0.05
SHARD: Final = 65_536
PEER: Final = {
    "torch": (False, 16_384),
    "torch-1024": (False, 1_024),
    "faiss": (True, 16_384),
    "faiss-1024": (True, 1_024),
}
ROOT: Final = Path(__file__).resolve().parent.parent


def vectors(rows: int, seed: int) -> np.ndarray:
    """Normalised rows around 2,000 centres, as topics of a corpus are."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(2_000, DIMENSIONS)).astype(np.float32)
    made = 0.8 * centres[chance.integers(0, len(centres), rows)]
    made += chance.standard_normal((rows, DIMENSIONS), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def queries_for(positives: np.ndarray, seed: int) -> np.ndarray:
    """A query near each positive: cosine about 0.7."""
    noise = np.random.default_rng(seed).standard_normal(positives.shape, dtype=np.float32)
    made = positives + noise / np.sqrt(DIMENSIONS)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def ours(corpus: np.ndarray, queries: np.ndarray) -> list[list[int]]:
    """Our miner over vectors in memory."""
    from multigrain.mining.mine import QueryBlock, mine_negatives
    from multigrain.mining.rules import MiningRules, word_keys

    # Texts are hashed within the clock, as the peer deduplicates them within its own.
    keys = word_keys([f"d{row}" for row in range(len(corpus))])
    own = word_keys([f"q{row}" for row in range(len(queries))])
    block = QueryBlock(
        queries,
        np.einsum("nd,nd->n", queries, corpus[: len(queries)]),
        [[int(own[row]), int(keys[row])] for row in range(len(queries))],
    )
    rules = MiningRules(negatives=NEGATIVES, last_rank=TOP, absolute_margin=MARGIN)
    return [mined.indices.tolist() for mined in mine_negatives(block, corpus, keys, rules)]


def peer(corpus: np.ndarray, queries: np.ndarray, use_faiss: bool, batch: int) -> list[list[int]]:
    """sentence-transformers' miner over the same vectors."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.util import mine_hard_negatives

    class Given(SentenceTransformer):
        """Hands out vectors that exist."""

        def encode_document(self, *_: Any, **__: Any) -> np.ndarray:
            return corpus

        def encode_query(self, *_: Any, **__: Any) -> np.ndarray:
            return queries

        def get_embedding_dimension(self) -> int:
            return DIMENSIONS

    model = Given(modules=[Pooling(DIMENSIONS)], device="cpu", similarity_fn_name="cosine")
    texts = [f"d{row}" for row in range(len(corpus))]
    pairs = Dataset.from_dict({"query": [f"q{row}" for row in range(len(queries))], "answer": texts[: len(queries)]})
    mined = mine_hard_negatives(
        pairs, model, corpus=texts, range_max=TOP, absolute_margin=MARGIN, num_negatives=NEGATIVES,
        sampling_strategy="top", output_format="labeled-list", use_faiss=use_faiss, faiss_batch_size=batch,
        verbose=False,
    )  # fmt: skip
    rows: list[list[int]] = [[] for _ in queries]
    for query, documents in zip(mined["query"], mined["answer"], strict=True):
        rows[int(query[1:])] = [int(text[1:]) for text in documents[1:]]
    return rows


def one(side: str, count: int, asked: int, seed: int, out: Path | None) -> dict[str, float]:
    """One measurement, in this process."""
    import datasets
    import sentence_transformers  # noqa: F401 - both sides' libraries are loaded before the clock starts

    datasets.disable_progress_bars()
    corpus = vectors(count, seed)
    queries = queries_for(corpus[:asked], seed + 1)
    warm = slice(0, 2_000)
    run: Callable[[np.ndarray, np.ndarray], list[list[int]]]
    run = ours if side == "ours" else lambda *given: peer(*given, *PEER[side])
    run(corpus[warm], queries[:100])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    before = memory("VmRSS")
    began = time.perf_counter()
    rows = run(corpus, queries)
    seconds = time.perf_counter() - began
    if out is not None:
        out.write_text(json.dumps(rows))
    return {"seconds": seconds, "peak_gib": memory("VmHWM") - before}


def memory(name: str) -> float:
    """A line of /proc/self/status, in GiB."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(name))
    return int(line.split()[1]) / 2**20


def make_store(folder: Path, count: int, seed: int) -> None:
    """Shards on disk, written one after another."""
    from multigrain.mining.vectors import VectorStore, write_shard

    names = []
    for number, start in enumerate(range(0, count, SHARD)):
        names.append(f"shard-{number:06d}-made.npy")
        write_shard(str(folder), names[-1], vectors(min(SHARD, count - start), seed + number))
    VectorStore.finish(str(folder), "benchmark", names)


def large(folder: Path, asked: int, seed: int) -> dict[str, float]:
    """Search shards on disk; then check a sample."""
    from multigrain.mining.search import top_k
    from multigrain.mining.vectors import VectorStore

    store = VectorStore(str(folder))
    queries = queries_for(store[0:asked], seed + 1)
    began = time.perf_counter()
    _, rows = top_k(queries, store, TOP)
    seconds = time.perf_counter() - began
    peak = memory("VmHWM")
    chosen = np.random.default_rng(seed).permutation(asked)[:100]
    sample = queries[chosen].astype(np.float64)
    truth = np.empty((len(chosen), len(store)))
    for start in range(0, len(store), SHARD):
        truth[:, start : start + SHARD] = sample @ store[start : start + SHARD].T.astype(np.float64)
    bars = np.partition(truth, -TOP, axis=1)[:, -TOP, None]
    good = np.take_along_axis(truth, rows[chosen], axis=1) >= bars - 1e-5
    return {"seconds_2m": seconds, "rss_2m_gib": peak, "exact_2m": float(good.mean())}


def apart(*arguments: str) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def measure(count: int, asked: int, rounds: int, many: int, seed: int, folder: Path) -> dict[str, Any]:
    """Both parts."""
    shape = (str(count), str(asked), str(seed))
    found = {name: [apart("--one", name, *shape, str(folder / f"{name}.json"))] for name in PEER}
    fastest = min(found, key=lambda name: found[name][0]["seconds"])
    ours_: list[dict[str, float]] = []
    theirs = []
    for _ in range(rounds):
        ours_.append(apart("--one", "ours", *shape, str(folder / "ours.json")))
        theirs.append(apart("--one", fastest, *shape, str(folder / f"{fastest}.json")))
        print(f"  ours {ours_[-1]['seconds']:.2f} s, {fastest} {theirs[-1]['seconds']:.2f} s", flush=True)
    mine, other = (json.loads((folder / f"{name}.json").read_text()) for name in ("ours", fastest))
    shared = [
        len(set(left) & set(right)) / max(len(left), 1) for left, right in zip(mine, other, strict=True) if right
    ]
    make_store(folder / "store", many, seed)
    values = apart("--large", str(folder / "store"), str(asked), str(seed))
    return {
        "speedup": round(
            statistics.median(b["seconds"] / a["seconds"] for a, b in zip(ours_, theirs, strict=True)), 3
        ),
        "peak_gib": round(max(each["peak_gib"] for each in ours_), 3),
        "peer_peak_gib": round(min(each["peak_gib"] for each in theirs), 3),
        "rss_2m_gib": round(values["rss_2m_gib"], 3),
        "agreement": round(statistics.mean(shared), 5),
        "exact_2m": values["exact_2m"],
        "seconds": round(statistics.median(each["seconds"] for each in ours_), 3),
        "seconds_2m": round(values["seconds_2m"], 1),
        "peer": fastest,
        "peer_seconds": {name: round(each[0]["seconds"], 2) for name, each in found.items()},
        "peer_peaks_gib": {name: round(each[0]["peak_gib"], 2) for name, each in found.items()},
        "vectors": count,
        "queries": asked,
        "vectors_2m": many,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "seed": seed,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="a tenth of the vectors")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the shards lie")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--large", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        side, count, asked, seed, out = arguments.one
        print(json.dumps(one(side, int(count), int(asked), int(seed), Path(out))))
        return
    if arguments.large:
        folder, asked, seed = arguments.large
        print(json.dumps(large(Path(folder), int(asked), int(seed))))
        return
    rounds = arguments.rounds
    sizes = (20_000, 500, rounds, 200_000) if arguments.quick else (200_000, 5_000, rounds, 2_000_000)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        values = measure(*sizes, arguments.seed, Path(place))
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
