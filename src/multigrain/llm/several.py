"""A client of several endpoints that serve one model, used as one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from multigrain.errors import EndpointRefusedError, EndpointUnreachableError
from multigrain.llm.openai_compatible import OpenAICompatibleLLM
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest

_LOG = logging.getLogger(__name__)
_REST_SECONDS: Final = 60.0
_PASSING: Final = frozenset({"timeout", "connection", "rate_limited", "server_error", "malformed"})


class SeveralEndpoints:
    """Sends each request to the endpoint with most room. Implements `LLMClient`, for one event loop.

    A request that keeps failing at one endpoint for a passing reason is tried at the others. An endpoint that
    cannot be reached rests for a minute; one that refuses for good is left out. Only when none is left does the
    run end.

    Args:
        members: the endpoints' clients, all of one identity.
        clock: seconds, monotonic.
    """

    def __init__(self, members: Sequence[OpenAICompatibleLLM], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._members = list(members)
        self._clock = clock
        self._in_flight = dict.fromkeys(range(len(self._members)), 0)
        self._resting_until: dict[int, float] = {}
        self._identity = self._members[0].identity

    def __repr__(self) -> str:
        return f"SeveralEndpoints({self._members!r})"

    @property
    def identity(self) -> str:
        """The members': where an answer comes from does not matter."""
        return self._identity

    async def complete(self, request: CompletionRequest) -> Completion:
        """Answer one request; see `LLMClient.complete`.

        Raises:
            CompletionFailure: the request came to nothing at every endpoint that could be asked.
            EndpointRefusedError: every endpoint refuses, or the last one does.
            EndpointUnreachableError: no endpoint is left to ask.
        """
        tried: set[int] = set()
        failure: Exception = EndpointUnreachableError("no endpoint is left to ask")
        while (chosen := self._freest(tried)) is not None:
            tried.add(chosen)
            self._in_flight[chosen] += 1
            try:
                return await self._members[chosen].complete(request)
            except CompletionFailure as passing:
                if passing.kind not in _PASSING:
                    raise
                failure = passing
            except EndpointUnreachableError as error:
                self._rest(chosen, _REST_SECONDS, error)
                # What one row ran into before is no reason to end the run, and this one is.
                failure = error if not isinstance(failure, CompletionFailure) else failure
            except EndpointRefusedError as error:
                self._rest(chosen, float("inf"), error)
                failure = error if not isinstance(failure, CompletionFailure) else failure
            finally:
                self._in_flight[chosen] -= 1
        raise failure

    async def aclose(self) -> None:
        """Close every member."""
        for member in self._members:
            await member.aclose()

    def _freest(self, tried: set[int]) -> int | None:
        now = self._clock()
        untried = [index for index in self._in_flight if index not in tried]
        awake = [index for index in untried if self._resting_until.get(index, now) <= now]
        # Where all rest, the unreachable ones are tried once more before the run ends.
        candidates = awake or ([] if tried else [i for i in untried if self._resting_until[i] != float("inf")])
        return min(candidates, key=lambda index: self._in_flight[index] / self._members[index].room, default=None)

    def _rest(self, index: int, seconds: float, error: Exception) -> None:
        if self._resting_until.get(index, 0.0) < self._clock():
            _LOG.warning("endpoint left out: %s", error)
        self._resting_until[index] = self._clock() + seconds
