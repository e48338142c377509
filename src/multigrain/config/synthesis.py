"""What is written, and the tasks it is written for where there are no documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from multigrain.config.paths import FilePath, InputPath, ModelReference
from multigrain.config.section import Section
from multigrain.errors import ConfigError
from multigrain.plugins import Registry
from multigrain.records import TaskKind

_HOME: Final = "multigrain.synthesis.strategies"
STRATEGIES: Final[Registry[Any]] = Registry(
    kind="strategy",
    group="multigrain.strategies",
    built_in={
        "counterfactual": f"{_HOME}.counterfactual:CounterfactualStrategy.from_settings",
        "hybrid": f"{_HOME}.one_call:HybridStrategy.from_settings",
        "mgh": f"{_HOME}.one_call:MghStrategy.from_settings",
        "mgh-levels": f"{_HOME}.mgh_levels:MghLevelsStrategy.from_settings",
        "mined": f"{_HOME}.mined:MinedStrategy.from_settings",
        "mined-bands": f"{_HOME}.mined:MinedBandsStrategy.from_settings",
        "over-generate": f"{_HOME}.over_generate:OverGenerateStrategy.from_settings",
        "paraphrase": f"{_HOME}.paraphrase:ParaphraseStrategy.from_settings",
        "ranking-chain": f"{_HOME}.ranking_chain:RankingChainStrategy.from_settings",
        "single": f"{_HOME}.one_call:SingleStrategy.from_settings",
        "stepwise": f"{_HOME}.stepwise:StepwiseStrategy.from_settings",
    },
    named_by="synthesis.strategy",
)
"""Strategies by name; what a name stands for is given `StrategySettings` and returns a `Strategy`."""

LEVELS_TO_MINE: Final = frozenset({"counterfactual", "hybrid", "mined", "mined-bands", "paraphrase", "single"})
"""Strategies that leave levels to the corpus."""

LABEL_STRATEGIES: Final = frozenset({"mined", "mined-bands"})
"""Strategies that have no negative written, as labels want it: their negatives are the other labels."""

QueryType = Literal[
    "search", "keywords", "question", "summary", "claim", "long-tail", "message", "sub-question", "multi-passage"
]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _some_weight(weights: dict[str, float]) -> dict[str, float]:
    """Weights of which one at least is above 0."""
    if not any(weight > 0 for weight in weights.values()):
        raise ValueError("at least one weight must be above 0")
    return weights


class TasksConfig(Section):
    """start_from: tasks only. What the model is to be good at, and how much is written for it."""

    path: InputPath | None = None
    """Your own tasks: a .txt file with one a line, or a .jsonl or .yaml file with `task` and `kind`.
    Null: the language model brainstorms them."""

    kinds: Annotated[dict[TaskKind, Weight], AfterValidator(_some_weight)] = Field(
        default={
            TaskKind.SHORT_LONG: 1.0,
            TaskKind.LONG_SHORT: 1.0,
            TaskKind.SHORT_SHORT: 1.0,
            TaskKind.LONG_LONG: 1.0,
            TaskKind.STS: 1.0,
        }
    )
    """Kinds of tasks and their weights: short-long (a query finds a document), long-short, short-short, long-long,
    sts (sentences that mean the same), bitext (translations). Tasks and rows are shared out by them."""

    count: int = Field(default=50, ge=1)
    """How many different tasks to brainstorm."""

    topics: list[str] = Field(default_factory=list)
    """What the tasks should be about, e.g. [tax law, payroll]; requests take them in turn. Empty: anything."""

    per_request: int = Field(default=20, ge=1, le=50)
    """Tasks asked for at once."""

    rounds: int = Field(default=5, ge=1, le=50)
    """How often to ask again for kinds that are still short of different tasks."""

    temperature: float = Field(default=1.0, ge=0, le=2)
    """Sampling temperature of the brainstorm; rows are sampled by llm.temperature."""

    near_duplicate_similarity: float = Field(default=0.5, gt=0, le=1)
    """Brainstormed tasks of a kind whose word trigrams overlap this much (Jaccard) count as one."""

    rows: int = Field(default=1000, ge=10)
    """Rows to write for all tasks together, held-out ones included."""

    languages: Annotated[dict[str, Weight], AfterValidator(_some_weight)] = Field(default={"English": 1.0})
    """Languages of the rows and their weights. bitext pairs two different ones."""

    hold_out: Literal["auto", "tasks", "rows"] = "auto"
    """What documents.validation_share and test_share hold out: whole tasks, or rows of every task.
    auto: tasks where there are at least 20."""

    @model_validator(mode="after")
    def _bitext_has_two_languages(self) -> Self:
        if self.kinds.get(TaskKind.BITEXT, 0) > 0 and sum(weight > 0 for weight in self.languages.values()) < 2:
            raise ValueError("kinds.bitext needs two languages at least: name them under tasks.languages")
        return self


class SynthesisConfig(Section):
    """What is written for each document."""

    added: ClassVar[Mapping[str, Any]] = {"style_queries": None, "style_count": 4}
    changed: ClassVar[Mapping[str, Any]] = {"query_types": {"search": 1.0}}

    strategy: str | dict[str, Weight] = "mgh"
    """How rows are written: one strategy, or several with weights, e.g. {mgh: 0.5, mined-bands: 0.5}.
    mgh: four graded negatives in one call. mgh-levels: a call a level. over-generate: several candidates a
    level, chosen by measurement. single: one hard negative. hybrid: some levels written, the others mined. mined,
    mined-bands: the query alone is written. counterfactual: a few words of the positive changed. ranking-chain:
    rewrites that drift away. paraphrase: the positive in other words. stepwise: one field a call, for tiny models."""

    positive: Literal["document", "written"] = "document"
    """The positive is the document itself, or a passage that the model writes as well (a document's own words are
    safer; stepwise and paraphrase have their own ways)."""

    query_first: bool = True
    """mgh, hybrid and single only: ask for the query in a short call of its own, and then for the negatives. Small
    models that are asked for everything at once write poorer queries; false saves them the second reading."""

    candidates: int = Field(default=3, ge=2, le=20)
    """over-generate only: texts written for each level."""

    written_levels: list[Literal[1, 2, 3, 4]] = Field(default=[4, 3], min_length=1, max_length=4)
    """hybrid only: the levels that are written; the others are mined."""

    paraphrase: Literal["document", "query"] = "document"
    """paraphrase only: what is said in other words, and so becomes the positive."""

    few_shot: Literal["none", "fixed", "balanced", "likelihood"] = "none"
    """Solved examples before each task. fixed: the first ones. balanced: groups with one of each kind, drawn for each
    row. likelihood: those under which a local model finds the other examples' queries likeliest."""

    few_shot_path: FilePath | None = None
    """The examples: JSON lines with document and whatever the strategy writes (query, positive, level_4 … level_1,
    paraphrase, original, replacement), and for balanced a kind. Relative to the config file."""

    few_shot_count: int = Field(default=2, ge=1, le=32)
    """How many examples a task is shown."""

    few_shot_model: ModelReference = "auto"
    """likelihood only: the local model that ranks the examples: a .gguf path, package:NAME, or auto."""

    query_types: Annotated[dict[QueryType, Weight], AfterValidator(_some_weight)] = Field(
        default={"search": 2.0, "question": 2.0, "keywords": 1.0, "long-tail": 1.0}
    )
    """Kinds of queries and their weights: search (whatever somebody would type), keywords, question, summary (one
    line; the easiest for tiny models), claim, long-tail, message, sub-question (a step of a larger question, as an
    agent asks it), multi-passage (needs another chunk of the document too, or the document nearest to it in words;
    both are positives). Several queries of a document differ in kind."""

    style_queries: FilePath | None = None
    """Queries of your own users, one a line and unlabelled: some are shown as examples of style wherever a query is
    written, other ones each time. A written query that repeats one of them is rejected."""

    style_count: int = Field(default=4, ge=1, le=20)
    """How many of style_queries a prompt shows."""

    languages: dict[str, Weight] = Field(default_factory=dict)
    """Languages that queries are written in, and their weights, e.g. {English: 2, German: 1}.
    Empty: the document's own."""

    templates: FilePath | None = None
    """A folder with prompt templates of your own (NAME.jinja), which override the built-in ones of that name."""

    document_characters: int = Field(default=4000, ge=100)
    """How much of a document the model is shown."""

    queries_per_document: int = Field(default=1, ge=1, le=20)
    """Queries written for each training document."""

    negatives_share: float = Field(default=1.0, ge=0, le=1)
    """The share of rows for which negatives are written too; the rest get mined ones."""

    max_documents: int | None = Field(default=None, ge=1)
    """Write for at most this many training documents (null: all)."""

    budget_seconds: float | None = Field(default=None, gt=0)
    """Stop asking after this long; what is written by then is used (null: no limit)."""

    max_cost: float | None = Field(default=None, gt=0)
    """Stop asking before the whole run's completions cost more than this many US dollars (null: no limit)."""

    max_total_tokens: int | None = Field(default=None, ge=1)
    """Stop asking before the whole run has read and written more tokens than this (null: no limit)."""

    unfit_share: float | None = Field(default=0.5, gt=0, le=1)
    """Stop where more than this share of the first hundred rows fail one check of the audit that needs no model, or
    fail in one way, and say what to change (null: never)."""

    @property
    def strategy_weights(self) -> dict[str, float]:
        """The strategies with a weight above 0, one alone with weight 1."""
        if isinstance(self.strategy, str):
            return {self.strategy: 1.0}
        return {name: weight for name, weight in self.strategy.items() if weight > 0}

    @field_validator("strategy")
    @classmethod
    def _strategies_are_known(cls, strategy: str | dict[str, float]) -> str | dict[str, float]:
        if isinstance(strategy, dict):
            _some_weight(strategy)
        for name in [strategy] if isinstance(strategy, str) else strategy:
            try:
                STRATEGIES.check(name)
            except ConfigError as error:
                raise ValueError(str(error).removeprefix(f"{STRATEGIES.named_by} ")) from None
        return strategy

    @field_validator("written_levels")
    @classmethod
    def _levels_are_named_once(cls, levels: list[int]) -> list[int]:
        if len(set(levels)) < len(levels):
            raise ValueError("a level is named twice")
        return levels

    @model_validator(mode="after")
    def _examples_have_a_file(self) -> Self:
        if self.few_shot != "none" and self.few_shot_path is None:
            raise ValueError(f"few_shot {self.few_shot!r} needs few_shot_path: a file of solved examples")
        return self
