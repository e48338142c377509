"""The steps of an audit: what is asked of a row, and what becomes of what was written for it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from multigrain.audit.candidates import RowWork, order_held, written_texts
from multigrain.audit.check import MeasuredRow, Problem, reject
from multigrain.audit.checks import check_measured, check_row, check_rows, limits_for
from multigrain.audit.judges import Judge
from multigrain.audit.levels import MinedPick, WrittenPick, mined_pool, pick_negatives
from multigrain.audit.structure import MendedRows, check_structure, check_text, mend, mend_text, mended
from multigrain.config import AuditConfig
from multigrain.mining.bands import Ranking, nearest_bands, rank_corpus, scale_bands
from multigrain.mining.search import Floats, Rows
from multigrain.records import (
    LEVELS,
    Document,
    GradedExample,
    Level,
    Negative,
    Origin,
    Rejection,
    SynthesizedRow,
    answering_ids,
)

if TYPE_CHECKING:
    from multigrain.audit.evaluation_sets import Contamination

__all__ = ["AuditSteps", "Embed", "Rewrite"]

Embed = Callable[[Sequence[str]], Floats]
"""Turns texts into (n, d) L2-normalised vectors."""

Rewrite = Callable[[Sequence[SynthesizedRow], int], Mapping[str, Mapping[Level, Sequence[str]]]]
"""Asks for the negatives of some rows again, for the n-th time: new texts by row id and level."""

_MOST_TURNS: Final = 16  # how often a row's negatives are chosen anew after a judge turned some away


class AuditSteps:
    """The steps of one audit; what they turn away of a batch is gathered in `rejections`."""

    def __init__(
        self,
        pool: Sequence[Document],
        config: AuditConfig,
        embed_queries: Embed,
        embed_passages: Embed,
        pool_vectors: Rows,
        seed: int,
        *,
        tell_spares: bool,
    ) -> None:
        self._tell_spares = tell_spares
        self._pool = pool
        self._config = config
        self._embed_queries = embed_queries
        self._embed_passages = embed_passages
        self._pool_vectors = pool_vectors
        self._seed = seed
        self.vectors: dict[str, Floats] = {}
        self.rejections: list[Rejection] = []
        self.looked_at = 0
        self.asked_again = 0
        self._asked_before = 0
        self._places: dict[str, int] = {}
        self._groups = array("q")
        for place, document in enumerate(pool):
            self._places[document.id] = place
            self._groups.append(document.group)

    def compare(self, rows: Sequence[SynthesizedRow]) -> dict[int, Problem]:
        """Which rows do not pass by themselves, or beside the others; by their place."""
        problems: dict[int, Problem] = {}
        for place, row in enumerate(rows):
            problem = self._unsound(row)
            if problem is not None:
                problems[place] = problem
        sound = [place for place in range(len(rows)) if place not in problems]
        return problems | check_rows(MendedRows(rows), sound, self._config)

    def begin_batch(self, rows: Sequence[SynthesizedRow]) -> None:
        """Forget the last batch."""
        self.vectors, self.rejections = {}, []
        self._asked_before += self.asked_again
        self.asked_again = 0
        self.looked_at = sum(len(row.negatives) if isinstance(row.negatives, Mapping) else 0 for row in rows)

    def sound_rows(self, rows: Sequence[SynthesizedRow], problems: Sequence[Problem | None]) -> list[SynthesizedRow]:
        """The rows of a batch that nothing was found against, mended; the others are turned away."""
        sound: list[SynthesizedRow] = []
        for given, problem in zip(rows, problems, strict=True):
            if problem is None:
                sound.append(mended(given))
            else:
                self._drop(mended(given), problem)
        return sound

    def _unsound(self, row: SynthesizedRow) -> Problem | None:
        """What is wrong with a row by itself."""
        problem = check_structure(row)
        if problem is not None and (self._config.checks.structure or not row.id):
            return problem
        return check_row(row if problem is None else mend(row), self._config)

    def measure(self, rows: Sequence[SynthesizedRow], contamination: Contamination | None) -> list[RowWork]:
        """Rank the corpus for each row and measure its texts; rows that fail the round trip go."""
        if not rows:
            return []
        config = self._config
        queries = self._embed_queries([row.query for row in rows])
        positives = self._embed_passages([row.positive for row in rows])
        self._learn([text for row in rows for _, text, _ in written_texts(row)])
        problems: list[Problem | None] = [None] * len(rows)
        if contamination is not None and config.checks.decontamination:
            problems = contamination.check([row.query for row in rows], [row.positive for row in rows], queries)
        places, groups = self._places, self._groups
        bands = scale_bands(config.bands, max(len(self._pool) - 1, 1))
        nearest = nearest_bands(bands)
        rankings: Iterator[Ranking] = rank_corpus(
            queries,
            self._pool_vectors,
            groups,
            [{groups[places[each]] for each in answering_ids(row) if each in places} for row in rows],
            depth=max(bands[0][1], (config.round_trip_rank or 0) + 1),
        )
        works: list[RowWork] = []
        for row, ranking, query, positive, problem in zip(rows, rankings, queries, positives, problems, strict=True):
            similarity = float(query @ positive)
            limits = limits_for(row, config)
            wrong = problem or check_measured(MeasuredRow(row, similarity, ranking.similarities, limits))
            if wrong is not None:
                self._drop(row, wrong)
                continue
            own = nearest if row.mining == "nearest" else bands
            pool = mined_pool(ranking, own, seed=f"{self._seed}:{row.id}")
            work = RowWork(row, query, similarity, pool, limits)
            if config.negatives != "mined":
                work.consider(written_texts(row), self.vectors, 0)
            works.append(work)
        return works

    def write_again(self, works: Sequence[RowWork], rewrite: Rewrite) -> None:
        """Ask for the negatives of rows some of whose levels nothing written fits; new texts join the candidates."""
        config = self._config
        for turn in range(1, config.regenerate_rounds + 1):
            broken = [
                work for work in works if (work.row.negatives or work.row.candidates) and self._broken_levels(work)
            ]
            if config.regenerate_budget is not None:
                left = config.regenerate_budget - self._asked_before - self.asked_again
                broken = broken[: max(0, left)]
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
        found: list[tuple[Level, str]] = []
        for level in self._broken_levels(work):
            for text in levels.get(level, ()):
                self.looked_at += 1
                problem = check_text("a negative", text)
                if problem is None:
                    found.append((level, text))
                else:
                    work.refused.append(reject(work.row, problem, level, mend_text(text)))
        return found

    def pick(self, work: RowWork, *, refill: bool | None = None) -> None:
        """Choose a row's negatives from what there is."""
        config = self._config
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
            seed=f"{self._seed}:{work.row.id}",
            relevel="relevel" in config.repair,
            in_order=config.checks.level_order,
            banned=work.banned,
        )

    def ask_about_positives(self, works: Sequence[RowWork], judge: Judge) -> None:
        """Rows whose positive is none go."""
        asked = [work for work in works if work.problem is None and len(work.picks) == len(LEVELS)]
        problems = judge.on_positives([(work.row.query, work.row.positive) for work in asked])
        for work, problem in zip(asked, problems, strict=True):
            work.problem = problem

    def settle(self, works: Sequence[RowWork], judges: Sequence[Judge]) -> None:
        """Show the picks to the judges, and choose anew where some are turned away, until none is."""
        for _ in range(_MOST_TURNS):
            open_picks = [
                (work, level, pick)
                for work in works
                if work.problem is None and len(work.picks) == len(LEVELS)
                for level, pick in work.unchecked()
            ]
            if not open_picks:
                return
            refused: dict[int, RowWork] = {}
            for judge in judges:
                claims = [(work.row.query, work.row.positive, self._text(pick)) for work, _, pick in open_picks]
                problems = judge.on_negatives(claims)
                for (work, level, pick), problem in zip(open_picks, problems, strict=True):
                    if problem is not None:
                        work.ban(pick)
                        work.refused.append(reject(work.row, problem, level, self._text(pick)))
                        refused[id(work)] = work
                open_picks = [each for each, problem in zip(open_picks, problems, strict=True) if problem is None]
            for work, _, pick in open_picks:
                work.approve(pick)
            for work in refused.values():
                self.pick(work)
        for work in works:
            if work.problem is None and len(work.picks) == len(LEVELS) and work.unchecked():
                work.problem = Problem("false_negative", f"no four negatives passed in {_MOST_TURNS} choices")

    def complete(self, work: RowWork) -> bool:
        """Whether a row is kept; if not, its rejection is noted."""
        if work.problem is None and len(work.picks) < len(LEVELS):
            missing = ", ".join(str(int(level)) for level in LEVELS if level not in work.picks)
            work.problem = Problem("no_negative", f"nothing fits level {missing}")
        if work.problem is not None:
            self._drop(work.row, work.problem)
            return False
        self.rejections += work.refused
        self.rejections += work.unplaced(spares=self._tell_spares)
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
        easiest, low, high, hardest = negatives
        return GradedExample(
            id=work.row.id,
            document_id=work.row.document_id,
            query=work.row.query,
            positive=work.row.positive,
            negatives=(easiest, low, high, hardest),
            positive_similarity=work.similarity,
            written_order_held=order_held(work, self.vectors),
            actions=tuple(actions),
        )

    def _broken_levels(self, work: RowWork) -> list[Level]:
        self.pick(work, refill=self._config.negatives == "hybrid")
        return [level for level in reversed(LEVELS) if not isinstance(work.picks.get(level), WrittenPick)]

    def _learn(self, texts: Sequence[str]) -> None:
        new = sorted({text for text in texts if text.strip()} - self.vectors.keys())
        if new:
            self.vectors.update(zip(new, self._embed_passages(new), strict=True))

    def _text(self, pick: WrittenPick | MinedPick) -> str:
        return pick.text if isinstance(pick, WrittenPick) else self._pool[pick.index].text

    def _drop(self, row: SynthesizedRow, problem: Problem) -> None:
        self.rejections.append(reject(row, problem))
