"""The steps of an audit: what is asked of a row, and what becomes of what was written for it."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from multigrain.audit.check import MeasuredRow, Problem, reject
from multigrain.audit.checks import check_measured, check_negative, check_row, check_rows, limits_for
from multigrain.audit.duplicates import Embed, same_meaning
from multigrain.audit.judges import Judge, Rewrite
from multigrain.audit.levels import (
    MinedPick,
    MinedPool,
    Picks,
    WrittenPick,
    candidate_picks,
    mined_pool,
    pick_negatives,
)
from multigrain.audit.structure import check_structure, check_text, mend, mend_text, mended
from multigrain.config import AuditConfig
from multigrain.encoders.protocol import Floats
from multigrain.mining.best import Rows
from multigrain.mining.rules import nearest_bands, scale_bands
from multigrain.mining.search import Ranking, rank_corpus
from multigrain.records import (
    LEVELS,
    Document,
    GradedExample,
    Level,
    Negative,
    Origin,
    Passage,
    Rejection,
    SynthesizedRow,
    answering_ids,
)
from multigrain.sources.words import fold_repeated
from multigrain.storage.sequences import View

if TYPE_CHECKING:
    from multigrain.audit.evaluation_sets import Contamination

MOST_GIVEN: Final = 16
"""Further documents that were given as answers and are kept with a row."""

MOST_TURNS: Final = 16
"""How often a row's negatives are shown to judges, each time after others were chosen for those turned away."""


@dataclass
class RowWork:
    """One row under audit.

    Attributes:
        row: as it was written.
        vector: (d,) the query's reference vector.
        similarity: of query and positive.
        pool: what its levels may be mined from.
        limits: the config's `audit` section, with the lengths that go for the row.
        candidates: written negatives that passed so far.
        refused: those that did not, and why; reported if the row is kept.
        banned: texts and corpus rows that a judge turned away.
        approved: texts and corpus rows that every judge let pass.
        picks: what was chosen.
        problem: why the whole row goes; None while it stays.
        texts: the words of the written negatives that passed the checks.
        positives: texts and corpus rows that a judge found to answer, where they are kept.
        candidates_kept: more passages that the row keeps.
    """

    row: SynthesizedRow
    vector: Floats
    similarity: float
    pool: MinedPool
    limits: AuditConfig
    candidates: list[WrittenPick] = field(default_factory=list)
    refused: list[Rejection] = field(default_factory=list)
    banned: set[str | int] = field(default_factory=set)
    approved: set[str | int] = field(default_factory=set)
    picks: Picks = field(default_factory=dict)
    problem: Problem | None = None
    texts: set[str] = field(default_factory=set)
    positives: dict[str | int, WrittenPick | MinedPick] = field(default_factory=dict)
    candidates_kept: list[WrittenPick | MinedPick] = field(default_factory=list)

    @property
    def ceiling(self) -> float:
        """The highest similarity that a negative may have."""
        return self.similarity - self.limits.false_negative_margin if self.limits.checks.false_negatives else 1.0

    def consider(self, texts: Iterable[tuple[Level, str, bool]], vectors: Mapping[str, Floats], turn: int) -> None:
        """Check and measure written negatives; they become candidates or are refused.

        Args:
            texts: level, text, and whether it is a spare one.
            vectors: the texts' reference vectors.
            turn: 0 for what synthesis wrote, 1 and more for what was written again.
        """
        for level, text, spare in texts:
            problem = check_negative(text, self.row, self.limits)
            if problem is None and self.limits.checks.repeats and fold_repeated(text) in self.texts:
                problem = Problem("repeated", "another level of the row has the same text")
            if problem is None:
                self.texts.add(fold_repeated(text))
                similarity = float(self.vector @ vectors[text])
                if similarity <= self.ceiling:
                    self.candidates.append(WrittenPick(text, level, similarity, turn, spare))
                    continue
                figures = f"similarity {similarity:.2f}, its positive {self.similarity:.2f}"
                problem = Problem("false_negative", figures)
            self.refused.append(reject(self.row, problem, level, text))

    def unplaced(self, *, spares: bool) -> Iterator[Rejection]:
        """Candidates that no level took.

        Args:
            spares: tell of spare ones too. Of several that a model wrote for one level, those that were not chosen
                are no loss; those of somebody's own file are asked after.
        """
        placed = [pick.text for pick in self.picks.values() if isinstance(pick, WrittenPick)]
        for candidate in self.candidates:
            worth_telling = not candidate.spare or (spares and not candidate.round)
            if worth_telling and candidate.text not in placed and candidate.text not in self.banned:
                detail = f"similarity {candidate.similarity:.2f} falls in no free level"
                yield reject(self.row, Problem("no_level", detail), candidate.asked, candidate.text)

    def unchecked(self) -> list[tuple[Level, WrittenPick | MinedPick]]:
        """Picks that the judges have not looked at."""
        return [(level, pick) for level, pick in self.picks.items() if pick.key not in self.approved]

    @property
    def is_open(self) -> bool:
        """Whether the row stays so far, with a pick for every level."""
        return self.problem is None and len(self.picks) == len(LEVELS)


@dataclass
class AuditSteps:
    """The steps of one audit; what they turn away of a batch is gathered in `rejections`."""

    pool: Sequence[Document]
    config: AuditConfig
    encode_queries: Embed
    encode_documents: Embed
    pool_vectors: Rows
    seed: int
    tell_spares: bool
    vectors: dict[str, Floats] = field(default_factory=dict, init=False)
    rejections: list[Rejection] = field(default_factory=list, init=False)
    looked_at: int = field(default=0, init=False)
    asked_again: int = field(default=0, init=False)
    _asked_before: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._numbers = {document.id: number for number, document in enumerate(self.pool)}
        self._groups = array("q", (document.group for document in self.pool))

    def compare(self, rows: Sequence[SynthesizedRow]) -> dict[int, Problem]:
        """Which rows do not pass by themselves, or beside the others; by their place."""
        problems = {place: problem for place, row in enumerate(rows) if (problem := self._unsound(row)) is not None}
        sound = [place for place in range(len(rows)) if place not in problems]
        usable = View(rows, mended)
        problems |= check_rows(usable, sound, self.config)
        sound = [place for place in sound if place not in problems]
        return problems | same_meaning(usable, sound, self.config, self.encode_queries)

    def begin_batch(self, rows: Sequence[SynthesizedRow]) -> None:
        """Start with a batch; what was gathered of the one before is let go."""
        self.vectors, self.rejections = {}, []
        self._asked_before += self.asked_again
        self.asked_again = 0
        self.looked_at = sum(len(row.negatives) if isinstance(row.negatives, Mapping) else 0 for row in rows)

    def sound_rows(self, rows: Sequence[SynthesizedRow], problems: Sequence[Problem | None]) -> list[SynthesizedRow]:
        """The rows of a batch that nothing was found against, mended; the others are turned away."""
        sound: list[SynthesizedRow] = []
        for row, problem in zip(rows, problems, strict=True):
            if problem is None:
                sound.append(mended(row))
            else:
                self.rejections.append(reject(mended(row), problem))
        return sound

    def _unsound(self, row: SynthesizedRow) -> Problem | None:
        """What is wrong with a row by itself."""
        problem = check_structure(row)
        if problem is None:
            return check_row(row, self.config)
        usable = mend(row)
        # Whatever is switched off, a kept row has an id.
        return problem if self.config.checks.structure or not usable.id else check_row(usable, self.config)

    def measure(self, rows: Sequence[SynthesizedRow], contamination: Contamination | None) -> list[RowWork]:
        """Rank the corpus for each row and measure its texts; rows that fail the round trip go."""
        if not rows:
            return []
        config = self.config
        queries = self.encode_queries([row.query for row in rows])
        positives = self.encode_documents([row.positive for row in rows])
        self._learn([text for row in rows for _, text, _ in _written_texts(row)])
        problems: list[Problem | None] = [None] * len(rows)
        if contamination is not None and config.checks.decontamination:
            problems = contamination.check([row.query for row in rows], [row.positive for row in rows], queries)
        numbers, groups = self._numbers, self._groups
        bands = scale_bands(config.bands, max(len(self.pool) - 1, 1))
        nearest = nearest_bands(bands)
        rankings: Iterator[Ranking] = rank_corpus(
            queries,
            self.pool_vectors,
            groups,
            [{groups[numbers[document]] for document in answering_ids(row) if document in numbers} for row in rows],
            depth=max(bands[0][1], (config.round_trip_rank or 0) + 1),
        )
        works: list[RowWork] = []
        for row, ranking, query, positive, problem in zip(rows, rankings, queries, positives, problems, strict=True):
            similarity = float(query @ positive)
            limits = limits_for(row, config)
            wrong = problem or check_measured(MeasuredRow(row, similarity, ranking.similarities, limits))
            if wrong is not None:
                self.rejections.append(reject(row, wrong))
                continue
            own = nearest if row.mining == "nearest" else bands
            pool = mined_pool(ranking, own, seed=f"{self.seed}:{row.id}")
            work = RowWork(row, query, similarity, pool, limits)
            if config.negatives != "mined":
                work.consider(_written_texts(row), self.vectors, 0)
            works.append(work)
        return works

    def write_again(self, works: Sequence[RowWork], rewrite: Rewrite) -> None:
        """Ask for the negatives of rows some of whose levels nothing written fits; new texts join the candidates."""
        config = self.config
        for turn in range(1, config.regenerate_rounds + 1):
            broken = [
                work for work in works if (work.row.negatives or work.row.candidates) and self._broken_levels(work)
            ]
            if config.regenerate_budget is not None:
                remaining = config.regenerate_budget - self._asked_before - self.asked_again
                broken = broken[: max(0, remaining)]
            if not broken:
                return
            self.asked_again += len(broken)
            answers = rewrite([work.row for work in broken], turn)
            fresh = [self._usable(work, answers.get(work.row.id, {})) for work in broken]
            self._learn([text for texts in fresh for _, text in texts])
            for work, texts in zip(broken, fresh, strict=True):
                work.consider([(level, text, True) for level, text in texts], self.vectors, turn)

    def _usable(self, work: RowWork, levels: Mapping[Level, Sequence[str]]) -> list[tuple[Level, str]]:
        """New texts for what a row is missing: a level that was written well stays as it was."""
        texts: list[tuple[Level, str]] = []
        for level in self._broken_levels(work):
            for text in levels.get(level, ()):
                self.looked_at += 1
                problem = check_text("a negative", text)
                if problem is None:
                    texts.append((level, text))
                else:
                    work.refused.append(reject(work.row, problem, level, mend_text(text)))
        return texts

    def pick(self, work: RowWork, *, refill: bool | None = None) -> None:
        """Choose a row's negatives from what there is."""
        config = self.config
        sources = config.negatives
        if sources == "hybrid" and not ("refill" in config.repair if refill is None else refill):
            # A row that nothing was written for has nothing to repair.
            sources = "written" if work.row.negatives or work.row.candidates else "mined"
        work.picks = pick_negatives(
            work.candidates,
            work.pool,
            sources=sources,
            ceiling=work.ceiling,
            gap=config.min_level_gap,
            seed=f"{self.seed}:{work.row.id}",
            relevel="relevel" in config.repair,
            in_order=config.checks.level_order,
            banned=work.banned,
        )

    def ask_about_positives(self, works: Sequence[RowWork], judge: Judge) -> None:
        """Turn away the rows whose positive a judge finds to be no answer."""
        open_works = [work for work in works if work.is_open]
        problems = judge.on_positives([(work.row.query, work.row.positive) for work in open_works])
        for work, problem in zip(open_works, problems, strict=True):
            work.problem = problem

    def settle(self, works: Sequence[RowWork], judges: Sequence[Judge]) -> None:
        """Show the picks to the judges, and choose anew where some are turned away, until none is."""
        for _ in range(MOST_TURNS):
            open_picks = [(work, level, pick) for work in works if work.is_open for level, pick in work.unchecked()]
            if not open_picks:
                return
            refused: dict[int, RowWork] = {}
            for judge in judges:
                claims = [(work.row.query, work.row.positive, self._text(pick)) for work, _, pick in open_picks]
                problems = judge.on_negatives(claims)
                for (work, level, pick), problem in zip(open_picks, problems, strict=True):
                    if problem is not None:
                        work.banned.add(pick.key)
                        if self._keeps_positives and self._answers(judges, work, [pick]) == [True]:
                            work.positives[pick.key] = pick
                        work.refused.append(reject(work.row, problem, level, self._text(pick)))
                        refused[id(work)] = work
                open_picks = [
                    open_pick for open_pick, problem in zip(open_picks, problems, strict=True) if problem is None
                ]
            for work, _, pick in open_picks:
                work.approved.add(pick.key)
            for work in refused.values():
                self.pick(work)
        for work in works:
            if work.is_open and work.unchecked():
                work.problem = Problem("false_negative", f"no four negatives passed in {MOST_TURNS} choices")

    @property
    def _keeps_positives(self) -> bool:
        return self.config.false_negatives == "keep-as-positive"

    def choose_candidates(self, works: Sequence[RowWork], judges: Sequence[Judge]) -> None:
        """Choose the passages that rows keep beside their levels; those that surely answer join the positives."""
        count = self.config.candidates if isinstance(self.config.candidates, int) else 0
        open_works = [work for work in works if work.is_open and count]
        for work in open_works:
            taken = {pick.key for pick in work.picks.values()} | work.banned
            work.candidates_kept = candidate_picks(work.candidates, work.pool, taken=taken, count=count)
        if not (judges and self._keeps_positives and self.config.checks.false_negatives):
            return
        for judge in judges:  # about all rows at once: what is asked one after another takes long
            judge.answering(
                [(work.row.query, self._text(pick)) for work in open_works for pick in work.candidates_kept]
            )
        for work in open_works:
            answers = self._answers(judges, work, work.candidates_kept)
            chosen = zip(work.candidates_kept, answers, strict=True)
            work.positives |= {pick.key: pick for pick, is_answer in chosen if is_answer}
            work.candidates_kept = [pick for pick in work.candidates_kept if pick.key not in work.positives]

    def _answers(self, judges: Sequence[Judge], work: RowWork, picks: Sequence[WrittenPick | MinedPick]) -> list[bool]:
        """Whether all judges are sure of each pick that it answers the row's query."""
        answers = [True] * len(picks)
        for judge in judges:
            places = [place for place, is_answer in enumerate(answers) if is_answer]
            pairs = [(work.row.query, self._text(picks[place])) for place in places]
            for place, is_answer in zip(places, judge.answering(pairs), strict=True):
                answers[place] = is_answer
        return answers

    def complete(self, work: RowWork) -> bool:
        """Whether a row is kept; if not, its rejection is noted."""
        if work.problem is None and len(work.picks) < len(LEVELS):
            missing = ", ".join(str(int(level)) for level in LEVELS if level not in work.picks)
            work.problem = Problem("no_negative", f"nothing fits level {missing}")
        if work.problem is not None:
            self.rejections.append(reject(work.row, work.problem))
            return False
        self.rejections += work.refused
        self.rejections += work.unplaced(spares=self.tell_spares)
        return True

    def example(self, work: RowWork) -> GradedExample:
        """The row as it is kept, with what was done to it."""
        negatives, actions = [], []
        for level in LEVELS:
            pick = work.picks[level]
            if isinstance(pick, WrittenPick):
                negatives.append(Negative(pick.text, level, Origin.WRITTEN, pick.similarity, pick.asked))
                if pick.round:
                    actions.append(f"regenerated:{int(level)}")
                elif pick.spare:
                    actions.append(f"selected:{int(level)}")
                if pick.asked != level:
                    actions.append(f"relevelled:{int(pick.asked)}>{int(level)}")
            else:
                negatives.append(Negative(self._text(pick), level, Origin.MINED, pick.similarity))
                if work.row.negatives:
                    actions.append(f"refilled:{int(level)}")
        actions += ["kept_positive"] * len(work.positives)
        easiest, low, high, hardest = negatives
        return GradedExample(
            id=work.row.id,
            document_id=work.row.document_id,
            query=work.row.query,
            positive=work.row.positive,
            negatives=(easiest, low, high, hardest),
            positive_similarity=work.similarity,
            written_order_held=_order_held(work, self.vectors),
            actions=tuple(actions),
            further_positives=tuple(self._further_positives(work)),
            candidates=tuple(map(self._passage, work.candidates_kept)),
        )

    def _further_positives(self, work: RowWork) -> Iterator[Passage]:
        """The other documents that are given as answers, and what judges found to answer; each text once."""
        texts = {work.row.positive, *(self._text(pick) for pick in work.picks.values())}
        for key in work.row.relevant_ids[:MOST_GIVEN]:
            number = self._numbers.get(key)
            if number is not None and self.pool[number].text not in texts:
                texts.add(self.pool[number].text)
                similarity = float(work.vector @ np.asarray(self.pool_vectors[number : number + 1])[0])
                yield Passage(self.pool[number].text, Origin.MINED, similarity)
        for pick in work.positives.values():
            if self._text(pick) not in texts:
                texts.add(self._text(pick))
                yield self._passage(pick)

    def _passage(self, pick: WrittenPick | MinedPick) -> Passage:
        origin = Origin.WRITTEN if isinstance(pick, WrittenPick) else Origin.MINED
        return Passage(self._text(pick), origin, pick.similarity)

    def _broken_levels(self, work: RowWork) -> list[Level]:
        self.pick(work, refill=self.config.negatives == "hybrid")
        return [level for level in reversed(LEVELS) if not isinstance(work.picks.get(level), WrittenPick)]

    def _learn(self, texts: Sequence[str]) -> None:
        new = sorted({text for text in texts if text.strip()} - self.vectors.keys())
        if new:
            self.vectors.update(zip(new, self.encode_documents(new), strict=True))

    def _text(self, pick: WrittenPick | MinedPick) -> str:
        return pick.text if isinstance(pick, WrittenPick) else self.pool[pick.index].text


def _written_texts(row: SynthesizedRow) -> list[tuple[Level, str, bool]]:
    """A row's negatives and further candidates, hardest first: level, text, and whether it is a spare one."""
    return [
        *((level, row.negatives[level], False) for level in reversed(LEVELS) if level in row.negatives),
        *((level, text, True) for level in reversed(LEVELS) for text in row.candidates.get(level, ())),
    ]


def _order_held(work: RowWork, vectors: Mapping[str, Floats]) -> bool | None:
    """Whether the four levels as written rise strictly and stay below the positive, under the reference."""
    texts = [work.row.negatives.get(level, "") for level in LEVELS]
    if not all(text in vectors for text in texts):
        return None
    rising = [float(work.vector @ vectors[text]) for text in texts] + [work.similarity]
    return all(lower < upper for lower, upper in itertools.pairwise(rising))
