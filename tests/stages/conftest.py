"""The endpoint that whole runs are made against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.stages.chat_endpoint import ChatEndpoint


@pytest.fixture
def endpoint() -> Iterator[ChatEndpoint]:
    with ChatEndpoint() as serving:
        yield serving


@pytest.fixture
def api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
