"""Judges of false negatives, which read query and passage side by side; and the strategy asked once more.

A language model judges from 0 to 5 how well a passage answers a query. Its rule is MultiCSR's (arXiv 2310.10962):
positives of 3 and more stay, negatives of 3 and less, and the two must not be equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Final, Protocol

from pydantic import BaseModel, Field

from multigrain.audit.check import Problem
from multigrain.config import Config, CrossEncoderConfig, JudgeConfig
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Engine
from multigrain.llm.alternatives import expected_number
from multigrain.llm.answers import ask_for
from multigrain.llm.build import total_concurrency
from multigrain.llm.protocol import CompletionRequest
from multigrain.llm.session.session import PaidSession, paid_session
from multigrain.records import Level, SynthesizedRow
from multigrain.sources.words import fold_words
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.likelihood import ranked_examples
from multigrain.synthesis.pair_judge import NO_TRUTH, PairJudge, pair_key
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.query_judge import QUERY_JUDGE, QueryJudge
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.synthesize import build_strategy

JUDGE: Final = "judge"
"""The purpose under which the journal keeps judgments."""

REGENERATE: Final = "regenerate"
"""The purpose under which it keeps negatives that were asked for again."""

_MAX_TOKENS: Final = 32
_MAX_QUOTING_TOKENS: Final = 256
_CHARACTERS: Final = 4000
_ALTERNATIVES: Final = 5
"""Of six grades the likeliest five, which is what every endpoint that tells any is ready to tell."""

_BEST_GRADE: Final = 5

Rewrite = Callable[[Sequence[SynthesizedRow], int], Mapping[str, Mapping[Level, Sequence[str]]]]
"""Asks for the negatives of some rows again, for the n-th time: new texts by row id and level."""

PairScores = Callable[[list[tuple[str, str]]], Sequence[float]]
"""Scores (query, passage) pairs from 0 to 1: how well the passage answers."""


class Judge(Protocol):
    """Says which positives are none, and which negatives may be positives."""

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """For each (query, positive) what is wrong, or None."""
        ...

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """For each (query, positive, negative) what is wrong with the negative, or None."""
        ...

    def answering(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """For each (query, passage) whether the passage surely answers, so that it may be kept as a positive."""
        ...


@dataclass
class CrossEncoderJudge:
    """A cross-encoder as judge: a negative must score lower than its positive by a margin.

    Args:
        scores: the cross-encoder.
        margin: on its scale from 0 to 1.
        positive_at_least: what answers surely, on the same scale.
    """

    scores: PairScores
    margin: float
    positive_at_least: float = 0.9
    _by_pair: dict[bytes, float] = field(default_factory=dict, init=False)

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """Nothing: a positive is only what negatives are compared with."""
        return [None] * len(pairs)

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """Turn away what scores above its positive less the margin."""
        self._learn(pair for query, positive, text in claims for pair in ((query, positive), (query, text)))
        problems: list[Problem | None] = []
        for query, positive, text in claims:
            right, score = self._by_pair[pair_key(query, positive)], self._by_pair[pair_key(query, text)]
            # A score that is no number says nothing in the negative's favour.
            close = not score <= right - self.margin
            detail = f"the cross-encoder scores it {score:.2f}, its positive {right:.2f}"
            problems.append(Problem("false_negative", detail) if close else None)
        return problems

    def answering(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the score is as high as a positive must have it."""
        self._learn(pairs)
        return [self._by_pair[pair_key(*pair)] >= self.positive_at_least for pair in pairs]

    def _learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        new = [pair for pair in dict.fromkeys(pairs) if pair_key(*pair) not in self._by_pair]
        if new:
            for pair, score in zip(new, self.scores(new), strict=True):
                self._by_pair[pair_key(*pair)] = float(score) if math.isfinite(score) else math.nan


def judgment_request(
    pair: tuple[str, str], config: JudgeConfig, prompts: Prompts, *, seed: int, room: int, probabilities: bool = False
) -> CompletionRequest:
    """What a language model is asked about a (query, passage).

    Args:
        pair: query and passage; the start of long ones is read.
        config: whether the answering words are asked for.
        prompts: the templates.
        seed: of the sampler.
        room: most tokens for a judgment and for what a model thinks before it.
        probabilities: whether the grades' probabilities are asked for.
    """
    query, passage = (part[:_CHARACTERS] for part in pair)
    return CompletionRequest(
        messages=prompts.render("judge_quote" if config.quote else "judge", query=query, passage=passage),
        temperature=0.0,
        max_tokens=_MAX_QUOTING_TOKENS if config.quote else _MAX_TOKENS,
        seed=seed,
        room=room,
        alternatives=_ALTERNATIVES if probabilities else 0,
    )


_Score = Annotated[int, NO_TRUTH, Field(ge=0, le=_BEST_GRADE)]


class _Judgment(BaseModel):
    score: _Score


class _QuotedJudgment(_Judgment):
    words: str
    score: _Score


@dataclass(frozen=True, slots=True)
class Grade:
    """A judgment of a passage.

    Attributes:
        score: the grade, 0 to 5.
        expected: the mean over the probabilities of the grades, 0 to 5; the grade itself where nobody told them.
        quoted: whether the words that were asked for, if any were, stand in the passage.
    """

    score: int
    expected: float
    quoted: bool = True


@dataclass
class LanguageModelJudge(PairJudge[Grade]):
    """A language model as judge. A passage that gets no score, for whatever reason, stays as it is, and is counted.

    Args:
        config: the limits.
        probabilities: whether the grades' probabilities are asked for.
    """

    config: JudgeConfig = field(kw_only=True)
    probabilities: bool = False

    @property
    def most_pairs(self) -> int | None:
        """Passages that may be judged."""
        return self.config.max_passages

    def grades(self, pairs: Sequence[tuple[str, str]]) -> list[Grade | None]:
        """The grade of each (query, passage); None where none came back."""
        self.learn(pairs)
        return [self.judgment(*pair) for pair in pairs]

    def answering(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the grade is as high as a further positive must have it, and quoted words stand in the passage."""
        least = self.config.further_positive_at_least
        return [grade is not None and grade.score >= least and grade.quoted for grade in self.grades(pairs)]

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """Turn away positives that are judged low."""
        self.learn(pairs)
        least = self.config.positive_at_least
        return [
            Problem("judged_positive", f"the judge gives its positive {score} of 5, at least {least}")
            if (score := self._score(*pair)) is not None and score < least
            else None
            for pair in pairs
        ]

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """Turn away negatives that are judged high, or as high as their positive."""
        self.learn(pair for query, positive, text in claims for pair in ((query, positive), (query, text)))
        problems: list[Problem | None] = []
        for query, positive, text in claims:
            score, right = self._score(query, text), self._score(query, positive)
            wrong = score is not None and (
                score > self.config.negative_at_most or (right is not None and score >= right)
            )
            detail = f"the judge gives it {score} of 5, its positive {'no score' if right is None else right}"
            problems.append(Problem("false_negative", detail) if wrong else None)
        return problems

    async def judge(self, pair: tuple[str, str]) -> Grade:
        """Ask about one query and passage."""
        request = judgment_request(
            pair, self.config, self.prompts, seed=self.seed, room=self.room, probabilities=self.probabilities
        )
        shape = _QuotedJudgment if self.config.quote else _Judgment
        judgment, answer = await ask_for(self.client, request, shape)
        expected = expected_number(answer.alternatives, "score", judgment.score, low=0, high=_BEST_GRADE)
        quoted = True
        if isinstance(judgment, _QuotedJudgment):
            words = fold_words(judgment.words)
            quoted = bool(words) and words in fold_words(pair[1][:_CHARACTERS])
        return Grade(judgment.score, float(judgment.score) if expected is None else expected, quoted)

    def _score(self, query: str, passage: str) -> int | None:
        grade = self.judgment(query, passage)
        return None if grade is None else grade.score


@dataclass
class QueryCheck:
    """The judge of queries, as the audit asks judges. Implements `Judge`.

    Args:
        judge: who judges.
    """

    judge: QueryJudge

    def on_positives(self, pairs: Sequence[tuple[str, str]]) -> list[Problem | None]:
        """Turn away rows whose query nobody would ask."""
        return [Problem("judged_query", words) if words else None for words in self.judge.problems(pairs)]

    def on_negatives(self, claims: Sequence[tuple[str, str, str]]) -> list[Problem | None]:
        """Nothing: negatives are no queries."""
        return [None] * len(claims)

    def answering(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """None: it reads no passages."""
        return [False] * len(pairs)


def of_passages(judges: Sequence[Judge]) -> list[Judge]:
    """The judges that read passages: one of queries has no say in whether a passage answers."""
    return [judge for judge in judges if not isinstance(judge, QueryCheck)]


_SEED_STEP = 7919  # further apart than a document's queries are: row number 2 never repeats row 1's second try


@contextmanager
def open_judges(
    config: Config, run: RunDirectory, units: Callable[[], Mapping[str, WritingUnit]]
) -> Iterator[tuple[list[Judge], Rewrite | None]]:
    """Open the judges that a config asks for, and the strategy if it is to be asked again; the end closes them.

    Args:
        config: the run's.
        run: keeps answers in its journal.
        units: what each row was written from, by the row's id; called where the strategy is to be asked again.
    """
    audit = config.audit
    judges: list[Judge] = []
    rewrite: Rewrite | None = None
    with ExitStack() as stack:
        if audit.cross_encoder is not None:
            judges.append(_load_cross_encoder(audit.cross_encoder, config.training.trust_remote_code))
        # A given query is the user's own, whatever a judge thinks of it.
        query_judge = None if config.start_from == "pairs" else audit.query_judge
        if audit.judge is not None or query_judge is not None or "regenerate" in audit.repair:
            # One session for both: they share what is left of the run's budget.
            engine = stack.enter_context(build_engine(config.engine, concurrency=total_concurrency(config.llm)))
            session = stack.enter_context(paid_session(config, run, engine))
            if query_judge is not None:
                client = session.client(QUERY_JUDGE)
                own = Prompts(config.synthesis.templates)
                judges.append(
                    QueryCheck(QueryJudge(client, engine, config.seed, own, config.llm.max_tokens, config=query_judge))
                )
            if audit.judge is not None:
                judges.append(_language_model_judge(config, audit.judge, session, engine))
            if "regenerate" in audit.repair:
                rewrite = _rewriter(config, run, units(), session, engine)
        yield judges, rewrite


@contextmanager
def open_judge(config: Config, run: RunDirectory) -> Iterator[LanguageModelJudge]:
    """The run's language model as a judge of any number of passages; the end closes it.

    What the audit's judge was asked is in the journal, and is not asked again.

    Args:
        config: the run's.
        run: keeps answers in its journal.
    """
    settings = (config.audit.judge or JudgeConfig()).model_copy(update={"max_passages": None})
    with (
        build_engine(config.engine, concurrency=total_concurrency(config.llm)) as engine,
        paid_session(config, run, engine) as session,
    ):
        yield _language_model_judge(config, settings, session, engine)


def _language_model_judge(
    config: Config, settings: JudgeConfig, session: PaidSession, engine: Engine
) -> LanguageModelJudge:
    return LanguageModelJudge(
        session.client(JUDGE),
        engine,
        seed=config.seed,
        prompts=Prompts(config.synthesis.templates),
        room=config.llm.max_tokens,
        config=settings,
        probabilities=config.judge_probabilities,
    )


def _load_cross_encoder(config: CrossEncoderConfig, trust_remote_code: bool = False) -> CrossEncoderJudge:
    """Load a cross-encoder as a judge.

    Raises:
        ModelError: it cannot be loaded, or gives more than one score a pair.
    """
    from torch.nn import Sigmoid

    from multigrain.encoders.cross_encoder import load_cross_encoder

    model = load_cross_encoder(config.model, setting="audit.cross_encoder.model", trust_remote_code=trust_remote_code)

    def scores(pairs: list[tuple[str, str]]) -> list[float]:
        values = model.predict(pairs, batch_size=config.batch_size, show_progress_bar=False, activation_fn=Sigmoid())
        return [float(value) for value in values]

    return CrossEncoderJudge(scores, config.margin, config.positive_at_least)


def judge_counts(judges: Sequence[Judge]) -> dict[str, dict[str, int]]:
    """How many passages were judged, and how many were not, under the key that audit.json has for it."""
    counts = {}
    for judge in judges:
        if isinstance(judge, LanguageModelJudge):
            counts["judge"] = asdict(judge.counts)
        elif isinstance(judge, QueryCheck):
            counts["query_judge"] = asdict(judge.judge.counts) | {"refused": judge.judge.refused}
    return counts


def _rewriter(
    config: Config, run: RunDirectory, units: Mapping[str, WritingUnit], session: PaidSession, engine: Engine
) -> Rewrite:
    """The run's strategy, asked again for the negatives of rows with units, each time with another seed."""
    examples = ranked_examples(config, run, ask=False)
    client = session.client(REGENERATE)

    def rewrite(rows: Sequence[SynthesizedRow], turn: int) -> Mapping[str, Mapping[Level, Sequence[str]]]:
        seed = config.seed + _SEED_STEP * turn
        strategy = build_strategy(config.synthesis, config.llm, seed=seed, demonstrations=examples)
        row_of = {_negatives_of(row, units[row.id]): row for row in rows if row.id in units}

        async def write(unit: WritingUnit) -> SynthesizedRow:
            return await _writer_of(row_of[unit], strategy).write(unit, client)

        outcomes = engine.map(write, list(row_of))
        return {row_of[outcome.unit].id: _texts(outcome.value) for outcome in outcomes if outcome.value is not None}

    return rewrite


def _writer_of(row: SynthesizedRow, strategy: Strategy) -> Strategy:
    """The member of a mix that wrote the row; drawn anew, with the query and the seed of now, it may be another."""
    return strategy.only(row.strategy) if isinstance(strategy, MixedStrategy) else strategy


def _negatives_of(row: SynthesizedRow, unit: WritingUnit) -> WritingUnit:
    """The unit, to be written once more with the query that the row has."""
    # For a task, the written positive is the document that negatives are written for.
    document = unit.document if unit.task is None else replace(unit.document, text=row.positive)
    return replace(unit, document=document, task=None, query=row.query, with_negatives=True)


def _texts(row: SynthesizedRow) -> dict[Level, list[str]]:
    levels: dict[Level, list[str]] = {level: [text] for level, text in row.negatives.items()}
    for level, texts in row.candidates.items():
        levels.setdefault(level, []).extend(texts)
    return levels
