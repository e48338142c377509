"""Where an endpoint is and how it is named: the address, the key, and what may be shown of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from multigrain.config.llm import named_variable
from multigrain.errors import ConfigError

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
        key_name: the environment variables that the key, and headers, are read from.
        query: the address's query string, sent with every request; never shown.
    """

    url: str
    headers: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    proxy: str | None = field(repr=False)
    key_name: str
    query: str = field(default="", repr=False)

    def address(self, path: str) -> str:
        """Where a request for a path goes. It may hold a secret: for sending, never for showing."""
        return f"{self.url}/{path}?{self.query}" if self.query else f"{self.url}/{path}"

    def redact(self, text: str) -> str:
        """The text on one line, short, without any secret."""
        for secret in self.secrets:
            text = text.replace(secret, "[key]")
        return " ".join(text.split())[:200]


def find_endpoint(
    base_url: str | None,
    api_key_env: str,
    extra_headers: Mapping[str, str] | None = None,
    *,
    setting: str = "llm.base_url",
) -> Endpoint:
    """Put an endpoint together from the config and, by the OpenAI SDK's conventions, the environment.

    Args:
        base_url: None: $OPENAI_BASE_URL, else OpenAI's own.
        api_key_env: the environment variable with the key. May be unset for any endpoint but OpenAI's.
        extra_headers: as in the config: a value `env:NAME` is read from that variable.
        setting: what messages call the place where the address was given.

    Raises:
        ConfigError: no such address can be, or there is no key, or no value of a header, where one is needed.
    """
    address = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
    try:
        url = URL(address)
        host = url.host
    except ValueError:
        url, host = URL(), None
    if url.scheme not in ("http", "https") or not host:
        shown = address.rsplit("@", 1)[-1].split("?", 1)[0]  # without what may be a password in it
        raise ConfigError(f"{setting} {shown!r}: expected an address like http://localhost:8000/v1")
    key = os.environ.get(api_key_env, "").strip()
    if not key and host == URL(_OPENAI).host:
        raise ConfigError(
            f"{setting} {_OPENAI} needs a key: set the environment variable {api_key_env}, "
            f"or set {setting} to your own endpoint"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {api_key_env} holds no key: it has spaces or unprintable signs")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    for name, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        if host == URL(_OPENAI).host and os.environ.get(variable):
            headers[name] = os.environ[variable].strip()
    if url.user is not None and not key:
        # Some gateways take a user and a password in the address. aiohttp would too, but would also show them.
        from aiohttp import BasicAuth

        headers["Authorization"] = BasicAuth(url.user, url.password or "").encode()
    own = {name: _header(name, value) for name, value in (extra_headers or {}).items()}
    replaced = {name.lower() for name in own}
    headers = {name: value for name, value in headers.items() if name.lower() not in replaced} | own
    variables = {name: named for name, value in (extra_headers or {}).items() if (named := named_variable(value))}
    parts = [key, url.password, url.user, url.raw_query_string, url.query_string, *url.query.values()]
    secrets = {part for part in (*parts, *(own[name] for name in variables)) if part and len(part) >= _SHORTEST_SECRET}
    clean = url.with_user(None).with_query(None).with_fragment(None)
    return Endpoint(
        url=str(clean).rstrip("/"),
        headers=headers,
        secrets=tuple(sorted(secrets, key=len, reverse=True)),  # a whole before its parts
        proxy=None if proxy_bypass(host) else getproxies().get(url.scheme),
        key_name=" or ".join([api_key_env, *variables.values()]),
        query=url.raw_query_string,
    )


def _header(name: str, value: str) -> str:
    variable = named_variable(value)
    if variable is None:
        return value
    text = os.environ.get(variable, "").strip()
    if not text:
        raise ConfigError(f"llm.extra_headers.{name}: set the environment variable {variable}, which has its value")
    if not text.isascii() or not text.isprintable():
        raise ConfigError(f"llm.extra_headers.{name}: the environment variable {variable} has unprintable signs")
    return text
