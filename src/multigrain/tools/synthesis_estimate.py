"""An estimate of what a synthesis would ask and cost, by running it against a stand-in. Asks and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from multigrain.audit.judges import JUDGE, judgment_request
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
from multigrain.records import LEVELS, Document
from multigrain.stages.fingerprints import documents_fingerprint, teachers_of
from multigrain.stages.preflight import check_prices
from multigrain.storage.packages import resolve_gguf
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.brainstorm import BRAINSTORM, first_requests
from multigrain.synthesis.heldout import HELDOUT, write_heldout_queries
from multigrain.synthesis.inputs import heldout_documents, heldout_units, load_inputs, read_inputs, training_units
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.query_judge import QUERY_JUDGE, query_request
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.style import style_queries
from multigrain.synthesis.synthesize import run_strategy

Item = TypeVar("Item")

_SAMPLED_ROWS: Final = 200
_A_QUERY: Final = "a query of about as many words as queries have"
_QUERY_WORDS: Final = 12
_FREE_TEXT_TOKENS: Final = 30
_FIELD_TOKENS: Final = 70
"""Assumed length of an answer, and of one field of a structured one, where the journal has no answers to go by."""


@dataclass(frozen=True, slots=True)
class StrategyShare:
    """The part of an estimate that one strategy has.

    Attributes:
        rows: rows that it writes.
        requests: completions that they need, those in the journal among them.
        prompt_tokens: tokens to read for those that are still to be asked, about.
        completion_tokens: tokens to write, about.
    """

    rows: int
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is still to be asked.

    Attributes:
        rows: rows to write.
        requests: completions that rows and held-out queries need, corrections not counted.
        in_journal: the part of `requests` that is answered already and costs nothing.
        prompt_tokens: tokens to read for the rest, about.
        completion_tokens: tokens to write, about.
        completion_tokens_at_most: tokens to write if every answer takes its whole budget.
        cost: US dollars, about; None where a price is unknown.
        cost_at_most: with every answer at its whole budget.
        strategies: what each strategy of a mix has in it, by name; so have those who ask for tasks and for held-out
            queries.
        prompts: the first requests' messages, as they would be sent.
        local: where an embedded model would run, and what it takes of the memory; None without one, or where its file
            is not here yet.
    """

    rows: int
    requests: int
    in_journal: int
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_at_most: int
    cost: float | None
    cost_at_most: float | None
    strategies: dict[str, StrategyShare]
    prompts: tuple[tuple[Message, ...], ...]
    local: LocalPlan | None = None

    @classmethod
    def of(cls, models: Sequence[ModelEstimate], *, prompts: int = 3, local: LocalPlan | None = None) -> Estimate:
        """Add up what each model would be asked, with the messages of the first requests."""
        sums = [part for model in models for part in model.sums.values()]
        return cls(
            rows=sum(part.rows for part in sums),
            requests=round(sum(part.requests for part in sums)),
            in_journal=round(sum(part.in_journal for part in sums)),
            prompt_tokens=round(sum(part.reading for part in sums)),
            completion_tokens=round(sum(part.writing for part in sums)),
            completion_tokens_at_most=round(sum(part.at_most for part in sums)),
            cost=_cost(models, lambda part: part.writing),
            cost_at_most=_cost(models, lambda part: part.at_most),
            strategies={
                name: StrategyShare(part.rows, round(part.requests), round(part.reading), round(part.writing))
                for model in models
                for name, part in model.sums.items()
            },
            prompts=tuple(request.messages for model in models for request in model.requests)[:prompts],
            local=local,
        )


def dry_run(config: Config, directory: Path, *, prompts: int = 3) -> Estimate:
    """Estimate the rest of what a run asks: the brainstorm of tasks, rows, held-out queries, and judgments.

    Args:
        config: the run's.
        directory: the run directory; what its journals hold need not be asked again. It need not exist.
        prompts: how many requests to show.

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
    inputs = read_inputs(config, run) if tasks_listed else load_inputs(config)
    units = [*training_units(config, inputs), *heldout_units(config, inputs)]
    documents = heldout_documents(config, inputs)
    other = config.evaluation.llm
    with ExitStack() as stack:
        engine = stack.enter_context(LocalEngine())
        own = ModelEstimate.of(config.llm, _journal(run.journal_path, stack))
        if config.start_from == "tasks" and config.tasks.path is None and not tasks_listed:
            # The lists of tasks that are asked for if none has to be asked for again.
            own.add(first_requests(config.tasks, config.llm, seed=config.seed, prompts=templates), BRAINSTORM)
            del own.requests[1:]  # one of them shows what they are like
        own.add_rows(units, run_strategy(config, run, ask=False), engine)
        writer = own if other is None else ModelEstimate.of(other, _journal(run.heldout_journal_path, stack))
        writer.add_heldout(documents, config, other or config.llm, engine)
        if (judge := config.audit.query_judge) is not None and config.start_from != "pairs":
            writer.add_judged_queries(documents if judge.heldout else (), config)
            own.add_judged_queries([unit.document for unit in units], config)
        own.add_judgments(units, config, templates)
    return Estimate.of([own] if writer is own else [own, writer], prompts=prompts, local=_local(config.llm))


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

    Attributes:
        requests: some of what is asked, in order.
        sums: what each purpose comes to, by the name that the journal has for it.
    """

    def __init__(self, price: PriceConfig | None, identity: str = "", journal: Journal | None = None) -> None:
        self.price = price
        self.requests: list[CompletionRequest] = []
        self.sums: dict[str, _Sums] = {}
        self._identity, self._journal = identity, journal
        self._usual = {} if journal is None else journal.usual_lengths()

    @classmethod
    def of(cls, llm: LLMConfig, journal: Journal | None) -> ModelEstimate:
        """Nothing yet, of the model that a config names. Where there is no journal its file need not be there."""
        return cls(find_price(llm), "" if journal is None else client_identity(llm), journal)

    def add(self, requests: Iterable[CompletionRequest], asked_by: str, times: float = 1.0) -> None:
        """Count requests.

        Args:
            requests: in the form in which a journal keeps them.
            asked_by: who asks where a request does not say.
            times: how many requests each stands for.
        """
        for request in requests:
            key = request_key(self._identity, asked_by, request)
            in_journal = self._journal is not None and self._journal.find(key) is not None
            name = request.asked_by or asked_by
            length = min(self._usual.get(name) or _assumed_length(request), request.max_tokens)
            self.sums.setdefault(name, _Sums()).add(request, length, times, in_journal=in_journal)
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

    def add_judged_queries(self, documents: Sequence[Document], config: Config) -> None:
        """Count the judgments of the queries of documents, one each."""
        settings = config.audit.query_judge
        if settings is None or not documents:
            return
        most = len(documents) if settings.max_queries is None else min(len(documents), settings.max_queries)
        sample, scale = _sample(documents[:most])
        prompts = Prompts(config.synthesis.templates)
        requests = (query_request(_A_QUERY, document.text, seed=config.seed, prompts=prompts) for document in sample)
        self.add(requests, QUERY_JUDGE, scale)

    def add_judgments(self, units: Sequence[WritingUnit], config: Config, prompts: Prompts) -> None:
        """Count what the judge is asked about every row: by the audit, by the teachers' stage, or once for both.

        Rows that the audit turns away are not asked about further, so that this is rather too much than too little.
        """
        passages = judged_passages(config)
        limit = None if _teaches(config) or config.audit.judge is None else config.audit.judge.max_passages
        total = len(units) * passages if limit is None else min(limit, len(units) * passages)
        sample, _ = _sample(units)
        if not total or not sample:
            return
        settings = config.audit.judge or JudgeConfig()
        query = " ".join(["word"] * _QUERY_WORDS)
        requests = (
            judgment_request(
                (unit.query or query, unit.document.text),
                settings,
                prompts,
                seed=config.seed,
                room=config.llm.max_tokens,
            )
            for unit in sample
        )
        self.add(requests, JUDGE, total / len(sample))


def judged_passages(config: Config) -> int:
    """Passages of a row that a run's language model judges: none, its positive and levels, or its candidates too."""
    levels = 1 + len(LEVELS)
    if _teaches(config):
        return levels + config.candidates_kept
    if config.audit.judge is None or not config.audit.checks.false_negatives:
        return 0
    return levels + (config.candidates_kept if config.audit.false_negatives == "keep-as-positive" else 0)


def _teaches(config: Config) -> bool:
    """Whether the run's language model is a teacher of any candidate."""
    settings = map(config.training.resolve, config.training.candidates)
    return any(teacher.is_judge for candidate in settings for teacher in teachers_of(candidate))


def _sample(items: Sequence[Item]) -> tuple[Sequence[Item], float]:
    """Some of the items, evenly spread, and how many each stands for."""
    step = max(1, len(items) // _SAMPLED_ROWS)
    sample = items[::step][:_SAMPLED_ROWS]
    return sample, len(items) / len(sample) if sample else 0.0


def _cost(models: Sequence[ModelEstimate], written: Callable[[_Sums], float]) -> float | None:
    """US dollars for all models that are asked anything; None where the price of one is unknown."""
    total = 0.0
    for model in models:
        reading = round(sum(part.reading for part in model.sums.values()))
        writing = round(sum(written(part) for part in model.sums.values()))
        if model.price is not None:
            total += cost_of(model.price, prompt_tokens=reading, completion_tokens=writing)
        elif model.sums:
            return None
    return total


@dataclass
class _Sums:
    rows: int = 0
    requests: float = 0.0
    in_journal: float = 0.0
    reading: float = 0.0
    writing: float = 0.0
    at_most: float = 0.0

    def add(self, request: CompletionRequest, length: float, times: float, *, in_journal: bool) -> None:
        self.requests += times
        self.in_journal += times * in_journal
        if not in_journal:
            self.reading += times * about_prompt_tokens(request)
            self.writing += times * length
            self.at_most += times * request.max_tokens


async def _asked_for(unit: WritingUnit, strategy: Strategy, stand_in: ScriptedLLM) -> str:
    """Let a row ask what it will, whatever becomes of it; returns the name of the strategy that writes it."""
    name = strategy.member(unit).name if isinstance(strategy, MixedStrategy) else strategy.name
    with suppress(CompletionFailure):
        await strategy.write(unit, stand_in)
    return name


def _assumed_length(request: CompletionRequest) -> float:
    if request.schema is None:
        return _FREE_TEXT_TOKENS
    return _FIELD_TOKENS * max(1, _texts(request.schema))


def _texts(schema: Mapping[str, Any]) -> int:
    """How many texts an answer of a schema holds."""
    if schema.get("type") == "array":
        return int(schema.get("maxItems", schema.get("minItems", 1))) * _texts(schema.get("items", {}))
    properties = schema.get("properties")
    return sum(map(_texts, properties.values())) if properties else 1
