from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from multigrain.errors import SourceError
from multigrain.mining.search import top_k
from multigrain.mining.vectors import ShardWork, VectorStore, missing_shards, write_shard

BATCHES = [[f"text {batch} {row}" for row in range(40 if batch < 3 else 7)] for batch in range(4)]


def _vectors(texts: Sequence[str]) -> np.ndarray:
    return np.asarray([np.random.default_rng(abs(hash(text))).normal(size=6) for text in texts], dtype=np.float32)


def _fill(
    place: str, fingerprint: str = "m", batches: list[list[str]] | None = None
) -> tuple[list[ShardWork], VectorStore]:
    names: list[str] = []
    works = list(missing_shards(place, fingerprint, batches or BATCHES, names))
    for work in works:
        write_shard(place, work.name, _vectors(work.texts))
    return works, VectorStore.finish(place, fingerprint, names)


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/store"


def test_a_store_gives_back_what_went_in_by_slices_and_by_rows(place: str) -> None:
    _, store = _fill(place)
    everything = _vectors([text for batch in BATCHES for text in batch])

    assert (len(store), store.dimensions) == (127, 6)
    for low, high in [(0, 127), (39, 41), (40, 40), (75, 500), (120, 127), (-3, None)]:
        np.testing.assert_array_equal(store[low:high], everything[low:high])
    rows = np.asarray([126, 0, 41, 41, 39, 80])
    np.testing.assert_array_equal(store.gather(rows), everything[rows])
    queries = everything[::11]
    for mine, true in zip(top_k(queries, store, 9), top_k(queries, everything, 9), strict=True):
        np.testing.assert_array_equal(mine, true)


def test_killed_embedding_goes_on_with_the_first_missing_shard(place: str) -> None:
    names: list[str] = []
    works = missing_shards(place, "m", BATCHES, names)
    for _ in range(2):
        work = next(works)
        write_shard(place, work.name, _vectors(work.texts))
    with pytest.raises(SourceError, match="no complete vector store"):
        VectorStore(place)

    again, store = _fill(place)

    assert [work.texts[0] for work in again] == ["text 2 0", "text 3 0"]
    assert len(store) == 127
    assert _fill(place)[0] == []


def test_another_model_or_text_embeds_anew_and_leaves_no_old_shard(place: str) -> None:
    _fill(place)
    assert len(_fill(place, fingerprint="other")[0]) == 4
    grown = [*BATCHES, ["one more"]]
    assert len(_fill(place, fingerprint="other", batches=grown)[0]) == 1
    changed = [[*BATCHES[0][:-1], "changed"], *grown[1:]]
    assert len(_fill(place, fingerprint="other", batches=changed)[0]) == 1
    _, store = _fill(place, fingerprint="other", batches=BATCHES[:1])
    assert len(store) == 40
    assert len(_fill(place, fingerprint="other", batches=BATCHES)[0]) == 3  # what belonged to nothing was deleted


def test_a_missing_or_cut_shard_is_told_by_name(tmp_path: Path) -> None:
    _, store = _fill(str(tmp_path))
    victim = tmp_path / store.shards[1].name
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"shard-000001.*missing or cut"):
        VectorStore(str(tmp_path))[0:100]
    with pytest.raises(SourceError, match="no complete vector store"):
        VectorStore(str(tmp_path / "elsewhere"))
