"""The table of poolings, and the name of one as a config or a command gives it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator

from multigrain.errors import ConfigError
from multigrain.plugins import Registry

KEEP: Final = "keep"
"""Stands for a model's own pooling."""

_TABLE: Final[dict[str, tuple[str, str]]] = {
    "ata": ("multigrain.model.pooling:ATA", "anchor-token-aware"),
    "mean": ("multigrain.model.replacing:MEAN", ""),
    "cls": ("multigrain.model.replacing:CLS", ""),
    "last": ("multigrain.model.replacing:LAST", ""),
    "weighted-mean": ("multigrain.model.replacing:WEIGHTED_MEAN", "later tokens count more"),
    "diagonal": ("multigrain.model.pooling:DIAGONAL", "weighted by the attention a token gives itself"),
    "values": ("multigrain.model.values:VALUES", "means of attention's value vectors"),
}

POOLINGS: Final[Registry[Any]] = Registry(
    kind="pooling",
    group="multigrain.poolings",
    built_in={name: home for name, (home, _) in _TABLE.items()},
    named_by="pooling",
)
"""Every pooling by name; a part is a `multigrain.model.pooling.PoolingKind`."""

POOLING_NAMES: Final = ", ".join((KEEP, *_TABLE))
"""The built-in names, for help."""

_WORDS: Final = [f"{name} ({words})" if words else name for name, (_, words) in _TABLE.items()]
POOLING_WORDS: Final = f"{KEEP} (the base model's own), {', '.join(_WORDS[:-1])} or {_WORDS[-1]}"
"""The built-in names with what they compute, for help."""

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


def _pooling_name(name: str) -> str:
    try:
        return check_pooling(name)
    except ConfigError as error:
        raise ValueError(str(error)) from None


PoolingName = Annotated[str, AfterValidator(_pooling_name)]
