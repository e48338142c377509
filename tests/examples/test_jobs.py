"""Job files for schedulers and the Dockerfile: linted, validated, and the Slurm job run with stand-ins for Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from multigrain.cli.main import app
from multigrain.config.file import parse_config

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent
SLURM = sorted((EXAMPLES / "slurm").glob("*.sbatch"))
MANIFEST = EXAMPLES / "kubernetes" / "tune.yaml"


def _lint(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("script", SLURM, ids=lambda path: path.name)
def test_slurm_scripts_are_clean_shell(script: Path) -> None:
    linted = _lint(BIN / "shellcheck", script)

    assert linted.returncode == 0, linted.stdout
    directives = [line for line in script.read_text("utf-8").splitlines() if line.startswith("#SBATCH")]
    assert len(directives) >= 8
    assert len({line.split("=")[0] for line in directives}) == len(directives)


def test_the_linter_would_tell(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.sbatch"
    wrong.write_text(SLURM[0].read_text("utf-8").replace('"$config"', "$config"), encoding="utf-8")

    assert _lint(BIN / "shellcheck", wrong).returncode != 0


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with a virtual environment whose commands write down what they are asked."""
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "activate").write_text(f"export PATH={binaries}:$PATH\n")
    for name in ("scontrol", "srun"):
        (binaries / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/asked\necho first\n')
    (binaries / "multigrain").write_text(
        f"#!{sys.executable}\n"
        "import signal, sys, time, pathlib\n"
        f"asked = pathlib.Path({str(tmp_path / 'asked')!r})\n"
        "def end(*_):\n"
        "    with asked.open('a') as file: file.write('checkpoint\\n')\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "with asked.open('a') as file: file.write(' '.join(['multigrain', *sys.argv[1:]]) + '\\n')\n"
        "time.sleep(60 if 'slow' in sys.argv[2] else 0)\n"
        "sys.exit(3 if 'failing' in sys.argv[2] else 0)\n"
    )
    for each in binaries.iterdir():
        each.chmod(0o755)
    return tmp_path


def _submit(cluster: Path, script: str, config: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    return subprocess.Popen(["bash", EXAMPLES / "slurm" / script, config], cwd=cluster, env=environment, text=True)


def _asked(cluster: Path) -> list[str]:
    file = cluster / "asked"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize(("config", "code"), [("mine.yaml", 0), ("failing.yaml", 3)])
def test_the_slurm_job_runs_the_config_and_ends_as_it_does(cluster: Path, config: str, code: int) -> None:
    assert _submit(cluster, "tune.sbatch", config).wait(60) == code
    assert _asked(cluster) == [f"multigrain run {config} --run runs/{Path(config).stem} --json"]


def test_before_its_time_is_up_the_job_writes_a_checkpoint_and_is_put_back(cluster: Path) -> None:
    job = _submit(cluster, "tune.sbatch", "slow.yaml")
    ends = time.monotonic() + 60
    while not _asked(cluster) and time.monotonic() < ends:
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)

    assert job.wait(60) == 0
    assert _asked(cluster)[1:] == ["checkpoint", "scontrol requeue 7"]


def test_training_over_nodes_is_started_once_a_node_and_meets_at_the_first(cluster: Path) -> None:
    assert _submit(cluster, "two_nodes.sbatch", "mine.yaml").wait(60) == 0
    (_, started) = _asked(cluster)
    assert started.startswith("srun torchrun --nnodes 2 --nproc-per-node 8 --rdzv-id 7 ")
    assert started.endswith("--rdzv-endpoint first:29500 -m multigrain train mine.yaml --run runs/mine")


def test_the_manifest_is_valid_for_kubernetes() -> None:
    validated = _lint(BIN / "kubernetes-validate", "--strict", MANIFEST)
    assert validated.returncode == 0, validated.stdout + validated.stderr

    wrong = MANIFEST.read_text("utf-8").replace("backoffLimit", "backofLimit")
    command = [BIN / "kubernetes-validate", "--strict", "/dev/stdin"]
    broken = subprocess.run(command, input=wrong, text=True, capture_output=True, check=False)
    assert broken.returncode != 0


def test_the_manifest_s_parts_fit_each_other_and_multigrain() -> None:
    claim, settings, job = yaml.safe_load_all(MANIFEST.read_text("utf-8"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}

    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts["/work"]]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert volumes[mounts["/config"]]["configMap"]["name"] == settings["metadata"]["name"]
    parse_config(yaml.safe_load(settings["data"]["config.yaml"]), origin="the manifest")
    command, config, *options = container["args"]
    assert Path(config).name in settings["data"]
    helped = CliRunner().invoke(app, [command, "--help"]).stdout
    assert all(option in helped for option in options if option.startswith("--"))
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert "10001" in (ROOT / "Dockerfile").read_text("utf-8")


def test_the_dockerfile_is_clean() -> None:
    linted = _lint(BIN / "hadolint", "--no-color", ROOT / "Dockerfile")

    assert linted.returncode == 0, linted.stdout
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001"]
    assert all((ROOT / path).exists() for path in _copied(lines))


def _copied(lines: list[str]) -> list[str]:
    """What the build takes from the repository."""
    words = [line.split()[1:-1] for line in lines if line.startswith("COPY ")]
    return [each for line in words for each in line if not line[0].startswith("--from")]


def test_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}

    assert set(_copied(lines)) == sent
