"""A run that copies its stages to an object store, killed fifty times: is anything lost, doubled, or half there?

    pip install ".[s3]" "moto[server]"
    python benchmarks/object_store_kill.py                 # about 8 minutes on 2 cores
    python benchmarks/object_store_kill.py --kills 5       # a minute
    python benchmarks/object_store_kill.py --json          # one JSON object as the last line

A real S3 server (moto's) runs in a process of its own. A child works through documents, synthesis and audit with
`engine.store` set to a bucket there; when it is done, it starts again with another seed, so that every stage is
replaced over and over. It is killed with SIGKILL at a random moment and started again. After every kill another
directory takes from the bucket what is complete there, and compares it with what its own manifest says; a second
writer is tried while the child works. The model is a scripted one, and vectors are drawn from hashes of texts. Keys of
the JSON object:

    kills         how often the child was killed
    lost          rows that a stage in the bucket lacks, by its manifest; or at the end, by a run without a store
    doubled       ids that a table in the bucket has twice
    partial       objects that were read and not whole: a size or checksum that differs, a table that cannot be read
    taken         how often a complete stage was taken from the bucket
    missing       how often none was there, as its publication had been cut short
    refused       second writers that were refused, of `tried`
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.bounded_memory import HashReference, config_for, forgetful, make_corpus
from benchmarks.printing import print_values
from multigrain.config import Config
from multigrain.errors import MultigrainError, RunBusyError
from multigrain.stages import audit
from multigrain.stages.run import run_stages
from multigrain.storage.objects import hold_store
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.shards import table_files

STAGES: Final = ("documents", "synthesis", "audit")
TABLES: Final = {
    "documents": ("documents/documents.parquet", "documents"),
    "synthesis": ("synthesis/rows.parquet", "written"),
    "dataset": ("dataset/graded.parquet", "kept"),
}
_PLACE: Final = "s3://bucket/run"
_ROUNDS: Final = 10_000


@contextmanager
def s3_server() -> Iterator[str]:
    """A server of S3 in a process of its own; its address."""
    import socket
    import urllib.request

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)


def seeded(config: Config, seed: int, store: str | None) -> Config:
    """The config with a seed and a store of its own."""
    return config.updated({"seed": seed, "engine": {"store": store}})


def work(config: Config, run: Path, first: int) -> None:
    """What the child does: round after round, each over the one before."""
    with mock.patch.object(audit, "open_reference", _reference), forgetful():
        for seed in range(first, first + _ROUNDS):
            (run / "seed").parent.mkdir(exist_ok=True)
            (run / "seed").write_text(str(seed))
            run_stages(seeded(config, seed, _PLACE), run, list(STAGES), redo=True)


@contextmanager
def _reference(*_: Any, **__: Any) -> Iterator[HashReference]:
    yield HashReference()


def forked(config: Config, run: Path, first: int) -> int:
    """The child, with all libraries loaded; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        work(config, run, first)
    finally:
        os._exit(1)


def look(folder: Path, found: Counter[str]) -> None:
    """Take from the bucket what is complete there, and hold it to its manifests."""
    taken = RunDirectory(folder)
    taken.path.mkdir()
    import fsspec

    files = fsspec.core.url_to_fs(_PLACE)[0]
    files.invalidate_cache()
    if files.exists(f"{_PLACE}/lock.json"):
        files.rm_file(f"{_PLACE}/lock.json")  # the child is dead, and its lease has not run out
    with hold_store(_PLACE, taken) as store:
        assert store is not None
        for stage, (table, count) in TABLES.items():
            try:
                raw = files.cat_file(f"{_PLACE}/{stage}/manifest.json")
            except FileNotFoundError:
                found["missing"] += 1
                continue
            try:
                store.restore(stage, json.loads(raw)["fingerprint"])
                ids = _ids(taken.path / table)
            except (MultigrainError, OSError, ValueError) as error:
                print(f"  {stage}: {error}", flush=True)
                found["partial"] += 1
                continue
            found["taken"] += 1
            found["lost"] += max(json.loads(raw)["counts"][count] - len(ids), 0)
            found["doubled"] += sum(times - 1 for times in ids.values())


def _ids(path: Path) -> Counter[str]:
    import pyarrow.parquet as pq

    ids: Counter[str] = Counter()
    for file in table_files(path):
        ids.update(pq.read_table(file, columns=["id"])["id"].to_pylist())
    return ids


def measure(kills: int, documents: int, seed: int, folder: Path) -> dict[str, Any]:
    """Kill so many times, look each time, and compare with a run without a store at the end."""
    chance, found = random.Random(seed), Counter[str]()
    corpus, run = folder / "corpus.jsonl", folder / "run"
    make_corpus(corpus, documents, seed)
    config = config_for(corpus)
    with s3_server() as address:
        os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ["AWS_ENDPOINT_URL"] = address
        # A client of S3 has threads, which a fork does not take along: what speaks to the server is another process.
        _apart(_make_bucket)
        for number in range(kills):
            at = int((run / "seed").read_text()) if (run / "seed").exists() else 1
            child = forked(config, run, at)
            time.sleep(chance.uniform(0.2, 6.0))
            if number % 5 == 0:
                found["tried"] += 1
                found["refused"] += _apart(_second_writer, folder / f"second-{number}")
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found.update(_apart(_looked, folder / f"taken-{number}"))
        last = int((run / "seed").read_text())
        with mock.patch.object(audit, "open_reference", _reference), forgetful():
            run_stages(seeded(config, last, None), folder / "plain", list(STAGES))
        _apart(_finish, config, run, last)
        found.update(_apart(_looked, folder / "taken"))
        for table, _ in TABLES.values():
            plain, there = _ids(folder / "plain" / table), _ids(folder / "taken" / table)
            found["lost"] += len(plain.keys() - there.keys())
    keys = ("lost", "doubled", "partial", "taken", "missing", "refused", "tried")
    return {"kills": kills, **{key: found[key] for key in keys}, "rounds": last}


def _apart(function: Any, *arguments: Any) -> Any:
    """Call a function in a process of its own, and give what it returns."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, json.dumps(function(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        raw = stream.read()
    os.waitpid(child, 0)
    return json.loads(raw)


def _make_bucket() -> None:
    import s3fs

    s3fs.S3FileSystem().mkdir("bucket")


def _looked(folder: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    look(folder, found)
    return dict(found)


def _second_writer(folder: Path) -> int:
    folder.mkdir()
    try:
        with hold_store(_PLACE, RunDirectory(folder)):
            return 0
    except RunBusyError:
        return 1


def _finish(config: Config, run: Path, seed: int) -> None:
    with mock.patch.object(audit, "open_reference", _reference), forgetful():
        run_stages(seeded(config, seed, _PLACE), run, list(STAGES), redo=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the runs lie")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        values = measure(arguments.kills, arguments.documents, arguments.seed, Path(place))
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
