"""The same rows by multigrain and by three peers, against one endpoint: speed, memory, faults, a kill.

    python benchmarks/peers_synthesis.py --environments ENVS --make   # once: an environment a peer, some minutes each
    python benchmarks/peers_synthesis.py --environments ENVS          # about 90 minutes on 2 idle cores
    python benchmarks/peers_synthesis.py --environments ENVS --rows 200 --few 200 --json

data-designer 0.9.7, bespokelabs-curator 0.1.31 and distilabel 1.5.3, each in an environment of its own, as its
documentation says, with its defaults but for the concurrency (256) and rate limits. All are given the same prompts
(multigrain's `mgh`) and the same endpoint in a process of its own; `benchmarks/peers/` has the programs. What is told
is what was found with these versions on this machine, and what the endpoint's own log says. Keys of the JSON object,
each a mapping by package:

    rows_per_second, rows_per_second_1s    from the first request to the program's end, 200 ms and 1 s latency
    cpu_ms_per_row      processor time of all its processes, start and libraries left out as far as another run of
                        some rows tells
    peak_mib            resident memory of all its processes together, at its peak, 200 ms
    written             rows at 200 ms
    faults              at 5% of answers that fail (429, 500, resets, half answers): rows, requests
    schema              at 2% of answers that break the schema: rows, requests
    killed              SIGKILL half-way, then the same command: rows lost, requests for rows that were answered before
    ratio_rows          multigrain's rows a second at 200 ms, over the fastest peer's
    ratio_memory        multigrain's peak over that peer's
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.million import texts, vocabulary
from benchmarks.printing import print_values
from benchmarks.stub_endpoint import Event, read_log, serve

ROOT: Final = Path(__file__).resolve().parent.parent
OURS: Final = "multigrain"
PEERS: Final = {
    "data-designer": ("run_data_designer.py", ("data-designer==0.9.7",)),
    "curator": ("run_curator.py", ("bespokelabs-curator==0.1.31",)),
    "distilabel": ("run_distilabel.py", ("distilabel[openai]==1.5.3", "requests")),
}
CONCURRENCY: Final = 256
_LONGEST: Final = 3_600.0  # seconds for one measurement


def make_environments(folder: Path) -> None:
    """An environment a peer, with the version that is measured."""
    for name, (_, packages) in PEERS.items():
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        python = folder / name / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)


def make_inputs(path: Path, rows: int) -> None:
    """Documents, each with the prompt that multigrain would send for it."""
    from multigrain.synthesis.attributes import Attributes
    from multigrain.synthesis.prompts import BUILT_IN

    with path.open("w", encoding="utf-8") as stream:
        for number, words in enumerate(texts(rows, vocabulary(), 3)):
            text = f"[unit {number}] {' '.join(words)}."
            values = {"document": text, "title": None, "index": 0, "query": None, "style": Attributes()}
            system, user = BUILT_IN.render("mgh", **values, write_positive=False, levels=[4, 3, 2, 1])
            line = {"id": f"d{number}", "text": text, "system": system.content, "user": user.content}
            stream.write(json.dumps(line) + "\n")


@dataclass
class Ran:
    """One run of a program.

    Attributes:
        seconds: from the first request to its end.
        processor: seconds of all its processes, as far as they were seen.
        peak: bytes of resident memory, all its processes together.
        events: the endpoint's log.
        rows: ids that it wrote, with how often.
        error: the end of what it complained of, where it failed.
    """

    seconds: float
    processor: float
    peak: int
    events: list[Event]
    rows: Counter[str]
    error: str = ""

    @property
    def asked(self) -> int:
        """Requests that reached the endpoint for a row."""
        return sum(event.kind == "asked" and event.unit >= 0 for event in self.events)


class Program:
    """A package's program, run in a process group of its own and watched.

    Args:
        name: the package.
        environments: where peers' environments lie.
    """

    def __init__(self, name: str, environments: Path) -> None:
        script = f"run_{OURS}.py" if name == OURS else PEERS[name][0]
        self._python = sys.executable if name == OURS else str(environments / name / "bin" / "python")
        self._script = ROOT / "benchmarks" / "peers" / script

    def start(self, url: str, inputs: Path, out: Path) -> subprocess.Popen[bytes]:
        """Start it."""
        out.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src") if self._python == sys.executable else ""}
        with (out / "output.log").open("ab") as log:
            return subprocess.Popen(
                [self._python, str(self._script), url, str(inputs), str(out), str(CONCURRENCY)],
                cwd=out,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, url: str, inputs: Path, out: Path, log: Path) -> Ran:
        """Run it to its end."""
        process = self.start(url, inputs, out)
        peak, used = _watch(process)
        ended = time.monotonic()
        events = list(read_log(log))
        first = next((event.at for event in events if event.kind == "asked"), ended)
        path = out / "rows.jsonl"
        rows: Counter[str] = Counter()
        if path.exists():
            rows.update(json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines())
        error = "" if process.returncode == 0 else (out / "output.log").read_text(errors="replace")[-400:]
        return Ran(ended - first, used, peak, events, rows, error)


def _watch(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Peak memory and processor seconds of a process with all that it starts."""
    peak, used, deadline = 0, {}, time.monotonic() + _LONGEST
    while process.poll() is None and time.monotonic() < deadline:
        resident = 0
        try:
            parent = psutil.Process(process.pid)
            family = [parent, *parent.children(recursive=True)]
        except psutil.Error:
            continue
        for each in family:
            try:
                resident += each.memory_info().rss
                times = each.cpu_times()
                used[each.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, resident)
        time.sleep(0.1)
    _end(process)
    return peak, sum(used.values())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the group, where anything of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def killed(program: Program, rows: int, folder: Path) -> dict[str, int]:
    """Kill it when half of the rows have been answered, start it again, and count."""
    inputs, log, out = folder / "inputs.jsonl", folder / "killed.log", folder / "killed"
    make_inputs(inputs, rows)
    with serve(latency=0.2, log=log, answers="row") as url:
        process = program.start(url, inputs, out)
        deadline = time.monotonic() + _LONGEST
        while process.poll() is None and time.monotonic() < deadline:
            answered = sum(event.kind == "answered" for event in read_log(log)) if log.exists() else 0
            if answered >= rows // 2:
                break
            time.sleep(0.1)
        _end(process)
        before = {event.unit for event in read_log(log) if event.kind == "answered"}
        seen = sum(1 for _ in read_log(log))
        again = program.run(url, inputs, out, log)
    asked = [event.unit for event in again.events[seen:] if event.kind == "asked"]
    return {
        "answered_before": len(before),
        "asked_again": sum(unit in before for unit in asked),
        "in_flight_at_most": CONCURRENCY,
        "rows": len(again.rows),
        "rows_lost": rows - len(again.rows),
        "rows_twice": sum(count - 1 for count in again.rows.values()),
    }


def measure(name: str, arguments: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All of it for one package."""
    program, found = Program(name, arguments.environments), {}

    def run(what: str, rows: int, **stub: Any) -> Ran:
        place = folder / what
        place.mkdir()
        make_inputs(place / "inputs.jsonl", rows)
        with serve(log=place / "log", answers="row", **stub) as url:
            ran = program.run(url, place / "inputs.jsonl", place / "out", place / "log")
        say(f"  {name} {what}: {len(ran.rows):,} rows of {rows:,} in {ran.seconds:.1f} s, {ran.asked:,} requests, "
            f"{ran.peak / 2**20:.0f} MiB, {ran.processor:.1f} s CPU {ran.error}")  # fmt: skip
        return ran

    start = run("start", CONCURRENCY, latency=0.2)
    fast, slow = run("200ms", arguments.rows, latency=0.2), run("1s", arguments.rows, latency=1.0)
    faulty = run("faults", arguments.few, latency=0.2, faults="5%")
    broken = run("schema", arguments.few, latency=0.2, faults="schema")
    more = max(arguments.rows - CONCURRENCY, 1)
    found = {
        "rows_per_second": round(len(fast.rows) / fast.seconds, 1),
        "rows_per_second_1s": round(len(slow.rows) / slow.seconds, 1),
        "cpu_ms_per_row": round(1000 * (fast.processor - start.processor) / more, 3),
        "peak_mib": round(fast.peak / 2**20),
        "written": len(fast.rows),
        "faults": {"rows": len(faulty.rows), "of": arguments.few, "requests": faulty.asked, "error": faulty.error},
        "schema": {"rows": len(broken.rows), "of": arguments.few, "requests": broken.asked, "error": broken.error},
        "other_requests": sum(event.kind == "asked" and event.unit < 0 for event in fast.events),
    }
    place = folder / "kill"
    place.mkdir()
    found["killed"] = killed(program, arguments.few, place)
    say(f"  {name} killed: {found['killed']}")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--environments", type=Path, required=True, help="a folder with an environment a peer")
    parser.add_argument("--make", action="store_true", help="make the environments, and do nothing else")
    parser.add_argument("--only", nargs="+", choices=(OURS, *PEERS), default=[OURS, *PEERS])
    parser.add_argument("--rows", type=int, default=20_000, help="of the measurements of speed")
    parser.add_argument("--few", type=int, default=4_000, help="of those with faults, and of the kill")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the runs lie")
    arguments = parser.parse_args()
    arguments.environments = arguments.environments.resolve()
    if arguments.make:
        make_environments(arguments.environments)
        return
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        for name in arguments.only:
            (Path(place) / name).mkdir()
            found[name] = measure(name, arguments, Path(place) / name, lambda line: print(line, flush=True))
    values: dict[str, Any] = {key: {name: of[key] for name, of in found.items()} for key in next(iter(found.values()))}
    peers = {name: of for name, of in found.items() if name != OURS}
    if OURS in found and peers:
        fastest = max(peers, key=lambda name: peers[name]["rows_per_second"])
        ours, theirs = found[OURS], peers[fastest]
        values |= {
            "fastest_peer": fastest,
            "ratio_rows": round(ours["rows_per_second"] / max(theirs["rows_per_second"], 1e-9), 2),
            "ratio_memory": round(ours["peak_mib"] / max(theirs["peak_mib"], 1), 3),
        }
    values |= {"rows": arguments.rows, "few": arguments.few, "concurrency": CONCURRENCY, "cores": os.cpu_count()}
    print_values(values, as_json=arguments.json)


if __name__ == "__main__":
    main()
