"""What a model was asked and answered for each row.

A journal keeps completions, and rows keep texts. What joins them is the strategy: given the same unit, it asks the
same requests again, so each row's completions are found by writing it once more from the journal, without a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from multigrain.config import Config
from multigrain.dataset.store import open_rows
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Engine
from multigrain.errors import RunMismatchError
from multigrain.llm.protocol import Completion, CompletionFailure, CompletionRequest, LLMClient, UnusableAnswer
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import request_key
from multigrain.records import SynthesizedRow
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import read_inputs, training_units
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.style import StyleQueries, style_queries
from multigrain.synthesis.synthesize import run_strategy, write_row

_NOT_KEPT = "not_in_journal"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        request: what was asked.
        completion: what came.
    """

    request: CompletionRequest
    completion: Completion


@dataclass(frozen=True)
class Attempt:
    """One row, as far as it came.

    Attributes:
        unit: what was to be written.
        row: what was written; None where no answer could be used.
        failure: why there is no row, as `CompletionFailure` has it; empty where there is one.
        exchanges: everything that was asked for it, in order; nothing where a request failed that no answer is to
            blame for.
    """

    unit: WritingUnit
    row: SynthesizedRow | None
    failure: str
    exchanges: tuple[Exchange, ...]


@dataclass
class _Recorder:
    """Notes what passes through. Implements `LLMClient`."""

    inner: LLMClient
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return self.inner.identity

    async def complete(self, request: CompletionRequest) -> Completion:
        completion = await self.inner.complete(request)
        self.exchanges.append(Exchange(request, completion))
        return completion

    async def aclose(self) -> None:
        """Nothing: the inner client belongs to others."""


@dataclass(frozen=True)
class StoredClient:
    """Answers from a journal and asks nobody. Implements `LLMClient`.

    Attributes:
        journal: the answers.
        identity: of the model that gave them.
        strategy: who asked, where a request does not say.
    """

    journal: Journal
    identity: str
    strategy: str

    async def complete(self, request: CompletionRequest) -> Completion:
        """The answer that is kept.

        Raises:
            CompletionFailure: there is none ("not_in_journal").
        """
        answer = self.journal.find(request_key(self.identity, self.strategy, request))
        if answer is None:
            raise CompletionFailure(_NOT_KEPT, "the journal holds no answer to this request")
        return answer

    async def aclose(self) -> None:
        """Nothing to let go of."""


def attempt_rows(
    units: Sequence[WritingUnit],
    strategy: Strategy,
    client: LLMClient,
    engine: Engine,
    *,
    style: StyleQueries | None = None,
) -> Iterator[Attempt]:
    """Write rows and note what each was written from, in the order of the units.

    Args:
        units: what to write.
        strategy: how.
        client: the model, or a journal.
        engine: where the work runs.
        style: queries of the user's own that no written one may repeat.

    Raises:
        LLMError: the model cannot be used at all.
    """

    async def attempt(unit: WritingUnit) -> Attempt:
        recorder = _Recorder(client)
        try:
            row = await write_row(unit, strategy, recorder, style=style)
        except UnusableAnswer as unusable:
            return Attempt(unit, None, unusable.kind, tuple(recorder.exchanges))
        except CompletionFailure as failure:  # an endpoint's or a limit's: no answer is to blame
            return Attempt(unit, None, failure.kind, ())
        return Attempt(unit, row, "", tuple(recorder.exchanges))

    done = {outcome.unit: outcome.value for outcome in engine.map(attempt, units)}
    for unit in units:
        value = done.get(unit)
        if value is not None:
            yield value


def run_attempts(config: Config, run: RunDirectory) -> list[Attempt]:
    """What was asked for every row of a run's training side; nothing of held-out documents, tasks or queries.

    Rows that the run does not train on, because their passage nearly repeats a held-out one, are left out.

    Args:
        config: the run's.
        run: with a complete synthesis.

    Raises:
        StageOrderError: there is no synthesis yet.
        RunMismatchError: the journal does not hold the answers that this config asks for.
    """
    counts = run.require("synthesis", "multigrain synthesize").counts
    units = training_units(config, read_inputs(config, run))
    strategy = run_strategy(config, run, ask=False)
    kept = {row.id for row in open_rows(run.rows_path)}
    with Journal(run.journal_path, create=False) as journal, LocalEngine() as engine:
        client = StoredClient(journal, counts["model"], strategy.name)
        found = list(attempt_rows(units, strategy, client, engine, style=style_queries(config)))
    answered = [attempt for attempt in found if attempt.failure != _NOT_KEPT]
    if kept and not any(attempt.row is not None and attempt.row.id in kept for attempt in answered):
        raise RunMismatchError(
            f"{run.journal_path}: none of {len(kept)} rows is found again by what {counts['model']} was asked: "
            "prompts, few-shot examples or settings have changed; give the run the config that made it"
        )
    return [attempt for attempt in answered if attempt.row is None or attempt.row.id in kept]
