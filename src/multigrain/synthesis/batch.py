"""Batch files for strategies that ask in several steps: whatever can be asked now goes into the next file."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from multigrain.engine.protocol import Engine
from multigrain.errors import SourceError
from multigrain.llm.batch_files import BatchResult, read_batch_results, write_batch_files
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalEntry, now, request_key, storable
from multigrain.llm.wire import ResponseFormat
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit

__all__ = ["BatchImport", "BatchRound", "import_batch_results", "write_batch_round"]

_AWAITING: Final = "awaiting_batch"
_COMMIT_EVERY: Final = 1000


@dataclass(frozen=True)
class BatchRound:
    """What was written for a service to answer.

    Attributes:
        files: the request files.
        requests: how many lines they hold.
        finished: rows that need nothing more.
        waiting: rows that wait for answers, in these files or in earlier ones.
        failed: rows whose answers could not be used, by kind.
    """

    files: tuple[Path, ...]
    requests: int
    finished: int
    waiting: int
    failed: Counter[str]


@dataclass(frozen=True)
class BatchImport:
    """What came back.

    Attributes:
        kept: answers that are new in the journal.
        known: answers that it had already.
        failed: requests that came to nothing, by kind; the next batch asks for them again.
        unknown: lines whose custom_id no batch of this journal has.
    """

    kept: int = 0
    known: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unknown: int = 0


class _Collector:
    """Answers from the journal, and notes there what it cannot answer. Implements `LLMClient`."""

    def __init__(self, identity: str, journal: Journal, strategy: str, round_id: str) -> None:
        self._journal = journal
        self._strategy = strategy
        self._identity = identity
        self._round_id = round_id
        self.noted: Future[None] | None = None

    @property
    def identity(self) -> str:
        return self._identity

    async def complete(self, request: CompletionRequest) -> Completion:
        key = request_key(self._identity, self._strategy, request)
        found = self._journal.find(key)
        if found is not None:
            return found
        # Not waited for: a strategy that asks for several things at once gets to ask for all of them.
        self.noted = self._journal.want_in_batch(
            key,
            request,
            strategy=request.asked_by or self._strategy,
            client=self._identity,
            round_id=self._round_id,
        )
        raise CompletionFailure(_AWAITING, "goes into a batch file")

    async def aclose(self) -> None:
        pass


def write_batch_round(
    units: Iterable[WritingUnit],
    strategy: Strategy,
    journal: Journal,
    engine: Engine,
    folder: Path,
    *,
    identity: str,
    model: str,
    structured_output: bool = True,
    extra_body: Mapping[str, Any] | None = None,
    again: bool = False,
) -> BatchRound:
    """Find what every row would ask next, given what the journal holds, and write it to batch files.

    A strategy that asks in steps, or corrects an answer, needs several rounds: write, have it answered, read, and
    write again until nothing is left to ask. What lies in an earlier file is not written twice unless its answer
    came back as a failure.

    Args:
        units: the rows.
        strategy: how they are written.
        journal: what is known already.
        engine: where the strategy runs.
        folder: where the files go.
        identity: of the client that would be asked live, so that both share their answers.
        model: the model's name at the service.
        structured_output: whether the service takes `response_format`.
        extra_body: more keys of every request.
        again: write what lies in earlier files again (they were lost, or never handed in).
    """
    round_id = uuid.uuid4().hex
    collector = _Collector(identity, journal, strategy.name, round_id)
    outcome: Counter[str] = Counter()
    for each in engine.map(lambda unit: strategy.write(unit, collector), units):
        outcome[each.failure.kind if each.failure is not None else ""] += 1
    if collector.noted is not None:
        collector.noted.result()  # the journal writes in order: with the last one, all are on the disk
    files: list[Path] = []
    count = 0
    wanted = journal.wanted_in_batch(round_id, again=again)
    form: ResponseFormat = "json_schema" if structured_output else "text"
    for file in write_batch_files(wanted, folder, model=model, form=form, extra_body=extra_body):
        journal.mark_written(file.keys)
        files.append(file.path)
        count += len(file.keys)
    finished, waiting = outcome.pop("", 0), outcome.pop(_AWAITING, 0)
    return BatchRound(tuple(files), count, finished, waiting, outcome)


def import_batch_results(paths: Iterable[Path], journal: Journal) -> BatchImport:
    """Read results and errors files into the journal. Reading a file twice changes nothing.

    Args:
        paths: files that a service returned.
        journal: of the run that wrote the requests.

    Raises:
        SourceError: a file cannot be read, or none of its lines belongs to this journal. What came before a
            broken line is kept.
        RunDirectoryError: the journal cannot be written.
    """
    kept = known = unknown = 0
    failed: Counter[str] = Counter()
    for path in paths:
        ours = lines = 0
        writes: list[Future[None]] = []
        try:
            for result in read_batch_results(path):
                lines += 1
                asked = journal.find_batch_request(result.key)
                if asked is None:
                    unknown += 1
                    continue
                ours += 1
                if journal.find(result.key) is not None:
                    known += 1
                    continue
                writes.append(_record(result, asked, journal))
                if result.failure is not None:
                    failed[result.failure.kind] += 1
                else:
                    kept += 1
                if len(writes) >= _COMMIT_EVERY:
                    _settle(writes)
                    writes = []
        finally:
            _settle(writes)
        if lines and not ours:
            raise SourceError(f"{path}: none of its {lines} lines answers a request of this run: check --run")
    return BatchImport(kept, known, failed, unknown)


def _record(result: BatchResult, asked: tuple[str, str, dict[str, object]], journal: Journal) -> Future[None]:
    strategy, client, request = asked
    if result.completion is None:
        assert result.failure is not None  # noqa: S101 - a result is one or the other
        return journal.record_failure(result.key, result.failure, strategy=strategy, client=client)
    answer = storable(result.completion)
    return journal.record(JournalEntry(result.key, strategy, client, request, answer, now(), "batch"))


def _settle(writes: Iterable[Future[None]]) -> None:
    """Wait until all are on the disk."""
    for write in writes:
        write.result()
