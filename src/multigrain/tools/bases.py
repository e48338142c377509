"""Which base to tune, before anything is paid for: candidates on the run's validation queries, and how fast they are.

Nothing is trained: what is compared are bases as they are. The one that starts higher mostly ends higher; that is no
proof.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from multigrain.config import Config
from multigrain.display import numbers as figures
from multigrain.display.progress import Progress
from multigrain.encoders.models import Encoding, ModelSpec, parse_model
from multigrain.encoders.reference import encoding_precision
from multigrain.errors import EvaluationError
from multigrain.evaluation.choice import over
from multigrain.evaluation.cost import model_cost
from multigrain.evaluation.results import BASE, EvaluationResults, summarise_set
from multigrain.evaluation.retrieval import evaluate_retrieval
from multigrain.evaluation.rivals import sample_texts, score_rivals
from multigrain.evaluation.sets.retrieval_set import sample
from multigrain.evaluation.sets.run_sets import validation_sets
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.verdict import Conclusion, Verdict
from multigrain.stages.base import RunContext
from multigrain.stages.models import RunModels
from multigrain.stages.run import run_stages
from multigrain.storage.packages import encoder_name, plain_encoder_name

KNOWN: Final = (
    "sentence-transformers/all-MiniLM-L6-v2",
    "BAAI/bge-small-en-v1.5",
    "ibm-granite/granite-embedding-small-english-r2",
    "Alibaba-NLP/gte-modernbert-base",
    "intfloat/multilingual-e5-small",
    "BAAI/bge-m3",
    "Qwen/Qwen3-Embedding-0.6B",
)
"""Bases worth a look, by size: short and long texts, English and many languages; all may be used freely."""

_QUERIES: Final = 300
_DOCUMENTS: Final = 3_000


@dataclass(frozen=True, slots=True)
class KnownFacts:
    """What MTEB knows of a model.

    Attributes:
        tokens: of a text that it reads; None for any number.
        licence: its name.
        languages: how many it was made for.
        query_prompt: put before queries.
        document_prompt: put before documents.
    """

    tokens: int | None
    licence: str
    languages: int
    query_prompt: str | None = None
    document_prompt: str | None = None

    def __str__(self) -> str:
        read = "any length" if self.tokens is None else f"{self.tokens:,} tokens"
        spoken = "1 language" if self.languages == 1 else f"{self.languages} languages"
        return f"{read}, {spoken}, licence {self.licence}"


@dataclass(frozen=True)
class BaseComparison:
    """What came out.

    Attributes:
        results: the config's base and the candidates, as a base and its rivals on the validation queries.
        facts: candidate to what MTEB knows of it, where it knows it.
        base: the config's base, as it is named there.
    """

    results: EvaluationResults
    facts: dict[str, KnownFacts]
    base: str

    @property
    def conclusions(self) -> tuple[Conclusion, ...]:
        """Each candidate against the config's base, on each set, corrected for their number."""
        return over(self.results, BASE)

    @property
    def advised(self) -> str:
        """What to tune: the candidate with the largest gain that is shown, and no loss on any set; or the base."""
        worse = {each.model for each in self.conclusions if each.verdict is Verdict.WORSE}
        better = [each for each in self.conclusions if each.verdict is Verdict.BETTER and each.model not in worse]
        return max(better, key=lambda each: each.difference.mean).model if better else self.base

    def lines(self) -> Iterator[str]:
        """For a terminal: a line for each model and set, and what to tune."""
        for result in self.results.sets:
            score = figures.score(result.models[BASE].score)
            yield f"{result.name} ({result.provenance}, {result.queries} queries): {self.base} {score}"
        for rival in self.results.rivals:
            if rival.skipped:
                yield f"{rival.name}: skipped, {rival.skipped}"
        for each in self.conclusions:
            points = f"{figures.interval(each.difference)} points"
            yield f"{each.result.name}: {each.model} {figures.score(each.score)}, {points}: {each.verdict.value}"
        for name, cost in self.results.costs.items():
            known = f"; {self.facts[name]}" if name in self.facts else ""
            yield f"{self.base if name == BASE else name}: {cost}{known}"
        if self.advised == self.base:
            yield f"tune {self.base}: no other is shown to start higher on these queries"
        else:
            yield f"tune {self.advised} (training.base_model): untuned it is shown to start higher; that is no proof"

    def plain(self) -> dict[str, Any]:
        """As JSON-like values."""
        return {
            "base": self.base,
            "advised": self.advised,
            "sets": {
                result.name: {"label": result.provenance, "queries": result.queries, "base": result.models[BASE].score}
                for result in self.results.sets
            },
            "candidates": [asdict(rival) for rival in self.results.rivals],
            "costs": {name: asdict(cost) for name, cost in self.results.costs.items()},
            "facts": {name: asdict(known) for name, known in self.facts.items()},
        }


def compare_bases(config: Config, directory: Path, named: Sequence[str], *, progress: Progress) -> BaseComparison:
    """Score bases on a run's validation queries; its documents are read, and nobody is asked anything.

    Args:
        config: the run's.
        directory: the run directory.
        named: candidates; none for those of `KNOWN`. One that cannot be had is skipped.
        progress: who is told.

    Raises:
        EvaluationError: there are no validation queries yet, or a candidate cannot be understood.
        ModelError: the config's base cannot be loaded.
        ConfigError: it is behind an endpoint, and would cost more than may be spent.
    """
    run = run_stages(config, directory, ["documents"], progress=progress)
    whole = validation_sets(config, run)
    if not whole:
        raise EvaluationError(
            "no validation queries yet to compare bases on: name a labelled set with role: validation under "
            "evaluation.sets, give documents with titles, or write the queries first with `multigrain synthesize`"
        )
    limits = {"max_queries": _QUERIES, "max_documents": _DOCUMENTS}
    # They choose here, and judge nothing later: for this comparison they are what a test is for another.
    sets = [replace(sample(each, **limits, seed=config.seed), role="test") for each in whole]
    base = encoder_name(config.training.base_model)
    names = [name for name in named or KNOWN if plain_encoder_name(name) != plain_encoder_name(base)]
    known = {name: found for name in names if (found := _known(name)) is not None}
    specs = [_spec(name, known) for name in names]
    _require_names(specs)
    settings = CompareSettings(config.evaluation.bootstrap_samples, config.evaluation.confidence, seed=config.seed)
    texts, cache = sample_texts(sets), run.vectors_path
    with closing(RunModels(RunContext(config, run, progress, embeddings=cache))) as models:
        if models.is_served:
            models.journal.reserve(
                [text for each in sets for text in each.queries.values()],
                [text for each in sets for text in each.corpus.values()],
            )
        model, cached = models.base
        with encoding_precision(config, model):
            own = {each.name: {BASE: evaluate_retrieval(cached, each)} for each in sets}
            here = None if models.is_served else model
            cost = model_cost(here, cached.uncached, texts)
        beside = score_rivals(
            specs,
            sets,
            Encoding(config.evaluation.batch_size, cache, trust_remote_code=config.training.trust_remote_code),
            model=cached,
            cost=cost,
            progress=progress,
        )
    by_name = {each.name: each for each in sets}
    results = EvaluationResults(
        chosen="",
        models=(BASE,),
        sets=tuple(summarise_set(each, own[each.name], settings) for each in sets),
        bootstrap_samples=settings.samples,
        confidence=settings.confidence,
        seed=settings.seed,
        chosen_by="",
        rivals=beside.rivals(specs, by_name, own, (BASE,), settings),
        costs={BASE: cost, **beside.costs},
    )
    return BaseComparison(results, known, base)


def _spec(name: str, known: Mapping[str, KnownFacts]) -> ModelSpec:
    facts = known.get(name)
    spec = parse_model(name)
    if facts is None:
        return spec
    return replace(spec, query_prompt=facts.query_prompt, document_prompt=facts.document_prompt)


def _require_names(specs: Sequence[ModelSpec]) -> None:
    names = [BASE, *(spec.name for spec in specs)]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise EvaluationError(f"two bases are called {repeated!r}; name them: NAME=REFERENCE")


def _known(name: str) -> KnownFacts | None:
    """What MTEB's list of models says; None where it knows no such model."""
    import mteb

    try:
        meta = mteb.get_model_meta(name, fetch_from_hf=False)
    except (KeyError, ValueError):
        return None
    prompts = (meta.loader_kwargs or {}).get("model_prompts") or {}
    tokens = None if meta.max_tokens is None or math.isinf(meta.max_tokens) else int(meta.max_tokens)
    languages = len(meta.languages or ())
    return KnownFacts(tokens, str(meta.license or "unknown"), languages, prompts.get("query"), prompts.get("document"))
