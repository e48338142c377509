"""What of a config may be shown: addresses without the credentials in them."""

from __future__ import annotations

import re
from typing import Final

_USER: Final = re.compile(r"://[^/\s@]+@")
_QUERY: Final = re.compile(r"(?<=://)([^\s'\"?]*\?)([^\s'\"]+)")
# A name does not say for sure whether a value is secret: all are hidden but those too short to be one.
_VALUE: Final = re.compile(r"(?i)(?<![\w.-])(?!api-version=)([\w.-]+=)[^&#]{4,}")


def without_credentials(text: str) -> str:
    """A text in which addresses have neither a user and password nor values of query parameters."""
    text = _USER.sub("://…@", text)
    return _QUERY.sub(lambda found: found[1] + _VALUE.sub(r"\1…", found[2]), text)
