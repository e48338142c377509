from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.errors import RunDirectoryError
from multigrain.storage.files import atomic_directory, atomic_write


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("multigrain.storage.files.os.fsync", full)
    with pytest.raises(RunDirectoryError, match=r"a\.json: cannot be written \(No space"):
        atomic_write(path, "new")

    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(FileNotFoundError), atomic_directory(target) as folder:
        (folder / "missing" / "b").write_text("2")
    assert [path.name for path in target.iterdir()] == ["a"]

    with atomic_directory(target) as folder:
        (folder / "c").write_text("3")
    assert [path.name for path in target.iterdir()] == ["c"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
