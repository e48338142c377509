"""The models that the audit asks besides the reference: a cross-encoder, a judge, and the strategy once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import Any

from multigrain.audit.judges import CrossEncoderJudge, Judge, LanguageModelJudge
from multigrain.audit.steps import Rewrite
from multigrain.config import Config, CrossEncoderConfig
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Engine
from multigrain.errors import ModelError
from multigrain.llm.build import total_concurrency
from multigrain.llm.session.session import PaidSession, paid_session
from multigrain.records import Level, SynthesizedRow
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.likelihood import ranked_examples
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit
from multigrain.synthesis.synthesize import build_strategy

_HEADS = ("ForSequenceClassification", "ForCausalLM")
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
        if audit.judge is not None or "regenerate" in audit.repair:
            # One session for both: they share what is left of the run's budget.
            engine = stack.enter_context(build_engine(config.engine, concurrency=total_concurrency(config.llm)))
            session = stack.enter_context(paid_session(config, run, engine))
            if audit.judge is not None:
                prompts = Prompts(config.synthesis.templates)
                judge = session.client("judge")
                judges.append(LanguageModelJudge(judge, engine, audit.judge, seed=config.seed, prompts=prompts))
            if "regenerate" in audit.repair:
                rewrite = _rewriter(config, run, units(), session, engine)
        yield judges, rewrite


def _load_cross_encoder(config: CrossEncoderConfig, trust_remote_code: bool = False) -> CrossEncoderJudge:
    """Load a cross-encoder as a judge.

    Raises:
        ModelError: it cannot be loaded, or gives more than one score a pair.
    """
    from sentence_transformers import CrossEncoder

    try:
        model = CrossEncoder(config.model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"audit.cross_encoder.model {config.model!r}: cannot be loaded as a cross-encoder ({problem}): "
            "give a folder or a hub id of a sentence-transformers cross-encoder"
        ) from None
    if model.num_labels != 1:
        raise ModelError(
            f"audit.cross_encoder.model {config.model!r}: gives {model.num_labels} scores a pair; "
            "a cross-encoder with one is needed"
        )
    made_for = getattr(model.config, "architectures", None) or []
    if not any(name.endswith(_HEADS) for name in made_for):
        # It would be loaded all the same, with a head of random weights.
        raise ModelError(
            f"audit.cross_encoder.model {config.model!r}: holds {', '.join(made_for) or 'no scoring head'}, which "
            "scores no pairs; give a cross-encoder, not an embedding model"
        )
    return CrossEncoderJudge(lambda pairs: _scores(model, pairs, config.batch_size), config.margin)


def judge_counts(judges: Sequence[Judge]) -> dict[str, dict[str, int]]:
    """How many passages were judged, and how many were not, under the key that audit.json has for it."""
    counts = [judge.counts for judge in judges if isinstance(judge, LanguageModelJudge)]
    return {"judge": asdict(counts[0])} if counts else {}


def _rewriter(
    config: Config, run: RunDirectory, units: Mapping[str, WritingUnit], session: PaidSession, engine: Engine
) -> Rewrite:
    """The run's strategy, to be asked again for the negatives of given queries, each time with another seed.

    Args:
        config: the run's.
        run: keeps the ranking of few-shot examples.
        units: what each row was written from, by the row's id; other rows are not asked for.
        session: the model.
        engine: where the strategy runs.
    """
    examples = ranked_examples(config, run, ask=False)
    client = session.client("regenerate")

    def rewrite(rows: Sequence[SynthesizedRow], turn: int) -> Mapping[str, Mapping[Level, Sequence[str]]]:
        seed = config.seed + _SEED_STEP * turn
        strategy = build_strategy(config.synthesis, config.llm, seed=seed, demonstrations=examples)
        asked = {_negatives_of(row, units[row.id]): row for row in rows if row.id in units}

        async def write(unit: WritingUnit) -> SynthesizedRow:
            return await _writer_of(asked[unit], strategy).write(unit, client)

        answers: dict[str, Mapping[Level, Sequence[str]]] = {}
        for outcome in engine.map(write, list(asked)):
            if outcome.value is not None:
                answers[asked[outcome.unit].id] = _texts(outcome.value)
        return answers

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


def _scores(model: Any, pairs: list[tuple[str, str]], batch_size: int) -> list[float]:
    from torch.nn import Sigmoid

    scores = model.predict(pairs, batch_size=batch_size, show_progress_bar=False, activation_fn=Sigmoid())
    return [float(score) for score in scores]
