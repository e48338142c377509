"""Vectors of an endpoint that are kept as they arrive: nothing that arrived is paid for twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from multigrain.encoders.journaled import PROBE, JournaledEncoder
from multigrain.encoders.served import ServedEncoder
from multigrain.errors import ConfigError, EndpointRefusedError, EvaluationError

from .embedding_server import EmbeddingServer, embedded
from .test_encoder import static_model

TEXTS = [("cat " * (n % 6 + 1) + "dog " * (n // 6 % 6 + 1) + "owl " * (n // 36 + 1)).strip() for n in range(200)]
_IN_FLIGHT = 8

_PROGRAM = """
import sys
from pathlib import Path
from multigrain.encoders.journaled import JournaledEncoder
from multigrain.encoders.served import ServedEncoder
journal = JournaledEncoder(ServedEncoder(sys.argv[1], batch_size=4), Path(sys.argv[2]))
journal.encode_documents(sys.argv[3:])
"""


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    serving = EmbeddingServer()
    yield serving
    serving.close()


def _asked(server: EmbeddingServer) -> Counter[str]:
    return Counter(text for body in server.bodies for text in body["input"] if text != PROBE)


def test_what_arrived_before_a_failure_is_not_asked_for_again(server: EmbeddingServer, tmp_path: Path) -> None:
    # The key is withdrawn while some requests are under way.
    server.refuse = lambda number, body: (401, {"error": "no"}, {}) if number > 20 else None
    journal = JournaledEncoder(ServedEncoder(server.model, batch_size=4), tmp_path)
    with pytest.raises(EndpointRefusedError):
        journal.encode_documents(TEXTS)
    journal.close()
    answered = {text for body in server.bodies[:21] for text in body["input"]} - {PROBE}
    assert 50 < len(answered) < 100
    refused = len(server.bodies)
    server.refuse = lambda number, body: None

    again = JournaledEncoder(ServedEncoder(server.model, batch_size=4), tmp_path)
    vectors = again.encode_documents(TEXTS)
    sent = Counter(text for body in server.bodies[refused:] for text in body["input"])
    assert not answered & sent.keys()
    assert set(sent) - {PROBE} == set(TEXTS) - answered
    plain = ServedEncoder(server.model).encode_documents(TEXTS)
    np.testing.assert_allclose(vectors, plain, atol=1e-6)
    assert again.usage.tokens == 2 * (len(TEXTS) + 2), "the journal counts what both processes read, probes too"


def test_a_killed_process_loses_at_most_what_was_under_way(server: EmbeddingServer, tmp_path: Path) -> None:
    def slowly(number: int, body: object) -> None:
        time.sleep(0.05)

    server.refuse = slowly
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, server.model, str(tmp_path), *TEXTS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while len(server.bodies) < 24 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _asked(server)
    assert 40 < len(before) < len(TEXTS), "it was killed in the middle"

    server.refuse = lambda number, body: None
    again = JournaledEncoder(ServedEncoder(server.model, batch_size=4), tmp_path)
    again.encode_documents(TEXTS)
    twice = [text for text, count in _asked(server).items() if count > 1]
    assert len(twice) <= 4 * (_IN_FLIGHT + 1)
    asked = len(server.bodies)
    again.encode_documents(TEXTS)
    assert len(server.bodies) == asked


@pytest.mark.parametrize("seed", [0, 7])
def test_an_endpoint_whose_vectors_changed_is_detected_before_a_text_is_sent(seed: int, tmp_path: Path) -> None:
    server = EmbeddingServer()
    try:
        JournaledEncoder(ServedEncoder(server.model), tmp_path).encode_documents(["cat"])
        asked, other = len(server.bodies), static_model(seed)
        server.refuse = lambda number, body: (200, embedded(body["input"], other), {})
        journal = JournaledEncoder(ServedEncoder(server.model), tmp_path)
        journal.encode_documents(["cat"])
        assert len(server.bodies) == asked, "what is kept is there without asking"
        if seed == 0:  # the same model
            journal.encode_documents(["dog"])
            return
        with pytest.raises(EvaluationError, match=r"its vectors changed since .*: a probe text's has a cosine of"):
            journal.encode_documents(["dog"])
        assert [body["input"] for body in server.bodies[asked:]] == [[PROBE]]
    finally:
        server.close()


def test_nothing_is_sent_that_may_not_be(server: EmbeddingServer, tmp_path: Path) -> None:
    def allow(texts: object) -> None:
        raise ConfigError("too dear")

    journal = JournaledEncoder(ServedEncoder(server.model), tmp_path, allow=allow)
    for ask in (journal.encode_documents, lambda texts: journal.reserve(texts, [])):
        with pytest.raises(ConfigError, match="too dear"):
            ask(TEXTS)
    assert not server.bodies


def test_vectors_from_elsewhere_are_taken_as_they_are(server: EmbeddingServer, tmp_path: Path) -> None:
    journal = JournaledEncoder(ServedEncoder(server.model), tmp_path)
    width = len(journal.probe())
    given = np.eye(width, dtype=np.float32)[:2]
    journal.add(["cat", "dog"], given, "document")
    assert journal.missing(["cat", "dog", "owl", "owl"], "document") == ["owl"]
    assert journal.missing(["cat"], "query") == ["cat"]
    np.testing.assert_array_equal(journal.encode_documents(["dog", "cat"]), given[::-1])
    assert _asked(server) == Counter()
