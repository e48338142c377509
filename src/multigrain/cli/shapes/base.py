"""What all shapes have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """An object whose keys are all named here."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Open(BaseModel):
    """An object with further keys, which depend on settings or on names that a user gave."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
