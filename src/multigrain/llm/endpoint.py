"""Where an endpoint is and how it is named: the address, the key, and what may be shown of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from multigrain.errors import ConfigError

__all__ = ["Endpoint", "find_endpoint"]

_OPENAI: Final = "https://api.openai.com/v1"
_SHORTEST_SECRET: Final = 4
"""Characters. Taking every "a" out of a message would hide the message and no secret."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible endpoint.

    Attributes:
        url: the base, e.g. http://localhost:8000/v1; shown in messages, so without user, password or query.
        headers: sent with every request; never shown.
        secrets: what must be taken out of anything that the endpoint says; never shown.
        proxy: the proxy that the environment names for it.
        key_name: the environment variable that the key is read from.
    """

    url: str
    headers: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    proxy: str | None = field(repr=False)
    key_name: str

    def redact(self, text: str) -> str:
        """The text on one line, short, without any secret."""
        for secret in self.secrets:
            text = text.replace(secret, "[key]")
        return " ".join(text.split())[:200]


def find_endpoint(base_url: str | None, api_key_env: str) -> Endpoint:
    """Put an endpoint together from the config and, by the OpenAI SDK's conventions, the environment.

    Args:
        base_url: None: $OPENAI_BASE_URL, else OpenAI's own.
        api_key_env: the environment variable with the key. May be unset for any endpoint but OpenAI's.

    Raises:
        ConfigError: no such address can be, or there is no key where one is needed.
    """
    given = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
    try:
        url = URL(given)
        host = url.host
    except ValueError:
        url, host = URL(), None
    if url.scheme not in ("http", "https") or not host:
        raise ConfigError(f"llm.base_url {_shown(given)!r}: expected an address like http://localhost:8000/v1")
    key = os.environ.get(api_key_env, "").strip()
    if not key and host == URL(_OPENAI).host:
        raise ConfigError(
            f"llm.base_url {_OPENAI} needs a key: set the environment variable {api_key_env}, "
            f"or set llm.base_url to your own endpoint"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {api_key_env} holds no key: it has spaces or unprintable signs")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        if host == URL(_OPENAI).host and os.environ.get(variable):
            headers[name] = os.environ[variable].strip()
    if url.user is not None and not key:
        # Some gateways take a user and a password in the address. aiohttp would too, but would also show them.
        headers["Authorization"] = _basic(url.user, url.password or "")
    secrets = tuple(
        part for part in (key, url.password, url.query_string, url.user) if part and len(part) >= _SHORTEST_SECRET
    )
    clean = url.with_user(None).with_query(None).with_fragment(None)
    return Endpoint(
        url=str(clean).rstrip("/"),
        headers=headers,
        secrets=secrets,
        proxy=None if proxy_bypass(host) else getproxies().get(url.scheme),
        key_name=api_key_env,
    )


def _basic(user: str, password: str) -> str:
    from aiohttp import BasicAuth

    return BasicAuth(user, password).encode()


def _shown(address: str) -> str:
    """An address that cannot be understood, without what may be a password in it."""
    return address.rsplit("@", 1)[-1].split("?", 1)[0]
