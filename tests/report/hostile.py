"""Text as an attacker, a careless model or a strange corpus might write it."""

from __future__ import annotations

ATTACK = (
    "</script><script>window.hacked=1</script></style><img src=x onerror=window.hacked=2>"
    "\" onmouseover=\"window.hacked=3\" ' onfocus='window.hacked=4' <svg onload=window.hacked=5>"
    "{{ 7*7 }}{% raw %}${7*7}`]]>--><!--<a href='javascript:window.hacked=6'>&lt;&amp;amp;"
    "\u2028window.hacked=7\u2029\u202eeno thgir\u2066 \\u003c \x00\x1b[31m"
    "<base href=//evil.example><meta http-equiv=refresh content=0;url=//evil.example>" + "unbroken" * 10
)


def attack(field: str, usual: str) -> str:
    """The attack, marked with the field it came by; short where the page shows only a beginning."""
    del usual
    mark = field.replace("_", "-")
    return f"{mark} <img src=x onerror=window.hacked=8>\"' {{{{7*7}}}}" if field == "document" else f"{mark} {ATTACK}"


def as_shown(text: str) -> str:
    """What a reader sees of it: all of it, with control characters as their pictures."""
    return text.replace("\x00", "\u2400").replace("\x1b", "\u241b")
