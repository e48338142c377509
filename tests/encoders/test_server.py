"""What answers at an address: the protocol, the names, and what it says of its model."""

from __future__ import annotations

import numpy as np
import pytest
from tests.export.verify.scripted import ScriptedServer

from multigrain.encoders.server import find_server
from multigrain.errors import ConfigError, EndpointRefusedError, EndpointUnreachableError


def ones(texts: list[str], body: object) -> object:
    return np.ones((len(texts), 4))


@pytest.mark.parametrize(
    ("protocol", "model", "tells"),
    [
        ("openai", "tuned", {"longest text": "128 tokens"}),
        ("tei", "/model", {"version": "1.9.3", "weights": "float32", "pooling": "mean", "longest text": "128 tokens"}),
        ("llamacpp", "tuned.gguf", {"version": "b9000", "longest text": "512 tokens"}),
        ("ollama", "tuned:latest", {"version": "0.12.0"}),
    ],
)
def test_servers_are_recognised(protocol: str, model: str, tells: dict[str, str]) -> None:
    with ScriptedServer(ones, protocol) as server:
        found = find_server(server.url)
        assert (found.wire.name, found.model, dict(found.tells)) == (protocol, model, tells)
        assert found.address.rstrip("/") == server.url + ("/v1" if protocol == "openai" else "")
        # A path says which protocol is meant, and so does the option.
        assert find_server(f"{server.url}/v1").wire.name == "openai"
        assert find_server(f"{server.url}/v1/embeddings").address == f"{server.url}/v1"
        assert find_server(f"{server.url}/embed").wire.name == "tei"
        assert find_server(server.url, "ollama").wire.name == "ollama"


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated:DeprecationWarning")
def test_the_paths_of_a_gateway_are_kept_and_its_secrets_are_not_shown() -> None:
    with ScriptedServer(ones) as server:
        place = server.url.removeprefix("http://")
        found = find_server(f"http://user:password-of-mine@{place}/openai/deployments/mine?key=secret-of-mine")
    assert found.address == f"http://user:password-of-mine@{place}/openai/deployments/mine?key=secret-of-mine"
    assert "of-mine" not in str(found)
    assert "of-mine" not in str(found.facts())


def test_a_server_with_its_paths_at_the_root() -> None:
    with ScriptedServer(ones) as server:
        server.refuse = lambda path, body: (200, {"data": [{"id": "mine"}]}) if path == "/models" else (404, {})
        found = find_server(server.url)
    assert (found.address.rstrip("/"), found.model) == (server.url, "mine")


def test_what_is_no_server_is_said_in_a_line() -> None:
    with pytest.raises(EndpointUnreachableError, match=r"http://127.0.0.1:9: nothing answers there"):
        find_server("http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="--served 'localhost:8080'"):
        find_server("localhost:8080")
    with ScriptedServer(ones) as server:
        with pytest.raises(EndpointRefusedError, match="no model 'other' is served there; it lists tuned"):
            find_server(server.url, model="other")
        server.refuse = lambda path, body: (401, {"error": "no"})
        with pytest.raises(EndpointRefusedError, match=r"does not accept the key: .* OPENAI_API_KEY"):
            find_server(server.url)
