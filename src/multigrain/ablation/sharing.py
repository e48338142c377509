"""What arms share: the folders of written and of graded rows, named for everything that decides their content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from multigrain.ablation.matrix import Arm
from multigrain.config import Config
from multigrain.errors import MultigrainError
from multigrain.stages.fingerprints import (
    documents_fingerprint,
    planned_dataset_fingerprint,
    planned_synthesis_fingerprint,
)
from multigrain.stages.table import STAGES
from multigrain.storage.rundir import RunDirectory

__all__ = ["SharedFolders"]

_KEY_LENGTH: Final = 16
_DOCUMENTS, _SYNTHESIS, _AUDIT = (STAGES[name] for name in ("documents", "synthesis", "audit"))


class SharedFolders:
    """The folders of an ablation that arms share; files that change in place lead to other folders.

    A folder is named for the fingerprint of the stage that fills it. Folders of version 0.1.0 have other names: they
    are recognised by the fingerprint in their manifest, and used on.

    Args:
        out: the ablation's folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._existing = {
            "writing": dict(_written_keys(out / "writing")),
            "data": {
                _key(manifest.fingerprint): folder
                for folder in sorted((out / "data").glob("*"))
                if (manifest := RunDirectory(folder).manifest(_AUDIT.folder)) is not None
            },
        }
        self._of_arm: dict[str, tuple[Path, Path]] = {}
        self._documents: str | None = None

    def writing(self, arm: Arm) -> Path:
        """The folder of the documents and rows that are written for an arm: the same for arms that write alike."""
        return self._folders(arm)[0]

    def data(self, arm: Arm) -> Path:
        """The folder of an arm's graded rows: the same for arms that audit alike."""
        return self._folders(arm)[1]

    def _folders(self, arm: Arm) -> tuple[Path, Path]:
        if arm.name not in self._of_arm:
            written = planned_synthesis_fingerprint(arm.config, self._documents_of(arm.config))
            graded = planned_dataset_fingerprint(arm.config, written)
            self._of_arm[arm.name] = self._folder("writing", written), self._folder("data", graded)
        return self._of_arm[arm.name]

    def _folder(self, kind: str, fingerprint: str) -> Path:
        key = _key(fingerprint)
        return self._existing[kind].get(key, self._out / kind / key)

    def _documents_of(self, config: Config) -> str:
        """Documents and pairs are the same for all arms, and reading all of them takes time; tasks may differ."""
        if config.start_from == "tasks":
            return documents_fingerprint(config)
        if self._documents is None:
            self._documents = documents_fingerprint(config)
        return self._documents


def _written_keys(folder: Path) -> Iterator[tuple[str, Path]]:
    """The keys of the folders of written rows; where writing was interrupted, of what would be written."""
    for path in sorted(folder.glob("*")):
        run = RunDirectory(path)
        written, documents = run.manifest(_SYNTHESIS.folder), run.manifest(_DOCUMENTS.folder)
        if written is not None:
            yield _key(written.fingerprint), path
        elif documents is not None:
            try:
                config = Config.model_validate(documents.settings)
                key = _key(planned_synthesis_fingerprint(config, documents.fingerprint))
            except (ValidationError, MultigrainError):  # of another version, or a file of it is gone
                continue
            yield key, path


def _key(fingerprint: str) -> str:
    return fingerprint[:_KEY_LENGTH]
