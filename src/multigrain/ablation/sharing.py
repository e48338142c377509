"""What arms share: the folders of written and of graded rows, named for everything that decides their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from multigrain.ablation.matrix import Arm
from multigrain.config import Config
from multigrain.errors import MultigrainError
from multigrain.stages.fingerprints import (
    documents_fingerprint,
    planned_dataset_fingerprint,
    planned_synthesis_fingerprint,
)
from multigrain.storage.rundir import RunDirectory

_KEY_LENGTH: Final = 16


class ArmFolders(NamedTuple):
    """The folders of an arm: of its documents and written rows, and of its graded rows. Arms alike have the same."""

    writing: Path
    data: Path


def shared_folders(arms: Sequence[Arm], out: Path) -> dict[str, ArmFolders]:
    """The folders of arms, by their names; files that change in place lead to other folders.

    A folder is named for the fingerprint of the stage that fills it. Folders of version 0.1.0 have other names: they
    are recognised by the fingerprints in their manifests, and used on.

    Args:
        arms: of one matrix.
        out: the ablation's folder.
    """
    existing = {fingerprint: path for folder in ("writing", "data") for fingerprint, path in _existing(out / folder)}
    folders, documents = {}, ""
    for arm in arms:
        if not documents or arm.config.start_from == "tasks":  # documents and pairs are the same for all arms
            documents = documents_fingerprint(arm.config)
        written = planned_synthesis_fingerprint(arm.config, documents)
        graded = planned_dataset_fingerprint(arm.config, written)
        folders[arm.name] = ArmFolders(
            existing.get(written, out / "writing" / written[:_KEY_LENGTH]),
            existing.get(graded, out / "data" / graded[:_KEY_LENGTH]),
        )
    return folders


def _existing(folder: Path) -> Iterator[tuple[str, Path]]:
    """Folders by the fingerprint of what they hold; where writing was interrupted, of what would be written."""
    for path in sorted(folder.glob("*")):
        run = RunDirectory(path)
        documents = run.manifest("documents")
        if (filled := run.manifest("dataset" if folder.name == "data" else "synthesis")) is not None:
            yield filled.fingerprint, path
        elif documents is not None and folder.name == "writing":
            try:
                config = Config.model_validate(documents.settings)
                fingerprint = planned_synthesis_fingerprint(config, documents.fingerprint)
            except (ValidationError, MultigrainError):  # of another version, or a file of it is gone
                continue
            yield fingerprint, path
