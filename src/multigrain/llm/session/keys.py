"""Which keys a journal surely does not hold, without a look at its file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_BITS: Final = 1 << 27  # 16 MiB: of ten million keys two in a hundred strange ones are looked up in vain
_DIGITS: Final = 8
_MASK: Final = _BITS - 1


class KeyFilter:
    """A Bloom filter of SHA-256 keys: what it says is not there is not, and what it says is there may be.

    Nearly every request of a run asks for something new. To ask SQLite for each would have the event loop wait for
    the writing thread thousands of times a second.

    Args:
        keys: hexadecimal.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._bits = bytearray()
        for key in keys:
            self.add(key)

    def add(self, key: str) -> None:
        """Take a key in."""
        if not self._bits:
            self._bits = bytearray(_BITS // 8)
        for bit in _bits(key):
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, key: str) -> bool:
        return bool(self._bits) and all(self._bits[bit >> 3] & (1 << (bit & 7)) for bit in _bits(key))


def _bits(key: str) -> tuple[int, int]:
    try:
        return int(key[:_DIGITS], 16) & _MASK, int(key[_DIGITS : 2 * _DIGITS], 16) & _MASK
    except ValueError:  # a key of another kind than `request_key` makes
        return hash(key) & _MASK, hash((key, 1)) & _MASK
