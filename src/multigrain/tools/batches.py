"""Batch files for a run: whatever can be asked now goes into the next file, and answers go into the journal.

Strategies that ask in several steps take several rounds.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from multigrain.config import Config, LLMConfig
from multigrain.display.progress import Progress, SilentProgress
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Engine
from multigrain.errors import ConfigError, SourceError
from multigrain.llm.batch_files import read_batch_results, write_batch_files
from multigrain.llm.build import client_identity
from multigrain.llm.prices import find_price
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest
from multigrain.llm.session.budget import Budget, run_budget
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import JournalEntry, now, request_key, storable
from multigrain.llm.wire import ResponseFormat
from multigrain.stages.preflight import check_prices
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import heldout_units, read_inputs, training_units
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.synthesize import run_strategy

_AWAITING: Final = "awaiting_batch"
_COMMIT_EVERY: Final = 1000
_REMEDY: Final = "choose another directory with --run, or remove {folder} to have the documents read again"


@dataclass(frozen=True)
class BatchRound:
    """What was written for a service to answer.

    Attributes:
        files: the request files.
        requests: how many lines they hold.
        finished: rows that need nothing more.
        waiting: rows that wait for answers, in these files or in earlier ones.
        failed: rows whose answers could not be used, by kind.
        over_limit: requests that were not written, as their answers might pass the run's spending limit.
    """

    files: tuple[Path, ...]
    requests: int
    finished: int
    waiting: int
    failed: Counter[str]
    over_limit: int = 0


@dataclass(frozen=True)
class BatchImport:
    """What came back.

    Attributes:
        kept: answers that are new in the journal.
        known: answers that it had already.
        failed: requests that came to nothing, by kind; the next batch asks for them again.
        unknown: lines whose custom_id no batch of this journal has.
        broken: lines that cannot be read, each as its place and what is wrong with it; the next batch asks for what
            they answered again, once their requests are written `again`.
        refused: files that are of no use, each as a line that says why.
    """

    kept: int = 0
    known: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    broken: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def write_batch(
    config: Config, directory: Path, folder: Path, *, again: bool = False, progress: Progress | None = None
) -> BatchRound:
    """Write the requests that a run's rows need next to batch files.

    Args:
        config: the run's; its provider must be an endpoint.
        directory: the run directory; its documents stage is run first if need be.
        folder: where the files go.
        again: write what lies in earlier files again.
        progress: who is told.

    Raises:
        ConfigError: the local model takes no batches, or there is a limit on the cost and no price.
        RunBusyError: another process works in the directory.
    """
    if config.llm.provider != "openai":
        raise ConfigError(f"llm.provider {config.llm.provider!r} takes no batch files: set it to openai")
    check_prices(config)
    progress = progress or SilentProgress()
    run_stages(config, directory, ["documents"], progress=progress, remedy=_REMEDY)
    with RunDirectory(directory).hold() as run, Journal(run.journal_path) as journal, LocalEngine() as engine:
        strategy = run_strategy(config, run, ask=True, progress=progress)
        inputs = read_inputs(config, run)
        units = [*training_units(config, inputs), *heldout_units(config, inputs)]
        with progress.task("Collecting requests", None):
            budget = run_budget(config, run, files_lost=again)
            return write_batch_round(units, strategy, journal, engine, folder, config.llm, again=again, budget=budget)


def read_batch(directory: Path, results: Sequence[Path]) -> BatchImport:
    """Read results and errors files into a run's journal. Reading a file twice changes nothing.

    Args:
        directory: the run directory.
        results: files that the service returned.

    Raises:
        RunDirectoryError: there is no journal, or it cannot be written.
        SourceError: no file is of any use: none is a results file of this run.
    """
    run = RunDirectory(directory)
    Journal(run.journal_path, create=False).close()  # before holding the directory makes it
    with run.hold(), Journal(run.journal_path) as journal:
        return import_batch_results(results, journal)


class _Collector:
    """Answers from the journal, and notes there what it cannot answer. Implements `LLMClient`."""

    def __init__(self, identity: str, journal: Journal, strategy: str, round_id: str) -> None:
        self.identity = identity
        self._journal = journal
        self._strategy = strategy
        self._round_id = round_id
        self.noted: Future[None] | None = None

    async def complete(self, request: CompletionRequest) -> Completion:
        key = request_key(self.identity, self._strategy, request)
        answer = self._journal.find(key)
        if answer is not None:
            return answer
        # Not waited for: a strategy that asks for several things at once gets to ask for all of them.
        self.noted = self._journal.want_in_batch(
            key,
            request,
            strategy=request.asked_by or self._strategy,
            client=self.identity,
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
    llm: LLMConfig,
    *,
    again: bool = False,
    budget: Budget | None = None,
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
        llm: the model that would be asked live: batch files and live requests share their answers.
        again: write what lies in earlier files again (they were lost, or never handed in).
        budget: what every request written is counted against, at the most that it may cost.
    """
    round_id = uuid.uuid4().hex
    collector = _Collector(client_identity(llm), journal, strategy.name, round_id)
    price = find_price(llm)
    rows: Counter[str] = Counter()
    for outcome in engine.map(lambda unit: strategy.write(unit, collector), units):
        rows[outcome.failure.kind if outcome.failure is not None else ""] += 1
    if collector.noted is not None:
        collector.noted.result()  # the journal writes in order: with the last one, all are on the disk
    files: list[Path] = []
    requests = over_limit = 0

    def affordable() -> Iterator[tuple[str, CompletionRequest]]:
        nonlocal over_limit
        for key, request in journal.wanted_in_batch(round_id, again=again):
            if budget is None or budget.reserve_in_batch(request, price):
                yield key, request
            else:
                over_limit += 1

    form: ResponseFormat = "json_schema" if llm.structured_output else "text"
    for path, keys in write_batch_files(affordable(), folder, model=llm.model, form=form, extra_body=llm.extra_body):
        journal.mark_written(keys)
        files.append(path)
        requests += len(keys)
    finished, waiting = rows.pop("", 0), rows.pop(_AWAITING, 0)
    return BatchRound(tuple(files), requests, finished, waiting, rows, over_limit)


def import_batch_results(paths: Iterable[Path], journal: Journal) -> BatchImport:
    """Read results and errors files into the journal. Reading a file twice changes nothing.

    A line that cannot be read, and a file that is of no use, cost themselves.

    Args:
        paths: files that a service returned.
        journal: of the run that wrote the requests.

    Raises:
        SourceError: no file is of any use: it cannot be read, or none of its lines belongs to this journal.
        RunDirectoryError: the journal cannot be written.
    """
    counts: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    refused: list[str] = []
    broken: list[str] = []
    files = 0
    for path in paths:
        files += 1
        try:
            _import_file(path, journal, counts, failed, broken)
        except SourceError as error:
            refused.append(str(error))
    if files and len(refused) == files:
        raise SourceError(refused[0])
    return BatchImport(failed=failed, refused=tuple(refused), broken=tuple(broken), **counts)


def _import_file(path: Path, journal: Journal, counts: Counter[str], failed: Counter[str], broken: list[str]) -> None:
    ours = lines = 0
    writes: list[Future[None]] = []
    try:
        for key, answer in read_batch_results(path):
            lines += 1
            if key is None:
                broken.append(str(answer.detail) if isinstance(answer, CompletionFailure) else "")
                continue
            asked_by = journal.find_batch_request(key)
            if asked_by is None:
                counts["unknown"] += 1
                continue
            ours += 1
            if journal.find(key) is not None:
                counts["known"] += 1
                continue
            strategy, client, request = asked_by
            if isinstance(answer, CompletionFailure):
                failed[answer.kind] += 1
                writes.append(journal.record_failure(key, answer, strategy=strategy, client=client))
            else:
                counts["kept"] += 1
                entry = JournalEntry(key, strategy, client, request, storable(answer), now(), "batch")
                writes.append(journal.record(entry))
            if len(writes) >= _COMMIT_EVERY:
                _settle(writes)
                writes = []
    finally:
        _settle(writes)
    if lines and not ours:
        raise SourceError(f"{path}: none of its {lines} lines answers a request of this run: check --run")


def _settle(writes: Iterable[Future[None]]) -> None:
    """Wait until all are on the disk."""
    for write in writes:
        write.result()
