"""How long the demo takes, against an earlier commit on the same machine.

    python benchmarks/demo_speed.py --json                    # both demos in turn, about 25 minutes on 2 idle cores
    python benchmarks/demo_speed.py --seeds 13 14 15 --json   # the same for three seeds
    python benchmarks/demo_speed.py --only encoding --json    # embedding alone, about 5 minutes
    python benchmarks/demo_speed.py --before COMMIT           # against another commit than e6f018d

Run it on an idle machine, in this repository: the other commit is checked out as a git worktree in a temporary folder.
Both sides run with this interpreter and its packages, each from its own source. A draw says which side begins.
Memory is the most that the process and its children held together, looked at five times a second.

Encoding is measured on the documents of the demo in processes of their own, in turn, three times each: what audit and
evaluation ask of the base model, which is the training side's documents, then 150 rows' queries and positives, then
all documents and the summary lines of the held-out ones. Keys of the JSON object:

    ratio_total, ratio_documents, ratio_training, ratio_evaluation   seconds, this build / the other, median over seeds
    ratio_rows       kept rows, this build / the other
    memory_mib       most memory of either side, and memory_added_mib what this build took more
    delta            of this build by seed: nDCG@10 of the chosen model less the base's, with its 95% interval
    ratio_encoding   texts a second that audit and evaluation are served, this build / the other, median of the rounds
    ratio_embedding  texts a second where every text is embedded for the first time
    …_processor      the same by processor time, which other work on the machine changes less
    ndcg_at_10       of the base model on the summary lines, by side
    processor, cores, threads, seconds (by side, seed and stage)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
BEFORE: Final = "e6f018d"
SIDES: Final = ("now", "before")
STAGES: Final = ("documents", "training", "evaluation", "total")
ROWS: Final = 150


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--seeds", type=int, nargs="+", default=[13], help="seeds of the demo")
    parser.add_argument("--only", choices=["demo", "encoding"], help="measure this alone")
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="of encoding")
    parser.add_argument("--documents", type=int, help="of encoding: fewer than the demo's")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        print(json.dumps(serve(arguments.serve)))
        return 0
    result: dict[str, Any] = {"processor": processor(), "cores": os.cpu_count(), "before": arguments.before}
    with tempfile.TemporaryDirectory() as folder, worktree(arguments.before, Path(folder) / "before") as before:
        sources = {"now": ROOT / "src", "before": before / "src"}
        if arguments.only != "encoding":
            result |= compare_demos(sources, Path(folder), arguments.seeds)
        if arguments.only != "demo":
            result |= compare_encoding(sources, Path(folder), arguments.rounds, arguments.documents)
    for key, value in result.items():
        print(f"{key}: {value}")
    if arguments.json:
        print(json.dumps(result))
    return 0


@contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """A checkout of a commit, for as long as it is needed."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def processor() -> str:
    """What the machine calls its processor."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def compare_demos(sources: dict[str, Path], folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Run both demos in turn, for every seed."""
    summaries: dict[str, dict[int, Any]] = {side: {} for side in SIDES}
    memory = dict.fromkeys(SIDES, 0.0)
    for seed in seeds:
        for side in random.Random(seed).sample(SIDES, len(SIDES)):
            run = folder / f"demo-{side}-{seed}"
            command = [sys.executable, "-m", "multigrain", "demo", "--run", str(run), "--seed", str(seed), "--json"]
            output, peak = watched(command, sources[side])
            summaries[side][seed] = json.loads(output.splitlines()[-1])
            memory[side] = max(memory[side], peak)
            told = {key: summaries[side][seed][key] for key in ("seconds", "rows", "delta")}
            print(json.dumps({"side": side, "seed": seed, **told}), file=sys.stderr, flush=True)

    def ratio(stage: str) -> float:
        now, before = ([summaries[side][seed]["seconds"][stage] for seed in seeds] for side in SIDES)
        return round(statistics.median(mine / theirs for mine, theirs in zip(now, before, strict=True)), 3)

    kept = {side: [summaries[side][seed]["rows"]["kept"] for seed in seeds] for side in SIDES}
    return {
        **{f"ratio_{stage}": ratio(stage) for stage in STAGES},
        "ratio_rows": round(sum(kept["now"]) / sum(kept["before"]), 3),
        "kept": kept,
        "memory_mib": {side: round(peak) for side, peak in memory.items()},
        "memory_added_mib": round(memory["now"] - memory["before"]),
        "delta": {str(seed): summary["delta"][summary["chosen"]] for seed, summary in summaries["now"].items()},
        "steps": {str(seed): summary["steps"] for seed, summary in summaries["now"].items()},
        "seconds": {
            side: {str(seed): summary["seconds"] for seed, summary in by_seed.items()}
            for side, by_seed in summaries.items()
        },
    }


def compare_encoding(sources: dict[str, Path], folder: Path, rounds: int, documents: int | None) -> dict[str, Any]:
    """Serve both sides' base models in turn."""
    texts = folder / "texts.json"
    texts.write_text(json.dumps({"documents": demo_texts()[:documents]}), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).resolve()), "--serve", str(texts)]
    served: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in random.Random(number).sample(SIDES, len(SIDES)):
            output, _ = watched(command, sources[side])
            served[side].append(json.loads(output.splitlines()[-1]))

    def ratio(key: str) -> float:
        pairs = zip(served["now"], served["before"], strict=True)
        return round(statistics.median(now[key] / before[key] for now, before in pairs), 3)

    return {
        "ratio_encoding": ratio("encoding"),
        "ratio_embedding": ratio("embedding"),
        "ratio_encoding_processor": ratio("encoding_processor"),
        "ratio_embedding_processor": ratio("embedding_processor"),
        "ndcg_at_10": {side: round(measured[-1]["ndcg_at_10"], 5) for side, measured in served.items()},
        "texts_a_second": {
            side: {key: round(statistics.median(one[key] for one in measured), 1) for key in ("encoding", "embedding")}
            for side, measured in served.items()
        },
        "threads": int(served["now"][-1]["threads"]),
    }


def demo_texts() -> list[tuple[str, str | None, bool]]:
    """The demo's documents, as its first stage reads them: text, summary line, and whether they are trained on."""
    from multigrain.recipes import recipe
    from multigrain.sources.load import load_corpus

    config = recipe("demo")
    corpus = load_corpus(config.documents, seed=config.seed)
    return [(each.text, each.title, str(each.split) == "train") for each in corpus.documents]


def watched(command: list[str], source: Path) -> tuple[str, float]:
    """Run a command on a side's source; its output, and the most memory in MiB that it and its children held."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    peak, done = [0.0], threading.Event()

    def look() -> None:
        root = psutil.Process(process.pid)
        while not done.wait(0.2):
            with suppress(psutil.Error):
                held = sum(one.memory_info().rss for one in (root, *root.children(recursive=True)))
                peak[0] = max(peak[0], held / 2**20)

    watcher = threading.Thread(target=look)
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return output, peak[0]


def serve(path: Path) -> dict[str, float]:
    """Measure the side whose source is on the path: embed what audit and evaluation ask for, as a run does."""
    import numpy as np
    import torch

    from multigrain.recipes import recipe

    documents = json.loads(path.read_text(encoding="utf-8"))["documents"]
    texts = [text for text, _, _ in documents]
    training = [text for text, _, trained in documents if trained]
    rows = [(title, text) for text, title, trained in documents if trained][:ROWS]
    held_out = [(place, title) for place, (_, title, trained) in enumerate(documents) if not trained]
    config = recipe("demo")
    with tempfile.TemporaryDirectory() as folder:
        audit, evaluation, precision = side_encoders(config, Path(folder))
        _, fresh, _ = side_encoders(config, Path(folder) / "fresh")
        # Libraries set themselves up at first use.
        audit.encode_documents([f"{number} {'word ' * 100}" for number in range(32)])
        clocks = [(time.perf_counter(), time.process_time())]
        audit.encode_documents(training)
        audit.encode_queries([title for title, _ in rows])
        audit.encode_documents([text for _, text in rows])
        with precision:
            corpus = evaluation.encode_documents(texts)
            queries = evaluation.encode_queries([title for _, title in held_out])
            clocks.append((time.perf_counter(), time.process_time()))
            fresh.encode_documents(texts)
            fresh.encode_queries([title for _, title in held_out])
            clocks.append((time.perf_counter(), time.process_time()))
    scores = np.asarray(queries) @ np.asarray(corpus).T
    places = np.array([place for place, _ in held_out])
    own = scores[np.arange(len(places)), places]
    ranks = 1 + (scores > own[:, None]).sum(axis=1)
    asked = len(training) + 2 * len(rows) + len(texts) + len(held_out)
    once = len(texts) + len(held_out)
    result = {"ndcg_at_10": float(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean())}
    for name, clock in (("", 0), ("_processor", 1)):
        start, middle, end = (reading[clock] for reading in clocks)
        result |= {f"encoding{name}": asked / (middle - start), f"embedding{name}": once / (end - middle)}
    return result | {"threads": float(torch.get_num_threads())}


def side_encoders(config: Any, folder: Path) -> tuple[Any, Any, Any]:
    """The audit's encoder, the evaluation's, and what the evaluation is done in, as a run of this side makes them."""
    try:
        from multigrain.encoders.cache import CachedEncoder
        from multigrain.encoders.reference import base_encoder, base_model, encoding_precision, reference_encoder
    except ImportError:  # as they were called at e6f018d
        from multigrain.evaluation.embedding_cache import CachedEncoder
        from multigrain.evaluation.encoders import SentenceTransformerEncoder, model_fingerprint
        from multigrain.pipeline.reference import base_model, encoding_precision, reference_model

        model = base_model(config)
        encoder = CachedEncoder(SentenceTransformerEncoder(model), model_fingerprint(model))
        return reference_model(config), encoder, encoding_precision(config, model)
    audit, model = reference_encoder(config), base_model(config)
    evaluation = base_encoder(config, model)
    return (
        CachedEncoder(audit, audit.fingerprint, folder),
        CachedEncoder(evaluation, evaluation.fingerprint, folder),
        encoding_precision(config, model),
    )


if __name__ == "__main__":
    sys.exit(main())
