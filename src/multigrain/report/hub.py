"""Put a run's model on the Hugging Face hub, private unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multigrain.errors import ModelError, RunDirectoryError
from multigrain.rundir import RunDirectory

__all__ = ["HubFile", "files_to_push", "push_model"]

_LEFT_OUT = ("training_log.json", "manifest.json", ".*", "*/.*")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file that would be uploaded: its path in the repository and its size in bytes."""

    path: str
    bytes: int


def files_to_push(run: RunDirectory) -> list[HubFile]:
    """What `push_model` uploads.

    Raises:
        RunDirectoryError: the run holds no model.
    """
    folder = _folder(run)
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        HubFile(path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in found
        if path.name not in _LEFT_OUT and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def push_model(run: RunDirectory, repo_id: str, *, private: bool = True, revision: str | None = None) -> str:
    """Upload a run's chosen model, card and all, in one commit. The repository is made if there is none.

    The token is huggingface_hub's: `hf auth login`, or $HF_TOKEN.

    Args:
        run: a complete run.
        repo_id: OWNER/NAME.
        private: make a new repository private; one that is there keeps its setting.
        revision: the branch to commit to; None for the default one.

    Returns:
        The commit's address.

    Raises:
        RunDirectoryError: the run holds no model.
        ModelError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    folder, hub = _folder(run), HfApi()
    try:
        repository = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            hub.create_branch(repository, branch=revision, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            revision=revision,
            commit_message="Add a model tuned with multigrain",
            ignore_patterns=list(_LEFT_OUT),
        )
    except HFValidationError as error:
        raise ModelError(f"{repo_id!r} is no repository id: give OWNER/NAME ({_first_line(error)})") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        advice = "log in with `hf auth login` or set HF_TOKEN" if status in (401, 403) else "try again later"
        raise ModelError(f"{repo_id}: the hub refused ({status}: {_first_line(error)}): {advice}") from None
    except OfflineModeIsEnabled:
        raise ModelError(f"{repo_id}: HF_HUB_OFFLINE is set: unset it to push") from None
    except OSError as error:
        raise ModelError(f"{repo_id}: the hub cannot be reached ({_first_line(error)})") from None
    return str(commit.commit_url)


def _folder(run: RunDirectory) -> Path:
    folder = run.model_path
    if not (folder / "modules.json").is_file():
        raise RunDirectoryError(f"{folder}: no model in it; `multigrain evaluate` puts the chosen one there")
    return folder


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
