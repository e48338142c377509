"""One suite over both engines: Ray is started once, really, with two workers."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import multigrain
from multigrain.config import EngineConfig, LLMConfig
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Engine
from multigrain.errors import EngineError, MissingExtraError
from multigrain.llm.protocol import CompletionRequest, Message

from .contract import CONTRACT

RAY = EngineConfig(kind="ray", workers=2, cpus_per_worker=0.5, object_store_mb=100)


@pytest.fixture(scope="module", params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with build_engine(EngineConfig() if request.param == "local" else RAY, concurrency=4) as opened:
        yield opened


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_engines_keep(promise: Callable[[Engine, Path], None], engine: Engine, tmp_path: Path) -> None:
    promise(engine, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dead_worker_costs_nothing_and_a_deadly_unit_only_itself(tmp_path: Path) -> None:
    def work(unit: int) -> int:
        time.sleep(0.05)
        if unit == 7:
            os.kill(os.getpid(), signal.SIGKILL)  # kills each worker that takes it
        marker = tmp_path / "killed"
        if unit == 20 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # kills one
        return unit

    config = LLMConfig(provider="scripted", concurrency=4)
    with build_engine(RAY, concurrency=4) as ray_engine:
        outcomes = list(ray_engine.compute(work, range(40)))
        client = ray_engine.client(config, seed=0)

        async def ask(number: int) -> str:
            return (await client.complete(CompletionRequest((Message("user", f"about number {number}"),)))).text

        answers = list(ray_engine.map(ask, range(10)))

    failed = {outcome.unit: outcome.failure.kind for outcome in outcomes if outcome.failure is not None}
    assert failed == {7: "worker_died"}
    assert sorted(outcome.unit for outcome in outcomes) == list(range(40))
    assert all(answer.value for answer in answers)


def test_only_one_module_imports_ray() -> None:
    source = Path(multigrain.__file__).parent
    importing = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(name.name.split(".")[0] == "ray" for name in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ray")
    }
    assert importing == {"engine/ray.py"}


def test_a_missing_ray_prints_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[ray\]"):
        build_engine(RAY)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("ray://127.0.0.1:1", "Connection refused"),
        ("no-such-host.invalid:6379", "nothing answers"),
        ("127.0.0.1:999999", "nothing answers"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once_in_one_line(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # by another test; nothing is joined here
    with pytest.raises(EngineError, match=f"no Ray cluster could be joined there .*{reason}"):
        build_engine(EngineConfig(kind="ray", address=address))
