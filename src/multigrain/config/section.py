"""The base class of every section of the config."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One closed, frozen section: unknown keys are refused, field docs are the words that `init` writes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
