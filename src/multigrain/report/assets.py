"""The page's own style sheets and scripts, and the hashes by which its policy names them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files


@cache
def static_text(name: str) -> str:
    """One of the page's own style sheets or scripts."""
    return files("multigrain.report").joinpath("static", name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """The hash by which a content security policy names a text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
