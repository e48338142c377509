"""The results of an evaluation, typed, and the file they are kept in: `evaluation.json` holds what a table shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from multigrain.encoders.facts import EncodingFacts, ModelCost
from multigrain.errors import EvaluationError
from multigrain.evaluation.metrics import METRICS
from multigrain.evaluation.reembedding import Reembedding
from multigrain.evaluation.reranked import RerankTable
from multigrain.evaluation.retrieval import SetScores
from multigrain.evaluation.rival import Rival
from multigrain.evaluation.sets.retrieval_set import EVIDENCE, EvaluationSet, Evidence, Role, evidence_of
from multigrain.evaluation.sets.sts import Floats, SimilaritySet, compare_similarities, spearman
from multigrain.evaluation.sets.written import WrittenQuality
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import ENOUGH_CLUSTERS, PairedDifference, compare_paired
from multigrain.evaluation.vector_sizes import SizeTable, plain_table
from multigrain.storage.files import atomic_write

BASE: Final = "base"
CHOSEN_BY: Final = "validation nDCG@10"
NDCG: Final = "nDCG@10"
SPEARMAN: Final = "Spearman"


@dataclass(frozen=True, slots=True)
class ModelScores:
    """One model on one set.

    Attributes:
        score: the set's metric: for retrieval nDCG@10, mean over queries, 0 to 1.
        metrics: the other metrics by name, e.g. "recall_at_10"; empty where nothing is retrieved.
    """

    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetResult:
    """Every model on one set.

    Attributes:
        name: the set's name.
        role: what it is for; None where that is not known.
        provenance: who judged; None where that is not known.
        queries: how many queries (or pairs) were scored; 0 where MTEB gives one number only.
        documents: how many documents were searched; None where nothing is.
        models: model name to scores.
        delta: model name to its score minus the base model's; every model but the base. Empty where a task has one
            number and no parts to resample.
        metric: what the scores are.
        seen_queries: how many of the queries a document answers that was tuned on; None where that is not known.
        notes: what the figures depend on besides, e.g. what was left out of the set.
        clusters: how many clusters the queries form, see `EvaluationSet.clusters`; None where that is not known, as in
            results of earlier versions, which took every query for itself.
        quality: of queries that a language model wrote; None for others, and where it was not measured.
    """

    name: str
    role: Role | None
    provenance: str | None
    queries: int
    documents: int | None
    models: Mapping[str, ModelScores]
    delta: Mapping[str, PairedDifference]
    metric: str = NDCG
    seen_queries: int | None = None
    notes: tuple[str, ...] = ()
    clusters: int | None = None
    quality: WrittenQuality | None = None

    @property
    def cluster_words(self) -> str:
        """In how many clusters the queries are, in words; empty where each stands for itself."""
        return "" if self.clusters in (None, self.queries) else f"in {self.clusters:,} clusters"

    @property
    def counted(self) -> int:
        """How many things vary independently: the clusters or, where they are not known, the queries."""
        return self.clusters or self.queries

    def few_words(self, difference: PairedDifference | None) -> str:
        """That a difference's interval says next to nothing, as it comes from so few; empty where it excludes zero."""
        if difference is None or not 0 < self.counted < ENOUGH_CLUSTERS or not difference.low <= 0 <= difference.high:
            return ""
        return f"too few {'clusters' if self.cluster_words else self.unit} ({self.counted})"

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that is to be told beside the figures."""
        return self.notes if self.quality is None else (*self.notes, str(self.quality))

    @property
    def seen_words(self) -> str:
        """On what documents the queries are, in words; empty where that is not known."""
        if self.seen_queries is None:
            return ""
        share = {0: "none", self.queries: "all"}.get(self.seen_queries, f"{self.seen_queries:,} of them")
        return f"{share} on documents tuned on"

    @property
    def evidence(self) -> Evidence:
        """What the figures rest on."""
        return evidence_of(self.provenance)

    @property
    def evidence_rank(self) -> tuple[bool, int]:
        """How much the set proves beside others, the smaller the more: queries before pairs, then by the evidence."""
        return self.metric != NDCG, EVIDENCE.index(self.evidence)

    @property
    def unit(self) -> str:
        """What is counted."""
        return "pairs" if self.metric == SPEARMAN else "queries"

    @property
    def metric_names(self) -> list[str]:
        """The metrics that any model was measured by, besides the score."""
        return sorted({name for scores in self.models.values() for name in scores.metrics})


@dataclass(frozen=True, slots=True)
class Slice:
    """The queries of one kind.

    Attributes:
        kind: what tells queries apart, e.g. "length".
        value: which of them these are, e.g. "1 to 3 words".
        result: the set with these queries alone; without differences where they are too few. Its intervals allow for
            the number of slices.
    """

    kind: str
    value: str
    result: SetResult


@dataclass(frozen=True, slots=True)
class EvaluationResults:
    """Every set and every model, compared with the first: what `evaluation.json` holds.

    Attributes:
        chosen: the model that validation chose; empty where nothing was chosen.
        models: all of them, the base first.
        sets: in the order they were scored.
        bootstrap_samples: random signs behind each p-value; the name is that of the first version's file.
        confidence: width of the intervals.
        seed: of the resampling.
        chosen_by: how `chosen` was chosen.
        forgetting_threshold: what a model may lose on a forgetting set.
        chosen_on: the validation sets that chose, by name; empty where all of them did.
        facts: model to what decides its figures besides its weights; results of earlier versions say nothing of it.
        rivals: what else was scored on the test queries; see `evaluation.choice`.
        costs: model, rivals among them, to what searching with it takes, where that was measured.
        vector_sizes: how much smaller vectors lose, one table a set and model that were tried.
        slices: the models by kind of query.
        reembedding: what models that keep the base's document vectors spare; None where none does.
        reranking: two-step search, one table a test set; see `evaluation.deployment`.
    """

    chosen: str
    models: tuple[str, ...]
    sets: tuple[SetResult, ...]
    bootstrap_samples: int
    confidence: float
    seed: int
    chosen_by: str = CHOSEN_BY
    forgetting_threshold: float = 0.01
    chosen_on: tuple[str, ...] = ()
    facts: Mapping[str, EncodingFacts] = field(default_factory=dict)
    rivals: tuple[Rival, ...] = ()
    costs: Mapping[str, ModelCost] = field(default_factory=dict)
    vector_sizes: tuple[SizeTable, ...] = ()
    slices: tuple[Slice, ...] = ()
    reembedding: Reembedding | None = None
    reranking: tuple[RerankTable, ...] = ()

    @property
    def base(self) -> str:
        """The model that the others are compared with."""
        return self.models[0]

    @property
    def headline_set(self) -> SetResult | None:
        """The test set that a first sentence speaks of: the best evidence, and of equally good ones the first."""
        return next(iter(self.with_role("test")), None)

    def with_role(self, role: Role) -> tuple[SetResult, ...]:
        """The sets that play one role, the best evidence first; of equally good ones in the order of scoring."""
        found = [result for result in self.sets if result.role == role]
        return tuple(sorted(found, key=lambda result: result.evidence_rank))

    def is_minor(self, result: SetResult) -> bool:
        """Whether a test set proves little beside others: a language model wrote its queries, people those of others.

        Such a set decides nothing, and is shown last and small.
        """
        return (
            result.role == "test"
            and result.evidence == "written"
            and any(other.evidence != "written" and other.metric == NDCG for other in self.with_role("test"))
        )

    @property
    def shown(self) -> tuple[SetResult, ...]:
        """All sets as they are shown one after another: tests, what must not get worse, validation, minor tests."""
        roles = ("test", "forgetting", "validation", None)
        in_turn = sorted(self.sets, key=lambda result: (roles.index(result.role), result.evidence_rank))
        return tuple(sorted(in_turn, key=self.is_minor))

    def selected_on(self, result: SetResult) -> bool:
        """Whether a set had a share in the model selection."""
        return result.role == "validation" and (not self.chosen_on or result.name in self.chosen_on)

    def beat_base(self) -> bool | None:
        """Whether the chosen model scored above the base, in the mean over the sets that chose; None without any."""
        gains = [
            result.models[self.chosen].score - result.models[self.base].score
            for result in self.sets
            if self.selected_on(result) and {self.chosen, self.base} <= result.models.keys()
        ]
        return sum(gains) > 0 if gains else None


def choose(validation: Mapping[str, float]) -> str:
    """The name with the highest validation nDCG@10 (several sets: the mean over sets); of equal ones, the earlier.

    Raises:
        EvaluationError: there is nothing to choose from.
    """
    if not validation:
        raise EvaluationError("no model to choose from: validation scored none")
    return max(validation, key=lambda name: validation[name])


def selection_words(names: Sequence[str]) -> str:
    """What chose, in words.

    Args:
        names: of the validation sets that did.
    """
    if list(names) == ["validation"]:
        return CHOSEN_BY
    if len(names) == 1:
        return f"{NDCG} on validation set {names[0]}"
    return f"mean {NDCG} over validation sets {', '.join(names)}"


def summarise_set(
    evaluation_set: EvaluationSet, scores: Mapping[str, SetScores], settings: CompareSettings, *, base: str = BASE
) -> SetResult:
    """Turn every model's scores on one set into means and paired differences from the base model.

    Args:
        evaluation_set: the set.
        scores: model name to scores.
        settings: how to compare.
        base: the model that others are compared with; without it no differences are made.

    Raises:
        EvaluationError: fewer than two queries.
    """
    reference = scores[base].ndcg_by_query if base in scores else None
    return SetResult(
        name=evaluation_set.name,
        role=evaluation_set.role,
        provenance=evaluation_set.provenance,
        queries=len(evaluation_set.queries),
        documents=len(evaluation_set.corpus),
        models={name: ModelScores(model.ndcg_at_10, model.metrics) for name, model in scores.items()},
        delta={
            name: compare_paired(reference, model.ndcg_by_query, settings, evaluation_set.clusters)
            for name, model in scores.items()
            if reference is not None and name != base
        },
        notes=evaluation_set.remarks,
        clusters=len(set(evaluation_set.clusters)),
    )


def summarise_similarity(
    similarity_set: SimilaritySet, similarities: Mapping[str, Floats], settings: CompareSettings, *, base: str = BASE
) -> SetResult:
    """Turn every model's similarities on one set into correlations and paired differences from the base model.

    Args:
        similarity_set: the pairs and people's scores.
        similarities: model name to its similarity of each pair.
        settings: how to compare; see `compare_similarities`.
        base: the model that others are compared with; without it no differences are made.
    """
    gold = np.array(similarity_set.gold)
    return SetResult(
        name=similarity_set.name,
        role=similarity_set.role,
        provenance=similarity_set.provenance,
        queries=len(gold),
        documents=None,
        models={name: ModelScores(spearman(gold, values)) for name, values in similarities.items()},
        delta={
            name: compare_similarities(gold, similarities[base], values, settings)
            for name, values in similarities.items()
            if base in similarities and name != base
        },
        metric=SPEARMAN,
        notes=similarity_set.notes,
    )


def unselected_results(
    models: Iterable[str],
    sets: Iterable[SetResult],
    settings: CompareSettings,
    *,
    forgetting_threshold: float = 0.01,
    facts: Mapping[str, EncodingFacts] | None = None,
    vector_sizes: Iterable[SizeTable] = (),
    slices: Iterable[Slice] = (),
    reranking: Iterable[RerankTable] = (),
) -> EvaluationResults:
    """Results of models among which nothing was selected.

    Args:
        models: the base first.
        sets: compared with the base.
        settings: how they were compared.
        forgetting_threshold: what a model may lose on a forgetting set.
        facts: model to what decides its figures besides its weights.
        vector_sizes: how much smaller vectors lose.
        slices: the models by kind of query.
        reranking: two-step search.
    """
    return EvaluationResults(
        chosen="",
        models=tuple(models),
        sets=tuple(sets),
        bootstrap_samples=settings.samples,
        confidence=settings.confidence,
        seed=settings.seed,
        chosen_by="",
        forgetting_threshold=forgetting_threshold,
        facts=dict(facts or {}),
        vector_sizes=tuple(vector_sizes),
        slices=tuple(slices),
        reranking=tuple(reranking),
    )


def plain_set(result: SetResult) -> dict[str, Any]:
    """A set's results as JSON-like values, a model's metrics beside its score (None: not measured here).

    Notes are there where there are any, so that files without them are as they always were.
    """
    values = asdict(result)
    for name in ("seen_queries", "clusters", "quality"):
        if values[name] is None:  # as in files of runs that did not ask
            del values[name]
    unmeasured = dict.fromkeys(METRICS.names())
    values["models"] = {
        name: {"score": scores.score, **unmeasured, **scores.metrics} for name, scores in result.models.items()
    }
    if not result.notes:
        del values["notes"]
    return {("label" if key == "provenance" else key): value for key, value in values.items()}


def _from_plain_set(values: dict[str, Any]) -> dict[str, Any]:
    """The reverse of `plain_set`. Reads every version's file: they differ in which metrics stand beside the score."""
    models = {
        name: {
            "score": scores["score"],
            "metrics": {key: figure for key, figure in scores.items() if key != "score" and figure is not None},
        }
        for name, scores in values["models"].items()
    }
    return {**values, "models": models, "provenance": values["label"]}


def read_sets(values: Iterable[dict[str, Any]]) -> tuple[SetResult, ...]:
    """Sets from what `plain_set` made of them.

    Raises:
        ValueError, KeyError, TypeError: they are something else.
    """
    return TypeAdapter(tuple[SetResult, ...]).validate_python(list(map(_from_plain_set, values)))


def plain_slice(part: Slice) -> dict[str, Any]:
    """A slice as JSON-like values: its kind and value, and what `plain_set` makes of it."""
    return {"kind": part.kind, "value": part.value, "result": plain_set(part.result)}


def _from_plain_slice(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "result": _from_plain_set(values["result"])}


def read_slices(values: Iterable[dict[str, Any]]) -> tuple[Slice, ...]:
    """Slices from what `plain_slice` made of them.

    Raises:
        ValueError, KeyError, TypeError: they are something else.
    """
    return TypeAdapter(tuple[Slice, ...]).validate_python(list(map(_from_plain_slice, values)))


def write_results(path: Path, results: EvaluationResults) -> None:
    """Write `evaluation.json`, whole or not at all."""
    values = {
        **asdict(results),
        "sets": [plain_set(result) for result in results.sets],
        "vector_sizes": list(map(plain_table, results.vector_sizes)),
        "slices": list(map(plain_slice, results.slices)),
    }
    atomic_write(path, json.dumps(values, indent=2, ensure_ascii=False))


def read_results(path: Path) -> EvaluationResults:
    """Read `evaluation.json` of this version or an earlier one.

    Raises:
        EvaluationError: the file is missing or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["sets"] = list(map(_from_plain_set, values["sets"]))
        values["slices"] = list(map(_from_plain_slice, values.get("slices", ())))
        results = TypeAdapter(EvaluationResults).validate_python(values)
    except OSError as error:
        raise EvaluationError(f"{path}: no evaluation results ({error.strerror}); evaluate first") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise EvaluationError(
            f"{path}: not evaluation results of this version ({place}: {problem['msg']}); evaluate again"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvaluationError(f"{path}: not evaluation results of this version ({error}); evaluate again") from None
    return results
