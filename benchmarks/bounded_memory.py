"""How much memory each stage takes for every further row: inputs of two sizes, a process of its own a stage.

    python benchmarks/bounded_memory.py            # some minutes on 2 cores
    python benchmarks/bounded_memory.py --json     # one JSON object as the last line

The stages are the pipeline's own: documents of about 900 characters are read, grouped and split; a scripted model
writes a query and four negatives for each; the audit measures them, with vectors drawn from each hash in place
of a model's; training's rows are laid out in their memory map and the batches are planned. Peak memory is VmHWM over
the resident memory when a stage begins, libraries loaded. What is given is the difference of two sizes' peaks over the
difference of their rows, in bytes a row: what a stage needs for itself, whatever the size, falls out. Keys of the JSON
object, each a mapping by stage:

    bytes_per_row    peak memory for each further document
    peak_gib         at the larger size
    seconds          at the larger size
    disk_per_row     bytes in the run directory, over all stages, for each document at the larger size
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values

ROOT: Final = Path(__file__).resolve().parent.parent
STAGES: Final = ("documents", "synthesis", "audit", "training")
DIMENSIONS: Final = 64
WORDS: Final = 120


def make_corpus(path: Path, rows: int, seed: int) -> None:
    """JSON lines of documents, written one after another; a hundredth repeats another but for a word."""
    chance = random.Random(seed)
    syllables = ["ka", "lo", "mi", "ter", "son", "vel", "dra", "pin", "gor", "ush", "ent", "al"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(30_000)]
    text = ""
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            text = f"{text} again" if number % 100 == 99 else " ".join(chance.choices(words, k=WORDS))
            stream.write(json.dumps({"id": f"d{number}", "text": text}) + "\n")


class HashReference:
    """Stands in for the reference model: a text's vector is drawn from its hash."""

    fingerprint = "hash"

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """(n, DIMENSIONS) L2-normalised."""
        made = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
            made[row] = np.random.Generator(np.random.SFC64(seed)).standard_normal(DIMENSIONS, dtype=np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    encode_documents = encode_queries


def config_for(corpus: Path) -> Any:
    """Few checks depend on a model's judgment here: vectors are random, and every row is to reach the end."""
    from multigrain.config.file import parse_config

    return parse_config(
        {
            "documents": {"path": str(corpus), "validation_share": 0.01, "test_share": 0.01},
            "llm": {"provider": "scripted", "concurrency": 32},
            "evaluation": {"queries": "none"},
            "audit": {
                "bands": [[40, 80], [20, 40], [8, 20], [0, 8]],
                "round_trip_rank": None,
                "false_negative_margin": 0.0,
                "min_level_gap": 0.0,
                "checks": {"copied": False, "repeats": False, "level_order": False, "false_negatives": False},
                "probe": {"enabled": False},
            },
        }
    )


def run_stage(stage: str, folder: Path) -> None:
    """One stage of the run in a folder; what comes before it is complete."""
    from multigrain.stages import audit
    from multigrain.stages.run import run_stages

    config = config_for(folder / "corpus.jsonl")
    if stage == "training":
        lay_out(folder)
        return

    @contextmanager
    def reference(*_: Any, **__: Any) -> Iterator[HashReference]:
        yield HashReference()

    with mock.patch.object(audit, "open_reference", reference), forgetful():
        run_stages(config, folder / "run", list(STAGES[: STAGES.index(stage) + 1]))


@contextmanager
def forgetful() -> Iterator[None]:
    """The scripted model keeps what it was asked, for tests to look at; here that would be measured too."""
    from multigrain.llm import scripted

    class Nothing(list[Any]):
        def append(self, _: Any) -> None:
            pass

    made = scripted.ScriptedLLM.__init__

    def start(self: Any, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        self.requests = Nothing()

    with mock.patch.object(scripted.ScriptedLLM, "__init__", start):
        yield


def lay_out(folder: Path) -> None:
    """What training does with the rows before a model comes in."""
    from multigrain.config import TrainingConfig
    from multigrain.dataset.store import open_examples
    from multigrain.training.data import plan_training
    from multigrain.training.train import training_sources

    config = TrainingConfig(steps=1_000, batch_size=64)
    sources = training_sources(open_examples(folder / "run" / "dataset" / "graded.parquet"), config, folder, seed=1)
    plan_training(sources, config, seed=1)


def one(stage: str, folder: Path) -> dict[str, float]:
    """One measurement, in this process."""
    import datasets  # noqa: F401 - libraries are loaded before the measurement starts
    import sentence_transformers  # noqa: F401

    import multigrain.stages.run
    import multigrain.training.train  # noqa: F401

    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts here
    began = time.perf_counter()
    run_stage(stage, folder)
    return {"seconds": time.perf_counter() - began, "peak": memory("VmHWM") - before}


def memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith(name))
    return int(line.split()[1]) * 1024


def measure(sizes: Sequence[int], folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All stages at all sizes."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for size in sizes:
        place = folder / str(size)
        place.mkdir()
        make_corpus(place / "corpus.jsonl", size, seed=size)
        found[size] = {}
        for stage in STAGES:
            command = [sys.executable, str(Path(__file__).resolve()), "--one", stage, str(place)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            found[size][stage] = json.loads(done.stdout.splitlines()[-1])
            figures = found[size][stage]
            say(f"  {size:>9,} {stage:<10} {figures['peak'] / 2**20:8.1f} MiB {figures['seconds']:8.1f} s")
    small, large = found[sizes[0]], found[sizes[-1]]
    rows = sizes[-1] - sizes[0]
    used = sum(each.stat().st_size for each in (folder / str(sizes[-1]) / "run").rglob("*") if each.is_file())
    return {
        "bytes_per_row": {each: round((large[each]["peak"] - small[each]["peak"]) / rows) for each in STAGES},
        "peak_gib": {each: round(large[each]["peak"] / 2**30, 3) for each in STAGES},
        "seconds": {each: round(large[each]["seconds"], 1) for each in STAGES},
        "disk_per_row": round(used / sizes[-1]),
        "rows": list(sizes),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 40_000], help="two sizes and more, rising")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the runs lie")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one[0], Path(arguments.one[1]))))
        return
    if len(arguments.rows) < 2 or arguments.rows[0] >= arguments.rows[-1]:
        parser.error("--rows: two sizes and more, rising")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        values = measure(arguments.rows, Path(place), lambda line: print(line, flush=True))
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
