from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.errors import RunDirectoryError
from multigrain.storage.files import atomic_directory, atomic_write, files_inside, walk_folders


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


def test_folders_behind_links_are_walked_once_and_in_no_loop(tmp_path: Path) -> None:
    """Whatever lies in the folder keeps its own path, however it is linked to."""
    shared, folder = tmp_path / "shared", tmp_path / "docs"
    (folder / "real" / "deep").mkdir(parents=True)
    (shared / "more").mkdir(parents=True)
    for place in (folder / "real" / "deep" / "a.md", shared / "b.md", shared / "more" / "c.md"):
        place.write_text("x")
    (folder / "alias").symlink_to(folder / "real")
    (folder / "real" / "up").symlink_to(folder)
    (folder / "root").symlink_to("/")
    (folder / "shared").symlink_to("../shared")
    (folder / "z").symlink_to(shared)
    (shared / "back").symlink_to(folder)
    (shared / "self").symlink_to(shared)
    (folder / "gone").symlink_to(tmp_path / "gone")

    assert [path.relative_to(folder).as_posix() for path in files_inside(folder)] == [
        "real/deep/a.md",
        "shared/b.md",
        "shared/more/c.md",
    ]
    (tmp_path / "link").symlink_to(folder)
    assert len(files_inside(tmp_path / "link")) == 3
    walked = [root for root, _ in walk_folders(folder, lambda path: path.name not in ("shared", "more"))]
    assert walked == [folder, folder / "real", folder / "real" / "deep", folder / "z"]
