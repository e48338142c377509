"""Put a folder on the Hugging Face hub, private unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from multigrain.display.text import first_line
from multigrain.errors import HubError

RepositoryKind = Literal["model", "dataset"]

_LEFT_OUT: Final = ("training_log.json", "manifest.json", ".*", "*/.*")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file that would be uploaded: its path in the repository and its size in bytes."""

    path: str
    bytes: int


def files_to_push(folder: Path) -> list[HubFile]:
    """What `push_folder` uploads of a folder: neither hidden files nor what multigrain keeps there for itself."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        HubFile(path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in files
        if path.name not in _LEFT_OUT and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def push_folder(
    folder: Path, repo_id: str, *, kind: RepositoryKind, private: bool = True, revision: str | None = None
) -> str:
    """Upload a folder, card and all, in one commit. The repository is made if there is none.

    The token is huggingface_hub's: `hf auth login`, or $HF_TOKEN.

    Args:
        folder: a model, or what `dataset.card.write_dataset_folder` wrote.
        repo_id: OWNER/NAME.
        kind: what the folder holds.
        private: make a new repository private; one that is there keeps its setting.
        revision: the branch to commit to; None for the default one.

    Returns:
        The commit's address.

    Raises:
        HubError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    # The base of every failed connection, of whichever HTTP library the hub's client is built on.
    transport_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    hub = HfApi()
    try:
        repository = hub.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True).repo_id
        if revision is not None:
            hub.create_branch(repository, repo_type=kind, branch=revision, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=folder,
            revision=revision,
            commit_message=f"Add a {'model tuned' if kind == 'model' else 'data set made'} with multigrain",
            ignore_patterns=list(_LEFT_OUT),
        )
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is no repository id: give OWNER/NAME ({first_line(error)})") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        advice = "log in with `hf auth login` or set HF_TOKEN" if status in (401, 403) else "try again later"
        raise HubError(f"{repo_id}: the hub refused ({status}: {first_line(error)}): {advice}") from None
    except LocalTokenNotFoundError:
        raise HubError(
            f"{repo_id}: no token of the hub is here: log in with `hf auth login` or set HF_TOKEN"
        ) from None
    except OfflineModeIsEnabled:
        raise HubError(f"{repo_id}: HF_HUB_OFFLINE is set: unset it to push") from None
    except ValueError as error:  # raised by the client where the hub finds fault with the card's metadata
        raise HubError(f"{repo_id}: the hub does not take {folder / 'README.md'} ({first_line(error)})") from None
    except (OSError, transport_error) as error:
        raise HubError(f"{repo_id}: the hub cannot be reached ({first_line(error)}): try again later") from None
    return str(commit.commit_url)
