"""The one loader of named parts: those of this package, and those that other packages add by an entry point.

A room keeps one `Registry` a kind of part (strategies, losses, exporters, ...). A package adds a part with

    [project.entry-points."multigrain.strategies"]
    my-strategy = "my_package.strategy:build"

and it is a name like any other: in configs, in help, in `multigrain plugins`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from typing import Any, Generic, TypeVar, cast

from multigrain.display.install import install_line
from multigrain.display.suggest import suggestion
from multigrain.errors import ConfigError, MissingExtraError

Part = TypeVar("Part")


@dataclass(frozen=True)
class Registry(Generic[Part]):
    """Parts of one kind by name. Nothing is imported before it is asked for.

    Attributes:
        kind: what a part is called in errors, e.g. "strategy".
        group: the entry-point group of other packages' parts, e.g. "multigrain.strategies".
        built_in: this package's parts: by name the part itself, or "module:attribute" where importing it is heavy.
        named_by: the config key or option that names a part, for errors, e.g. "synthesis.strategy".
        extras: built-in names whose libraries come with an extra, and that extra's name.
        instance_of: the class that every part is an instance of; None where anything goes.
    """

    kind: str
    group: str
    built_in: Mapping[str, Part | str]
    named_by: str
    extras: Mapping[str, str] = field(default_factory=dict)
    instance_of: type[Any] | None = None

    def names(self) -> list[str]:
        """Every name, sorted: of this package and of others."""
        return sorted({*self.built_in, *self.added})

    @property
    def added(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        """Other packages' parts; see `added_parts`."""
        return added_parts(self.group)

    def check(self, name: str) -> None:
        """See that exactly one part has a name, without importing it.

        Raises:
            ConfigError: none has, or several have.
        """
        points = self.added.get(name, ())
        if name in self.built_in:
            if points:
                raise ConfigError(
                    f"{self.kind} {name!r}: {origin(points[0])} offers one of that name, which is built in; "
                    "uninstall that package, or have it choose another name"
                )
        elif not points:
            raise ConfigError(
                f"{self.named_by} {name!r}: no {self.kind} has this name; {suggestion(name, self.names())}"
            )
        elif len(points) > 1:
            raise ConfigError(
                f"{self.kind} {name!r} is offered by {origin(points[0])} and by {origin(points[1])}: uninstall one"
            )

    def get(self, name: str) -> Part:
        """The part of a name.

        Raises:
            ConfigError: no part has the name, several have, the package that has it cannot be imported, or what it
                offers is no such part.
            MissingExtraError: what a built-in part needs is not installed.
        """
        self.check(name)
        if name in self.built_in:
            return self._built_in(name)
        point = self.added[name][0]
        offer = f"{self.named_by} {name!r}: entry point {point.value!r} of {origin(point)}, group {self.group},"
        try:
            part = point.load()
        except Exception as error:  # a foreign module may raise anything when it is imported
            raise ConfigError(f"{offer} cannot be loaded ({type(error).__name__}: {error})") from error
        if self.instance_of is not None and not isinstance(part, self.instance_of):
            raise ConfigError(f"{offer} is a {type(part).__name__}, not a {self.instance_of.__name__}")
        return cast("Part", part)

    def _built_in(self, name: str) -> Part:
        part = self.built_in[name]
        if not isinstance(part, str):
            return part
        module, attribute = part.split(":")
        try:
            return cast("Part", attrgetter(attribute)(import_module(module)))
        except ModuleNotFoundError as error:
            if name not in self.extras or error.name is None or error.name.startswith("multigrain"):
                raise
            raise MissingExtraError(error.name, f"{self.named_by} {name}", install_line(self.extras[name])) from None


def added_parts(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """The entry points of a group by name; more than one of a name where packages clash."""
    points: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        points[point.name] = (*points.get(point.name, ()), point)
    return points


def origin(point: EntryPoint) -> str:
    """Which package an entry point comes from, in words."""
    return f"package {point.dist.name}" if point.dist is not None else repr(point.value)
