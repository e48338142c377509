"""`multigrain push`, `dataset push` and `card`, against a small stand-in of the hub's HTTP API."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sentence_transformers import CrossEncoder
from tests.loopback import JsonHandler, Loopback
from tests.report.example_run import ExampleRun, build_run

from multigrain.errors import ConfigError, HubError
from multigrain.storage.rundir import RunDirectory


class _Hub(Loopback):
    """Makes repositories and takes commits; 401 without the token."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        outer = self

        class Handler(JsonHandler):
            protocol_version = "HTTP/1.1"

            def on_post(self) -> None:
                raw = self.body()
                if self.headers.get("Authorization") != "Bearer hf_secret-of-the-test":
                    self.send(401, {"error": "Invalid credentials"})
                elif self.path == "/api/repos/create":
                    outer.created.append(json.loads(raw))
                    place = "datasets/me/set" if outer.created[-1].get("type") == "dataset" else "me/model"
                    self.send(200, {"url": f"{outer.url}/{place}", "name": place.removeprefix("datasets/"), "id": "1"})
                elif self.path == "/api/validate-yaml":
                    self.send(200, {"errors": [], "warnings": []})
                elif "/preupload/" in self.path:
                    entries = json.loads(raw)["files"]
                    files = [
                        {"path": entry["path"], "uploadMode": "regular", "shouldIgnore": False} for entry in entries
                    ]
                    self.send(200, {"files": files})
                elif "/commit/" in self.path:
                    for line in raw.splitlines():
                        entry = json.loads(line)
                        if entry["key"] == "file":
                            outer.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                    place = self.path.removeprefix("/api/").removeprefix("models/").split("/commit/")[0]
                    url = f"{outer.url}/{place}/commit/{'a' * 40}"
                    self.send(200, {"commitUrl": url, "commitOid": "a" * 40, "success": True})
                else:
                    self.send(404, {})

            def on_get(self) -> None:
                self.send(200, {"id": "me/model", "sha": "b" * 40, "siblings": [], "private": True, "tags": []})

        super().__init__(Handler)


@pytest.fixture
def hub() -> Iterator[_Hub]:
    with _Hub() as serving:
        yield serving


def is_private(request: dict[str, Any]) -> bool:
    """Whether a request asks for a private repository, in the older or the newer form of the protocol."""
    return request.get("visibility") == "private" or request.get("private") is True


@pytest.fixture
def complete(tmp_path: Path, small_bert: Path) -> RunDirectory:
    run = build_run(tmp_path / "run", ExampleRun(rows=20, queries=20))
    shutil.copytree(small_bert, run.model_path)
    return run


@pytest.fixture
def of_both(complete: RunDirectory, small_bert: Path) -> RunDirectory:
    """The same run, which tuned a reranker too."""
    _put_candidates(complete, {"tuned_mean": {}, "judge": {"kind": "reranker"}})
    model = CrossEncoder(str(small_bert), num_labels=1, device="cpu")
    model.save_pretrained(str(complete.candidate_path("judge")), create_model_card=False)
    complete.finish("models/judge", "7e" * 32, {}, 1.0)
    return complete


def _put_candidates(run: RunDirectory, candidates: dict[str, Any]) -> None:
    values = yaml.safe_load(run.config_path.read_text())
    values["training"]["candidates"] = candidates
    run.config_path.write_text(yaml.safe_dump(values, sort_keys=False))


def _closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _multigrain(*arguments: str, hub: _Hub, token: str, **settings: str) -> subprocess.CompletedProcess[str]:
    names = {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", "multigrain", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **names, "COLUMNS": "200", "NO_COLOR": "1"},
    )


def test_a_model_and_its_card_arrive_whole_in_a_private_repository(hub: _Hub, complete: RunDirectory) -> None:
    done = _multigrain("push", str(complete.path), "me/model", "--json", hub=hub, token="hf_secret-of-the-test")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["commit"] == f"{hub.url}/me/model/commit/{'a' * 40}"
    assert is_private(hub.created[0])
    assert {file["path"] for file in summary["files"]} == set(hub.files)
    for name, content in hub.files.items():
        assert content == (complete.model_path / name).read_bytes()
    assert b"nDCG@10" in hub.files["README.md"]
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_reranker_is_pushed_by_its_name_and_a_run_of_rerankers_never_pushes_its_base(
    hub: _Hub, of_both: RunDirectory
) -> None:
    push, judge = ["push", str(of_both.path), "me/model", "--json"], of_both.candidate_path("judge")
    done = _multigrain(*push, "--candidate", "judge", hub=hub, token="hf_secret-of-the-test")
    assert done.returncode == 0, done.stderr
    assert hub.files["model.safetensors"] == (judge / "model.safetensors").read_bytes()
    assert b"text-ranking" in hub.files["README.md"]
    assert "manifest.json" not in hub.files

    _put_candidates(of_both, {"judge": {"kind": "reranker"}})
    hub.files.clear()
    done = _multigrain(*push, hub=hub, token="hf_secret-of-the-test")
    assert done.returncode == 0, done.stderr
    assert hub.files["model.safetensors"] == (judge / "model.safetensors").read_bytes()

    _put_candidates(of_both, {name: {"kind": "reranker"} for name in ("judge", "other")})
    hub.files.clear()
    done = _multigrain(*push, hub=hub, token="hf_secret-of-the-test")
    assert done.returncode == ConfigError.exit_code
    assert "name one with --candidate: judge or other" in done.stderr
    assert not hub.files


@pytest.mark.parametrize("public", [False, True])
def test_rows_and_their_card_arrive_whole_and_are_public_only_where_that_is_said(
    hub: _Hub, complete: RunDirectory, public: bool
) -> None:
    options = ["--public"] if public else []
    command = ["dataset", "push", str(complete.path), "me/set", "--json", *options]
    done = _multigrain(*command, hub=hub, token="hf_secret-of-the-test")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["commit"] == f"{hub.url}/datasets/me/set/commit/{'a' * 40}"
    assert summary["private"] is not public
    assert hub.created[0]["type"] == "dataset"
    assert is_private(hub.created[0]) is not public
    assert {file["path"] for file in summary["files"]} == set(hub.files)
    assert {"README.md", "data/train-00000-of-00001.parquet"} <= set(hub.files)
    for name, content in hub.files.items():
        assert content == (Path(summary["folder"]) / name).read_bytes()
    assert "hf_secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["push"], ["dataset", "push"]], ids=["model", "dataset"])
def test_a_push_that_fails_is_one_line_and_an_exit_code_of_its_own(
    hub: _Hub, complete: RunDirectory, command: list[str]
) -> None:
    push = [*command, str(complete.path)]
    unheard = f"http://127.0.0.1:{_closed_port()}"
    for repository, token, names, words in (
        ("me/some", "hf_wrong", {}, "hf auth login"),
        ("me/some", "hf_wrong", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ("not a name/x/y", "hf_wrong", {}, "give OWNER/NAME"),
        ("me/some", "hf_wrong", {"HF_ENDPOINT": unheard}, "the hub cannot be reached"),
    ):
        done = _multigrain(*push, repository, hub=hub, token=token, **names)
        assert done.returncode == HubError.exit_code, done.stderr
        assert words in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
        assert "Traceback" not in done.stderr
        assert token not in done.stderr
    assert not hub.files


@pytest.mark.parametrize(
    ("command", "file"),
    [(["push"], "model.safetensors"), (["dataset", "push"], "data/train-00000-of-00001.parquet")],
    ids=["model", "dataset"],
)
def test_a_dry_run_lists_the_files_says_who_would_see_them_and_asks_nobody(
    hub: _Hub, complete: RunDirectory, command: list[str], file: str
) -> None:
    push = [*command, str(complete.path), "me/some", "--dry-run"]
    done = _multigrain(*push, hub=hub, token="", HF_HUB_OFFLINE="1")
    seen_by_all = _multigrain(*push, "--public", hub=hub, token="", HF_HUB_OFFLINE="1")

    assert done.returncode == 0, done.stderr
    assert file in done.stderr
    assert "would go to me/some, private" in done.stderr
    assert "would go to me/some, public" in seen_by_all.stderr
    assert not hub.created


def test_card_writes_the_card_and_says_where(hub: _Hub, complete: RunDirectory) -> None:
    done = _multigrain("card", str(complete.path), hub=hub, token="", HF_HUB_OFFLINE="1")

    assert done.returncode == 0, done.stderr
    assert (complete.model_path / "README.md").read_text().startswith("---\n")
