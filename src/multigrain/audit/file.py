"""Other people's training files under audit: their negatives measured, checked, levelled and completed to four."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from multigrain.audit.evaluation_sets import find_contamination
from multigrain.audit.judges import judge_counts, open_judges
from multigrain.audit.probe import run_probe
from multigrain.audit.run import audit_rows
from multigrain.audit.structure import check_structure
from multigrain.audit.summary import say_summary, summarise
from multigrain.config import Config, DocumentsConfig
from multigrain.dataset.foreign import ForeignRow, FormatName, read_foreign
from multigrain.dataset.store import write_examples, write_rejections
from multigrain.display.progress import Progress, SilentProgress
from multigrain.encoders.reference import reference_encoder, reference_name
from multigrain.errors import RunDirectoryError, SourceError
from multigrain.records import Document, GradedExample, Level, ScoreScale, SynthesizedRow
from multigrain.sources.grouping import near_duplicate_groups
from multigrain.sources.load import read_documents
from multigrain.sources.words import fold_repeated, fold_words
from multigrain.storage.files import atomic_write
from multigrain.storage.reading import Reading
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.pair_judge import pair_key
from multigrain.synthesis.strategies.protocol import WritingUnit

_STRATEGY: Final = "theirs"
_FEWEST_DOCUMENTS: Final = 5  # a positive and one document a level


def audit_file(
    path: Path,
    directory: Path,
    config: Config,
    *,
    form: FormatName | Literal["auto"] = "auto",
    corpus: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Audit a training file; levels are assigned by measure, and filled from all positives of the file.

    Args:
        path: the file; see `dataset.foreign`.
        directory: gets dataset/graded.parquet, rejects.parquet and audit.json.
        config: its `audit` section and reference model.
        form: the file's form.
        corpus: more documents to fill levels from.
        progress: who is told.

    Returns:
        The audit's counts.

    Raises:
        RunDirectoryError: the directory holds a run.
        SourceError: the file cannot be read, or is too small to fill levels from.
    """
    progress = progress or SilentProgress()
    if RunDirectory(directory).config_path.exists():
        raise RunDirectoryError(
            f"{directory}: holds a run, whose data set this would replace; name another directory with --run"
        )
    reading = Reading()
    theirs, form_name = read_foreign(path, form, reading=reading)
    notes = list(reading.lines(path.name))
    for line in notes:
        progress.say(line)
    rows = synthesized_rows(theirs, path.stem)
    more = [] if corpus is None else [document.text for document in read_documents(DocumentsConfig(path=corpus))[0]]
    pool = foreign_documents(rows, more, config)
    if len(pool) < _FEWEST_DOCUMENTS:
        raise SourceError(
            f"{path}: only {len(pool)} different usable positives, at least {_FEWEST_DOCUMENTS} are needed to fill "
            "levels from: give more documents with --corpus"
        )

    def units() -> dict[str, WritingUnit]:
        """What negatives are written from, by row, where they are to be written again."""
        return {
            row.id: WritingUnit(Document(row.document_id or row.id, row.positive), query=row.query) for row in rows
        }

    with (
        RunDirectory(directory).hold() as run,
        open_judges(config, run, units) as (judges, rewrite),
    ):
        reference = reference_encoder(config)
        with progress.task("Measuring the corpus", None):
            vectors = reference.encode_documents([document.text for document in pool])
        contamination = find_contamination(config, reference)
        with progress.task("Auditing rows", None):
            result = audit_rows(
                rows,
                pool,
                # Nobody asked for a level: every negative goes where it was measured.
                config.audit.model_copy(
                    update={"repair": ["relevel", *config.audit.repair], "candidates": config.candidates_kept}
                ),
                encode_queries=reference.encode_queries,
                encode_documents=reference.encode_documents,
                pool_vectors=vectors,
                seed=config.seed,
                judges=judges,
                contamination=contamination,
                rewrite=rewrite,
                tell_spares=True,
            )
        probe = run_probe(result, pool, vectors, config, reference.encode_documents)
        given = given_scores(theirs)
        result = replace(
            result, examples=tuple(_with_scores(_as_theirs(example), given) for example in result.examples)
        )
        counts = summarise(
            result,
            requested=len(rows),
            written=len(rows),
            reference_model=reference_name(config),
            probe=probe,
            reference=reference,
        )
        counts |= judge_counts(judges)
        counts |= {
            "format": form_name,
            "notes": notes,
            "written_candidates": result.written_candidates
            + sum(len(texts) for row in rows for texts in row.candidates.values()),
            "documents": len(pool),
        }
        rejections = [
            # No level was asked for, so none is named.
            rejection if rejection.part == "row" else replace(rejection, part="negative")
            for rejection in result.rejections
        ]
        write_rejections(run.rejects_path, rejections)
        write_examples(run.dataset_path, result.examples)
        atomic_write(run.audit_path, json.dumps(counts, indent=2))
    say_summary(counts, progress)
    return counts


def synthesized_rows(theirs: Sequence[ForeignRow], name: str) -> list[SynthesizedRow]:
    """Their rows as the audit reads them: one for each positive, with negatives of no known level.

    Args:
        theirs: as they were read.
        name: what ids begin with; the line's number follows.
    """
    answers: dict[str, dict[str, None]] = defaultdict(dict)
    for foreign in theirs:
        answers[fold_repeated(foreign.query)] |= dict.fromkeys(map(_text_id, foreign.positives))
    rows = []
    for foreign in theirs:
        positives = list(dict.fromkeys(foreign.positives))
        for number, positive in enumerate(positives):
            own = _text_id(positive)
            rows.append(
                SynthesizedRow(
                    id=f"{name}-{foreign.line}" + (f".{number + 1}" if number else ""),
                    document_id=own,
                    query=foreign.query,
                    positive=positive,
                    # Whatever level: which one it is, is measured.
                    candidates={Level.HARD: foreign.negatives} if foreign.negatives else {},
                    strategy=_STRATEGY,
                    relevant_ids=tuple(other for other in answers[fold_repeated(foreign.query)] if other != own),
                )
            )
    return rows


def foreign_documents(rows: Sequence[SynthesizedRow], more: Sequence[str], config: Config) -> list[Document]:
    """The corpus that all usable positives make, with near-duplicates grouped."""
    texts: dict[str, str] = {}
    for row in rows:
        if check_structure(replace(row, candidates={})) is None and fold_words(row.positive):
            texts.setdefault(_text_id(row.positive), row.positive)
    for text in more:
        texts.setdefault(_text_id(text), text)
    documents = [Document(key, text) for key, text in texts.items()]
    groups = near_duplicate_groups(texts.values(), config.documents.near_duplicate_similarity)
    return [replace(document, group=group) for document, group in zip(documents, groups, strict=True)]


def _as_theirs(example: GradedExample) -> GradedExample:
    """The row without levels that nobody asked for."""
    easiest, low, high, hardest = (replace(negative, written_level=None) for negative in example.negatives)
    actions = [action for action in example.actions if not action.startswith("relevelled")]
    renamed = tuple(f"levelled:{action[9:]}" if action.startswith("selected:") else action for action in actions)
    filled = tuple(
        f"refilled:{int(negative.level)}"
        for negative in example.negatives
        if negative.origin == "mined" and f"refilled:{int(negative.level)}" not in renamed
    )
    return replace(example, negatives=(easiest, low, high, hardest), actions=(*renamed, *filled))


def given_scores(theirs: Sequence[ForeignRow]) -> dict[bytes, float]:
    """The scores that came with a file, by the key of query and passage."""
    return {
        pair_key(row.query, text): score
        for row in theirs
        for texts, scores in ((row.positives, row.positive_scores), (row.negatives, row.negative_scores))
        if len(texts) == len(scores)
        for text, score in zip(texts, scores, strict=True)
    }


def _with_scores(example: GradedExample, given: Mapping[bytes, float]) -> GradedExample:
    """The row with the scores that its file brought for its passages; what was mined has none."""
    if not given:
        return example

    def score(text: str) -> float | None:
        return given.get(pair_key(example.query, text))

    easiest, low, high, hardest = (replace(negative, score=score(negative.text)) for negative in example.negatives)
    return replace(
        example,
        scale=ScoreScale.GIVEN,
        positive_score=score(example.positive),
        negatives=(easiest, low, high, hardest),
        further_positives=tuple(replace(passage, score=score(passage.text)) for passage in example.further_positives),
        candidates=tuple(replace(passage, score=score(passage.text)) for passage in example.candidates),
    )


def _text_id(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
