"""How models are tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from multigrain.config.bases import (
    AdaptersName,
    AtaConfig,
    AttentionImplementation,
    AttentionName,
    DocumentVectorsConfig,
    FsdpConfig,
    LoraConfig,
    PromptsConfig,
    QuantizeName,
    QueryAdapterConfig,
    SideName,
)
from multigrain.config.candidates import (
    RERANKER_SCHEDULE,
    CandidateConfig,
    LearningRate,
    Merge,
    ModelKind,
    RowSharing,
    ScheduleName,
    Steps,
    for_rerankers,
    in_order,
    unable_on_one_side,
    wrong_for_rerankers_alone,
    wrong_in_kind,
)
from multigrain.config.curriculum import MixSourceConfig, PhaseConfig
from multigrain.config.paths import SERVED_PREFIX, LossOptions, ModelReference
from multigrain.config.poolings import POOLING_WORDS, READS_ATTENTION, PoolingName
from multigrain.config.section import Section
from multigrain.config.teachers import Teachers

# Where steps is auto. A level sees every row once; fewer steps than this are hardly more than the warm-up, and more
# are, on a CPU, a wait that nobody asked for.
_VISITS_A_ROW: Final = 4
_FEWEST_STEPS: Final = 20
_MOST_STEPS: Final = 200
AUTOMATIC_RATES: Final[Mapping[ModelKind, tuple[float, ...]]] = {"embedder": (2e-5, 5e-6), "reranker": (5e-5,)}
"""Peak learning rates from which validation queries choose where it is auto; the first one where there are none."""
ADAPTER_RATES: Final = (1e-3, 2e-4)
"""The same for a query adapter, which is small and begins at nothing."""
_AUTOMATIC_LOOKS: Final = 4


class TrainingConfig(Section):
    """How the models are tuned."""

    added: ClassVar[Mapping[str, Any]] = {
        "kind": "embedder",
        "teacher": [],
        "teacher_margin": None,
        "early_stopping": None,
        "keep": "best",
        "save_max_seq_length": True,
        "validation_documents": 1000,
        "side": "both",
        "query_adapter": None,
        "document_vectors": None,
    }
    changed: ClassVar[Mapping[str, Any]] = {"learning_rate": 2e-5, "merge": None, "dropout": None}

    kind: ModelKind = "embedder"
    """embedder: turns a text into a vector. reranker: a cross-encoder, which reads a query and a passage together and
    scores the pair; it sorts again what an embedder or BM25 found. Candidates may be of either kind."""

    base_model: ModelReference = "auto"
    """A hub id, a folder, package:NAME, or auto (all-MiniLM-L6-v2). openai:NAME or openai:NAME@URL is a model behind
    an endpoint, for which a query_adapter is trained."""

    side: SideName = "both"
    """query: tune how queries are embedded, and keep the base model's document vectors, so that no corpus is embedded
    again. both: tune one model for queries and documents."""

    query_adapter: QueryAdapterConfig | None = None
    """With side: query, leave the base model as it is and tune a small map of query vectors behind it, e.g.
    {kind: low-rank, rank: 32} or {}. Trained on vectors that are computed once, in seconds."""

    document_vectors: DocumentVectorsConfig | None = None
    """For a base behind an endpoint: a store's vectors of the run's documents, which are then not embedded again, e.g.
    {path: vectors.parquet, id: id, vector: vector}."""

    trust_remote_code: bool = False
    """Run code that comes with the base model. Off unless you trust its author."""

    attention: AttentionName = "keep"
    """Decoders only. bidirectional: every token sees the whole text, also after saving and loading. causal: only what
    stands before it. keep: as the base model has it."""

    attn_implementation: AttentionImplementation | None = None
    """What computes attention while candidates are tuned, as transformers names it: eager, sdpa or flash_attention_2
    (needs flash-attn and a CUDA GPU that computes bf16). null: sdpa, where the architecture has it."""

    lora: LoraConfig | None = None
    """Tune low-rank adapters instead of all weights, e.g. {r: 16, alpha: 32} (null: tune everything)."""

    quantize: QuantizeName = "none"
    """4bit: hold the base in 4-bit NF4 while adapters are tuned (QLoRA); needs lora, bitsandbytes and a CUDA GPU."""

    adapters: AdaptersName = "merged"
    """merged: save one whole model. apart: save the adapters alone; loading them needs peft and the base model."""

    prompts: PromptsConfig = Field(default_factory=PromptsConfig)
    """Put before queries and documents in training and evaluation, and saved with the model, e.g.
    {query: "query: ", document: "passage: "} or {instruction: "Given a question, find its answer"}."""

    pooling: PoolingName = Field(default="keep", description=f"{POOLING_WORDS}.")

    append_eos: bool | None = None
    """End every text with the tokenizer's end-of-sequence token, saved with the model. null: where a checkpoint that
    says nothing of pooling is pooled by its last token, and its tokenizer ends texts with none."""

    ata: AtaConfig = Field(default_factory=AtaConfig)
    """Options of ATA pooling and, except reduce, of diagonal."""

    schedule: ScheduleName = "coarse-to-fine"
    """The order in which levels are visited: coarse-to-fine, reverse, random (one level a step), mixed (one a row),
    cumulative (1, then 1-2, then 1-3, then all), fixed-1 to fixed-4, custom (see curriculum); listwise gives every
    row all four negatives at once (what kind: reranker takes where none is named), in-batch none."""

    curriculum: list[PhaseConfig] = Field(default_factory=list)
    """For schedule: custom, ranges of steps with level weights, e.g. {until: 0.5, levels: {1: 1}} and then
    {until: 1, levels: {3: 0.3, 4: 0.7}}."""

    rows: RowSharing = "all"
    """all: every level draws from all rows. split: rows are distributed to the levels, in proportion to their
    steps, so that each row is seen at one level only."""

    steps: Steps = "auto"
    """Optimiser steps of the whole run. auto: as many as meet each graded row about four times, once a level, but 20
    at least and 200 at most."""

    batch_size: int = Field(default=32, ge=2)
    """Queries a step, over all processes and all parts of an accumulated step."""

    accumulation: int = Field(default=1, ge=1)
    """Parts that a step's batch is cut into, one after the other, to save memory. In-batch negatives come from the
    same part; mini_batch_size saves memory without that."""

    loss: str = "infonce"
    """infonce, masked (in-batch negatives above a cosine are left out), guided (a second model leaves them out),
    listmle and wasserstein (rank all four levels at once: schedule: listwise), or the name of a plug-in. distil,
    margin-mse and graded learn from a teacher's scores. Of rerankers: lambda (theirs where none is named), listnet and
    binary learn from levels, distil and graded from a teacher's scores."""

    loss_options: LossOptions = Field(default_factory=dict)
    """Options of the loss: masked takes threshold; guided takes guide (a model) and margin; listmle takes in_batch;
    wasserstein takes grades; distil takes teacher_temperature and infonce_share; graded takes in_batch. Of rerankers:
    lambda, listnet and binary take grades; distil takes teacher_temperature."""

    teacher: Teachers = Field(default_factory=list)
    """Whose scores distil, margin-mse and graded learn from: judge (the run's language model), a cross-encoder or a
    larger embedder (a folder, a hub id, package:NAME, or openai:MODEL), or a list of them, mixed by rank. Or with
    options: {model: …, kind: …, batch_tokens: …}. {candidate: NAME} is another candidate of this run, which is trained
    first. Every row's passages are scored once, after the audit."""

    teacher_margin: float | None = None
    """Replace negatives that the teacher scores above the positive less this (on its own scale: log-odds of a
    cross-encoder, 0 to 5 of a judge) by the row's passages that it scores highest below. null: off. Any loss may have
    it."""

    mini_batch_size: int | None = Field(default=None, ge=1)
    """Texts a forward pass, with gradients cached: a batch of any size in the memory of one pass, in about twice the
    time (null: off). Loss and gradients are those of the whole batch, but that dropout draws other values: without
    dropout the same model comes out."""

    matryoshka: list[int] = Field(default_factory=list)
    """Vector lengths to train at once, e.g. [384, 128, 64], so that vectors may be cut to any of them."""

    gather_across_devices: bool = True
    """With several processes, take in-batch negatives from all of them."""

    learning_rate: LearningRate = "auto"
    """Peak learning rate (linear warm-up, then linear decay); a list, of which validation queries choose one: the
    model is tuned once with each; or auto: 2e-5 and 5e-6, and 2e-5 where there are no validation queries (for a query
    adapter 1e-3 and 2e-4, for a reranker 5e-5)."""

    early_stopping: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"
    """Steps after which validation queries are asked, again and again: the weights that answered them best are kept,
    and after two times without a gain training ends. auto: a quarter of the run where steps is auto and there are
    such queries, else never. null: never. Not with fsdp."""

    keep: Literal["best", "last"] = "best"
    """best: of the steps after which early_stopping asks, keep the weights that answered validation queries best.
    last: keep those of the last step, whatever they answered."""

    validation_documents: int = Field(default=1000, ge=10)
    """Documents that validation queries search while rates, steps and shares are chosen: the right ones, and those
    that the base finds nearest. Of more queries than a fifth of this, a sample is asked."""

    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps that warm up."""

    temperature: float = Field(default=0.05, gt=0)
    """InfoNCE temperature: similarities are divided by it."""

    dropout: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] | None = "auto"
    """Of the base model's layers while it is tuned; adapters have theirs. auto: 0 on a CPU, where drawing what to drop
    takes a tenth to a third of the time, elsewhere as null. null: the base model's own, often 0.1."""

    max_seq_length: int | None = Field(default=256, ge=8)
    """Tokens of a text that are read while training, at most as many as the base model reads (null: as many); with
    side: query of queries alone. Of a reranker the tokens of a pair, which it is saved with."""

    save_max_seq_length: bool = False
    """Save max_seq_length as the limit of the tuned model, and compare the base model at it too. false: what is saved
    reads as far as its base, and both are compared so."""

    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto: bf16 where the device computes it natively, else float32."""

    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints to resume from."""

    group_by_length: bool = False
    """Let the batches of a level exchange rows, 16 neighbours at a time, so that texts of a batch are of similar
    length: less padding. Candidates then no longer meet the same queries at the same steps."""

    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third slower."""

    fsdp: bool = False
    """Shard weights, gradients and optimiser over the processes that train together (PyTorch's FSDP2), for models that
    do not fit one device. Needs a launcher; the same model comes out."""

    fsdp_config: FsdpConfig = Field(default_factory=FsdpConfig)
    """Options of fsdp."""

    report_to: list[str] = Field(default_factory=list)
    """Trackers that the trainer also reports to: tensorboard, wandb, trackio, mlflow, … (their own packages and
    environment variables apply)."""

    mix: list[MixSourceConfig] = Field(default_factory=list)
    """Retrieval sets, or general pairs against forgetting, to mix in. Batches are of one source each."""

    graded_weight: float = Field(default=1.0, ge=0)
    """How many steps the graded rows get for each step of a source of weight 1; 0 trains on the mix alone."""

    merge: Merge | None = "auto"
    """Average the tuned weights with the base model's, against forgetting: the tuned share (1: all tuned), a list of
    which validation queries choose one, or auto (.25, .5, .75 and 1; off where there are no such queries, with fsdp,
    and for adapters that cannot be averaged). null: off. Which queries these are: see evaluation.sets."""

    candidates: dict[str, CandidateConfig] = Field(default_factory=lambda: {"tuned": CandidateConfig()})
    """The models to train, by name. Validation queries choose between them and the base model: those of the evaluation
    sets of role validation or, where there are none, those of the held-out documents."""

    @model_validator(mode="before")
    @classmethod
    def _rerankers_take_lists(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("kind") == "reranker":
            return {"schedule": RERANKER_SCHEDULE, **values}
        return values

    @model_validator(mode="after")
    def _candidates_are_named(self) -> Self:
        if not self.candidates:
            raise ValueError("candidates must name at least one model to train")
        for name in self.candidates:
            if not name.replace("_", "").replace("-", "").isalnum() or name == "base":
                raise ValueError(f"candidate name {name!r}: use letters, digits, - and _ (and not 'base')")
        return self

    @model_validator(mode="after")
    def _curriculum_is_whole(self) -> Self:
        ends = [phase.until for phase in self.curriculum]
        if ends and (ends != sorted(set(ends)) or ends[-1] != 1):
            raise ValueError(f"curriculum: `until` must rise to 1, got {', '.join(f'{end:g}' for end in ends)}")
        return self

    @model_validator(mode="after")
    def _can_be_trained(self) -> Self:
        names = [source.name for source in self.mix]
        if len(set(names)) < len(names):
            raise ValueError(f"mix: two sources share a name among {', '.join(names)}")
        if not self.mix and not self.graded_weight:
            raise ValueError("graded_weight: 0 leaves nothing to train on; name sources under mix")
        if self.attn_implementation == "flash_attention_2" and self.precision == "float32":
            raise ValueError("attn_implementation: flash_attention_2 computes in bf16; use precision: auto or bf16")
        for name, candidate in self.candidates.items():
            settings = self.resolve(name)
            problem = settings._conflict() or wrong_in_kind(settings, candidate)
            if problem:
                raise ValueError(problem if name == "tuned" else f"candidate {name!r}: {problem}")
        if not self.embedders and (wrong := wrong_for_rerankers_alone(self)):
            raise ValueError(wrong)
        if self.document_vectors is not None and not self.base_model.startswith(SERVED_PREFIX):
            raise ValueError("document_vectors are for a base behind an endpoint, and base_model runs here")
        _ = self.in_order  # says what is wrong with candidates that are made from others
        return self

    def _conflict(self) -> str:
        """Settings of one candidate that cannot go together, in words; empty where all do."""
        if self.batch_size % self.accumulation:
            return f"batch_size {self.batch_size} cannot be cut into {self.accumulation} equal parts"
        if self.schedule == "custom" and not self.curriculum:
            return "schedule: custom needs curriculum, a list of {until: …, levels: …}"
        if self.rows == "split" and self.schedule in ("listwise", "in-batch"):
            return f"rows: split deals rows out to levels, and schedule: {self.schedule} has none"
        if self.attn_implementation == "eager" and self.pooling in READS_ATTENTION:
            return (
                f"pooling: {self.pooling} reads attention, which attn_implementation: eager does not show; use sdpa "
                "or flash_attention_2"
            )
        if self.teacher_margin is not None and not self.teacher:
            return "teacher_margin judges negatives by a teacher's scores; set teacher, or leave it out"
        if self.quantize != "none" and self.lora is None:
            return f"quantize: {self.quantize} tunes adapters only; set lora"
        if self.lora is not None and self.adapters == "apart" and self.attention != "keep":
            return (
                f"adapters: apart are saved without the model's config, so that attention: {self.attention} would be "
                "lost; use adapters: merged"
            )
        if self.base_model.startswith(SERVED_PREFIX) and self.query_adapter is None:
            return (
                f"base_model: {self.base_model} is behind an endpoint, where only a query adapter can be tuned; "
                "set side: query and query_adapter: {}"
            )
        if self.query_adapter is not None and (unable := self._unable_behind_base()):
            return f"query_adapter moves the vectors of a base that stays as it is; {unable}"
        if self.side == "query" and (unable := unable_on_one_side(self, self.quantize, self.adapters)):
            return f"side: query keeps a second, frozen model for documents, and {unable}"
        if self.fsdp and self.quantize != "none":
            return "fsdp shards no 4-bit weights; use lora alone (quantize: none)"
        if self.fsdp and self.loss == "guided":
            return "fsdp would leave the guide of loss: guided on the CPU; use masked"
        return ""

    def _unable_behind_base(self) -> str:
        """What goes against a query adapter, in words; empty where nothing does."""
        if self.side == "both":
            return "set side: query"
        changed = {
            "lora": self.lora is not None,
            "pooling": self.pooling != "keep",
            "attention": self.attention != "keep",
            "matryoshka": bool(self.matryoshka),
        }
        named = next((key for key, is_set in changed.items() if is_set), "")
        if named:
            return f"leave {named} out"
        return "loss: guided reads texts again; use infonce or masked" if self.loss == "guided" else ""

    @property
    def must_choose(self) -> str:
        """The key that leaves something to choose which nothing but validation queries can; empty where none does."""
        ranks = None if self.query_adapter is None else self.query_adapter.rank
        lists = {"merge": self.merge, "learning_rate": self.learning_rate, "query_adapter.rank": ranks}
        return next((key for key, value in lists.items() if isinstance(value, list) and len(set(value)) > 1), "")

    @property
    def chooses(self) -> bool:
        """Whether validation queries, where there are any, choose anything in the candidate's training."""
        several_ranks = self.query_adapter is not None and len(self.query_adapter.ranks(choose=True)) > 1
        automatic = "auto" in (self.merge, self.learning_rate) or several_ranks
        return bool(self.must_choose) or automatic or self.looks_after(_AUTOMATIC_LOOKS) is not None

    def rates(self, *, choose: bool) -> tuple[float, ...]:
        """The peak learning rates to train with.

        Args:
            choose: whether there are validation queries to choose by; else there is one rate.
        """
        automatic = AUTOMATIC_RATES[self.kind] if self.query_adapter is None else ADAPTER_RATES
        rates = automatic if self.learning_rate == "auto" else self.learning_rate
        several = tuple(dict.fromkeys(rates)) if isinstance(rates, list | tuple) else (float(rates),)
        return several if choose else several[:1]

    def merge_where(self, *, choose: bool) -> Merge | None:
        """What to merge; None for nothing, as auto says without validation queries and with fsdp.

        Args:
            choose: whether there are validation queries to choose by.
        """
        return None if self.merge == "auto" and (self.fsdp or not choose) else self.merge

    def looks_after(self, steps: int) -> int | None:
        """After how many steps validation queries are asked, again and again; None where they never are.

        Args:
            steps: of the whole run.
        """
        if self.fsdp or self.early_stopping is None:
            return None
        if self.early_stopping == "auto":
            return max(1, steps // _AUTOMATIC_LOOKS) if self.steps == "auto" else None
        return self.early_stopping

    @property
    def length_in_use(self) -> int | None:
        """Tokens that models read in use, where that is not what the base reads."""
        return self.max_seq_length if self.save_max_seq_length else None

    def steps_for(self, rows: int) -> int:
        """Optimiser steps of a run; where `steps` is auto, as many as its rows deserve.

        Args:
            rows: graded rows, of which each step of their own takes `batch_size`.
        """
        if self.steps != "auto":
            return self.steps
        weights = self.graded_weight + sum(source.weight for source in self.mix)
        if not self.graded_weight:
            return _MOST_STEPS
        visits = _VISITS_A_ROW * rows * weights / self.graded_weight
        return min(_MOST_STEPS, max(_FEWEST_STEPS, math.ceil(visits / self.batch_size)))

    @property
    def embedders(self) -> tuple[str, ...]:
        """The names of the candidates that embed."""
        return tuple(name for name in self.candidates if self.resolve(name).kind == "embedder")

    @property
    def rerankers(self) -> tuple[str, ...]:
        """The names of the candidates that rerank."""
        return tuple(name for name in self.candidates if self.resolve(name).kind == "reranker")

    @property
    def in_order(self) -> tuple[str, ...]:
        """The names of all candidates, each after those that it is made from.

        Raises:
            ValueError: one is made from a candidate that is not there, from one of the wrong kind, or from itself.
        """
        return in_order({name: self.resolve(name) for name in self.candidates})

    def resolve(self, name: str) -> TrainingConfig:
        """The settings of one candidate, with its overrides applied and no further candidates.

        Args:
            name: a key of `candidates`.
        """
        candidate = self.candidates[name]
        values = {key: getattr(candidate, key) for key in type(candidate).model_fields}
        overrides = {key: value for key, value in values.items() if value is not None}
        reranker = for_rerankers(self.kind, self.loss) if (candidate.kind or self.kind) == "reranker" else {}
        return self.model_copy(update={**reranker, **overrides, "candidates": {name: CandidateConfig()}})
