"""Find out what kind of server answers at an address, and what it says of the model that it serves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from yarl import URL

from multigrain.encoders.served import KEY_VARIABLE, SERVED, finish
from multigrain.encoders.wires import WIRES, Protocol, Wire, WireName
from multigrain.errors import EndpointRefusedError, EndpointUnreachableError
from multigrain.llm.endpoint import Endpoint, find_endpoint
from multigrain.llm.wire import read_count

_TIMEOUT_SECONDS: Final = 20.0
_PATHS: Final[Mapping[str, WireName]] = {
    "/v1/embeddings": "openai",
    "/v1": "openai",
    "/api/embed": "ollama",
    "/embeddings": "openai",
    "/embedding": "llamacpp",
    "/embed": "tei",
}
"""How an address may end, and whose path that is."""
_NAMELESS: Final = "default"
"""What a model is called whose server names none."""


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server that answers.

    Attributes:
        wire: its protocol.
        address: what the protocol's path stands below; it may hold a secret.
        shown: the same for people.
        model: the name that requests carry.
        models: the names that the server lists.
        tells: what it says of the model, as far as it does: limits, pooling, version.
    """

    wire: Wire
    address: str
    shown: str
    model: str
    models: tuple[str, ...] = ()
    tells: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """How `ServedEncoder` is told of it."""
        return f"{SERVED}{self.model}@{self.address}"

    def facts(self) -> dict[str, Any]:
        """What it is, ready for JSON; without what an address may hold of a secret."""
        return {
            "served": self.shown,
            "protocol": self.wire.name,
            "served_model": self.model,
            "server_tells": dict(self.tells),
        }

    def __str__(self) -> str:
        told = "".join(f", {key} {value}" for key, value in self.tells.items())
        return f"{self.model} at {self.shown} ({self.wire.title}{told})"


def find_server(url: str, protocol: Protocol = "auto", model: str | None = None) -> FoundServer:
    """Ask an address what it is.

    Args:
        url: of a server, with or without the path of its protocol.
        protocol: its protocol; "auto" to find it out.
        model: the name of the model to ask for; None for the first that the server lists.

    Raises:
        ConfigError: no such address can be.
        EndpointUnreachableError: nothing answers there.
        EndpointRefusedError: it does not accept the key, or does not list the model.
    """
    endpoint = find_endpoint(url, KEY_VARIABLE, setting="--served")
    path = next((path for path in _PATHS if endpoint.url.endswith(path)), "")
    answers = finish(_ask(endpoint, endpoint.url.removesuffix(path)))
    name = protocol if protocol != "auto" else _PATHS[path] if path else _recognised(answers)
    wire = WIRES[name]
    below = endpoint.url.removesuffix(path)
    if name == "openai":
        below += "/v1" if _serves_below_v1(endpoint.url, path, below, answers) else ""
    listed = _models(answers, name)
    if model is not None and listed and name == "openai" and model not in listed:
        raise EndpointRefusedError(f"{endpoint.url}: no model {model!r} is served there; it lists {', '.join(listed)}")
    given = URL(url)  # with its user and query, which may be what it is let in by
    return FoundServer(
        wire=wire,
        address=str(given.with_path(URL(below).path, keep_query=True).with_fragment(None)),
        shown=below,
        model=model or (listed[0] if listed else _NAMELESS),
        models=listed,
        tells=_tells(answers, name),
    )


_ASKED: Final = ("/info", "/props", "/api/version", "/api/tags", "/v1/models", "/models")


async def _ask(endpoint: Endpoint, below: str) -> dict[str, Any]:
    """What each path of `_ASKED` answers, where that is JSON."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def ask(path: str) -> tuple[int, Any]:
            query = f"?{endpoint.query}" if endpoint.query else ""
            async with session.get(
                f"{below}{path}{query}", headers=endpoint.headers, proxy=endpoint.proxy, allow_redirects=False
            ) as response:
                try:
                    return response.status, json.loads(await response.read())
                except ValueError:
                    return response.status, None

        try:
            answers = [await ask(path) for path in _ASKED]
        except TimeoutError:
            raise EndpointUnreachableError(
                f"{endpoint.url}: no answer within {_TIMEOUT_SECONDS:g} s: is this the server's address?"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            reason = endpoint.redact(str(error) or type(error).__name__)
            raise EndpointUnreachableError(
                f"{endpoint.url}: nothing answers there ({reason}): is the server running, and the address right?"
            ) from None
    refused = [status for status, _ in answers if status in (401, 403)]
    if len(refused) == len(answers) or (refused and not any(status == 200 for status, _ in answers)):
        raise EndpointRefusedError(
            f"{endpoint.url} answers {refused[0]}: it does not accept the key: check the environment variable "
            f"{KEY_VARIABLE}"
        )
    return {path: body for path, (status, body) in zip(_ASKED, answers, strict=True) if status == 200}


def _recognised(answers: Mapping[str, Any]) -> WireName:
    """The server whose own pages answer; OpenAI's protocol, which most speak, for any other."""
    marks: Mapping[WireName, tuple[str, tuple[str, ...]]] = {
        "tei": ("/info", ("model_id", "max_input_length")),
        "llamacpp": ("/props", ("default_generation_settings",)),
        "ollama": ("/api/version", ("version",)),
    }
    for name, (path, keys) in marks.items():
        answer = answers.get(path)
        if isinstance(answer, dict) and answer.keys() >= set(keys):
            return name
    return "openai"


def _serves_below_v1(url: str, path: str, below: str, answers: Mapping[str, Any]) -> bool:
    if path:
        return path.startswith("/v1")
    # Some servers have their paths at the root (Infinity); any other path is a gateway's own, and taken as given.
    at_root = below.count("/") == 2
    return at_root and (bool(_names(answers.get("/v1/models"))) or not _names(answers.get("/models")))


def _names(answer: Any, entries: str = "data", key: str = "id") -> tuple[str, ...]:
    rows = answer.get(entries) if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        return ()
    return tuple(str(row[key]) for row in rows if isinstance(row, dict) and row.get(key))


def _models(answers: Mapping[str, Any], name: WireName) -> tuple[str, ...]:
    if name == "ollama":
        return _names(answers.get("/api/tags"), "models", "name")
    return _names(answers.get("/v1/models")) or _names(answers.get("/models"))


def _tells(answers: Mapping[str, Any], name: WireName) -> dict[str, str]:
    """What a server says of its model, in words."""
    told: dict[str, str] = {}

    def note(key: str, value: Any, to_text: Callable[[Any], str] = str) -> None:
        if value not in (None, "", 0):
            told[key] = to_text(value)

    info = answers.get("/info") if name == "tei" else None
    if isinstance(info, dict):
        kind = info.get("model_type")
        embedding = kind.get("embedding") if isinstance(kind, dict) else None
        note("version", info.get("version"))
        note("weights", info.get("model_dtype"))
        note("pooling", embedding.get("pooling") if isinstance(embedding, dict) else None)
        note("longest text", read_count(info.get("max_input_length")), lambda count: f"{count} tokens")
    props = answers.get("/props") if name == "llamacpp" else None
    if isinstance(props, dict):
        note("version", props.get("build_info"))
        settings = props.get("default_generation_settings")
        note(
            "longest text",
            read_count(settings.get("n_ctx")) if isinstance(settings, dict) else None,
            "{} tokens".format,
        )
    version = answers.get("/api/version") if name == "ollama" else None
    if isinstance(version, dict):
        note("version", version.get("version"))
    models = answers.get("/v1/models")
    rows = models.get("data") if isinstance(models, dict) else None
    if name == "openai" and isinstance(rows, list) and rows and isinstance(rows[0], dict):
        note("longest text", read_count(rows[0].get("max_model_len")), lambda count: f"{count} tokens")
    return told
