"""A key that a journal holds is never taken for one that it does not."""

from __future__ import annotations

import hashlib

from multigrain.llm.session.keys import KeyFilter


def test_every_key_is_found_and_hardly_any_other() -> None:
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(4_000)]
    held = KeyFilter(keys[:2_000])

    assert all(key in held for key in keys[:2_000])
    assert sum(key in held for key in keys[2_000:]) < 10
    held.add("a key of another kind")
    assert "a key of another kind" in held
    assert "any" not in KeyFilter()
