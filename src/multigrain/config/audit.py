"""What is checked, measured and repaired."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from multigrain.config.paths import FileOrName, ModelReference
from multigrain.config.section import Section
from multigrain.display.suggest import suggestion
from multigrain.plugins import added_parts

Band = tuple[int, int]
Repair = Literal["relevel", "regenerate", "refill"]

_MOST_CANDIDATES: Final = 100
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}")


CHECK_GROUP: Final = "multigrain.checks"
"""The entry-point group by which other packages add checks."""


class AuditChecks(Section):
    """Checks, each on or off. A check of another package is on where it is named here."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, bool] = Field(init=False)

    structure: bool = True
    """Fields of the wrong kind, text that UTF-8 cannot hold. Off: texts are mended where they can be."""

    empty: bool = True
    """Queries without a word, such as `?!`. Rows whose query is blank, or whose positive has no word, go anyway."""

    short: bool = True
    """Texts of fewer than min_query_words words."""

    long: bool = True
    """Queries of more than max_query_words words, passages of more than max_passage_words."""

    language: bool = True
    """Texts that are surely in none of `languages`."""

    refusal: bool = True
    """\"I'm sorry, but as an AI …\"."""

    prompt_echo: bool = True
    """\"Here is the query:\" and other words of the prompt."""

    copied: bool = True
    """Queries that are a passage of their document, negatives copied from the positive."""

    repeats: bool = True
    """A text that says the same again and again, that repeats another field of its row, or another row's query."""

    near_duplicates: bool = True
    """Queries that nearly repeat another row's."""

    decontamination: bool = True
    """Rows that the sets of `decontamination` hold too."""

    round_trip: bool = True
    """Queries that don't find their own document among round_trip_rank documents."""

    false_negatives: bool = True
    """Negatives that are closer to the query than the positive less false_negative_margin, and what a
    cross-encoder or judge finds."""

    level_order: bool = True
    """Levels are as they were measured, min_level_gap apart. Off: written negatives stay where they were asked."""

    @property
    def on(self) -> tuple[str, ...]:
        """The names of the checks that are on."""
        return tuple(name for name, switch in self if switch)

    @model_validator(mode="after")
    def _names_are_checks(self) -> Self:
        if self.model_extra:
            names = {*type(self).model_fields, *added_parts(CHECK_GROUP)}
            for name in self.model_extra.keys() - names:
                raise ValueError(f"no check has the name {name!r}; {suggestion(name, names)}")
        return self


class CrossEncoderConfig(Section):
    """A cross-encoder that looks at each chosen negative beside its query."""

    added: ClassVar[Mapping[str, Any]] = {"positive_at_least": 0.9}

    model: ModelReference
    """A sentence-transformers cross-encoder: a folder or a hub id."""

    margin: float = Field(default=0.1, ge=0, lt=1)
    """A negative must score this much lower than the positive, on the model's scale from 0 to 1."""

    batch_size: int = Field(default=32, ge=1)
    """Pairs scored at once."""

    positive_at_least: float = Field(default=0.9, gt=0, le=1)
    """Where false negatives are kept as positives: a passage that scores this much is one."""


class JudgeConfig(Section):
    """A language model that judges how well a passage answers, from 0 to 5."""

    added: ClassVar[Mapping[str, Any]] = {"further_positive_at_least": 4, "quote": False}

    positive_at_least: int = Field(default=3, ge=0, le=5)
    """Rows whose positive is judged lower go."""

    negative_at_most: int = Field(default=3, ge=0, le=5)
    """Negatives that are judged higher go, and so do those that are judged as high as the positive."""

    max_passages: int | None = Field(default=None, ge=1)
    """Judge at most this many passages; what is not judged by then is kept as it is (null: no limit)."""

    further_positive_at_least: int = Field(default=4, ge=1, le=5)
    """Where false negatives are kept as positives: a passage that is judged this high is one."""

    quote: bool = Field(default=False)
    """Ask first for the words of the passage that answer, then for the score. A passage whose quoted words do not
    stand in it is no further positive, however high it is judged."""


class QueryJudgeConfig(Section):
    """A language model that judges a written query by itself, from 1 to 10."""

    at_least: int = Field(default=5, ge=1, le=10)
    """Queries that get less for any of four things go: that it says by itself what is wanted, that people would type
    it, that it wants one thing, and that the text answers it."""

    heldout: bool = True
    """Judge held-out queries too, as they are written."""

    max_queries: int | None = Field(default=None, ge=1)
    """Judge at most this many; what is not judged is kept as it is (null: no limit)."""


class DecontaminationConfig(Section):
    """Evaluation sets that training must not have seen."""

    sets: list[FileOrName] = Field(default_factory=list)
    """Names from evaluation.sets, and paths of BEIR folders or files of queries. `evaluation` stands for all of
    evaluation.sets."""

    ngram: int = Field(default=8, ge=1)
    """Words in a row that count as the same text; a shorter text must be the same as a whole."""

    max_overlap: float = Field(default=0.5, gt=0, le=1)
    """A text that shares more of its n-grams than this with a set is contaminated."""

    max_similarity: float = Field(default=0.95, gt=0, le=1)
    """A query that is more similar than this to a set's query, under the reference model, is contaminated."""

    passages: bool = False
    """Look for positives among the set's relevant passages as well. Off: a set of your own judges the very
    documents that you search."""


class ProbeConfig(Section):
    """How well a simple classifier tells written negatives from those of the corpus."""

    enabled: bool = True
    """Run it where there are enough of both."""

    warn_above: float = Field(default=0.75, gt=0.5, lt=1)
    """Warn where the area under the ROC curve is higher: the model could learn who wrote a text instead."""

    max_texts: int = Field(default=1000, ge=40)
    """Look at this many texts of each kind at most."""


class AuditConfig(Section):
    """What is checked, measured and repaired."""

    added: ClassVar[Mapping[str, Any]] = {
        "false_negatives": "drop",
        "query_judge": None,
        "max_query_similarity": None,
    }

    reference_model: ModelReference = "auto"
    """The encoder that measures similarity. auto: the model that is tuned, as it was before."""

    checks: AuditChecks = Field(default_factory=AuditChecks)
    """Each check on or off; a check that another package adds is on where it is named here."""

    repair: list[Repair] = Field(default=["relevel", "refill"])
    """What may be done for a row with a level that nothing fits. relevel: written negatives move to the level they
    were measured at. regenerate: the strategy is asked again. refill: mined ones take the place. Tried in this
    order; a row that stays incomplete is dropped, and [] drops every row that is not in order as written."""

    regenerate_rounds: int = Field(default=2, ge=1, le=10)
    """How often the strategy is asked again for one row, each time with another seed."""

    regenerate_budget: int | None = Field(default=1000, ge=1)
    """Ask again at most this often in the whole audit (null: no limit but the run's spending limits)."""

    min_query_words: int = Field(default=2, ge=1)
    """Shorter queries are dropped."""

    max_query_words: int = Field(default=60, ge=2)
    """Longer queries are dropped."""

    max_passage_words: int | None = Field(default=None, ge=2)
    """Longer written negatives are rejected (null: any length)."""

    languages: list[str] = Field(default_factory=list)
    """Languages that texts may be in, as ISO 639-1 codes (en, de, …). [] is the language of the row's document;
    where the model wrote the positive too, any."""

    round_trip_rank: int | None = Field(default=20, ge=1)
    """Drop queries that don't find their own document among this many of the corpus (null: keep all)."""

    negatives: Literal["hybrid", "mined", "written"] = "hybrid"
    """hybrid: written negatives that pass, mined ones in the other levels. mined / written: only these."""

    bands: tuple[Band, Band, Band, Band] = ((200, 2000), (40, 200), (8, 40), (0, 8))
    """Corpus ranks (from, to) that level 1, 2, 3 and 4 are mined from; rank 0 is the nearest document that is
    not the positive. Scaled down where the corpus is smaller than the last rank."""

    false_negatives: Literal["drop", "keep-as-positive"] = Field(default="drop")
    """What becomes of a passage that a judge or cross-encoder finds to answer the query as well. drop: another takes
    its place. keep-as-positive: it joins the row's positives, and so do those of the row's `candidates` that all
    judges find to answer."""

    candidates: int | Literal["auto"] = Field(default="auto")
    """How many more passages a row keeps, besides positive and levels: half of them the nearest of the corpus, the
    others spread over the bands. No loss takes them for negatives: a teacher scores them, and judges find further
    positives among them. auto: 8 where there is a teacher, or false negatives are kept as positives; else none."""

    false_negative_margin: float = Field(default=0.05, ge=0, lt=1)
    """A negative must be at least this much less similar to the query than the positive."""

    min_level_gap: float = Field(default=0.03, ge=0, lt=0.5)
    """Smallest difference in similarity between neighbouring levels of one row."""

    max_copied_share: float = Field(default=0.8, gt=0, le=1)
    """A written negative that shares more of its word trigrams than this with the positive is a copy."""

    near_duplicate_similarity: float = Field(default=0.8, gt=0, le=1)
    """Queries whose word trigrams overlap by more than this (Jaccard) are near-duplicates: the first one stays."""

    max_query_similarity: float | None = Field(default=0.9, gt=0, le=1)
    """Written queries that are more similar than this to another row's say the same in other words: the first stays
    (null: not looked at). It is the reference model's cosine, on a scale where two queries of the run are at 0 on
    average. A part of checks.near_duplicates."""

    query_judge: QueryJudgeConfig | None = None
    """The run's language model judges each written query by itself, from 1 to 10: {at_least: 5}. Every judgment is a
    completion that is paid for, and kept in the journal."""

    cross_encoder: CrossEncoderConfig | None = None
    """A judge of false negatives: {model: a cross-encoder's folder or hub id, margin: 0.1}."""

    judge: JudgeConfig | None = None
    """Another judge, the run's language model, that scores from 0 to 5: {positive_at_least: 3, negative_at_most: 3}.
    Every judgment is a completion that is paid for, and kept in the journal."""

    decontamination: DecontaminationConfig = Field(default_factory=DecontaminationConfig)
    """Evaluation sets that training must not have seen, e.g. {sets: [evaluation, ./beir/scifact]}."""

    probe: ProbeConfig = Field(default_factory=ProbeConfig)
    """A classifier that tries to tell written negatives from mined ones; it warns where it can."""

    @field_validator("candidates")
    @classmethod
    def _candidates_are_a_number(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 0 <= value <= _MOST_CANDIDATES:
            raise ValueError(f"candidates must be auto, or 0 to {_MOST_CANDIDATES}, got {value}")
        return value

    @model_validator(mode="after")
    def _positives_need_a_judge(self) -> Self:
        if self.false_negatives == "keep-as-positive" and self.cross_encoder is None and self.judge is None:
            raise ValueError(
                "false_negatives: keep-as-positive needs somebody who tells answers from negatives: set judge or "
                "cross_encoder"
            )
        return self

    @field_validator("languages")
    @classmethod
    def _languages_are_codes(cls, values: list[str]) -> list[str]:
        wrong = [code for code in values if not _LANGUAGE.fullmatch(code)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no language code such as en or de")
        return values

    @model_validator(mode="after")
    def _bands_are_ordered(self) -> Self:
        if any(low >= high or low < 0 for low, high in self.bands):
            raise ValueError("every band must be [from, to] with 0 <= from < to")
        hardest_first = self.bands[::-1]
        if any(left[1] > right[0] for left, right in itertools.pairwise(hardest_first)):
            raise ValueError("bands must not overlap, and level 4 must hold the nearest ranks")
        return self
