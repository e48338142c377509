"""The base class of every section of the config, and what older versions had in a section."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One closed, frozen section: unknown keys are refused, field docs are the words that `init` writes.

    Attributes:
        added: keys that the first version's section did not have, each with the value that does what it did.
        changed: keys whose default is another one by now, each with the first version's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    added: ClassVar[Mapping[str, Any]] = {}
    changed: ClassVar[Mapping[str, Any]] = {}

    def fingerprinted(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """The settings as JSON-like values, without added keys that change nothing; what fingerprints are made of.

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

    def as_begun(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """The keys in which a run that was begun with other defaults keeps what it began with.

        Args:
            before: the section's values as the run was begun with, as JSON-like values.

        Returns:
            Those keys that the config does not name, and that were unknown or had the first version's default then,
            each with the value that does what that version did; a section within this one is a mapping of its own.
        """
        earlier = {
            key: value
            for key, value in {**self.added, **self.changed}.items()
            if key not in self.model_fields_set and before.get(key, value) == value
        }
        for key in type(self).model_fields:
            section, values = getattr(self, key), before.get(key)
            if key in earlier or not isinstance(section, Section) or not isinstance(values, Mapping):
                continue
            if kept := section.as_begun(values):
                earlier[key] = kept
        return earlier

    def updated(self, changes: Mapping[str, Any]) -> Self:
        """The section with some keys changed, those of sections within it too."""
        update = {}
        for key, value in changes.items():
            section = getattr(self, key)
            update[key] = section.updated(value) if isinstance(section, Section) else value
        return self.model_copy(update=update)


def _fingerprinted(value: Any, plain: Any) -> Any:
    """The plain form of a value, with the sections in it as fingerprints hold them."""
    if isinstance(value, Section):
        return value.fingerprinted()
    if isinstance(value, Mapping):
        return {key: _fingerprinted(part, plain[key]) for key, part in zip(plain, value.values(), strict=True)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_fingerprinted(part, whole) for part, whole in zip(value, plain, strict=True)]
    return plain
