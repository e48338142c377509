"""The models that the audit asks besides the reference: a cross-encoder, a judge, and the strategy once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import Any

from multigrain.audit.judge import JudgeOpinion
from multigrain.audit.judges import CrossEncoderOpinion, SecondOpinion
from multigrain.audit.steps import Rewrite
from multigrain.config import Config, CrossEncoderConfig, JudgeConfig
from multigrain.engine.build import build_engine
from multigrain.engine.protocol import Engine
from multigrain.errors import ModelError
from multigrain.llm.build import total_concurrency
from multigrain.llm.prices import find_price
from multigrain.llm.session.budget import Spending
from multigrain.llm.session.journal import Journal, JournaledClient
from multigrain.records import Level, SynthesizedRow
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.inputs import read_material, training_units
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.run_strategy import ranked_examples
from multigrain.synthesis.strategies.mix import MixedStrategy
from multigrain.synthesis.strategies.protocol import Strategy, WritingUnit, row_id
from multigrain.synthesis.synthesize import build_strategy

__all__ = ["advisers", "judge_counts", "row_units"]

_HEADS = ("ForSequenceClassification", "ForCausalLM")
_SEED_STEP = 7919  # further apart than a document's queries are: row number 2 never repeats row 1's second try


@contextmanager
def advisers(
    config: Config, run: RunDirectory, units: Callable[[], Mapping[str, WritingUnit]]
) -> Iterator[tuple[list[SecondOpinion], Rewrite | None]]:
    """Whoever else has a say, and the strategy if it is to be asked again; the model is closed at the end.

    Args:
        config: the run's.
        run: keeps answers in its journal.
        units: what each row was written from, by the row's id; called where the strategy is to be asked again.
    """
    audit = config.audit
    opinions: list[SecondOpinion] = []
    rewrite: Rewrite | None = None
    with ExitStack() as stack:
        if audit.cross_encoder is not None:
            opinions.append(_load_cross_encoder(audit.cross_encoder, config.training.trust_remote_code))
        if audit.judge is not None:
            opinions.append(stack.enter_context(_judging(config, run, audit.judge)))
        if "regenerate" in audit.repair:
            rewrite = stack.enter_context(_rewriting(config, run, units()))
        yield opinions, rewrite


def _load_cross_encoder(config: CrossEncoderConfig, trust_remote_code: bool = False) -> CrossEncoderOpinion:
    """Load a cross-encoder as a second opinion.

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
    return CrossEncoderOpinion(lambda pairs: _scores(model, pairs, config.batch_size), config.margin)


@contextmanager
def _judging(config: Config, run: RunDirectory, judge: JudgeConfig) -> Iterator[JudgeOpinion]:
    """The run's language model as judge; what it answers is kept in the run's journal."""
    with _asking(config, run, "judge") as (client, engine):
        prompts = Prompts(config.synthesis.templates)
        yield JudgeOpinion(client, engine, judge, seed=config.seed, prompts=prompts)


def judge_counts(opinions: Sequence[SecondOpinion]) -> dict[str, dict[str, int]]:
    """How many passages were judged, and how many were not, under the key that audit.json has for it."""
    found = [each.counts for each in opinions if isinstance(each, JudgeOpinion)]
    return {"judge": asdict(found[0])} if found else {}


def row_units(config: Config, run: RunDirectory, rows: Sequence[SynthesizedRow]) -> Mapping[str, WritingUnit]:
    """What each of a run's rows was written from, by the row's id; a unit is made when it is looked up."""
    strategies = {row.id: row.strategy for row in rows}
    names = set(strategies.values())
    units = training_units(config, read_material(config, run))
    places = {
        key: place for place, unit in enumerate(units) for name in names if (key := row_id(name, unit)) in strategies
    }
    return _RowUnits(units, places)


class _RowUnits(Mapping[str, WritingUnit]):
    """Units by the ids of their rows.

    Args:
        units: all of them, in order.
        places: where each row's unit stands among them.
    """

    def __init__(self, units: Sequence[WritingUnit], places: Mapping[str, int]) -> None:
        self._units, self._places = units, places

    def __getitem__(self, key: str) -> WritingUnit:
        return self._units[self._places[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@contextmanager
def _rewriting(config: Config, run: RunDirectory, units: Mapping[str, WritingUnit]) -> Iterator[Rewrite]:
    """The run's strategy, to be asked again for the negatives of given queries, each time with another seed.

    Args:
        config: the run's.
        run: keeps the answers in its journal.
        units: what each row was written from, by the row's id; other rows are not asked for.
    """
    examples = ranked_examples(config, run, ask=False)
    with _asking(config, run, "regenerate") as (client, engine):

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

        yield rewrite


def _writer_of(row: SynthesizedRow, strategy: Strategy) -> Strategy:
    """The member of a mix that wrote the row; drawn anew, with the query and the seed of now, it may be another."""
    return strategy.only(row.strategy) if isinstance(strategy, MixedStrategy) else strategy


def _negatives_of(row: SynthesizedRow, unit: WritingUnit) -> WritingUnit:
    """The unit, to be written once more with the query that the row has."""
    # For a task, the written positive is the document that negatives are written for.
    document = unit.document if unit.task is None else replace(unit.document, text=row.positive)
    return replace(unit, document=document, task=None, query=row.query, with_negatives=True)


@contextmanager
def _asking(config: Config, run: RunDirectory, purpose: str) -> Iterator[tuple[JournaledClient, Engine]]:
    with (
        Journal(run.journal_path) as journal,
        build_engine(config.engine, concurrency=total_concurrency(config.llm)) as engine,
    ):
        spending = Spending(
            journal.totals(),
            price=find_price(config.llm),
            max_cost=config.synthesis.max_cost,
            max_tokens=config.synthesis.max_total_tokens,
        )
        client = JournaledClient(
            engine.client(config.llm, seed=config.seed),
            journal,
            strategy=purpose,
            may_ask=spending.decide,
            on_answer=spending.add,
        )
        try:
            yield client, engine
        finally:
            engine.run(client.aclose())


def _texts(row: SynthesizedRow) -> dict[Level, list[str]]:
    levels: dict[Level, list[str]] = {level: [text] for level, text in row.negatives.items()}
    for level, texts in row.candidates.items():
        levels.setdefault(level, []).extend(texts)
    return levels


def _scores(model: Any, pairs: list[tuple[str, str]], batch_size: int) -> list[float]:
    from torch.nn import Sigmoid

    scores = model.predict(pairs, batch_size=batch_size, show_progress_bar=False, activation_fn=Sigmoid())
    return [float(score) for score in scores]
