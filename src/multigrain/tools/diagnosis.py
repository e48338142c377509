"""Go through the causes of a tuning that did not help, with the evidence that a run's files hold.

No model is loaded and nothing is asked. A run that is not complete has evidence on some causes only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np

from multigrain.config import Config
from multigrain.config.file import load_config
from multigrain.dataset.store import open_examples
from multigrain.display import numbers as figures
from multigrain.errors import ConfigError, RunDirectoryError
from multigrain.evaluation.choice import choose_model
from multigrain.evaluation.enough import needed_words
from multigrain.evaluation.per_query import read_per_query
from multigrain.evaluation.query_kinds import conclude_all_slices, is_question
from multigrain.evaluation.results import NDCG, EvaluationResults, SetResult, read_results
from multigrain.evaluation.stored import PER_QUERY_FILE, RESULTS_FILE
from multigrain.evaluation.verdict import (
    Conclusion,
    ForgettingVerdict,
    Verdict,
    conclusion_on,
    conclusions_of,
    judge_forgetting,
)
from multigrain.report.data import AuditSummary
from multigrain.report.load import read_artifact
from multigrain.report.summaries import evenly_spaced
from multigrain.sources.words import count_words
from multigrain.storage.rundir import RunDirectory
from multigrain.storage.shards import is_table
from multigrain.tools.causes import CAUSES, Cause
from multigrain.training.log import TrainingLog
from multigrain.training.notices import HARDLY_MOVED, SAME_VECTORS

Status = Literal["found", "ruled out", "cannot tell"]
ModelMoved = Callable[[RunDirectory, Config], float]

_FEW_ROWS: Final = 100
_KEPT_SHARE: Final = 0.5
_UNLIKE: Final = 0.5  # difference between two shares of questions
_LONGER: Final = 2.0  # times as many words
_NEAR_TOP: Final = 0.9  # "nine queries in ten"
_READ: Final = 1_000  # training queries that are compared with people's


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run's files say of one cause.

    Attributes:
        status: found, ruled out, or cannot tell.
        words: the evidence, with its figures.
        figure: the one that decides, where there is one; shares and nDCG@10 from 0 to 1.
        missing: another command than the cause's own, such as one that would get the evidence.
        advice: what to do, where the cause's own advice does not fit.
    """

    status: Status
    words: str
    figure: float | None = None
    missing: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause of a run.

    Attributes:
        cause: its short name.
        question: what is asked.
        status: found, ruled out, or cannot tell.
        evidence: with its figures, in words.
        figure: the one that decides, where there is one.
        advice: what to do; empty where it is ruled out.
        command: what to run; empty where it is ruled out.
    """

    cause: str
    question: str
    status: Status
    evidence: str
    figure: float | None
    advice: str
    command: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a run shows.

    Attributes:
        findings: of each cause, the most frequent first.
        choice: the verdict over base, tuned model and rivals, in words; empty where the run compared no rivals.
    """

    findings: tuple[Finding, ...]
    choice: str = ""


def diagnose(path: Path, *, moved: ModelMoved | None = None) -> Diagnosis:
    """What speaks for and against each cause, the most frequent first.

    Args:
        path: a run directory, complete or not.
        moved: loads base and tuned model and tells the mean distance (1 - cosine) between their vectors; asked only
            where the run's files do not tell. None asks no model.

    Raises:
        RunDirectoryError: there is no run, or one of its files cannot be understood.
    """
    run = RunDirectory(path)
    if not run.config_path.is_file():
        raise RunDirectoryError(f"{path}: no run is here (it holds no {run.config_path.name}); `multigrain status`")
    seen = _Seen(run, moved)
    chosen = None if seen.results is None else choose_model(seen.results, seen.conclusions)
    findings = tuple(_finding(cause, _LOOKS[cause.name](seen), path) for cause in CAUSES)
    return Diagnosis(findings, "" if chosen is None or not seen.results or not seen.results.rivals else str(chosen))


def _finding(cause: Cause, evidence: Evidence, path: Path) -> Finding:
    done = evidence.status == "ruled out"
    advice = "" if done else evidence.advice or ("get what is missing" if evidence.missing else cause.advice)
    command = "" if done else (evidence.missing or cause.command).format(run=path)
    return Finding(cause.name, cause.question, evidence.status, evidence.words, evidence.figure, advice, command)


class _Seen:
    """A run's artifacts, each read when it is first asked for; None where it is not there."""

    def __init__(self, run: RunDirectory, moved: ModelMoved | None) -> None:
        self.run = run
        self._moved = moved

    @cached_property
    def config(self) -> Config | None:
        try:
            return load_config(self.run.config_path)
        except ConfigError:
            return None  # of another version: what it says is not known

    @cached_property
    def results(self) -> EvaluationResults | None:
        return None if self.run.manifest("results") is None else read_results(self.run.results_path / RESULTS_FILE)

    @cached_property
    def conclusions(self) -> tuple[Conclusion, ...]:
        return () if self.results is None else conclusions_of(self.results)

    @cached_property
    def tested(self) -> tuple[SetResult, str] | None:
        """The best test set, and the tuned model whose difference counts: the chosen one, else the first."""
        results = self.results
        result = None if results is None else results.headline_set
        if results is None or result is None or not result.delta:
            return None
        return result, results.chosen if results.chosen in result.delta else next(iter(result.delta))

    @cached_property
    def conclusion(self) -> Conclusion | None:
        return None if self.tested is None else conclusion_on(self.conclusions, self.tested[0].name, self.tested[1])

    @cached_property
    def audit(self) -> AuditSummary | None:
        return None if self.run.manifest("dataset") is None else read_artifact(self.run.audit_path, AuditSummary)

    @cached_property
    def log(self) -> TrainingLog | None:
        """Of the tuned model that counts, else of the first that is there."""
        trained = [m.stage.partition("/")[2] for m in self.run.manifests() if m.stage.startswith("models/")]
        names = [self.tested[1]] if self.tested is not None and self.tested[1] in trained else trained[:1]
        return read_artifact(self.run.candidate_path(names[0]) / "training_log.json", TrainingLog) if names else None

    @cached_property
    def distance(self) -> float | None:
        """Between the vectors of the base and of the tuned model, where it is known."""
        if self.log is not None and self.log.curves is not None:
            return self.log.curves.saved.moved
        if self._moved is None or self.config is None or not self.run.model_path.is_dir():
            return None
        return self._moved(self.run, self.config)

    def queries(self) -> list[str]:
        """Queries of the training rows."""
        if not is_table(self.run.dataset_path):
            return []
        rows = open_examples(self.run.dataset_path)
        return [rows[place].query for place in evenly_spaced(len(rows), _READ)]

    def asked_by_people(self) -> list[str]:
        """Test and validation queries that people wrote."""
        path = self.run.results_path / PER_QUERY_FILE
        if self.results is None or not path.is_file():
            return []
        human = {each.name for each in self.results.sets if each.evidence != "written" and each.role != "forgetting"}
        return [row.query for row in read_per_query(path, models=[self.results.base]) if row.set in human]


def _noise(seen: _Seen) -> Evidence:
    if seen.results is None:
        return Evidence("cannot tell", "the run has not been evaluated", missing="multigrain run {run}")
    found = seen.conclusion
    if found is None:
        words = "no test set compares a tuned model with the base"
        return Evidence("cannot tell", words, missing="multigrain label {run}")
    difference = found.difference
    figure = (
        f"{found.model} on {found.result.name}: {figures.interval(difference)} points on "
        f"{found.result.queries:,} {found.result.unit}"
    )
    if found.is_claimed:
        return Evidence("ruled out", f"{figure}: {found.verdict.value}", difference.mean)
    if found.verdict is Verdict.EQUAL:
        return Evidence("ruled out", f"{figure}: {found.verdict.value}, to within 1 point", difference.mean)
    words = needed_words(found, confidence=seen.results.confidence)
    needed = f"; {words}" if words else ""
    why = "the interval contains zero" if difference.low <= 0 <= difference.high else "too few queries to tell"
    return Evidence("found", f"{figure}: {why}{needed}", difference.mean)


def _queries(seen: _Seen) -> Evidence:
    config = seen.config
    if config is not None and config.start_from == "pairs":
        return Evidence("ruled out", "rows are tuned on queries that were given, not on written ones")
    written, asked = seen.queries(), seen.asked_by_people()
    if not written:
        return Evidence("cannot tell", "no row has been kept yet", missing="multigrain audit {run}")
    if not asked:
        return Evidence("cannot tell", "no test query of a person to compare with", missing="multigrain label {run}")
    lengths = [float(np.median([count_words(text) for text in texts])) for texts in (written, asked)]
    questions = [sum(map(is_question, texts)) / len(texts) for texts in (written, asked)]
    ratio = max(lengths) / max(min(lengths), 1.0)
    unlike = abs(questions[0] - questions[1])
    words = (
        f"queries of the rows have {lengths[0]:.0f} words (median), those of people {lengths[1]:.0f}; "
        f"{questions[0]:.0%} are questions, of people's {questions[1]:.0%}"
    )
    return Evidence("found" if ratio >= _LONGER or unlike > _UNLIKE else "ruled out", words, round(unlike, 4))


def _audit(seen: _Seen) -> Evidence:
    audit = seen.audit
    if audit is None:
        return Evidence("cannot tell", "the rows have not been audited", missing="multigrain audit {run}")
    share = audit.kept / max(audit.written, 1)
    lost = audit.rejected.get("round_trip", 0)
    words = f"{audit.kept:,} of {audit.written:,} rows kept ({share:.0%})"
    words += f"; {lost:,} queries do not find their own document" if lost else ""
    if audit.probe is not None and audit.probe.warns:
        words += f"; a classifier tells written negatives from mined ones (AUC {audit.probe.auc:.2f})"
        return Evidence("found", words, round(share, 4))
    if share < _KEPT_SHARE:
        return Evidence("found", words, round(share, 4))
    if audit.kept < _FEW_ROWS:
        more = "give it more documents, or more queries a document (synthesis.queries_per_document)"
        words += "; so few rows teach little"
        return Evidence(
            "found", words, round(share, 4), missing="multigrain plan {run}/config.yaml --run {run}", advice=more
        )
    return Evidence("ruled out", words, round(share, 4))


def _notices(seen: _Seen, names: Sequence[str]) -> list[str]:
    return [] if seen.log is None else [notice.words for notice in seen.log.notices if notice.name in names]


def _too_far(seen: _Seen) -> Evidence:
    log = seen.log
    if log is None:
        return Evidence("cannot tell", "no model has been trained", missing="multigrain train {run}")
    if said := _notices(seen, ("validation fell", "collapsed")):
        return Evidence("found", " ".join(said), log.learning_rate)
    if log.validation:
        best = max(log.validation, key=lambda step: log.validation[step])
        words = f"validation nDCG@10 was best after step {best} of {log.steps} and has not fallen since"
        return Evidence("ruled out", f"{words} (learning rate {log.learning_rate:g})", log.validation[best])
    if log.curves is not None and log.curves.held_out:
        before, after = log.curves.points[0].first, log.curves.saved.first
        words = f"the right document is nearest for {after:.0%} of {log.curves.rows} validation queries"
        return Evidence("ruled out", f"{words}; before training, for {before:.0%}", after)
    return Evidence("cannot tell", "training asked no validation queries")


def _nothing_moved(seen: _Seen) -> Evidence:
    if seen.log is None:
        return Evidence("cannot tell", "no model has been trained", missing="multigrain train {run}")
    names = ("weights hardly moved", "vectors equal the base's", "loss at its floor")
    if said := _notices(seen, names):
        return Evidence("found", " ".join(said), seen.distance)
    if seen.distance is None:
        words = "this training kept no similarity curves"
        return Evidence("cannot tell", words, missing="multigrain diagnose {run} --load-models")
    moved = seen.log.weights_moved
    weights = "" if moved is None else f"; weights moved by {moved:.2g} of their length"
    words = f"vectors are {seen.distance:.2g} (1 - cosine) from the base's{weights}"
    same = seen.distance < SAME_VECTORS or (moved is not None and moved < HARDLY_MOVED)
    return Evidence("found" if same else "ruled out", words, seen.distance)


def _nothing_to_gain(seen: _Seen) -> Evidence:
    if seen.results is None or seen.tested is None:
        return Evidence("cannot tell", "the base has not been tested", missing="multigrain run {run}")
    result = seen.tested[0]
    score = result.models[seen.results.base].score
    words = f"the base's {result.metric} on {result.name} is {figures.score(score)}"
    return Evidence("found" if result.metric == NDCG and score >= _NEAR_TOP else "ruled out", words, score)


def _kinds(seen: _Seen) -> Evidence:
    if seen.results is None:
        return Evidence("cannot tell", "the run has not been evaluated", missing="multigrain run {run}")
    concluded = conclude_all_slices(seen.results)
    if not any(each.conclusion is not None for each in concluded):
        return Evidence("cannot tell", "too few queries of each kind", missing="multigrain label {run}")
    worse = [each for each in concluded if each.tone == "worse" and each.conclusion is not None]
    if not worse:
        return Evidence("ruled out", f"of {len(concluded)} kinds none is shown to be worse")
    listed = "; ".join(
        f"{each.slice.kind}: {each.slice.value} {figures.interval(each.conclusion.difference)} points"
        for each in worse
        if each.conclusion is not None
    )
    return Evidence("found", f"worse for {listed} (corrected for {len(concluded)} kinds)")


def _elsewhere(seen: _Seen) -> Evidence:
    if seen.results is None:
        return Evidence("cannot tell", "the run has not been evaluated", missing="multigrain run {run}")
    judged = judge_forgetting(seen.results)
    if not judged:
        if seen.results.chosen == seen.results.base:
            return Evidence("ruled out", "model/ holds the base")
        return Evidence("cannot tell", "no set of role forgetting was evaluated")
    words = "; ".join(each.sentence for each in judged)
    change = min(each.change for each in judged)
    verdicts = {each.verdict for each in judged}
    if ForgettingVerdict.FORGOT in verdicts:
        return Evidence("found", words, change)
    return Evidence("ruled out" if verdicts == {ForgettingVerdict.KEPT} else "cannot tell", words, change)


_LOOKS: Final[Mapping[str, Callable[[_Seen], Evidence]]] = {
    "noise": _noise,
    "queries": _queries,
    "audit": _audit,
    "too far": _too_far,
    "nothing moved": _nothing_moved,
    "nothing to gain": _nothing_to_gain,
    "kinds": _kinds,
    "elsewhere": _elsewhere,
}
