"""Docstrings of installed Python packages as a corpus: real technical text, on every machine, with no download.

Files are parsed with `ast` and never imported. A document is the docstring without its summary line; the
summary line, which a person wrote about that very text, becomes the title.
"""

from __future__ import annotations

import ast
import gc
import inspect
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from joblib import Parallel, delayed  # type: ignore[import-untyped]

from multigrain.config import DocumentsConfig
from multigrain.records import Document
from multigrain.sources.source import DataSource
from multigrain.storage.packages import is_installed

DEFAULT_PACKAGES: Final = (
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "torch",
    "transformers",
    "sentence-transformers",
    "datasets",
    "accelerate",
    "huggingface-hub",
    "networkx",
)
"""Packages with careful docstrings that multigrain's own dependencies bring along; absent ones are skipped."""

_IMPORT_NAMES: Final = {"scikit-learn": "sklearn"}
_MIN_BODY_CHARACTERS: Final = 200
_MIN_SUMMARY_WORDS: Final = 4
_MAX_SUMMARY_WORDS: Final = 30
_SKIPPED_FOLDERS: Final = frozenset({"tests", "test", "testing", "_vendor", "vendored", "idlelib", "site-packages"})
_FILES_A_TASK: Final = 200
"""Files that a process parses at a time: about a second's work. Fewer in all are parsed where they are asked for."""
_MARKUP: Final = re.compile(r":\w+:`~?([^`]*)`|`+([^`]*)`+")


def read_docstrings(packages: tuple[str, ...] = DEFAULT_PACKAGES) -> list[Document]:
    """Read the usable docstrings of the standard library and of installed packages.

    Usable: a one-line summary of 4 to 30 words, then at least 200 characters of text that do not repeat it.
    Exact repeats of a body (docstrings that are copied between classes) are kept once. Thousands of files are parsed
    by a process a core.

    Args:
        packages: distribution names; those that are not installed are skipped.

    Returns:
        Documents in a stable order (by package, file and line), ids like `numpy/lib/io.py:save`.
    """
    files = [
        (path, f"{prefix}/{path.relative_to(root).as_posix()}")
        for root, prefix in _roots(packages)
        for path in sorted(root.rglob("*.py"))
        if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts)
    ]
    tasks = [files[start : start + _FILES_A_TASK] for start in range(0, len(files), _FILES_A_TASK)]
    processes = Parallel(-1 if len(tasks) > 1 else 1, backend="loky", return_as="generator", idle_worker_timeout=1)
    documents: dict[str, Document] = {}  # by their text
    for batch in processes(delayed(_documents_of_files)(task) for task in tasks):
        for document in batch:
            documents.setdefault(document.text, document)
    return list(documents.values())


class _DocstringsSource(DataSource):
    """The docstrings of `DEFAULT_PACKAGES` and of the standard library."""

    def read(self, config: DocumentsConfig) -> tuple[list[Document], int]:
        return read_docstrings(), 0

    def fingerprint(self, config: DocumentsConfig) -> str:
        """The versions of Python and of the packages that are installed: they decide what `read_docstrings` reads."""
        versions = [f"python={platform.python_version()}"]
        for package in sorted(DEFAULT_PACKAGES):
            with suppress(PackageNotFoundError):
                versions.append(f"{package}={version(package)}")
        return " ".join(versions)

    def describe(self, config: DocumentsConfig) -> str:
        return "docstrings of installed packages"

    def glance(self, config: DocumentsConfig) -> str:
        return self.describe(config)


DOCSTRINGS: Final = _DocstringsSource()


def _roots(packages: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    yield Path(sysconfig.get_path("stdlib")), "python"
    for package in sorted(packages):
        name = _IMPORT_NAMES.get(package, package.replace("-", "_"))
        spec = find_spec(name) if is_installed(package) else None
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent, name


def _documents_of_files(files: Sequence[tuple[Path, str]]) -> list[Document]:
    with _without_collector():
        return [document for path, prefix in files for document in _documents_of(path, prefix)]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Syntax trees hold no cycles; looking for some takes the collector a third of the time that parsing takes."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _documents_of(path: Path, prefix: str) -> Iterator[Document]:
    try:
        with warnings.catch_warnings():
            # Other people's files may hold escapes that newer Pythons warn of; that is not our user's concern.
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, OSError, ValueError):
        return  # test data and templates that are not Python 3 source
    for name, docstring in _docstrings(tree, ""):
        parts = _split_summary(docstring)
        if parts is not None:
            summary, body = parts
            yield Document(id=f"{prefix}:{name or 'module'}", text=body, title=summary)


def _docstrings(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield prefix, inspect.cleandoc(docstring)
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _docstrings(child, f"{prefix}.{child.name}".lstrip("."))


def _split_summary(docstring: str) -> tuple[str, str] | None:
    """Split a docstring into its summary line and the rest, or None where it has no such form."""
    head, separator, body = docstring.partition("\n\n")
    summary = _plain(" ".join(head.split()))
    body = body.strip()
    words = len(summary.split())
    if not separator or not _MIN_SUMMARY_WORDS <= words <= _MAX_SUMMARY_WORDS or len(body) < _MIN_BODY_CHARACTERS:
        return None
    if summary.rstrip(".").casefold() in " ".join(body.split()).casefold():
        return None
    return summary, body


def _plain(text: str) -> str:
    """Drop reStructuredText roles and backticks, which nobody types into a search box."""
    return _MARKUP.sub(lambda match: match[1] or match[2] or "", text)
