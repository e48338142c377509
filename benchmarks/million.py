"""Documents by the million through every stage: time, memory, disk, and what a kill in each stage costs.

    python benchmarks/million.py                                  # 10^4, 10^5 and 10^6 documents: about 90 minutes
    python benchmarks/million.py --sizes 2000 4000 --rows 500     # a look at it: three minutes
    python benchmarks/million.py --json                           # one JSON object as the last line

Texts are built: words by Zipf's law from a vocabulary of 30,000, of natural length (a log-normal distribution around
110 words), a hundredth of them repeating another but for a word. Labelled queries are words of one document each. The
run is an ordinary one: documents, synthesis for a share of them from an endpoint in a process of its own, audit,
training (some steps), evaluation of base and tuned model over the whole corpus, then report, data set export, data set
card and model card. The encoder is a static one of 128 dimensions, so that embedding is off the critical path; what
another one adds is printed for `--encoder`.

Each stage is a process of its own. It is measured in a run that nobody kills; a second run of the same documents is
killed with SIGKILL at a random moment in each stage, continued, and compared with the first. Rows that are asked for
stop growing at `--rows`, and labelled queries at `--queries`: what grows is the corpus. Keys of the JSON object; each
of the first five is a mapping by stage:

    seconds            at each size
    peak_gib           resident memory at its peak, libraries and all, at each size
    disk_gib           bytes in the run directory after the stage, at each size
    exponent_time      between the two largest sizes: 1 is proportional
    exponent_memory    likewise
    killed             how often a stage was killed at work
    lost               documents, rows, graded rows and scored queries that the killed run lacks
    doubled            those that it has twice, and requests for answers that were kept already
    ready_seconds      of the processes' start, which no stage's time holds
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.printing import print_values
from benchmarks.stub_endpoint import request_mark, serve

ROOT: Final = Path(__file__).resolve().parent.parent
STAGES: Final = ("documents", "synthesis", "audit", "training", "evaluation", "report")
DIMENSIONS: Final = 128
CONCURRENCY: Final = 64
_VOCABULARY: Final = 30_000
_BLOCK: Final = 10_000
_READY: Final = "ready"


def vocabulary() -> list[str]:
    """Words that look like words, the frequent ones first and shorter."""
    chance = random.Random(11)
    syllables = [
        "ka",
        "lo",
        "mi",
        "ter",
        "son",
        "vel",
        "dra",
        "pin",
        "gor",
        "ush",
        "ent",
        "al",
        "be",
        "ri",
        "um",
        "to",
    ]
    words: dict[str, None] = {}
    while len(words) < _VOCABULARY:
        words["".join(chance.choices(syllables, k=1 + (len(words) > 100) + chance.randint(0, 3)))] = None
    return list(words)


def texts(count: int, words: Sequence[str], seed: int) -> Iterator[list[str]]:
    """Texts as lists of words."""
    chance = np.random.default_rng(seed)
    weights = 1 / np.arange(5, len(words) + 5)
    cumulated = np.cumsum(weights / weights.sum())
    last: list[str] = []
    for start in range(0, count, _BLOCK):
        lengths = np.clip(chance.lognormal(math.log(110), 0.45, min(_BLOCK, count - start)), 25, 500).astype(int)
        drawn = np.minimum(np.searchsorted(cumulated, chance.random(lengths.sum())), len(words) - 1)
        for number, ranks in enumerate(np.split(drawn, np.cumsum(lengths)[:-1]), start=start):
            last = [*last[:-1], "again"] if number % 100 == 99 else [words[rank] for rank in ranks]
            yield last


def make_inputs(folder: Path, documents: int, rows: int, queries: int, seed: int) -> None:
    """The corpus, the labelled set, the encoder and the config, without the endpoint's address."""
    chance = random.Random(seed)
    words = vocabulary()
    frequent = set(words[:300])
    asked = set(chance.sample(range(documents), queries))
    with (
        (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (folder / "queries.jsonl").open("w", encoding="utf-8") as asking,
        (folder / "qrels.tsv").open("w", encoding="utf-8") as judgments,
    ):
        judgments.write("query-id\tcorpus-id\tscore\n")
        for number, text in enumerate(texts(documents, words, seed)):
            corpus.write(json.dumps({"_id": f"d{number}", "text": f"[unit {number}] {' '.join(text)}."}) + "\n")
            if number in asked:
                rare = [word for word in dict.fromkeys(text) if word not in frequent]
                query = " ".join(chance.sample(rare, min(8, len(rare))))
                asking.write(json.dumps({"_id": f"q{number}", "text": query}) + "\n")
                judgments.write(f"q{number}\td{number}\t1\n")
    save_encoder(folder / "encoder", words)
    values = {
        "seed": seed,
        "documents": {"path": str(folder / "corpus.jsonl"), "id_field": "_id"},
        "llm": {"provider": "openai", "model": "stub", "base_url": "BASE_URL", "concurrency": CONCURRENCY},
        "synthesis": {"max_documents": rows, "query_first": False},
        "audit": {
            "round_trip_rank": None,
            "false_negative_margin": 0.0,
            "min_level_gap": 0.0,
            "checks": {"copied": False, "repeats": False, "level_order": False, "false_negatives": False},
        },
        "training": {
            "base_model": str(folder / "encoder"),
            "steps": 60,
            "batch_size": 32,
            "learning_rate": 0.01,
            "merge": None,
            "early_stopping": None,
            "keep": "last",
            "checkpoint_every": 10,
        },
        "evaluation": {
            "queries": "none",
            "rivals": [],
            "sets": [
                {
                    "name": "labelled",
                    "queries": str(folder / "queries.jsonl"),
                    "documents": str(folder / "corpus.jsonl"),
                    "qrels": str(folder / "qrels.tsv"),
                }
            ],
        },
    }
    (folder / "config.json").write_text(json.dumps(values, indent=1))


def save_encoder(folder: Path, words: Sequence[str]) -> None:
    """A static encoder with a random vector a word."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: rank for rank, word in enumerate(["[UNK]", *words])}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.random.default_rng(5).standard_normal((len(words) + 1, DIMENSIONS)).astype(np.float32)
    # As in trained static models, frequent words weigh little.
    weights *= np.minimum(1, (np.arange(len(words) + 1)[:, None] + 1) / 1_000) ** 0.5
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save_pretrained(str(folder))


def run_stage(stage: str, folder: Path, run: Path, url: str) -> None:
    """One stage in this process; those before it are complete."""
    import datasets  # noqa: F401 - libraries are loaded before the clock starts
    import sentence_transformers  # noqa: F401

    from multigrain.config.file import parse_config
    from multigrain.dataset.card import write_dataset_folder
    from multigrain.dataset.export import export_examples
    from multigrain.dataset.store import open_examples
    from multigrain.report.card import write_card
    from multigrain.stages.run import run_stages

    config = parse_config(json.loads((folder / "config.json").read_text().replace("BASE_URL", url)))
    print(_READY, flush=True)
    began = time.perf_counter()
    held = run_stages(config, run, list(STAGES[: STAGES.index(stage) + 1]))
    if stage == "report":
        examples = open_examples(held.dataset_path)
        export_examples(examples, run / "export.jsonl", "flagembedding")
        write_dataset_folder(run / "hub", examples, name="million", audit=json.loads(held.audit_path.read_text()))
        write_card(held)
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


class Started:
    """A stage in a process of its own, ready to work.

    Args:
        arguments: of `run_stage`.
        errors: the file that takes what it complains of.
    """

    def __init__(self, arguments: Sequence[str], errors: Path) -> None:
        began = time.perf_counter()
        with errors.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--one", *arguments],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                start_new_session=True,
            )
        self._errors = errors
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != _READY:
            self._fail()
        self.ready_seconds = time.perf_counter() - began
        self.peak = 0

    def finish(self) -> float:
        """Wait for its end, and give its seconds."""
        while self.process.poll() is None:
            self.peak = max(self.peak, _peak(self.process.pid))
            time.sleep(0.05)
        assert self.process.stdout is not None
        told = self.process.stdout.read().splitlines()
        if self.process.returncode or not told:
            self._fail()
        return float(json.loads(told[-1])["seconds"])

    def kill_after(self, seconds: float) -> bool:
        """Kill the whole group; says whether it was still at work."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.005)
        alive = self.process.poll() is None
        if alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return alive

    def _fail(self) -> None:
        raise SystemExit(self._errors.read_text(errors="replace")[-3000:])


def _peak(process: int) -> int:
    """VmHWM in bytes; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def measure(folder: Path, url: str, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Every stage of a run that nobody kills."""
    found: dict[str, dict[str, float]] = {}
    run = folder / "run"
    for stage in STAGES:
        started = Started([stage, str(folder), str(run), url], folder / "errors.log")
        seconds = started.finish()
        disk = sum(each.stat().st_size for each in run.rglob("*") if each.is_file())
        found[stage] = {
            "seconds": seconds,
            "peak": started.peak,
            "disk": disk,
            "ready": started.ready_seconds,
        }
        say(f"  {stage:<10} {seconds:9.1f} s {started.peak / 2**20:9.0f} MiB {disk / 2**20:9.0f} MiB on disk")
    return found


def kill_and_continue(
    folder: Path, url: str, log: Path, usual: dict[str, dict[str, float]], seed: int, say: Callable[[str], None]
) -> dict[str, int]:
    """The same run again, killed once in each stage and continued; what came of it, next to the first."""
    chance = random.Random(seed)
    run, killed, repeated = folder / "killed", 0, 0
    for stage in STAGES:
        arguments = [stage, str(folder), str(run), url]
        moment = chance.uniform(0.05, 0.95) * usual[stage]["seconds"]
        was_killed = Started(arguments, folder / "errors.log").kill_after(moment)
        killed += was_killed
        kept = kept_marks(run) if stage == "synthesis" else set()
        seen = log.stat().st_size if log.exists() else 0
        Started(arguments, folder / "errors.log").finish()
        if stage == "synthesis":
            with log.open() as stream:
                stream.seek(seen)
                asked = [event for line in stream if (event := json.loads(line))[0] == "asked"]
            repeated += sum(mark in kept for _, _, mark, *_ in asked)
        say(f"  {stage:<10} killed after {moment:.1f} s, then completed" if was_killed else f"  {stage}: was faster")
    first, second = contents(folder / "run"), contents(run)
    lost = {name: len(first[name].keys() - second[name].keys()) for name in first}
    doubled = {name: sum(count - 1 for count in second[name].values()) for name in second}
    say(f"  lost {lost}, doubled {doubled}, asked again for what was kept: {repeated}")
    return {"killed": killed, "lost": sum(lost.values()), "doubled": sum(doubled.values()) + repeated}


def kept_marks(run: Path) -> set[str]:
    """The marks of requests whose answers a run's journal holds."""
    journal = run / "synthesis" / "journal.sqlite"
    if not journal.exists():
        return set()
    connection = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        requests = (json.loads(text) for (text,) in connection.execute("SELECT request FROM completions"))
        return {request_mark(request["messages"], request["max_tokens"]) for request in requests}
    finally:
        connection.close()


def contents(run: Path) -> dict[str, Counter[Any]]:
    """What a run holds, by table: how often each id is in it."""
    import pyarrow.parquet as pq

    from multigrain.storage.shards import table_files

    def ids(path: Path, *columns: str) -> Counter[Any]:
        counted: Counter[Any] = Counter()
        for file in table_files(path):
            for batch in pq.ParquetFile(file).iter_batches(columns=list(columns)):
                counted.update(zip(*(batch.column(name).to_pylist() for name in columns), strict=True))
        return counted

    return {
        "documents": ids(run / "documents" / "documents.parquet", "id"),
        "rows": ids(run / "synthesis" / "rows.parquet", "id"),
        "graded": ids(run / "dataset" / "graded.parquet", "id"),
        "queries": ids(run / "results" / "per_query.parquet", "set", "model", "query_id"),
    }


def encoder_cost(reference: str, folder: Path, sizes: dict[int, dict[str, int]]) -> dict[str, Any]:
    """What another encoder would add: texts a second here, and hours for the texts that a run embeds."""
    from multigrain.encoders.encoder import encode
    from multigrain.model.encoder import build_encoder

    model = build_encoder(reference)
    with (folder / "corpus.jsonl").open(encoding="utf-8") as stream:
        sample = [json.loads(line)["text"] for line, _ in zip(stream, range(512), strict=False)]
    encode(model, sample[:64])
    began = time.perf_counter()
    encode(model, sample)
    rate = len(sample) / (time.perf_counter() - began)
    hours = {
        str(size): {name: round(count / rate / 3600, 2) for name, count in of.items()} for size, of in sizes.items()
    }
    return {"model": reference, "texts_a_second": round(rate, 1), "hours": hours}


def embedded(run: Path, documents: int, queries: int) -> dict[str, int]:
    """How many texts a run's stages embed, at most."""
    audit = json.loads((run / "dataset" / "manifest.json").read_text())["counts"]
    pool = json.loads((run / "documents" / "manifest.json").read_text())["counts"]["train"]
    return {"audit": pool + 6 * audit["written"], "evaluation": 2 * (documents + queries)}


def exponent(small: float, large: float, factor: float) -> float:
    """The exponent by which a figure grows."""
    return round(math.log(max(large, 1e-9) / max(small, 1e-9)) / math.log(factor), 3)


def run_all(arguments: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All sizes."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    texts_embedded: dict[int, dict[str, int]] = {}
    totals = Counter[str]()
    for size in arguments.sizes:
        place = folder / str(size)
        place.mkdir()
        rows, queries = (min(most, size // 5) for most in (arguments.rows, arguments.queries))
        say(f"{size:,} documents, {rows:,} rows, {queries:,} labelled queries")
        make_inputs(place, size, rows, queries, arguments.seed)
        log = place / "endpoint.log"
        with serve(latency=0.02, log=log, answers="words", seed=arguments.seed) as url:
            found[size] = measure(place, url, say)
            texts_embedded[size] = embedded(place / "run", size, queries)
            if not arguments.no_kills:
                totals.update(kill_and_continue(place, url, log, found[size], arguments.seed + size, say))
    *_, small, large = arguments.sizes
    factor = large / small

    def by_stage(name: str, unit: float, digits: int) -> dict[str, dict[str, float]]:
        return {
            stage: {str(size): round(found[size][stage][name] / unit, digits) for size in found} for stage in STAGES
        }

    return {
        "seconds": by_stage("seconds", 1, 2),
        "peak_gib": by_stage("peak", 2**30, 3),
        "disk_gib": by_stage("disk", 2**30, 3),
        "exponent_time": {
            each: exponent(found[small][each]["seconds"], found[large][each]["seconds"], factor) for each in STAGES
        },
        "exponent_memory": {
            each: exponent(found[small][each]["peak"], found[large][each]["peak"], factor) for each in STAGES
        },
        **{name: totals[name] for name in ("killed", "lost", "doubled")},
        "ready_seconds": round(np.mean([of["ready"] for by in found.values() for of in by.values()]).item(), 1),
        "sizes": arguments.sizes,
        "texts_embedded": {str(size): of for size, of in texts_embedded.items()},
        **(
            {"encoder": encoder_cost(arguments.encoder, folder / str(small), texts_embedded)}
            if arguments.encoder
            else {}
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="rising")
    parser.add_argument("--rows", type=int, default=20_000, help="rows asked for, at most; a fifth of the documents")
    parser.add_argument("--queries", type=int, default=20_000, help="labelled queries, at most; likewise")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--no-kills", action="store_true", help="measure only")
    parser.add_argument("--encoder", default="", help="a model whose embedding time is put beside")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the runs lie")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        stage, folder, run, url = arguments.one
        run_stage(stage, Path(folder), Path(run), url)
        return
    if len(arguments.sizes) < 2 or sorted(set(arguments.sizes)) != arguments.sizes:
        parser.error("--sizes: two sizes and more, rising")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        values = run_all(arguments, Path(place), lambda line: print(line, flush=True))
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
