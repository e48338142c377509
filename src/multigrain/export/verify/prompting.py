"""Who puts prompts before texts. Loads no library, so that the command line can name the ways."""

from __future__ import annotations

from typing import Literal, TypeAlias

Prompting: TypeAlias = Literal["sent", "named", "added"]
"""The client (sent), the server where a request says `prompt_name` (named), or the server by itself (added)."""
