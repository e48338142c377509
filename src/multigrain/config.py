"""The run's configuration: typed, closed, and reported on all at once.

A config is a YAML file. Unknown keys are refused with the nearest known one, and every problem in a file is
listed in a single error. The field docs below are the text that `multigrain init` writes as comments.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "AuditConfig",
    "CandidateConfig",
    "Config",
    "DocumentsConfig",
    "EndpointConfig",
    "EvaluationConfig",
    "EvaluationSetConfig",
    "LLMConfig",
    "PoolingName",
    "PriceConfig",
    "ScheduleName",
    "SynthesisConfig",
    "TrainingConfig",
    "fingerprint",
]

PoolingName = Literal["keep", "ata", "mean", "cls", "last", "weighted-mean", "diagonal", "values"]
ScheduleName = Literal[
    "coarse-to-fine", "reverse", "random", "mixed", "fixed-1", "fixed-2", "fixed-3", "fixed-4", "in-batch"
]
Band = tuple[int, int]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DocumentsConfig(_Section):
    """Where the documents come from and how they are split."""

    kind: Literal["auto", "folder", "jsonl", "csv", "parquet", "docstrings"] = "auto"
    """What `path` holds; auto tells by the file name. `docstrings` reads installed Python packages."""

    path: Path | None = None
    """A folder of .txt/.md files, or one .jsonl, .csv, .tsv or .parquet file. Relative to the config file."""

    id_field: str = "id"
    """Column with the document id (made from the row number where the column is missing)."""

    text_field: str = "text"
    """Column with the text."""

    title_field: str | None = "title"
    """Column with a title that is not part of the text: it becomes a held-out query. Missing is fine."""

    limit: int | None = Field(default=None, ge=10)
    """Take a seeded sample of this many documents (null: all)."""

    min_characters: int = Field(default=40, ge=1)
    """Shorter documents are left out, and counted."""

    max_characters: int = Field(default=20_000, ge=100)
    """Longer documents are cut here at a word boundary, and counted."""

    near_duplicate_similarity: float = Field(default=0.7, gt=0, le=1)
    """Documents whose word trigrams overlap this much (Jaccard) are one group: no split divides a group."""

    validation_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of documents whose queries choose between models. Synthesis never sees them."""

    test_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of documents whose queries give the final figures. Synthesis never sees them."""

    @model_validator(mode="after")
    def _shares_leave_training(self) -> Self:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share + test_share must stay below 1: nothing is left to train on")
        if self.kind not in ("auto", "docstrings") and self.path is None:
            raise ValueError(f"kind {self.kind!r} needs a path")
        return self


class EndpointConfig(_Section):
    """One more endpoint that serves the same model."""

    base_url: str
    """Its address, e.g. http://gpu2:8000/v1."""

    api_key_env: str | None = None
    """The environment variable that holds its key (null: the one of `llm`)."""

    model: str | None = None
    """What the model is called there (null: as in `llm`)."""

    concurrency: int | None = Field(default=None, ge=1, le=4096)
    """Requests in flight there (null: as in `llm`)."""


class PriceConfig(_Section):
    """What a model costs, in US dollars per million tokens."""

    prompt: float = Field(ge=0)
    """Tokens read."""

    completion: float = Field(ge=0)
    """Tokens written."""

    cached_prompt: float | None = Field(default=None, ge=0)
    """Tokens read from the endpoint's prefix cache (null: as any other)."""

    batch_share: float = Field(default=0.5, ge=0, le=1)
    """What a request in a batch file costs, as a share of the price."""


class LLMConfig(_Section):
    """The language model that writes."""

    provider: Literal["local", "openai", "scripted"] = "local"
    """local: llama.cpp inside this process. openai: any OpenAI-compatible endpoint (vLLM, Ollama, OpenAI, …).
    scripted: a deterministic fake for dry tests."""

    model: str = "auto"
    """local: a .gguf path, package:NAME, OWNER/REPO:FILE.gguf on the hub, or auto. openai: the model's name."""

    base_url: str | None = None
    """The endpoint, e.g. http://localhost:8000/v1. Null: $OPENAI_BASE_URL, else OpenAI's."""

    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. The key itself never belongs in this file."""

    temperature: float = Field(default=0.8, ge=0, le=2)
    """Sampling temperature."""

    top_p: float = Field(default=0.9, gt=0, le=1)
    """Nucleus sampling."""

    max_tokens: int = Field(default=768, ge=8)
    """Longest answer, in tokens."""

    concurrency: int = Field(default=8, ge=1, le=4096)
    """Requests in flight (for local: parallel slots)."""

    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the local model (null: one per core)."""

    timeout_seconds: float = Field(default=120.0, gt=0)
    """How long one request may take."""

    max_retries: int = Field(default=4, ge=0, le=20)
    """How often a request that failed for a passing reason (429, 5xx, a reset) is sent again."""

    structured_output: bool = True
    """Ask for JSON-schema-constrained output; endpoints that know none still get the schema in the prompt."""

    context_tokens: int = Field(default=3072, ge=256)
    """local only: longest prompt and answer together, in tokens; memory grows with it times `concurrency`."""

    more_endpoints: list[EndpointConfig] = Field(default_factory=list)
    """openai only: further endpoints that serve the same model. A request goes to whichever has most room."""

    prices: dict[str, PriceConfig] = Field(default_factory=dict)
    """Prices by model name, in US dollars per million tokens; they go before the built-in table."""


class SynthesisConfig(_Section):
    """What is written for each document."""

    strategy: Literal["mgh", "stepwise"] = "mgh"
    """mgh: query, positive and four graded negatives in one call (needs a capable model).
    stepwise: one field a call (for small models)."""

    positive: Literal["document", "written"] = "document"
    """mgh only: the positive is the document itself, or a passage that the model writes as well."""

    query_style: Literal["search", "question", "summary"] = "search"
    """stepwise only: a search query, a question, or a one-line summary (the easiest for tiny models)."""

    document_characters: int = Field(default=4000, ge=100)
    """How much of a document the model is shown."""

    queries_per_document: int = Field(default=1, ge=1, le=20)
    """Queries written for each training document."""

    negatives_share: float = Field(default=1.0, ge=0, le=1)
    """stepwise only: the share of documents for which negatives are written too; the rest get mined ones."""

    max_documents: int | None = Field(default=None, ge=1)
    """Write for at most this many training documents (null: all)."""

    budget_seconds: float | None = Field(default=None, gt=0)
    """Stop asking after this long; what is written by then is used (null: no limit)."""

    max_cost: float | None = Field(default=None, gt=0)
    """Stop asking before the whole run's completions cost more than this many US dollars (null: no limit)."""

    max_total_tokens: int | None = Field(default=None, ge=1)
    """Stop asking before the whole run has read and written more tokens than this (null: no limit)."""


class AuditConfig(_Section):
    """What is checked, measured and repaired."""

    reference_model: str = "auto"
    """The encoder that measures similarity. auto: the model that is tuned, as it was before."""

    min_query_words: int = Field(default=2, ge=1)
    """Shorter queries are dropped."""

    max_query_words: int = Field(default=60, ge=2)
    """Longer queries are dropped."""

    round_trip_rank: int | None = Field(default=20, ge=1)
    """Drop queries that don't find their own document among this many of the corpus (null: keep all)."""

    negatives: Literal["hybrid", "mined", "written"] = "hybrid"
    """hybrid: written negatives that pass, mined ones in the other levels. mined / written: only these."""

    bands: tuple[Band, Band, Band, Band] = ((200, 2000), (40, 200), (8, 40), (0, 8))
    """Corpus ranks (from, to) that level 1, 2, 3 and 4 are mined from; rank 0 is the nearest document that is
    not the positive. Scaled down where the corpus is smaller than the last rank."""

    false_negative_margin: float = Field(default=0.05, ge=0, lt=1)
    """A negative must be at least this much less similar to the query than the positive."""

    min_level_gap: float = Field(default=0.03, ge=0, lt=0.5)
    """Smallest difference in similarity between neighbouring levels of one row."""

    max_copied_share: float = Field(default=0.8, gt=0, le=1)
    """A written negative that shares more of its word trigrams than this with the positive is a copy."""

    @model_validator(mode="after")
    def _bands_are_ordered(self) -> Self:
        if any(low >= high or low < 0 for low, high in self.bands):
            raise ValueError("every band must be [from, to] with 0 <= from < to")
        hardest_first = self.bands[::-1]
        if any(left[1] > right[0] for left, right in itertools.pairwise(hardest_first)):
            raise ValueError("bands must not overlap, and level 4 must hold the nearest ranks")
        return self


class CandidateConfig(_Section):
    """One model to train; what is left out is taken from `training`."""

    pooling: PoolingName | None = None
    """keep (the base model's own), ata, mean, cls or last."""

    schedule: ScheduleName | None = None
    """The order in which levels are visited."""

    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate."""


class TrainingConfig(_Section):
    """How the embedding model is tuned."""

    base_model: str = "auto"
    """A hub id, a folder, package:NAME, or auto (all-MiniLM-L6-v2)."""

    trust_remote_code: bool = False
    """Run code that comes with the base model. Off unless you trust its author."""

    pooling: PoolingName = "keep"
    """keep (the base model's own), ata (anchor-token-aware), mean, cls, last, weighted-mean (later tokens count more),
    diagonal (weighted by the attention a token gives itself) or values (means of attention's value vectors)."""

    schedule: ScheduleName = "coarse-to-fine"
    """The order in which levels are visited; in-batch uses no hard negatives."""

    steps: int = Field(default=200, ge=1)
    """Optimiser steps of the whole run."""

    batch_size: int = Field(default=32, ge=2)
    """Queries a step."""

    learning_rate: float = Field(default=2e-5, gt=0)
    """Peak learning rate (linear warm-up, then linear decay)."""

    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps that warm up."""

    temperature: float = Field(default=0.05, gt=0)
    """InfoNCE temperature: similarities are divided by it."""

    max_seq_length: int | None = Field(default=256, ge=8)
    """Tokens of a text that are read, in training and evaluation (null: the base model's own)."""

    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 where the device computes it natively, else float32."""

    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints to resume from."""

    candidates: dict[str, CandidateConfig] = Field(default_factory=lambda: {"tuned": CandidateConfig()})
    """The models to train, by name. Validation queries choose between them."""

    @model_validator(mode="after")
    def _candidates_are_named(self) -> Self:
        if not self.candidates:
            raise ValueError("candidates must name at least one model to train")
        for name in self.candidates:
            if not name.replace("_", "").replace("-", "").isalnum() or name == "base":
                raise ValueError(f"candidate name {name!r}: use letters, digits, - and _ (and not 'base')")
        return self

    def resolve(self, name: str) -> TrainingConfig:
        """The settings of one candidate, with its overrides applied and no further candidates.

        Args:
            name: a key of `candidates`.
        """
        overrides = self.candidates[name].model_dump(exclude_none=True)
        return self.model_copy(update={**overrides, "candidates": {name: CandidateConfig()}})


class EvaluationSetConfig(_Section):
    """A labelled set to evaluate on, besides the held-out queries."""

    name: str
    """What tables call it."""

    path: str
    """A BEIR folder (corpus.jsonl, queries.jsonl, qrels/test.tsv), or package:NAME/FILE for a known data package."""

    role: Literal["test", "forgetting"] = "test"
    """test: in the domain. forgetting: unrelated; it must not get worse."""

    max_queries: int | None = Field(default=None, ge=1)
    """Take a seeded sample of this many queries, with their relevant documents (null: all)."""

    max_documents: int | None = Field(default=None, ge=1)
    """Take a seeded sample of this many documents, relevant ones always among them (null: all)."""


class EvaluationConfig(_Section):
    """How the proof is made."""

    queries: Literal["auto", "titles", "synthetic", "none"] = "auto"
    """Held-out queries: the documents' titles (human), or written by the LLM with another prompt
    (a synthetic estimate). auto: titles where at least half of the held-out documents have one."""

    bootstrap_samples: int = Field(default=10_000, ge=100)
    """Resamples behind each interval."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Width of the intervals."""

    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once."""

    sets: list[EvaluationSetConfig] = Field(default_factory=list)
    """More sets: labelled ones of your own, unrelated ones to check for forgetting."""


class Config(_Section):
    """Everything that decides a run. Same config, seed and inputs: same data set and, on one device, same model."""

    seed: int = Field(default=13, ge=0)
    """Seeds sampling, splitting, writing and training."""

    documents: DocumentsConfig = Field(default_factory=DocumentsConfig)
    llm: LLMConfig = Field(default_factory=LLMConfig)
    synthesis: SynthesisConfig = Field(default_factory=SynthesisConfig)
    audit: AuditConfig = Field(default_factory=AuditConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, values: Any) -> Any:
        # A section whose every line is commented out is None in YAML, and means the defaults.
        if isinstance(values, dict):
            return {key: {} if value is None and key in cls.model_fields else value for key, value in values.items()}
        return values


def fingerprint(*parts: Any) -> str:
    """A stable SHA-256 over JSON-like values and config sections, for manifests and journal keys."""
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    return hashlib.sha256(
        json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode()
    ).hexdigest()
