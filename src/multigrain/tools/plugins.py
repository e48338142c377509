"""Every named part: its kind, its name, the package it comes from, and whether it can be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from multigrain.errors import MultigrainError
from multigrain.plugins import Registry, origin

REGISTRIES: Final = (
    "multigrain.config.synthesis:STRATEGIES",
    "multigrain.audit.checks:CHECKS",
    "multigrain.training.losses.registry:LOSSES",
    "multigrain.training.losses.registry:RERANKER_LOSSES",
    "multigrain.config.poolings:POOLINGS",
    "multigrain.config.documents:DATA_SOURCES",
    "multigrain.evaluation.metrics:METRICS",
    "multigrain.export.registry:EXPORTERS",
)
"""Where the table of each kind of part is: module and attribute."""


@dataclass(frozen=True)
class NamedPart:
    """A part that configs and options can name.

    Attributes:
        kind: strategy, check, loss, …
        name: what it is named by.
        package: the distribution that it comes from.
        problem: why it cannot be used here; None where it can.
    """

    kind: str
    name: str
    package: str
    problem: str | None = None


def registries() -> list[Registry[Any]]:
    """The table of each kind of part."""
    homes = (home.split(":") for home in REGISTRIES)
    return [getattr(import_module(module), attribute) for module, attribute in homes]


def named_parts() -> Iterator[NamedPart]:
    """Every part that is installed, by kind and name; each is loaded to see whether it can be."""
    for registry in registries():
        for name in registry.names():
            try:
                registry.get(name)
            except MultigrainError as error:
                problem: str | None = str(error)
            else:
                problem = None
            packages = [origin(point).removeprefix("package ") for point in registry.added.get(name, ())]
            packages = (["multigrain"] if name in registry.built_in else []) + packages
            yield NamedPart(registry.kind, name, ", ".join(packages), problem)
