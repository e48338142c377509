"""How many rows a second one driver writes: the synthesis stage itself, against an endpoint that answers at once.

    python benchmarks/driver_limit.py            # about 20 seconds on 2 idle cores
    python benchmarks/driver_limit.py --json     # one JSON object as the last line
    py-spy record --rate 200 --output driver.svg -- python benchmarks/driver_limit.py --rounds 1

Everything that a run does for a row is in it: the unit from its document on the disk, the prompt, the request over
HTTP, the journal (fsync before a row counts), parsing, the row in `rows.parquet`. The endpoint is a process of its own
and answers with one text to all, so that it takes as little of the cores as it can. Keys of the JSON object:

    rows_per_second       median over rounds, from the first unit to the last row on the disk
    cpu_ms_per_row        processor time of the driver, all threads
    stub_ms_per_row       of the endpoint, which shares the cores
    kept                  completions in the journal of the last round; as many as rows
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.million import texts, vocabulary
from benchmarks.printing import print_values
from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.llm.session.journal import Journal
from multigrain.stages.run import run_stages

ROOT: Final = Path(__file__).resolve().parent.parent


@contextmanager
def instant_stub() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The endpoint that answers at once."""
    command = [sys.executable, "-m", "benchmarks.stub_endpoint", "--answers", "instant"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process
        finally:
            process.send_signal(signal.SIGTERM)


def config_for(corpus: Path, url: str, concurrency: int) -> Config:
    """Every document gets a row, in one call."""
    return parse_config(
        {
            "documents": {"path": str(corpus), "validation_share": 0.001, "test_share": 0.001},
            "llm": {"provider": "openai", "model": "stub", "base_url": url, "concurrency": concurrency},
            "synthesis": {"query_first": False},
            "evaluation": {"queries": "none"},
        }
    )


def make_corpus(path: Path, rows: int) -> None:
    """JSON lines of documents of natural length."""
    with path.open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts(rows, vocabulary(), 3)):
            stream.write(json.dumps({"id": f"d{number}", "text": f"[unit {number}] {' '.join(text)}."}) + "\n")


def one_round(config: Config, folder: Path, stub: subprocess.Popen[str]) -> dict[str, float]:
    """The synthesis stage once, in a run directory of its own."""
    run = run_stages(config, folder, ["documents"])
    used, beside = _processor_seconds(), _of_process(stub.pid)
    began = time.perf_counter()
    run_stages(config, folder, ["documents", "synthesis"])
    seconds = time.perf_counter() - began
    rows = run.require("synthesis", "").counts["written"]
    with Journal(run.journal_path, create=False) as journal:
        kept = journal.totals().completions
    return {
        "rows_per_second": rows / seconds,
        "cpu_ms_per_row": 1000 * (_processor_seconds() - used) / rows,
        "stub_ms_per_row": 1000 * (_of_process(stub.pid) - beside) / rows,
        "rows": rows,
        "kept": kept,
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _of_process(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(rows: int, rounds: int, concurrency: int, folder: Path) -> dict[str, Any]:
    """Some rounds, the first one besides to warm up."""
    corpus = folder / "corpus.jsonl"
    make_corpus(corpus, rows)
    found = []
    with instant_stub() as (url, stub):
        for number in range(rounds + 1):
            found.append(one_round(config_for(corpus, url, concurrency), folder / f"run-{number}", stub))
            print(f"  {', '.join(f'{name} {value:.3f}' for name, value in found[-1].items())}", flush=True)
    measured = found[1:] or found
    names = ("rows_per_second", "cpu_ms_per_row", "stub_ms_per_row")
    values: dict[str, Any] = {name: round(statistics.median(each[name] for each in measured), 4) for name in names}
    return {**values, "rows": found[-1]["rows"], "kept": found[-1]["kept"], "cores": os.cpu_count()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the runs lie")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        values = measure(arguments.rows, arguments.rounds, arguments.concurrency, Path(place))
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
