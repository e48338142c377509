"""Is it better for every kind of query? Differences by kind, each with an interval that allows for their number.

A query is of a kind by its form (a question or not), its length, how many documents answer it, whether one of these
was tuned on, its language, and by whatever columns of its file a user names. Whoever looks at twenty kinds finds a
"significant" one by chance, so that intervals are those of 1 - (1 - confidence) / n for n differences, and p-values
are corrected (Holm) over all of them: a kind claims less than the whole set would.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from multigrain.evaluation.results import EvaluationResults, ModelScores, SetResult, Slice
from multigrain.evaluation.retrieval import SetScores
from multigrain.evaluation.sets.retrieval_set import EvaluationSet
from multigrain.evaluation.settings import CompareSettings
from multigrain.evaluation.significance import ENOUGH_CLUSTERS, compare_paired
from multigrain.evaluation.verdict import Conclusion, Verdict, conclude
from multigrain.sources.language import main_language
from multigrain.sources.words import count_words

TOO_FEW: Final = "too few to tell"

_MOST_VALUES: Final = 8  # of one kind; the rarest are put together
_OTHER: Final = "other"
_LANGUAGE_SHARE: Final = 0.05  # rarer ones are as likely mistakes of the classifier
_CHARACTERS: Final = 2_000
_LETTERS: Final = 20  # below which a query's language is its document's
_FORMS: Final = ("questions", "no questions")
_SEEN: Final = ("tuned on", "not tuned on")
_LENGTHS: Final = ((3, "1 to 3 words"), (8, "4 to 8 words"), (10**9, "9 words and more"))
_ANSWERS: Final = ((1, "1"), (4, "2 to 4"), (10**9, "5 and more"))
_QUESTION: Final = re.compile(
    r"(?:how|what|why|when|where|which|who|whom|whose|can|could|do|does|did|is|are|was|were|should|will|would|may)\b"
    r".*|.*[?\uff1f\u061f\u037e]",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class SliceConclusion:
    """One kind of query, and what may be said of it.

    Attributes:
        slice: the queries.
        conclusion: what may be said; None where they are too few for an interval.
    """

    slice: Slice
    conclusion: Conclusion | None

    @property
    def is_claimed(self) -> bool:
        """Whether a difference is claimed."""
        return self.conclusion is not None and self.conclusion.is_claimed

    @property
    def tone(self) -> Literal["better", "worse", "unclear"]:
        """How the verdict is coloured."""
        if not self.is_claimed or self.conclusion is None:
            return "unclear"
        return "better" if self.conclusion.verdict is Verdict.BETTER else "worse"

    @property
    def words(self) -> str:
        """The verdict for a person."""
        if self.conclusion is None or self.conclusion.verdict is Verdict.UNDECIDED:
            return TOO_FEW
        return self.conclusion.verdict.value


def query_kinds(chosen: EvaluationSet, seen: Collection[str] | None = None) -> dict[str, dict[str, str]]:
    """Of what kinds a set's queries are: kind to query id to value. A kind of one value alone is none.

    Args:
        chosen: the set.
        seen: the ids of queries that a document answers that was tuned on; None where that is not known.
    """
    answers = {key: [each for each, grade in chosen.qrels[key].items() if grade > 0] for key in chosen.queries}
    kinds: dict[str, dict[str, str]] = {
        "form": {key: _FORMS[0 if is_question(text) else 1] for key, text in chosen.queries.items()},
        "length": {key: _band(count_words(text), _LENGTHS) for key, text in chosen.queries.items()},
        "answers": {key: _band(len(found), _ANSWERS) for key, found in answers.items()},
        "language": _languages(chosen, answers),
    }
    if seen is not None:
        kinds["documents"] = {key: _SEEN[0] if key in seen else _SEEN[1] for key in chosen.queries}
    kinds |= {name: _common(values) for name, values in chosen.kinds.items()}
    return {name: values for name, values in kinds.items() if len(set(values.values())) > 1}


def is_built_in(kind: str, value: str) -> bool:
    """Whether a kind of query, and its value, are ones that `query_kinds` finds itself: no text of a user's column."""
    bands = {"length": {name for _, name in _LENGTHS}, "answers": {name for _, name in _ANSWERS}}
    if kind == "language":
        return value == _OTHER or re.fullmatch("[a-z]{2,3}", value) is not None
    return value in ({"form": set(_FORMS), "documents": set(_SEEN)} | bands).get(kind, set())


def is_question(text: str) -> bool:
    """Whether a query is a question, by its first word or its mark."""
    return _QUESTION.fullmatch(text.strip()) is not None


def _band(count: int, bands: Sequence[tuple[int, str]]) -> str:
    return next(name for most, name in bands if count <= most)


def _languages(chosen: EvaluationSet, answers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The language of each query, by its document's where the query is too short to tell; rare ones are "other"."""

    def language(key: str) -> str:
        query = chosen.queries[key]
        is_long = sum(character.isalpha() for character in query) >= _LETTERS
        found = main_language(query) if is_long else None
        return found or main_language(chosen.corpus[answers[key][0]][:_CHARACTERS]) or _OTHER

    found = {key: language(key) for key in chosen.queries}
    counts = Counter(found.values())
    common = {code for code, count in counts.items() if count >= _LANGUAGE_SHARE * len(found) and code != _OTHER}
    if len(common) < 2:
        return {}  # of one language, as far as a classifier of short texts can tell
    return {key: code if code in common else _OTHER for key, code in found.items()}


def _common(values: Mapping[str, str]) -> dict[str, str]:
    """The values of a column, the rarest of many put together."""
    counts = Counter(values.values())
    kept = {
        value for value, _ in counts.most_common(_MOST_VALUES if len(counts) <= _MOST_VALUES else _MOST_VALUES - 1)
    }
    return {key: value if value in kept else _OTHER for key, value in values.items()}


def slice_sets(
    parts: Sequence[tuple[EvaluationSet, Mapping[str, Mapping[str, str]], Mapping[str, SetScores]]],
    settings: CompareSettings,
    *,
    base: str,
) -> tuple[Slice, ...]:
    """Compare models on every kind of query.

    Args:
        parts: sets, each with what kinds its queries are of (`query_kinds`), and model to scores, the base's too.
        settings: how to compare; the confidence is that of all slices together.
        base: the model that others are compared with.
    """
    slices = [
        (chosen, scores, name, value, np.array([kinds[name].get(key) == value for key in chosen.queries]))
        for chosen, kinds, scores in parts
        for name in kinds
        for value in _in_order(kinds[name])
    ]
    enough = [_enough(chosen, rows) for chosen, _, _, _, rows in slices]
    compared = sum((len(scores) - 1) * ok for (_, scores, *_), ok in zip(slices, enough, strict=True))
    widened = replace(settings, confidence=1 - (1 - settings.confidence) / max(1, compared))
    return tuple(
        Slice(name, value, _slice(chosen, scores, rows, widened if ok else None, base))
        for (chosen, scores, name, value, rows), ok in zip(slices, enough, strict=True)
    )


def _in_order(values: Mapping[str, str]) -> list[str]:
    """The values of a kind: bands as they rise, others by how many queries they have."""
    bands = [name for _, name in (*_LENGTHS, *_ANSWERS)]
    counts = Counter(values.values())
    return sorted(counts, key=lambda value: (bands.index(value) if value in bands else 0, -counts[value], value))


def _clusters(chosen: EvaluationSet, rows: np.ndarray) -> list[str]:
    return [cluster for cluster, taken in zip(chosen.clusters, rows, strict=True) if taken]


def _enough(chosen: EvaluationSet, rows: np.ndarray) -> bool:
    return len(set(_clusters(chosen, rows))) >= ENOUGH_CLUSTERS


def _slice(
    chosen: EvaluationSet,
    scores: Mapping[str, SetScores],
    rows: np.ndarray,
    settings: CompareSettings | None,
    base: str,
) -> SetResult:
    by_model = {name: model.ndcg_by_query[rows] for name, model in scores.items()}
    clusters = _clusters(chosen, rows)
    return SetResult(
        name=chosen.name,
        role=chosen.role,
        provenance=chosen.provenance,
        queries=int(rows.sum()),
        documents=len(chosen.corpus),
        models={name: ModelScores(float(values.mean())) for name, values in by_model.items()},
        delta={}
        if settings is None
        else {
            name: compare_paired(by_model[base], values, settings, clusters)
            for name, values in by_model.items()
            if name != base
        },
        clusters=len(set(clusters)),
    )


def conclude_slices(results: EvaluationResults, model: str) -> tuple[SliceConclusion, ...]:
    """What may be said of each kind of query, concluded together.

    Args:
        results: with slices.
        model: which model; none of the slices may be of others alone.
    """
    slices = [each for each in results.slices if model in each.result.models]
    concluded = {
        id(conclusion.result): conclusion
        for conclusion in conclude(
            [each.result for each in results.slices], base=results.base, confidence=results.confidence
        )
        if conclusion.model == model
    }
    return tuple(SliceConclusion(each, concluded.get(id(each.result))) for each in slices)


def conclude_all_slices(results: EvaluationResults) -> tuple[SliceConclusion, ...]:
    """The kinds of queries of a run, which tests one model against the base; none where it has none."""
    models = (name for each in results.slices for name in each.result.models if name != results.base)
    model = next(models, None)
    return () if model is None else conclude_slices(results, model)


def slice_sentence(concluded: Sequence[SliceConclusion], model: str) -> str:
    """What the kinds of queries come to, in one sentence.

    Args:
        concluded: of the model, see `conclude_slices`; at least one.
        model: its name.
    """
    by_words: dict[str, list[str]] = {}
    for each in concluded:
        by_words.setdefault(each.words, []).append(f"{each.slice.kind}: {each.slice.value}")
    claims = [
        f"{model} is {verdict.value} for {'; '.join(by_words[verdict.value])}"
        for verdict in (Verdict.BETTER, Verdict.WORSE)
        if verdict.value in by_words
    ]
    few = len(by_words.get(TOO_FEW, ()))
    rest = f"{few} of {len(concluded)} kinds have too few queries to tell"
    return f"By kind of query: {', '.join([*(claims or ['no difference is shown']), rest])}"


def slice_lines(results: EvaluationResults) -> Iterator[str]:
    """The kinds of queries as a Markdown table a model, and what they come to; of one model alone its scores."""
    if len(results.models) == 1 and results.slices:
        yield ""
        yield f"| kind of query | queries | {results.base} |"
        yield "|---|---|---|"
        for kind in results.slices:
            score = kind.result.models[results.base].score
            name = f"{kind.result.name}: {kind.kind}: {kind.value}".replace("|", r"\|")
            yield f"| {name} | {kind.result.queries:,} | {score:.3f} |"
    for model in results.models[1:]:
        concluded = conclude_slices(results, model)
        if not concluded:
            continue
        yield ""
        yield f"| kind of query | queries | {results.base} | {model} | points | |"
        yield "|---|---|---|---|---|---|"
        for each in concluded:
            result, delta = each.slice.result, each.slice.result.delta.get(model)
            cells = (
                f"{result.name}: {each.slice.kind}: {each.slice.value}",
                f"{result.queries:,}",
                *(f"{result.models[name].score:.3f}" for name in (results.base, model)),
                "" if delta is None else f"{100 * delta.mean:+.1f} [{100 * delta.low:+.1f}, {100 * delta.high:+.1f}]",
                each.words,
            )
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield ""
        yield f"{slice_sentence(concluded, model)}."
