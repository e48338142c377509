"""Complete stages on a real S3 server, which moto has: `pip install ".[s3]" "moto[server]"`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from multigrain.errors import RunBusyError
from multigrain.mining.vectors import VectorStore, write_shard
from multigrain.storage.objects import ObjectFolder, hold_store
from multigrain.storage.parquet import open_table
from multigrain.storage.rows import read_rows
from multigrain.storage.rundir import RunDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    started = server.ThreadedMotoServer(port=0)
    started.start()
    _, port = started.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield "s3://bucket/run"
    started.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_stage_goes_there_and_comes_back(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multigrain.storage.parquet._SHARD_ROWS", 4)
    first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    second.path.mkdir()
    with open_table(first.rows_path, pa.schema([("id", pa.string())]), lambda name: {"id": name}) as table:
        table.add(f"row {number}" for number in range(9))
    first.finish("synthesis", "settings", {}, 1.0)

    with hold_store(place, first) as store:
        assert store is not None
        store.publish("synthesis")
        with pytest.raises(RunBusyError, match="is written by"), hold_store(place, second):
            pass
    with hold_store(place, second) as store:
        assert store is not None
        assert store.restore("synthesis", "settings")

    expected = [f"row {number}" for number in range(9)]
    assert [row.values["id"] for row in read_rows(second.rows_path)] == expected
    assert [row.values["id"] for row in read_rows(f"{place}/synthesis/rows.parquet")] == expected


def test_of_two_that_create_an_object_one_does(place: str) -> None:
    folder = ObjectFolder(place)

    assert [folder.create("lock.json", raw) for raw in (b"one", b"two")] == [True, False]
    assert folder.read("lock.json") == b"one"


def test_a_shard_of_vectors_is_whole(place: str) -> None:
    import numpy as np

    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    write_shard(f"{place}/vectors", "shard-0.npy", vectors)

    store = VectorStore.finish(f"{place}/vectors", "model", ["shard-0.npy"])

    assert np.array_equal(store[1:3], vectors[1:3])
