from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from multigrain.errors import RunBusyError, RunDirectoryError, StageOrderError
from multigrain.storage.rundir import RunDirectory


def test_a_manifest_says_what_completed_a_stage(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.manifest("dataset") is None

    run.finish("dataset", "abc", {"kept": 3}, 1.5)

    manifest = run.manifest("dataset")
    assert manifest is not None
    assert (manifest.fingerprint, manifest.counts, manifest.seconds) == ("abc", {"kept": 3}, 1.5)
    assert "multigrain" in manifest.versions
    assert run.is_complete("dataset", "abc")
    assert not run.is_complete("dataset", "other")
    run.invalidate("dataset")
    assert run.manifest("dataset") is None


def test_a_broken_manifest_is_named_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "manifest.json").write_text('{"stage": "dataset", "fing')

    with pytest.raises(RunDirectoryError, match=r"manifest\.json: not a manifest of this version.*delete it"):
        RunDirectory(tmp_path).manifest("dataset")


def test_a_missing_stage_names_its_command(tmp_path: Path) -> None:
    with pytest.raises(StageOrderError, match="`multigrain audit` completes it first"):
        RunDirectory(tmp_path).require("dataset", "multigrain audit")


def _hold(path: Path, held: multiprocessing.synchronize.Event, release: multiprocessing.synchronize.Event) -> None:
    with RunDirectory(path).hold():
        held.set()
        release.wait(30)


def test_one_process_at_a_time_and_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, held, release))
    holder.start()
    try:
        assert held.wait(30)
        assert (RunDirectory(tmp_path).holder() or "").startswith(f"process {holder.pid} on ")
        with pytest.raises(RunBusyError, match=f"in use by process {holder.pid}"), RunDirectory(tmp_path).hold():
            pass
    finally:
        holder.kill()  # SIGKILL: the process has no chance to let go
        holder.join()

    assert RunDirectory(tmp_path).holder() is None
    with RunDirectory(tmp_path).hold() as run:
        assert run.path == tmp_path


def test_asking_who_works_there_turns_nobody_away(tmp_path: Path) -> None:
    run, stop = RunDirectory(tmp_path), threading.Event()
    with run.hold():
        pass

    def ask() -> None:
        while not stop.is_set():
            run.holder()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            with RunDirectory(tmp_path).hold():
                pass
    finally:
        stop.set()
        asking.join()
    assert run.holder() is None


def test_the_command_line_starts_where_there_is_no_fcntl() -> None:
    code = "import sys; sys.modules['fcntl'] = None; import multigrain.storage.parquet, multigrain.cli.main"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(RunDirectoryError, match="cannot be written"), RunDirectory(tmp_path / "file" / "run").hold():
        pass


def test_manifests_are_told_in_the_order_in_which_stages_were_completed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    folders = ["documents", "later", "models/b", "models/a", "added"]
    for folder in folders:
        run.finish(folder, "made", {}, 1.0)
    # The chosen model is a copy of a candidate's folder, manifest and all.
    shutil.copytree(tmp_path / "models" / "a", tmp_path / "model")

    assert [manifest.stage for manifest in run.manifests()] == folders
