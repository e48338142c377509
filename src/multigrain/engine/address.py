"""Whether anybody listens at a cluster's address."""

from __future__ import annotations

import socket
from typing import Final

_SECONDS: Final = 10.0


def check_answers(address: str | None) -> None:
    """See whether anybody listens where a cluster should be: Ray itself waits for minutes before it says so.

    Args:
        address: HOST:PORT, ray://HOST:PORT; or what Ray alone can find ("auto", None), which is not looked for.

    Raises:
        ConnectionError: nobody does.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConnectionError(f"nothing answers: {reason}") from None
