"""`multigrain push` and `card`, against a small stand-in of the hub's HTTP API."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.report.example_run import ExampleRun, build_run

from multigrain.rundir import RunDirectory


class _Hub:
    """Makes repositories and takes commits; 401 without the token."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Authorization") != "Bearer hf_secret-of-the-test":
                    self._answer({"error": "Invalid credentials"}, 401)
                elif self.path == "/api/repos/create":
                    outer.created.append(json.loads(raw))
                    self._answer({"url": f"{outer.url}/me/model", "name": "me/model", "id": "1"})
                elif self.path == "/api/validate-yaml":
                    self._answer({"errors": [], "warnings": []})
                elif "/preupload/" in self.path:
                    wanted = json.loads(raw)["files"]
                    files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in wanted]
                    self._answer({"files": files})
                elif "/commit/" in self.path:
                    for line in raw.splitlines():
                        each = json.loads(line)
                        if each["key"] == "file":
                            outer.files[each["value"]["path"]] = base64.b64decode(each["value"]["content"])
                    url = f"{outer.url}/me/model/commit/{'a' * 40}"
                    self._answer({"commitUrl": url, "commitOid": "a" * 40, "success": True})
                else:
                    self._answer({}, 404)

            def do_GET(self) -> None:
                self._answer({"id": "me/model", "sha": "b" * 40, "siblings": [], "private": True, "tags": []})

            def _answer(self, values: dict[str, Any], status: int = 200) -> None:
                raw = json.dumps(values).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub() -> Iterator[_Hub]:
    serving = _Hub()
    yield serving
    serving.server.shutdown()
    serving.server.server_close()


@pytest.fixture
def complete(tmp_path: Path, small_bert: Path) -> RunDirectory:
    run = build_run(tmp_path / "run", ExampleRun(rows=20, queries=20))
    shutil.copytree(small_bert, run.model_path)
    return run


def _multigrain(*arguments: str, hub: _Hub, token: str, offline: str = "0") -> subprocess.CompletedProcess[str]:
    names = {"HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_XET": "1"}
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
    made = hub.created[0]
    assert made.get("visibility") == "private" or made.get("private") is True, made
    assert {each["path"] for each in summary["files"]} == set(hub.files)
    for name, content in hub.files.items():
        assert content == (complete.model_path / name).read_bytes()
    assert b"nDCG@10" in hub.files["README.md"]
    assert "hf_secret" not in done.stdout + done.stderr


def test_a_refusal_and_an_offline_machine_are_told_in_a_line(hub: _Hub, complete: RunDirectory) -> None:
    refused = _multigrain("push", str(complete.path), "me/model", hub=hub, token="hf_wrong")
    offline = _multigrain("push", str(complete.path), "me/model", hub=hub, token="hf_wrong", offline="1")

    assert refused.returncode == 8
    assert "the hub refused (401" in refused.stderr
    assert "hf auth login" in refused.stderr
    assert "hf_wrong" not in refused.stderr
    assert offline.returncode == 8
    assert "HF_HUB_OFFLINE is set" in offline.stderr
    assert not hub.files


def test_a_dry_run_lists_the_files_and_asks_nobody(hub: _Hub, complete: RunDirectory) -> None:
    done = _multigrain("push", str(complete.path), "me/model", "--dry-run", hub=hub, token="", offline="1")

    assert done.returncode == 0, done.stderr
    assert "model.safetensors" in done.stderr
    assert "would go to me/model, private" in done.stderr
    assert not hub.created


def test_card_writes_the_card_and_says_where(hub: _Hub, complete: RunDirectory) -> None:
    done = _multigrain("card", str(complete.path), hub=hub, token="", offline="1")

    assert done.returncode == 0, done.stderr
    assert (complete.model_path / "README.md").read_text().startswith("---\n")
