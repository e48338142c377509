"""An estimate of what a run would ask and cost, by running its writing against a stand-in. Asks and writes nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from multigrain.audit.judges import JUDGE, REGENERATE, judgment_request
from multigrain.config import Config, JudgeConfig, LLMConfig, PriceConfig
from multigrain.engine.local import LocalEngine
from multigrain.engine.protocol import Engine
from multigrain.errors import LLMError, MissingExtraError, ModelError
from multigrain.llm.build import LocalPlan, client_identity, local_plan
from multigrain.llm.prices import about_prompt_tokens, cost_of, find_price
from multigrain.llm.protocol import CompletionFailure, CompletionRequest, Message
from multigrain.llm.scripted import ScriptedLLM
from multigrain.llm.session.journal import Journal
from multigrain.llm.session.records import request_key
from multigrain.records import Document
from multigrain.stages.fingerprints import documents_fingerprint
from multigrain.stages.preflight import check_prices
from multigrain.storage.packages import resolve_gguf
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.brainstorm import BRAINSTORM, first_requests
from multigrain.synthesis.heldout import HELDOUT, write_heldout_queries
from multigrain.synthesis.inputs import (
    Inputs,
    heldout_documents,
    heldout_units,
    load_inputs,
    read_inputs,
    training_units,
)
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.query_judge import QUERY_JUDGE, query_request
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.style import style_queries
from multigrain.synthesis.synthesize import run_strategy
from multigrain.tools.answer_length import assumed_length
from multigrain.tools.paid_calls import (
    RowCounts,
    Times,
    embeddings,
    judged_passages,
    rows_asked_again,
)
from multigrain.tools.rival_calls import EmbeddingEstimate

Item = TypeVar("Item")

_SAMPLED_ROWS: Final = 200
_QUERY: Final = " ".join(["word"] * 12)
"""Stands for a query that is not written yet: about as many words as queries have."""

_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class StrategyShare:
    """The part of an estimate that one strategy has.

    Attributes:
        rows: rows that it writes.
        requests: completions that they need, those in the journal among them, about.
        requests_at_most: completions that a run cannot pass, corrections not counted.
        prompt_tokens: tokens to read for those that are still to be asked, about.
        completion_tokens: tokens to write, about.
    """

    rows: int
    requests: int
    requests_at_most: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be asked.

    Attributes:
        rows: rows to write.
        requests: completions that rows, held-out queries and judges need, corrections not counted, about.
        requests_at_most: completions that a run cannot pass, corrections not counted: what judges reject is chosen
            again, and judged too.
        in_journal: the part of `requests` that is answered already and costs nothing.
        prompt_tokens: tokens to read for the rest, about.
        completion_tokens: tokens to write, about.
        completion_tokens_at_most: tokens to write for `requests_at_most`, if every answer takes its whole budget.
        cost: US dollars, about, of all but `unpriced`; None where the price of a language model is unknown.
        cost_at_most: with `requests_at_most` and every answer at its whole budget.
        strategies: what each strategy of a mix has in it, by name; so have those who ask for tasks and for held-out
            queries, judges, and who is asked for negatives again.
        embeddings: what embedders behind endpoints are asked as base, teachers and rivals, at most, by reference.
        unpriced: models that are asked and whose price nobody knows, by reference or name.
        prompts: the first requests' messages, as they would be sent.
        local: where an embedded model would run, and what it takes of the memory; None without one, or where its file
            is not here yet.
    """

    rows: int
    requests: int
    requests_at_most: int
    in_journal: int
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_at_most: int
    cost: float | None
    cost_at_most: float | None
    strategies: dict[str, StrategyShare]
    embeddings: dict[str, EmbeddingEstimate]
    unpriced: tuple[str, ...]
    prompts: tuple[tuple[Message, ...], ...]
    local: LocalPlan | None = None

    @classmethod
    def of(
        cls,
        models: Sequence[ModelEstimate],
        *,
        embeddings: Mapping[str, EmbeddingEstimate] | None = None,
        prompts: int = 3,
        local: LocalPlan | None = None,
    ) -> Estimate:
        """Add up what each model would be asked, with the messages of the first requests."""
        sums = [part for model in models for part in model.sums.values()]
        embedded = dict(embeddings or {})
        paid = sum(part.cost or 0.0 for part in embedded.values())
        cost = _cost(models, lambda part: (part.reading, part.writing))
        at_most = _cost(models, lambda part: (part.reading_at_most, part.writing_at_most))
        unpriced = [model.name for model in models if model.sums and model.price is None]
        return cls(
            rows=sum(part.rows for part in sums),
            requests=round(sum(part.requests for part in sums)),
            requests_at_most=sum(part.share().requests_at_most for part in sums),
            in_journal=round(sum(part.in_journal for part in sums)),
            prompt_tokens=round(sum(part.reading for part in sums)),
            completion_tokens=round(sum(part.writing for part in sums)),
            completion_tokens_at_most=round(sum(part.writing_at_most for part in sums)),
            cost=None if cost is None else cost + paid,
            cost_at_most=None if at_most is None else at_most + paid,
            strategies={name: part.share() for model in models for name, part in model.sums.items()},
            embeddings=embedded,
            unpriced=(*unpriced, *(name for name, part in embedded.items() if part.cost is None)),
            prompts=tuple(request.messages for model in models for request in model.requests)[:prompts],
            local=local,
        )


def dry_run(
    config: Config, directory: Path, *, prompts: int = 3, inputs: Inputs | None = None, judge_rows: bool = True
) -> Estimate:
    """Estimate the rest of what a run asks: the brainstorm of tasks, rows, held-out queries, judges and teachers.

    Args:
        config: the run's.
        directory: the run directory; what its journals hold need not be asked again. It need not exist.
        prompts: how many requests to show.
        inputs: what the run starts from, where it was read already.
        judge_rows: count what `audit.query_judge` is asked of rows, which the audit does; of held-out queries it is
            asked as they are written.

    Raises:
        SourceError: what the run starts from cannot be used.
        ConfigError: a prompt template cannot be used, or there is a limit on the cost and no price.
        LLMError: the local model cannot be used.
    """
    check_prices(config)
    templates = Prompts(config.synthesis.templates)
    templates.check()
    run = RunDirectory(directory)
    tasks_listed = config.start_from == "tasks" and run.is_complete("documents", documents_fingerprint(config))
    inputs = inputs or (read_inputs(config, run) if tasks_listed else load_inputs(config))
    trained, unseen = training_units(config, inputs), heldout_units(config, inputs)
    units = [*trained, *unseen]
    documents = heldout_documents(config, inputs)
    counts = RowCounts.of(trained, config, inputs, heldout=len(documents) + len(unseen))
    other = config.evaluation.llm
    with ExitStack() as stack:
        engine = stack.enter_context(LocalEngine())
        own = ModelEstimate.of(config.llm, _journal(run.journal_path, stack))
        if config.start_from == "tasks" and config.tasks.path is None and not tasks_listed:
            # The lists of tasks that are asked for if none has to be asked for again.
            first = first_requests(config.tasks, config.llm, seed=config.seed, prompts=templates)
            own.add(first, BRAINSTORM, at_most=config.tasks.rounds)
            del own.requests[1:]  # one of them shows what they are like
        strategy = run_strategy(config, run, ask=False)
        own.add_rows(units, strategy, engine)
        writer = own if other is None else ModelEstimate.of(other, _journal(run.heldout_journal_path, stack))
        writer.add_heldout(documents, config, other or config.llm, engine)
        if (judge := config.audit.query_judge) is not None and config.start_from != "pairs":
            writer.add_judged_queries(documents, len(documents) if judge.heldout else 0, config)
            sample, _ = _sample(trained)
            if judge_rows:
                own.add_judged_queries([unit.document for unit in sample], counts.rows, config)
        own.add_rewritten(trained, rows_asked_again(config, counts), strategy, engine)
        own.add_judgments(trained, judged_passages(config, counts), config, templates)
    longest = max((unit.document.text for unit in _sample(trained)[0]), key=len, default="")
    asked = max((unit.query or _QUERY for unit in _sample(trained)[0]), key=len, default="")
    return Estimate.of(
        [own] if writer is own else [own, writer],
        embeddings=embeddings(config, counts, inputs, query=asked, passage=longest),
        prompts=prompts,
        local=_local(config.llm),
    )


def _local(llm: LLMConfig) -> LocalPlan | None:
    if llm.provider == "local":
        with suppress(MissingExtraError, ModelError, LLMError):
            if isinstance(resolve_gguf(llm.model), Path):  # or else it would be downloaded
                return local_plan(llm)
    return None


def _journal(path: Path, stack: ExitStack) -> Journal | None:
    return stack.enter_context(Journal(path, create=False)) if path.is_file() else None


class ModelEstimate:
    """What one model would be asked, added up purpose by purpose.

    Args:
        price: of the model; None where it is unknown.
        identity: of its client.
        journal: what is known already; its answers also tell how long answers are.
        name: of the model, for people.

    Attributes:
        requests: some of what is asked, in order.
        sums: what each purpose comes to, by the name that the journal has for it.
    """

    def __init__(
        self, price: PriceConfig | None, identity: str = "", journal: Journal | None = None, name: str = ""
    ) -> None:
        self.price, self.name = price, name
        self.requests: list[CompletionRequest] = []
        self.sums: dict[str, _Sums] = {}
        self._identity, self._journal = identity, journal
        self._usual = {} if journal is None else journal.usual_lengths()

    @classmethod
    def of(cls, llm: LLMConfig, journal: Journal | None) -> ModelEstimate:
        """Nothing yet, of the model that a config names. Where there is no journal its file need not be there."""
        return cls(find_price(llm), "" if journal is None else client_identity(llm), journal, llm.model)

    def add(
        self,
        requests: Iterable[CompletionRequest],
        asked_by: str,
        times: float = 1.0,
        *,
        at_most: float | None = None,
        longer: float = 0.0,
    ) -> None:
        """Count requests.

        Args:
            requests: in the form in which a journal keeps them.
            asked_by: who asks where a request does not say.
            times: how many requests each stands for, about.
            at_most: how many at most; None for as many as `times`.
            longer: tokens by which others that it stands for may be longer.
        """
        for request in requests:
            key = request_key(self._identity, asked_by, request)
            in_journal = self._journal is not None and self._journal.find(key) is not None
            name = request.asked_by or asked_by
            length = min(self._usual.get(name) or assumed_length(request), request.max_tokens)
            most = times if at_most is None else at_most
            self.sums.setdefault(name, _Sums()).add(request, length, times, most, longer, in_journal=in_journal)
            self.requests.append(request)

    def add_rows(self, units: Sequence[WritingUnit], strategy: Strategy, engine: Engine) -> None:
        """Count what evenly spread rows ask of a stand-in, and scale up."""
        sample, scale = _sample(units)
        stand_in = ScriptedLLM()
        rows: Counter[str] = Counter()
        for outcome in engine.map(lambda unit: _asked_for(unit, strategy, stand_in), sample):
            rows[outcome.value or strategy.name] += 1
        for name, count in sorted(rows.items()):
            self.sums.setdefault(name, _Sums()).rows += round(count * scale)
        self.add(stand_in.requests, strategy.name, scale)

    def add_heldout(self, documents: Sequence[Document], config: Config, llm: LLMConfig, engine: Engine) -> None:
        """Count the held-out queries of documents, as `add_rows` does."""
        sample, scale = _sample(documents)
        stand_in = ScriptedLLM()
        characters, prompts = config.synthesis.document_characters, Prompts(config.synthesis.templates)
        style = style_queries(config)
        for _ in write_heldout_queries(
            sample, stand_in, engine, llm, characters=characters, seed=config.seed, prompts=prompts, style=style
        ):
            pass
        self.add(stand_in.requests, HELDOUT, scale)

    def add_judged_queries(self, documents: Sequence[Document], total: int, config: Config) -> None:
        """Count the judgments of queries.

        Args:
            documents: that some of the queries are written for.
            total: how many queries there are at most.
            config: the run's, with a judge of queries.
        """
        settings = config.audit.query_judge
        if settings is None or not documents:
            return
        most = total if settings.max_queries is None else min(total, settings.max_queries)
        sample, _ = _sample(documents[:most])
        prompts = Prompts(config.synthesis.templates)
        requests = (query_request(_QUERY, document.text, seed=config.seed, prompts=prompts) for document in sample)
        self.add(requests, QUERY_JUDGE, most / max(len(sample), 1))

    def add_rewritten(self, units: Sequence[WritingUnit], total: int, strategy: Strategy, engine: Engine) -> None:
        """Count what asking for the negatives of rows again may come to: nobody knows how many will be broken.

        Args:
            units: the rows.
            total: how often a row is asked for at most.
            strategy: that wrote them.
            engine: where it runs.
        """
        sample = [unit for unit in _sample(units)[0] if unit.with_negatives] if total else []
        again = [replace(unit, query=unit.query or _QUERY, task=None) for unit in sample]
        rows = [outcome.value or () for outcome in engine.map(lambda unit: _requests_of(unit, strategy), again)]
        requests = [replace(request, asked_by=REGENERATE) for row in rows for request in row]
        if requests:  # the rows that are broken may be those that ask most
            most = max(map(len, rows)) / len(requests)
            self.add(requests, REGENERATE, total / len(rows), at_most=total * most)

    def add_judgments(self, units: Sequence[WritingUnit], total: Times, config: Config, prompts: Prompts) -> None:
        """Count what the judge is asked about every row: by the audit, by the teachers' stage, or once for both.

        Rows that the audit turns away are not asked about further, so that this is rather too much than too little.

        Args:
            units: the rows.
            total: passages that are judged.
            config: the run's.
            prompts: the templates.
        """
        sample, _ = _sample(units)
        if not total.at_most or not sample:
            return
        settings = config.audit.judge or JudgeConfig()
        requests = [
            judgment_request(
                (unit.query or _QUERY, unit.document.text),
                settings,
                prompts,
                seed=config.seed,
                room=config.llm.max_tokens,
                probabilities=config.judge_probabilities,
            )
            for unit in sample
        ]
        lengths = [about_prompt_tokens(request) for request in requests]
        self.add(
            requests,
            JUDGE,
            total.about / len(sample),
            at_most=total.at_most / len(sample),
            longer=max(lengths) - sum(lengths) / len(lengths),
        )


def _sample(items: Sequence[Item]) -> tuple[Sequence[Item], float]:
    """Some of the items, evenly spread, and how many each stands for."""
    step = max(1, len(items) // _SAMPLED_ROWS)
    sample = items[::step][:_SAMPLED_ROWS]
    return sample, len(items) / len(sample) if sample else 0.0


def _cost(models: Sequence[ModelEstimate], tokens: Callable[[_Sums], tuple[float, float]]) -> float | None:
    """US dollars for all models that are asked anything; None where the price of one is unknown.

    Args:
        models: what each is asked.
        tokens: those that a purpose reads and writes.
    """
    total = 0.0
    for model in models:
        reading = round(sum(tokens(part)[0] for part in model.sums.values()))
        writing = round(sum(tokens(part)[1] for part in model.sums.values()))
        if model.price is not None:
            total += cost_of(model.price, prompt_tokens=reading, completion_tokens=writing)
        elif model.sums:
            return None
    return total


@dataclass
class _Sums:
    rows: int = 0
    requests: float = 0.0
    requests_at_most: float = 0.0
    in_journal: float = 0.0
    reading: float = 0.0
    reading_at_most: float = 0.0
    writing: float = 0.0
    writing_at_most: float = 0.0

    def add(
        self,
        request: CompletionRequest,
        length: float,
        times: float,
        at_most: float,
        longer: float,
        *,
        in_journal: bool,
    ) -> None:
        self.requests += times
        self.requests_at_most += at_most
        self.in_journal += times * in_journal
        if not in_journal:
            reading = about_prompt_tokens(request)
            self.reading += times * reading
            self.reading_at_most += at_most * (reading + longer)
            self.writing += times * length
            self.writing_at_most += at_most * request.max_tokens

    def share(self) -> StrategyShare:
        at_most = math.ceil(self.requests_at_most - _ROUNDING)
        return StrategyShare(self.rows, round(self.requests), at_most, round(self.reading), round(self.writing))


async def _asked_for(unit: WritingUnit, strategy: Strategy, stand_in: ScriptedLLM) -> str:
    """Let a row ask what it will, whatever becomes of it; returns the name of the strategy that writes it."""
    name = strategy.member(unit).name if isinstance(strategy, MixedStrategy) else strategy.name
    with suppress(CompletionFailure):
        await strategy.write(unit, stand_in)
    return name


async def _requests_of(unit: WritingUnit, strategy: Strategy) -> Sequence[CompletionRequest]:
    stand_in = ScriptedLLM()
    await _asked_for(unit, strategy, stand_in)
    return stand_in.requests
