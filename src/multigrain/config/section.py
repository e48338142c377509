"""The base class of every section of the config, and what older versions had in a section."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One closed, frozen section: unknown keys are refused, field docs are the words that `init` writes.

    Attributes:
        added: keys that the first version's section did not have, each with the value that does what it did.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    added: ClassVar[Mapping[str, Any]] = {}

    def fingerprinted(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """The settings as JSON-like values, as fingerprints hold them; an added key that changes nothing is left out.

        So what an older version made is still known for what it is.

        Args:
            exclude: keys to leave out.
        """
        values: dict[str, Any] = self.model_dump(mode="json", exclude=set(exclude))
        return {
            key: _fingerprinted(getattr(self, key), value)
            for key, value in values.items()
            if key not in self.added or value != self.added[key]
        }


def _fingerprinted(value: Any, plain: Any) -> Any:
    """The plain form of a value, with the sections in it as fingerprints hold them."""
    if isinstance(value, Section):
        return value.fingerprinted()
    if isinstance(value, Mapping):
        return {key: _fingerprinted(part, plain[key]) for key, part in zip(plain, value.values(), strict=True)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_fingerprinted(part, whole) for part, whole in zip(value, plain, strict=True)]
    return plain
