"""How often judges, teachers and the strategy can be asked about rows after they are written: bounds, from the config.

What a row keeps is not known before the audit, so these are counts that a run cannot pass, and not guesses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from multigrain.audit.heldout import DEPTH
from multigrain.audit.steps import MOST_GIVEN, MOST_TURNS
from multigrain.config import Config, TeacherConfig
from multigrain.encoders.served import BATCH_SIZE, SERVED
from multigrain.llm.prices import about_text_tokens, cost_of
from multigrain.records import LEVELS, Split
from multigrain.stages.fingerprints import teacher_fingerprint, teachers_of
from multigrain.synthesis.inputs import Inputs
from multigrain.synthesis.partners import MULTI_PASSAGE
from multigrain.synthesis.strategies.protocol import WritingUnit
from multigrain.teachers.protocol import ROWS_AT_ONCE, TEXTS_AT_ONCE
from multigrain.teachers.spending import embedding_price, is_served
from multigrain.tools.rival_calls import EmbeddingEstimate, embedded_by, evaluated_by_base, rival_embeddings

_AS_KEPT: Final = 1 + len(LEVELS)
"""Passages of a row: its positive and its levels."""


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What the rows of a run come to at most.

    Attributes:
        rows: rows that are audited.
        given: further answers that rows were given with and keep, over all rows.
        heldout: held-out queries that are written.
        documents: texts that negatives may be mined from.
    """

    rows: int
    given: int
    heldout: int
    documents: int

    @classmethod
    def of(cls, units: Sequence[WritingUnit], config: Config, inputs: Inputs, *, heldout: int) -> RowCounts:
        """Count them.

        Args:
            units: the rows to write, none of them held out.
            config: the run's.
            inputs: what it starts from.
            heldout: held-out queries that are written.
        """
        rows, given = len(units), 0
        if config.start_from == "pairs":
            answers = [len(query.document_ids) for query in inputs.queries if query.split is Split.TRAIN]
            given = min(sum(count * min(count - 1, MOST_GIVEN) for count in answers), rows * MOST_GIVEN)
        elif config.start_from == "documents" and MULTI_PASSAGE in config.synthesis.query_types:
            given = 2 * sum(unit.other is not None for unit in units)  # a row for each of two documents
            rows += given // 2
        documents = len(units) if config.start_from == "tasks" else len(inputs.documents)
        return cls(rows, given, heldout, documents)


@dataclass(frozen=True, slots=True)
class Times:
    """How often something is asked.

    Attributes:
        about: times where judges turn nothing away.
        at_most: times that a run cannot pass.
    """

    about: int
    at_most: int


def judged_passages(config: Config, counts: RowCounts) -> Times:
    """How many passages a run's language model judges: for the audit, as a teacher, or once for both."""
    audited, scored = _audited(config, counts), _scored(config, counts)
    limit = None if config.audit.judge is None else config.audit.judge.max_passages
    if not _has_judge(config):
        return audited if limit is None else Times(min(audited.about, limit), min(audited.at_most, limit))
    if not audited.at_most:
        return scored
    # What the audit had judged the teacher need not be asked again, but for what the audit left out.
    candidates = 0 if _keeps_positives(config) else counts.rows * config.candidates_kept
    together = audited.at_most + candidates + counts.given
    if limit is not None:
        together = min(together, min(audited.at_most, limit) + scored.at_most)
    return Times(max(audited.about, scored.about), together)


def rows_asked_again(config: Config, counts: RowCounts) -> int:
    """How often the strategy is asked for the negatives of a row again, at most."""
    audit = config.audit
    if "regenerate" not in audit.repair or audit.negatives == "mined":
        return 0
    times = counts.rows * audit.regenerate_rounds
    return times if audit.regenerate_budget is None else min(times, audit.regenerate_budget)


def embeddings(
    config: Config, counts: RowCounts, inputs: Inputs, *, query: str, passage: str
) -> dict[str, EmbeddingEstimate]:
    """What each served embedder is asked as the base, as a teacher and as a rival, by its reference.

    Args:
        config: the run's.
        counts: of its rows.
        inputs: what it starts from.
        query: as long as queries are at most.
        passage: as long as passages are at most.
    """
    found = rival_embeddings(config, inputs, query=query)
    rows, passages = counts.rows, _scored_passages(config, counts)
    mined = config.audit.negatives == "mined"  # a text is embedded once, and all but written positives are documents
    if (base := config.training.base_model).startswith(SERVED):
        own = config.training.prompts.resolved({})
        asked = rows * [about_text_tokens((own.get("query") or "") + query)]
        read = (rows if mined else passages) * [about_text_tokens((own.get("document") or "") + passage)]
        groups = [*evaluated_by_base(config, inputs, query=query), asked, read]
        as_base = embedded_by(config, base, groups)
        found[base] = found[base] + as_base if base in found else as_base
    if not rows:
        return found
    a_row = math.ceil(passages / rows)
    if mined:
        passages = min(passages, counts.documents + rows)
    # A few rows are scored at once; every text of theirs may be new.
    full, rest = divmod(rows, ROWS_AT_ONCE)
    requests = full * _requests_for(ROWS_AT_ONCE, a_row) + (_requests_for(rest, a_row) if rest else 0)
    requests += math.ceil(counts.given / BATCH_SIZE)  # a few rows may have most of the answers that were given
    for teacher in served_teachers(config):
        prompts = teacher.prompts.resolved({})
        tokens = rows * about_text_tokens((prompts.get("query") or "") + query)
        tokens += passages * about_text_tokens((prompts.get("document") or "") + passage)
        price = embedding_price(config, teacher)
        cost = None if price is None else cost_of(price, prompt_tokens=tokens, completion_tokens=0)
        before = found.get(teacher.model)
        as_teacher = EmbeddingEstimate(rows + passages, requests, tokens, cost)
        found[teacher.model] = as_teacher if before is None else before + as_teacher
    return found


def served_teachers(config: Config) -> list[TeacherConfig]:
    """The embedders behind endpoints that a run's candidates learn from; one for each that scores for itself."""
    found = {teacher_fingerprint(config, teacher): teacher for teacher in _teachers(config) if is_served(teacher)}
    return list(found.values())


def _teachers(config: Config) -> list[TeacherConfig]:
    settings = map(config.training.resolve, config.training.candidates)
    return [teacher for candidate in settings for teacher in teachers_of(candidate)]


def _has_judge(config: Config) -> bool:
    """Whether the run's language model is a teacher of any candidate."""
    return any(teacher.is_judge for teacher in _teachers(config))


def _keeps_positives(config: Config) -> bool:
    return config.audit.false_negatives == "keep-as-positive"


def _audited(config: Config, counts: RowCounts) -> Times:
    """Passages that the audit's judge is asked about, where it has no limit."""
    if config.audit.judge is None:
        return Times(0, 0)
    heldout = counts.heldout * DEPTH if _keeps_positives(config) else 0
    if not config.audit.checks.false_negatives:
        return Times(heldout, heldout)
    candidates = config.candidates_kept if _keeps_positives(config) else 0
    about, at_most = _AS_KEPT + candidates, 1 + len(LEVELS) * MOST_TURNS + candidates
    return Times(counts.rows * about + heldout, counts.rows * at_most + heldout)


def _scored(config: Config, counts: RowCounts) -> Times:
    """Passages that each teacher is asked about."""
    about = counts.rows * (_AS_KEPT + config.candidates_kept)
    return Times(about, _scored_passages(config, counts))


def _scored_passages(config: Config, counts: RowCounts) -> int:
    a_row = _AS_KEPT + config.candidates_kept
    if _keeps_positives(config):  # all that was turned away in every turn but the last may be answers
        a_row += len(LEVELS) * (MOST_TURNS - 1)
    return counts.rows * a_row + counts.given


def _requests_for(rows: int, passages_a_row: int) -> int:
    """Requests of some rows that are scored at once."""
    return _batches(rows) + _batches(rows * passages_a_row)


def _batches(texts: int) -> int:
    full, rest = divmod(texts, TEXTS_AT_ONCE)
    return full * math.ceil(TEXTS_AT_ONCE / BATCH_SIZE) + math.ceil(rest / BATCH_SIZE)
