"""A sentence-transformers folder that opens where multigrain is not installed, its code lying in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multigrain.errors import ExportError
from multigrain.export.bundle import bundle_source
from multigrain.export.job import Exported, ExportJob
from multigrain.export.parity import PARITY_TEXTS, check_parity

CODE_FILE: Final = "multigrain_ata.py"

_FOLDER_TOLERANCE: Final = 1e-5

# Opens a folder as its readers will: in a process of its own, where importing multigrain fails.
_READER: Final = """
import importlib.abc, json, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "multigrain":
            raise ImportError("multigrain is not here")
sys.meta_path.insert(0, Refuse())
import numpy as np
from sentence_transformers import SentenceTransformer
folder, trusted, out = sys.argv[1], sys.argv[2] == "yes", sys.argv[3]
model = SentenceTransformer(folder, trust_remote_code=trusted, device="cpu")
batches = json.load(sys.stdin)
for number, (role, texts, batch_size) in enumerate(batches):
    encode = model.encode_query if role == "query" else model.encode_document
    np.save(f"{out}/{number}.npy", encode(texts, batch_size=batch_size, show_progress_bar=False))
assert "multigrain" not in sys.modules
"""


def export(job: ExportJob, folder: Path) -> Exported:
    """Write the model with the code of its own modules beside it.

    Raises:
        ExportError: a process without multigrain gets other vectors from it.
    """
    job.model.save_pretrained(str(folder), create_model_card=True)
    own = _bring_code(folder)
    job.progress.say("export: opening the folder in a process without multigrain")
    difference = check_parity(
        job.model, FreshProcess(folder, trusted=bool(own)), what="the folder", tolerance=_FOLDER_TOLERANCE
    )
    flag = ", trust_remote_code=True" if own else ""
    opens = f'SentenceTransformer("{job.destination}"{flag})'
    lines = [f"opens without multigrain: {opens}", f"the model's vectors within {difference:.1e}"]
    if own:
        lines.insert(
            1, f"its code is {CODE_FILE} in the folder, made from multigrain's own sources: read it, then trust it"
        )
    return Exported(
        facts={"max_difference": difference, "code": CODE_FILE if own else None, "opens": opens}, lines=tuple(lines)
    )


def _bring_code(folder: Path) -> list[str]:
    """Put our classes beside a saved model and let modules.json name them there. Returns the classes."""
    path = folder / "modules.json"
    modules = json.loads(path.read_text(encoding="utf-8"))
    own = sorted({module["type"] for module in modules if module["type"].startswith("multigrain.")})
    if not own:
        return []
    for module in modules:
        if module["type"] in own:
            module["type"] = f"{Path(CODE_FILE).stem}.{module['type'].rpartition('.')[2]}"
    (folder / CODE_FILE).write_text(bundle_source(own), encoding="utf-8")
    path.write_text(json.dumps(modules, indent=2), encoding="utf-8")
    return own


class FreshProcess:
    """A folder, encoded by a process that has no multigrain.

    Args:
        folder: a sentence-transformers folder.
        trusted: pass `trust_remote_code=True`.
    """

    def __init__(self, folder: Path, *, trusted: bool) -> None:
        self._folder = folder
        self._trusted = trusted
        self._vectors: dict[tuple[str, int], NDArray[np.float32]] = {}

    def encode_query(self, texts: list[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed queries."""
        return self._encode("query", texts, batch_size)

    def encode_document(self, texts: list[str], *, batch_size: int = 32) -> NDArray[np.float32]:
        """Embed documents."""
        return self._encode("document", texts, batch_size)

    def _encode(self, role: str, texts: list[str], batch_size: int) -> NDArray[np.float32]:
        if (role, batch_size) not in self._vectors:
            # Starting a process is the expensive part: everything that will be asked is asked at once.
            both = [(side, size) for side in ("query", "document") for size in (1, len(PARITY_TEXTS))]
            requests = both if texts == list(PARITY_TEXTS) else [(role, batch_size)]
            self._vectors = dict(zip(requests, self._run(requests, texts), strict=True))
        return self._vectors[role, batch_size]

    def _run(self, requests: Sequence[tuple[str, int]], texts: list[str]) -> list[NDArray[np.float32]]:
        with tempfile.TemporaryDirectory() as out:
            environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
            # Copies of the folder's code stay out of the user's cache, and no older one is taken from there.
            environment |= {"HF_MODULES_CACHE": f"{out}/modules", "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(  # noqa: S603 (our own program, run by this interpreter)
                [sys.executable, "-c", _READER, str(self._folder), "yes" if self._trusted else "no", out],
                input=json.dumps([(role, texts, size) for role, size in requests]),
                capture_output=True,
                text=True,
                check=False,
                env=environment,
            )
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise ExportError(f"{self._folder}: a process without multigrain cannot open it: {last}")
            return [np.load(f"{out}/{number}.npy") for number in range(len(requests))]
