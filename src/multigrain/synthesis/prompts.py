"""Prompts are files. Each is a Jinja template with a `user` block and, where it needs one, a `system` block.

A folder of the user's own goes before the built-in templates, file by file. Every built-in template says in its
first line which variables it is given, those with a star must be used:

    {# variables: document*, index, style #}

A user's template is held to the same line when the run starts, not when the first prompt is rendered. A rendered
prompt is part of the request, and the request decides the journal's key: a changed prompt never reuses an old
completion.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from jinja2 import (
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
    meta,
    nodes,
)

from multigrain.display.suggest import suggestion
from multigrain.errors import ConfigError
from multigrain.llm.protocol import Message

_ENDING: Final = ".jinja"
# Changed by hand, where the prompts come to write other rows: a word that is mended asks nobody to write all again.
_BUILT_IN_FINGERPRINT: Final = "4b806d0719b1c9ee6302c5893255f0222f50e46b0991332cc8cb5e244d005af5"
_CHANGING: Final = (nodes.FilterBlock, nodes.CallBlock, nodes.Macro, nodes.AssignBlock)
_MARK: Final = re.compile(r"\0(\w+)\0")
_MOST_PIECES: Final = 1_024
_PIECES: Final[WeakKeyDictionary[Environment, dict[tuple[Any, ...], dict[str, list[str]]]]] = WeakKeyDictionary()
_VARIABLES: Final = re.compile(r"\A\{#\s*variables:(?P<names>[^#]*)#\}")


@dataclass(frozen=True, slots=True)
class Prompts:
    """The templates of a run.

    Attributes:
        folder: the user's own templates, which go before the built-in ones of the same name; None has none.
    """

    folder: Path | None = None
    _state: tuple[tuple[str, int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Templates are compiled once for each state of the folder: a notebook's next run sees an edited file.
        paths = sorted(self.folder.glob(f"*{_ENDING}")) if self.folder is not None else []
        states = ((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
        object.__setattr__(self, "_state", tuple(states))

    def render(self, template: str, **values: Any) -> tuple[Message, ...]:
        """Fill a template into chat messages.

        Args:
            template: the file's name without its ending, e.g. "mgh".
            values: what the placeholders stand for; a missing one is an error, never an empty string.

        Raises:
            ConfigError: a template of the user's own cannot be filled.
        """
        try:
            texts = _filled(_environment(self.folder, self._state), f"{template}{_ENDING}", values)
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            if self.folder is None or not (self.folder / f"{template}{_ENDING}").is_file():
                raise
            raise ConfigError(f"{self.folder / template}{_ENDING}: cannot be filled: {error}") from None
        messages = [Message("system", texts["system"])] if texts.get("system") else []
        return (*messages, Message("user", texts["user"]))

    def check(self) -> None:
        """Hold the user's templates to what the built-in ones of the same name are given and must use.

        Raises:
            ConfigError: no folder, no template in it, a name that no built-in template has, a syntax error, no
                `user` block, a variable that is never given, or one that must be used and is not.
        """
        if self.folder is None:
            return
        if not self.folder.is_dir():
            raise ConfigError(f"synthesis.templates {self.folder}: no such folder")
        paths = sorted(self.folder.glob(f"*{_ENDING}"))
        if not paths:
            raise ConfigError(f"synthesis.templates {self.folder}: no *{_ENDING} file in the folder")
        for path in paths:
            if not path.name.startswith("_"):  # parts, which templates include
                _check(path, _environment(self.folder, self._state))

    def fingerprint(self) -> str:
        """Changes when any template of the user's own does, or the built-in ones come to write something else."""
        if self.folder is None:
            return _BUILT_IN_FINGERPRINT
        digest = hashlib.sha256(_BUILT_IN_FINGERPRINT.encode())
        for path in sorted(self.folder.glob(f"*{_ENDING}")):
            digest.update(f"{path.name}\x1f{path.read_text(encoding='utf-8')}\x1e".encode())
        return digest.hexdigest()


BUILT_IN: Final = Prompts()
"""The templates that come with the package."""


def template_names() -> list[str]:
    """The built-in templates, parts that others include left out."""
    names = sorted(path.name for path in files("multigrain.synthesis").joinpath("templates").iterdir())
    return [name.removesuffix(_ENDING) for name in names if name.endswith(_ENDING) and not name.startswith("_")]


def template_variables(template: str) -> dict[str, bool]:
    """The variables that a built-in template is given, and whether a template of that name must use them."""
    source = files("multigrain.synthesis").joinpath("templates", f"{template}{_ENDING}").read_text(encoding="utf-8")
    line = _VARIABLES.match(source)
    if line is None:
        return {}
    names = [name.strip() for name in line["names"].split(",") if name.strip()]
    return {name.removesuffix("*"): name.endswith("*") for name in names}


def _filled(environment: Environment, name: str, values: dict[str, Any]) -> dict[str, str]:
    """A template's blocks.

    A run fills one template with a hundred thousand documents, and whatever else it is given has few values. So what
    stands around the texts that are put in as they are is rendered once for each of these values.
    """
    plain, used = _variables(environment, name)
    texts = {each: value for each, value in values.items() if each in plain and isinstance(value, str)}
    key = _key(name, {each: value for each, value in values.items() if each in used and each not in texts})
    known = _PIECES.setdefault(environment, {})
    if key is None or key not in known:
        marked = {each: f"\0{each}\0" for each in texts} if key is not None else {}
        rendered = _blocks(environment.get_template(name), {**values, **marked})
        if key is None:
            return {block: text.strip() for block, text in rendered.items()}
        if len(known) >= _MOST_PIECES:
            known.clear()
        known[key] = {block: _MARK.split(text) for block, text in rendered.items()}
    return {
        block: "".join(texts[piece] if place % 2 else piece for place, piece in enumerate(pieces)).strip()
        for block, pieces in known[key].items()
    }


def _key(name: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
    """What decides a template's text besides the texts that are put in; None where values cannot be told apart."""
    # 1 and True are one key to Python, and two texts to a template.
    parts = ((each, type(value), tuple(value) if isinstance(value, list) else value) for each, value in values.items())
    key = (name, *parts)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _blocks(loaded: Template, values: dict[str, Any]) -> dict[str, str]:
    context = loaded.new_context(values)
    return {name: "".join(block(context)) for name, block in loaded.blocks.items()}


@lru_cache(maxsize=256)
def _variables(environment: Environment, name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The variables that a template and what it includes put in as they are and use for nothing else; and all."""
    used: set[str] = set()
    otherwise: set[str] = set()
    waiting, visited = [name], set[str]()
    while waiting:
        visited.add(each := waiting.pop())
        tree = environment.parse(_source(environment, each))
        as_they_are = {id(node) for output in tree.find_all(nodes.Output) for node in output.nodes}
        for found in tree.find_all(nodes.Name):
            used.add(found.name)
            if found.ctx != "load" or id(found) not in as_they_are:
                otherwise.add(found.name)
        others = list(meta.find_referenced_templates(tree))
        # One whose name is only known when it is filled may use anything, and a block may be changed as a whole.
        if None in others or any(True for _ in tree.find_all(_CHANGING)):
            return frozenset(), frozenset(used)
        waiting += [other for other in others if other is not None and other not in visited]
    return frozenset(used - otherwise), frozenset(used)


@lru_cache(maxsize=16)
def _environment(folder: Path | None, state: tuple[tuple[str, int, int], ...]) -> Environment:
    """The templates of a folder over the built-in ones; `state` only tells one state of its files from the next."""
    loaders = [PackageLoader("multigrain.synthesis", "templates")]
    # Prompts are plain text for a model, not HTML: escaping would change what it reads.
    return Environment(
        loader=ChoiceLoader([FileSystemLoader(folder), *loaders]) if folder is not None else loaders[0],
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701
        auto_reload=False,  # looking at the files' dates twice a row costs more than the rendering
    )


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None  # noqa: S101 - every environment here has one
    return environment.loader.get_source(environment, name)[0]


def _check(path: Path, environment: Environment) -> None:
    name = path.name.removesuffix(_ENDING)
    names = template_names()
    if name not in names:
        hint = suggestion(path.name, [built_in + _ENDING for built_in in names])
        raise ConfigError(f"{path}: no built-in template has this name, so it would never be used; {hint}")
    try:
        used, blocks = _used(environment, path.name, set())
    except TemplateSyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: not a Jinja template ({error.message})") from None
    except TemplateError as error:
        raise ConfigError(f"{path}: includes {error}, which is not there") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8; convert it, e.g. `iconv -f latin1 -t utf8`") from None
    if "user" not in blocks:
        raise ConfigError(f"{path}: no `user` block; put the prompt between {{% block user %}} and {{% endblock %}}")
    variables = template_variables(name)
    unknown = sorted(used - variables.keys())
    if unknown:
        raise ConfigError(f"{path}: {unknown[0]!r} is not given to this template; it is given {', '.join(variables)}")
    unused = [variable for variable, required in variables.items() if required and variable not in used]
    if unused:
        raise ConfigError(f"{path}: never uses {unused[0]!r}: put {{{{ {unused[0]} }}}} in it")


def _used(environment: Environment, name: str, visited: set[str]) -> tuple[set[str], set[str]]:
    """The variables that a template and what it includes need, and its blocks."""
    visited.add(name)
    tree = environment.parse(_source(environment, name))
    blocks = {block.name for block in tree.find_all(nodes.Block)}
    # What a loop or a `set` of this template gives to itself, and to the parts that it includes. (Jinja takes a name
    # that is set within an `if` for one that may have to come from outside.)
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    used = set(meta.find_undeclared_variables(tree)) - own
    for other in meta.find_referenced_templates(tree):
        if other is not None and other not in visited:
            more, inherited = _used(environment, other, visited)
            used |= more - own
            blocks |= inherited
    return used, blocks
