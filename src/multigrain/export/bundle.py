"""Our modules as one file that runs without multigrain, made from our own sources.

Statements are copied as they stand, comments included; what the named classes don't reach is left out.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version

from multigrain.errors import ExportError

_PACKAGE = "multigrain"
# Registered for the whole process, so each bundle has names of its own: versions of it may meet in one process.
_REGISTERED_NAME = re.compile(r'"(multigrain_(?:sdpa|fa2))"')

_HEADER = '''"""Anchor-token-aware pooling for sentence-transformers, self-contained: {names}.

Made by multigrain {version} (Apache-2.0) from its own sources, for people who have torch, transformers and
sentence-transformers, and no multigrain. Don't edit; export the model again.
"""

from __future__ import annotations

'''


@dataclass(frozen=True)
class _Statement:
    """A top-level statement of a module.

    Attributes:
        source: its text, with the comments above it.
        defines: names that it binds.
        uses: names that it reads.
        effect: whether it is there for what it does, not for what it binds.
    """

    source: str
    defines: frozenset[str]
    uses: frozenset[str]
    effect: bool


@dataclass(frozen=True)
class _Module:
    """A module taken apart: the modules of ours it needs, other imports by the name they bind, statements."""

    own: tuple[str, ...]
    imports: dict[str, str]
    statements: tuple[_Statement, ...]


def bundle_source(classes: Sequence[str]) -> str:
    """One file with some of our classes and everything of ours that they need.

    Args:
        classes: dotted paths of classes in this package.

    Returns:
        Python source. Equal input gives equal output.

    Raises:
        ExportError: two modules bind one name to different things.
    """
    modules = _collect([path.rpartition(".")[0] for path in classes])
    statements = [statement for module in modules.values() for statement in module.statements]
    imports: dict[str, str] = {}
    for module in modules.values():
        for name, line in module.imports.items():
            if imports.setdefault(name, line) != line:
                raise ExportError(f"bundling: {name} stands for {imports[name]!r} and for {line!r}")
    names = {path.rpartition(".")[2] for path in classes}
    reached = _reachable(statements, names)
    defined = [name for statement in reached for name in statement.defines]
    repeated = next((name for name in defined if defined.count(name) > 1 or name in imports), None)
    if repeated is not None:
        raise ExportError(f"bundling: two modules define {repeated}")
    used = {name for statement in reached for name in statement.uses}
    body = "\n\n".join(statement.source for statement in reached) + "\n"
    lines = _import_block(line for name, line in imports.items() if name in used)
    mark = sha256((lines + body).encode()).hexdigest()[:8]
    body = _REGISTERED_NAME.sub(rf'"\1_{mark}"', body)
    return _HEADER.format(names=", ".join(sorted(names)), version=version(_PACKAGE)) + lines + "\n\n" + body


def _collect(names: Sequence[str]) -> dict[str, _Module]:
    """The modules and all of ours that they import, each after those it needs."""
    modules: dict[str, _Module] = {}

    def visit(name: str) -> None:
        if name in modules:
            return
        module = _take_apart(inspect.getsource(importlib.import_module(name)))
        for needed in module.own:
            visit(needed)
        modules[name] = module

    for name in names:
        visit(name)
    return modules


def _take_apart(source: str) -> _Module:
    lines = source.splitlines()
    own: list[str] = []
    imports: dict[str, str] = {}
    statements: list[_Statement] = []
    end = 0
    for node in ast.parse(source).body:
        start, end_before = end, node.end_lineno or node.lineno
        end = end_before
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module == "__future__":
                continue
            if module is not None and module.split(".")[0] == _PACKAGE:
                own.append(module)
            else:
                imports.update(_bound(node))
            continue
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        defines = _defines(node)
        if is_docstring or "__all__" in defines:
            continue
        statements.append(
            _Statement(
                source="\n".join(lines[start:end]).strip("\n"),
                defines=defines,
                uses=frozenset(_names(node)),
                effect=isinstance(node, ast.Expr),
            )
        )
    return _Module(tuple(own), imports, tuple(statements))


def _bound(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    for alias in node.names:
        name = alias.asname or alias.name.split(".")[0]
        one = ast.ImportFrom(node.module, [alias], 0) if isinstance(node, ast.ImportFrom) else ast.Import([alias])
        yield name, ast.unparse(one)


def _defines(node: ast.stmt) -> frozenset[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return frozenset({node.name})
    targets = (
        node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    )
    return frozenset(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _names(node: ast.AST) -> Iterator[str]:
    """Every name that is read, in annotations too."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id


def _reachable(statements: Sequence[_Statement], names: set[str]) -> list[_Statement]:
    homes = {name: statement for statement in statements for name in statement.defines}
    reached: set[int] = set()
    waiting = [*names, *(name for statement in statements if statement.effect for name in statement.uses)]
    while waiting:
        statement = homes.get(waiting.pop())
        if statement is not None and id(statement) not in reached:
            reached.add(id(statement))
            waiting += statement.uses
    return [statement for statement in statements if statement.effect or id(statement) in reached]


def _import_block(lines: Iterator[str]) -> str:
    plain: set[str] = set()
    named: dict[str, set[str]] = {}
    for line in lines:
        if line.startswith("import "):
            plain.add(line)
        else:
            module, _, name = line.removeprefix("from ").partition(" import ")
            named.setdefault(module, set()).add(name)
    block = sorted(plain) + [
        f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(named.items())
    ]
    return "\n".join(block) + "\n"
