"""How fast this machine embeds, trains and writes, measured in a few seconds with the run's own models."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from multigrain.config import Config, TrainingConfig
from multigrain.encoders.reference import base_encoder, base_model, encoding_precision
from multigrain.engine.local import LocalEngine
from multigrain.llm.protocol import Completion, CompletionRequest, LLMClient
from multigrain.sources.words import fold_words
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit

TRAINED_TOKEN: Final = 2.75
"""A token that is trained on goes forward and backward, for so many times what it takes to embed one.

Measured without dropout; attention and the optimiser's step included."""

TOKENS_A_QUERY: Final = 16
"""About how many tokens a query has."""

SECONDS_A_MODEL: Final = 3.0
"""To load a model, to plan its batches and to save it; and for the report."""

_PROBE_SECONDS: Final = 2.0
_PROBE_TEXTS: Final = 32
_IDLE_SHARE: Final = 0.5  # of one core, which measuring takes at least where nobody else wants it
READ_TOKENS: Final = 512
"""Tokens of a text that are counted at most, and words of one that is tried: most base models read no more, and those
that read thousands would take minutes for a few texts."""

_MOST_ROWS: Final = 8
_TEXTS_A_ROW: Final[Mapping[Any, int]] = {"in-batch": 1, "listwise": 5}


def tokens_per_second(config: Config, sample: Sequence[str] = ()) -> float:
    """How fast the base model embeds here: two seconds of texts as long as the config lets them be.

    Args:
        config: names the model.
        sample: texts whose words are used; empty for some of our own.

    Raises:
        MissingExtraError, ModelError: the model cannot be loaded.
        EvaluationError: it gives no vectors that can be told apart.
    """
    model = base_model(config)
    encoder = base_encoder(config, model)
    own = model.max_seq_length
    length = min(config.training.max_seq_length or READ_TOKENS, READ_TOKENS)
    if own and math.isfinite(own):  # a static model reads texts of any length
        length = min(length, int(own))
    draw = random.Random(config.seed)
    words = sorted({word for text in sample or (__doc__ or "",) for word in fold_words(text).split()})
    texts = [" ".join(draw.choices(words, k=length)) for _ in range(_PROBE_TEXTS)]
    with encoding_precision(config, model):
        encoder.encode_documents(texts[:4])  # libraries set themselves up at first use
        started, rounds = time.perf_counter(), 0
        while time.perf_counter() - started < _PROBE_SECONDS:
            encoder.encode_documents(texts)
            rounds += 1
        return rounds * len(texts) * length / (time.perf_counter() - started)


def step_tokens(settings: TrainingConfig, *, tokens_a_text: float | None = None) -> float:
    """Tokens of a training step's batch.

    Args:
        settings: of one candidate.
        tokens_a_text: about how many tokens a document has; None for as many as are read.
    """
    length = settings.max_seq_length or 0
    read = length if tokens_a_text is None else min(tokens_a_text, length or tokens_a_text)
    return settings.batch_size * (TOKENS_A_QUERY + _TEXTS_A_ROW.get(settings.schedule, 2) * read)


def requests_per_second(config: Config, units: Sequence[WritingUnit], strategy: Strategy, *, seconds: float) -> float:
    """How fast the language model of this process answers the requests that rows need; 0 where none was answered.

    Args:
        config: names the model.
        units: rows to write; the first one is for loading the model, some more are timed. Nothing is kept of them.
        strategy: how they are written.
        seconds: no longer than this once the first answers are there.

    Raises:
        MissingExtraError, ModelError, LLMError: the model cannot be used.
    """
    rows = min(config.llm.concurrency, _MOST_ROWS)
    with LocalEngine(concurrency=rows) as engine:
        client = _CountingClient(engine.client(config.llm, seed=config.seed))
        try:

            async def write(unit: WritingUnit) -> None:
                await strategy.write(unit, client)

            list(engine.map(write, units[:1]))
            started, client.answers = time.perf_counter(), 0
            done = 0
            for _ in engine.map(write, units[1 : rows + 1] or units[:1]):
                done += 1
                if time.perf_counter() - started > seconds:
                    break
            return client.answers / (time.perf_counter() - started) if done else 0.0
        finally:
            engine.run(client.aclose())


def busy_notes(wall: float, computed: float) -> list[str]:
    """A note where other programs had so much of the machine that what was measured is not its own speed.

    Args:
        wall: seconds that measuring took.
        computed: seconds that this process computed in that time, over all cores.
    """
    share = computed / wall if wall > 0 else 1.0
    if share >= _IDLE_SHARE:
        return []
    return [
        f"this machine is busy: measuring got {share:.0%} of one core. The times are for a run that gets no more; "
        "plan again when it is idle"
    ]


class _CountingClient:
    """A client that counts its answers."""

    def __init__(self, client: LLMClient) -> None:
        self._client, self.answers = client, 0

    @property
    def identity(self) -> str:
        return self._client.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        completion = await self._client.complete(request)
        self.answers += 1
        return completion

    async def aclose(self) -> None:
        await self._client.aclose()
