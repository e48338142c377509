"""How the proof is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from multigrain.config.llm import LLMConfig
from multigrain.config.paths import EvaluationPath, RivalReference
from multigrain.config.section import Section
from multigrain.records import Precision

_TRIED: Final[list[Precision]] = ["float16", "int8", "binary"]
FirstStageName = Literal["base", "tuned", "bm25", "hybrid"]
_FIRST_STAGES: Final[list[FirstStageName]] = ["base", "tuned", "bm25", "hybrid"]
_SIMILARITY_SUFFIXES: Final = (".tsv", ".csv", ".jsonl", ".parquet")


def unnamed(reference: str) -> str:
    """What NAME=REFERENCE refers to."""
    return reference.partition("=")[2] or reference


class EvaluationSetConfig(Section):
    """A labelled set to evaluate on, besides the held-out queries."""

    added: ClassVar[Mapping[str, Any]] = {"cluster_by": None, "slice_by": []}

    name: str
    """What tables call it."""

    path: EvaluationPath | None = None
    """A BEIR folder (corpus.jsonl, queries.jsonl, qrels/test.tsv), a .tsv, .csv, .jsonl or .parquet file of sentence
    pairs (sentence1, sentence2, score), package:NAME/FILE for a known data package, or mteb:NAME for an MTEB task or
    benchmark."""

    queries: EvaluationPath | None = None
    """Instead of a path: a file of queries (id and text; .tsv, .csv, .jsonl or .parquet)."""

    documents: EvaluationPath | None = None
    """The documents that go with `queries`, in any of the same forms."""

    qrels: EvaluationPath | None = None
    """The relevance judgments that go with `queries`: TREC's four columns, or query id, document id and grade."""

    role: Literal["test", "validation", "forgetting"] = "test"
    """test: in the domain; it judges and chooses nothing. validation: in the domain; its queries choose between
    candidates and shares to merge, instead of those of the held-out documents (several sets: by the mean over sets),
    and prove nothing. forgetting: unrelated; it must not get worse."""

    max_queries: int | None = Field(default=None, ge=1)
    """Take a seeded sample of this many queries (or pairs), with their relevant documents (null: all)."""

    max_documents: int | None = Field(default=None, ge=1)
    """Take a seeded sample of this many documents, relevant ones always among them (null: all)."""

    cluster_by: str | None = None
    """A column of the queries' file whose equal values make a cluster, e.g. who asked: intervals take clusters, not
    queries, as what varies (null: queries that one document answers are a cluster)."""

    slice_by: list[str] = Field(default_factory=list)
    """Columns of the queries' file: figures for each of their values, besides those by length, number of answers and
    the like."""

    @property
    def kind(self) -> Literal["retrieval", "similarity", "task"]:
        """What the path names: queries with documents, sentence pairs with scores, or an MTEB task or benchmark."""
        if self.path is None or self.path.startswith("package:"):
            return "retrieval"
        if self.path.startswith("mteb:"):
            return "task"
        inside = PurePath(self.path)
        judgments = inside.parent.name == "qrels"
        return "similarity" if inside.suffix in _SIMILARITY_SUFFIXES and not judgments else "retrieval"

    @property
    def has_columns(self) -> bool:
        """Whether there is a file of queries, whose columns can be read."""
        return self.kind == "retrieval" and not (self.path or "").startswith("package:")

    @model_validator(mode="after")
    def _lies_somewhere(self) -> Self:
        own = [name for name in ("queries", "documents", "qrels") if getattr(self, name) is not None]
        if self.path is None and len(own) < 3:
            raise ValueError(f"set {self.name!r}: give a path, or queries, documents and qrels")
        if self.path is not None and own:
            raise ValueError(f"set {self.name!r}: give a path or {', '.join(own)}, not both")
        if self.kind == "task" and (self.max_queries or self.max_documents):
            raise ValueError(f"set {self.name!r}: MTEB tasks are taken whole; leave max_queries and max_documents out")
        return self

    @model_validator(mode="after")
    def _has_the_columns(self) -> Self:
        asked = [key for key in ("cluster_by", "slice_by") if getattr(self, key)]
        if asked and not self.has_columns:
            raise ValueError(
                f"set {self.name!r}: {asked[0]} names columns of a file of queries, and {self.path} has none"
            )
        return self

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if self.role == "validation" and self.kind != "retrieval":
            what = "an MTEB task" if self.kind == "task" else "a file of sentence pairs"
            raise ValueError(
                f"set {self.name!r}: role: validation needs queries and the documents they search, and {self.path} is "
                f"{what}; give a BEIR folder, or queries, documents and qrels"
            )
        return self


class ReembeddingConfig(Section):
    """What embedding your corpus once takes, which a tuned model asks for unless it keeps the base's documents."""

    documents: Annotated[int, Field(ge=1)] | None = None
    """Texts of the corpus in use (null: the run's documents)."""

    price: Annotated[float, Field(ge=0)] | None = None
    """US dollars per million tokens (null: the price of a base behind an endpoint, where it is known)."""

    texts_per_second: Annotated[float, Field(gt=0)] | None = None
    """That your machine embeds (null: as measured on this one)."""


class RerankingConfig(Section):
    """Two-step search on the test queries: what first stages find, sorted again by rerankers."""

    models: list[RivalReference] = Field(default_factory=list)
    """Ready-made rerankers beside the run's own: hub ids or folders of cross-encoders. NAME=MODEL names one."""

    first_stages: list[FirstStageName] = Field(default_factory=_FIRST_STAGES.copy, min_length=1)
    """What finds documents: base, tuned (the chosen or best tuned embedder), bm25, hybrid (BM25 and that embedder
    together)."""

    depths: list[Annotated[int, Field(ge=1, le=1000)]] = Field(default_factory=lambda: [10, 30, 100], min_length=1)
    """How many documents of each query are sorted again."""

    max_queries: int | None = Field(default=200, ge=2)
    """Take a seeded sample of this many queries of each test set (null: all)."""


class EvaluationConfig(Section):
    """How the proof is made."""

    added: ClassVar[Mapping[str, Any]] = {
        "seen_documents": False,
        "rivals": [],
        "vector_lengths": [],
        "vector_precisions": _TRIED,
        "reembedding": {"documents": None, "price": None, "texts_per_second": None},
        "reranking": RerankingConfig().model_dump(mode="json"),
    }

    queries: Literal["auto", "titles", "synthetic", "none"] = "auto"
    """Held-out queries: the documents' titles (human), or written by the LLM with another prompt
    (a synthetic estimate). auto: titles where at least half of the held-out documents have one, else written ones,
    where no labelled set of `sets` does what they would: test, or choose."""

    seen_documents: bool = True
    """Report people's queries on documents that were tuned on as well, as they are searched in use: the titles of
    training documents, where at least half of them have one. No model is trained on them. And say of every set how
    many of its queries are answered by documents that were tuned on."""

    rivals: list[RivalReference] = Field(default_factory=lambda: ["bm25", "hybrid"])
    """What else might have done it, on the same test queries: bm25; hybrid (BM25 and the model of model/ together, by
    reciprocal rank); a ready-made model's hub id, folder, package:NAME, or openai:NAME[@ADDRESS]. NAME=MODEL names it.
    One that can't be had is named and skipped ([]: none)."""

    llm: LLMConfig | None = None
    """Another language model for the held-out queries, with the keys of `llm` (null: the one that writes the
    training rows). A model that is tested on its own kind of queries looks better than it is."""

    bootstrap_samples: int = Field(default=10_000, ge=100)
    """Random signs behind each p-value; resamples behind the intervals of correlations, and of several seeds."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Width of the intervals."""

    forgetting_threshold: float = Field(default=0.01, ge=0, lt=1)
    """What the chosen model may lose on a forgetting set, on a scale of 0 to 1, before it counts as forgetting."""

    vector_lengths: list[Annotated[int, Field(ge=1)]] | None = None
    """Lengths to which the chosen model's vectors are cut to see what shorter ones lose (null: those of
    training.matryoshka, else a half and a quarter; []: smaller vectors are not tried)."""

    vector_precisions: list[Precision] = Field(default_factory=_TRIED.copy)
    """How the numbers of vectors are stored to see what that loses; int8 and binary with and without rescoring."""

    reembedding: ReembeddingConfig = Field(default_factory=ReembeddingConfig)
    """What embedding your corpus again takes; shown where a candidate has side: query, e.g. {documents: 5000000,
    price: 0.02}."""

    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once."""

    reranking: RerankingConfig = Field(default_factory=RerankingConfig)
    """Two-step search, where the run trains a reranker or names one, e.g. {depths: [10, 50, 200]}."""

    sets: list[EvaluationSetConfig] = Field(default_factory=list)
    """More sets: labelled ones of your own, to test or to choose by, and unrelated ones to check for forgetting."""

    @property
    def rival_references(self) -> list[str]:
        """The models that `rivals` names, without names of their own."""
        return list(map(unnamed, self.rivals))

    @property
    def choosing_sets(self) -> list[EvaluationSetConfig]:
        """The sets of role validation."""
        return [labelled for labelled in self.sets if labelled.role == "validation"]
