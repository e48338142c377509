"""The table of poolings, and the name of one as a config or a command gives it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator

from multigrain.errors import ConfigError
from multigrain.plugins import Registry

__all__ = ["KEEP", "POOLINGS", "READS_ATTENTION", "PoolingName", "check_pooling"]

KEEP: Final = "keep"
"""Stands for a model's own pooling."""

POOLINGS: Final[Registry[Any]] = Registry(
    kind="pooling",
    group="multigrain.poolings",
    built_in={
        "ata": "multigrain.model.pooling:ATA",
        "mean": "multigrain.model.replacing:MEAN",
        "cls": "multigrain.model.replacing:CLS",
        "last": "multigrain.model.replacing:LAST",
        "weighted-mean": "multigrain.model.replacing:WEIGHTED_MEAN",
        "diagonal": "multigrain.model.pooling:DIAGONAL",
        "values": "multigrain.model.values:VALUES",
    },
    named_by="pooling",
)
"""Every pooling by name; a part is a `multigrain.model.pooling.PoolingKind`."""

READS_ATTENTION: Final = frozenset({"ata", "diagonal", "values"})
"""Built-in poolings that read attention, which the implementation `eager` does not show."""


def check_pooling(name: str) -> str:
    """A pooling's name, or `keep`, as it is given.

    Raises:
        ConfigError: no pooling has the name.
    """
    if name != KEEP:
        POOLINGS.check(name)
    return name


def _known(name: str) -> str:
    try:
        return check_pooling(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None


PoolingName = Annotated[str, AfterValidator(_known)]
