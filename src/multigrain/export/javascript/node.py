"""An export for JavaScript, opened by transformers.js in a process of Node."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.errors import ExportError
from multigrain.export.parity import PARITY_TEXTS

PACKAGE: Final = "@huggingface/transformers"

_SECONDS: Final = 600
_VERSION: Final = f"""
import {{ env }} from "{PACKAGE}";
console.log(env.version);
"""
_READER: Final = f"""
import {{ readFileSync, writeFileSync }} from "node:fs";
import {{ pathToFileURL }} from "node:url";
import * as transformers from "{PACKAGE}";
const [folder, out, dtype] = process.argv.slice(1);
transformers.env.allowRemoteModels = false;
const {{ Embedder }} = await import(pathToFileURL(`${{folder}}/embedder.mjs`));
const embedder = await Embedder.open(transformers, folder, {{ dtype }});
const started = performance.now();
for (const [number, [role, texts, size]] of JSON.parse(readFileSync(0, "utf8")).entries()) {{
  const vectors = await (role === "query" ? embedder.encodeQuery(texts, size) : embedder.encodeDocument(texts, size));
  const width = vectors[0].length;
  const whole = new Float32Array(vectors.length * width);
  vectors.forEach((vector, row) => whole.set(vector, row * width));
  writeFileSync(`${{out}}/${{number}}.f32`, new Uint8Array(whole.buffer));
}}
writeFileSync(`${{out}}/seconds`, String((performance.now() - started) / 1000));
"""


def transformers_js(folder: Path) -> str | None:
    """The version of transformers.js that Node finds from a folder; None where there is no Node, or no package.

    Args:
        folder: whose `node_modules`, or a parent's, holds the package.
    """
    node = shutil.which("node")
    if node is None:
        return None
    done = _run([node, "--input-type=module", "-e", _VERSION], folder, "")
    return done.stdout.strip() if done.returncode == 0 else None


class NodeEmbedder:
    """An export, embedded by Node. Has `encode_query` and `encode_document`, as exports have.

    Args:
        folder: the export.
        home: the folder that Node finds transformers.js from.
        dtype: of the graph: fp32, or q8 for the quantised one.

    Attributes:
        seconds: that the last call's texts took, without starting Node and opening the export.
    """

    def __init__(self, folder: Path, home: Path, *, dtype: str = "fp32") -> None:
        self._folder = folder
        self._home = home
        self._dtype = dtype
        self._vectors: dict[tuple[str, int], NDArray[np.float32]] = {}
        self.seconds = 0.0

    def encode_query(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed queries, with the model's query prompt."""
        return self._encode("query", list(texts), batch_size)

    def encode_document(self, texts: Sequence[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed documents, with the model's document prompt."""
        return self._encode("document", list(texts), batch_size)

    def _encode(self, role: str, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        if texts != list(PARITY_TEXTS):
            return self._ask([(role, texts, batch_size)])[0]
        if not self._vectors:  # starting a process is the expensive part: all that the check asks is asked at once
            keys = [(side, size) for side in ("query", "document") for size in (1, len(texts))]
            answers = self._ask([(side, texts, size) for side, size in keys])
            self._vectors = dict(zip(keys, answers, strict=True))
        return self._vectors[role, batch_size]

    def _ask(self, requests: Sequence[tuple[str, list[str], int]]) -> list[NDArray[np.float32]]:
        with tempfile.TemporaryDirectory() as out:
            command = [shutil.which("node") or "node", "--input-type=module", "-e", _READER, "--"]
            done = _run([*command, str(self._folder.absolute()), out, self._dtype], self._home, json.dumps(requests))
            if done.returncode != 0:
                lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
                said = next((line for line in lines if "Error" in line), lines[-1] if lines else "no message")
                raise ExportError(f"transformers.js cannot open the export: {said[:200]}")
            self.seconds = float((Path(out) / "seconds").read_text(encoding="utf-8"))
            read = [np.fromfile(Path(out) / f"{number}.f32", dtype="<f4") for number in range(len(requests))]
        return [values.reshape(len(texts), -1) for values, (_, texts, _) in zip(read, requests, strict=True)]


def _run(command: list[str], folder: Path, given: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 (our own program, run by the user's Node)
            command, input=given, capture_output=True, text=True, check=False, cwd=folder, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ExportError(f"Node gave no answer within {_SECONDS} s") from None
