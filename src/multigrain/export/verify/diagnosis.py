"""Which fault of a server explains its vectors best: what each would give is computed, and compared with what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from multigrain.encoders.encoder import encode
from multigrain.encoders.protocol import Floats, Role, unit_length
from multigrain.export.verify.reasons import Reason
from multigrain.export.verify.variants import (
    ROUNDINGS,
    Way,
    can_vary,
    cut_vectors,
    longest_readable,
    rounded_vectors,
    vectors_of_ways,
)
from multigrain.model.prompts import role_prompt
from multigrain.model.replacing import pooling_name

ROLES: Final[tuple[Role, ...]] = ("query", "document")

_SHORT_TOKENS: Final = 32
"""Texts that no server cuts."""
_CLEARLY: Final = 0.5
"""A fault explains vectors if its error is below this share of the right way's."""
_NEARLY: Final = 1.25
"""Of explanations whose errors differ by less than this factor, the simpler one is taken."""
_EXPLAINED: Final = 0.05
"""The largest mean of 1 - cosine that an explanation may leave."""
_NOTHING: Final = 1e-7
_LIKE: Final = 3.0
"""Up to this many times the error of weights of four bits counts as low precision; beyond, as other weights."""
_EXACT: Final = 1e-3
_SAME_SHARE: Final = (0.25, 0.97)
"""Shares of texts with the right vectors that point to how the others are tokenised."""
_LIMITS: Final = (8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048, 4096, 8192)
_LONGEST: Final = 8
"""Long texts that a length is searched with."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a server seems to compute.

    Attributes:
        way: from text to vector.
        prompts: what goes before a text of each role in effect.
        limit: tokens of a text that it reads; "own" for the folder's, None for more than was asked.
        error: mean of 1 - cosine that remains, over short texts.
    """

    way: Way
    prompts: Mapping[Role, str]
    limit: int | str | None
    error: float


class Diagnosis:
    """Compares what a server gave, a text a request, with what the folder gives.

    Args:
        model: of the folder.
        texts: what was asked, by role.
        given: the server's vectors of them, as it gave them.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        texts: Mapping[Role, Sequence[str]],
        given: Mapping[Role, Floats],
    ) -> None:
        self._model = model
        self._texts = texts
        self._given = {role: unit_length(rows) for role, rows in given.items()}
        self._width = next(iter(given.values())).shape[1]
        self._own = {role: role_prompt(model, role) for role in ROLES}
        lengths = {role: _lengths(model, [self._own[role] + text for text in texts[role]]) for role in ROLES}
        self._short = {role: np.flatnonzero(lengths[role] <= _SHORT_TOKENS) for role in ROLES}
        for role in ROLES:
            if not len(self._short[role]):
                self._short[role] = np.argsort(lengths[role])[: len(lengths[role]) // 2 + 1]
        self._lengths = lengths

    def reasons(self) -> tuple[Reason, ...]:
        """What explains the vectors; "another-model" where nothing does."""
        right = Explanation(Way(), self._own, "own", self._error_of(self._right(), self._short))
        found = self._with_limit(self._best(right))
        predicted = self._predict(found)
        width = next(iter(predicted.values())).shape[1]
        if width < self._width:
            return (self._another(found),)
        reasons = []
        if width > self._width:
            reasons.append(Reason("dimensions", f"the first {self._width} of {width} dimensions of each vector"))
        reasons += self._named(found)
        rest = self._differences(predicted)
        worst, error = float(rest.max()), self._error_of(predicted, None)
        if worst <= _EXACT:
            return tuple(reasons)
        exact = float(np.mean(rest <= _EXACT))
        if _SAME_SHARE[0] <= exact <= _SAME_SHARE[1]:
            return (*reasons, Reason("tokenisation", self._which_differ(rest)))
        if error > _EXPLAINED:
            return (self._another(found),)
        return (*reasons, *self._coarse(found, error)) if not reasons else tuple(reasons)

    def _right(self) -> dict[Role, Floats]:
        return {
            role: encode(self._model, self._texts[role], role=role, normalise=False, batch_size=8) for role in ROLES
        }

    def _best(self, right: Explanation) -> Explanation:
        """The way and the prompts that leave the smallest error over short texts."""
        errors: dict[Way, dict[Role, dict[str, float]]] = {}
        for role in ROLES:
            rows = self._short[role]
            texts = _picked(self._texts[role], rows)
            for prompt in self._possible_prompts(role):
                for way, vectors in self._ways([prompt + text for text in texts]).items():
                    error = self._error(vectors, self._given[role][rows])
                    errors.setdefault(way, {}).setdefault(role, {})[prompt] = error
        found = [right]
        for way, by_role in errors.items():
            chosen = {role: _simplest(by_role[role], self._own[role]) for role in ROLES}
            found.append(Explanation(way, chosen, "own", float(np.mean([by_role[r][chosen[r]] for r in ROLES]))))
        least = min(each.error for each in found)
        near = [each for each in found if each.error <= _NEARLY * least + _NOTHING]
        best = min(near, key=lambda each: (self._deviations(each), each.error))
        return best if best.error < _CLEARLY * right.error and best.error <= _EXPLAINED else right

    def _ways(self, texts: Sequence[str]) -> Mapping[Way, Floats]:
        if can_vary(self._model):
            return vectors_of_ways(self._model, texts)
        return {Way(): encode(self._model, texts, prompt="", normalise=False)}

    def _deviations(self, explanation: Explanation) -> int:
        return explanation.way.deviations + sum(explanation.prompts[role] != self._own[role] for role in ROLES)

    def _possible_prompts(self, role: Role) -> tuple[str, ...]:
        own, other = self._own[role], self._own["document" if role == "query" else "query"]
        return tuple(dict.fromkeys((own, "", own + own, other, other + own)))

    def _with_limit(self, found: Explanation) -> Explanation:
        """With another length where that explains long texts better."""
        if not can_vary(self._model):
            return found
        rows = {role: np.argsort(-self._lengths[role], kind="stable")[:_LONGEST] for role in ROLES}
        own = self._error_of(self._predict(found, rows), None, rows)
        if own <= 2 * found.error + _NOTHING and found.error <= _EXPLAINED:
            return found
        errors: dict[int | None, float] = {}

        def error(limit: int | None) -> float:
            if limit not in errors:
                errors[limit] = self._error_of(self._predict(replace(found, limit=limit), rows), None, rows)
            return errors[limit]

        readable = longest_readable(self._model) or _LIMITS[-1]
        longest = int(max(self._lengths[role].max() for role in ROLES))
        ladder = [limit for limit in _LIMITS if limit < min(readable, longest)]
        best = min([*ladder, None], key=error)
        if best is not None:
            step = best // 2
            while step >= 1:
                best = min((best - step, best, best + step), key=lambda each: error(max(each, 3)))
                best, step = max(best, 3), step // 2
        if not (error(best) < _CLEARLY * own and error(best) <= _EXPLAINED):
            return found
        changed = replace(found, limit=best)
        return replace(changed, error=self._error_of(self._predict(changed), self._short))

    def _predict(self, found: Explanation, rows: Mapping[Role, NDArray[Any]] | None = None) -> dict[Role, Floats]:
        """What the folder would give if it computed like that; of all texts, or of some rows."""
        texts = {role: _picked(self._texts[role], rows[role] if rows else None) for role in ROLES}
        if found.way == Way() and found.limit == "own" and found.prompts == self._own:
            return {role: encode(self._model, texts[role], role=role, normalise=False, batch_size=8) for role in ROLES}
        if not can_vary(self._model):
            return {
                role: encode(self._model, texts[role], prompt=found.prompts[role], normalise=False) for role in ROLES
            }
        return {
            role: cut_vectors(
                self._model, [found.prompts[role] + text for text in texts[role]], found.way, found.limit
            )
            for role in ROLES
        }

    def _named(self, found: Explanation) -> list[Reason]:
        reasons, way = [], found.way
        if way.skipped:
            reasons.append(Reason("layers", f"{', '.join(way.skipped)} after the pooling is left out"))
        if way.pooling is not None:
            reasons.append(Reason("pooling", f"{way.pooling} pooling, and the folder has {pooling_name(self._model)}"))
        if way.turned:
            reasons.append(
                Reason("attention", "attention goes the other way: causal instead of both ways, or the reverse")
            )
        if way.bare:
            reasons.append(Reason("special-tokens", "texts are read without the tokenizer's special tokens"))
        reasons += [
            Reason("prompt", words) for role in ROLES if (words := self._prompt_words(role, found.prompts[role]))
        ]
        if found.limit != "own":
            reads = f"{found.limit} tokens" if found.limit is not None else "all that the model has positions for"
            reasons.append(
                Reason("truncation", f"it reads {reads} of a text, the folder {self._model.max_seq_length}")
            )
        return reasons

    def _prompt_words(self, role: Role, prompt: str) -> str:
        own, other = self._own[role], self._own["document" if role == "query" else "query"]
        texts = "queries" if role == "query" else "documents"
        if prompt == own:
            return ""
        if not prompt:
            return f"{texts} are embedded without {own!r}: the {role} prompt is missing"
        if prompt == own + own:
            return f"{own!r} stands before {texts} twice: it is applied a second time where it has been applied"
        if prompt == other:
            return f"{other!r}, the other role's prompt, stands before {texts} instead of {own!r}"
        return f"the server puts {other!r} before {texts} besides {own!r}"

    def _coarse(self, found: Explanation, error: float) -> tuple[Reason, ...]:
        """Low precision if the error is about that of rounded weights; other weights if it is larger."""
        rows = self._short
        texts = {role: [self._own[role] + text for text in _picked(self._texts[role], rows[role])] for role in ROLES}
        errors = {
            rounding: float(
                np.mean(
                    [
                        self._error(
                            rounded_vectors(self._model, texts[role], rounding),
                            _cut_to(self._right_rows(role), self._width),
                        )
                        for role in ROLES
                    ]
                )
            )
            for rounding in ROUNDINGS
        }
        measured = self._error_of(self._predict(found), self._short)
        if measured > _LIKE * errors[ROUNDINGS[-1]]:
            return (self._another(found),)
        nearest = min(ROUNDINGS, key=lambda each: abs(np.log(max(errors[each], _NOTHING) / max(measured, _NOTHING))))
        return (
            Reason(
                "precision",
                f"small differences everywhere, about those of weights in {nearest} (1 - cosine {measured:.1e}; "
                + ", ".join(f"{each} {errors[each]:.1e}" for each in ROUNDINGS)
                + ")",
            ),
        )

    def _right_rows(self, role: Role) -> Floats:
        texts = _picked(self._texts[role], self._short[role])
        return unit_length(encode(self._model, texts, role=role, batch_size=8))

    def _another(self, found: Explanation) -> Reason:
        width = self._model.get_embedding_dimension()
        if width != self._width:
            return Reason("another-model", f"vectors of {self._width} dimensions, the folder's have {width}")
        return Reason(
            "another-model",
            f"no fault that was tried explains the vectors: mean cosine {1 - found.error:.2f} to the folder's at best",
        )

    def _which_differ(self, rest: NDArray[Any]) -> str:
        texts = [text for role in ROLES for text in self._texts[role]]
        wrong = [texts[place] for place in np.argsort(-rest).tolist() if rest[place] > _EXACT]
        shown = ", ".join(repr(text if len(text) <= 40 else f"{text[:40]}…") for text in dict.fromkeys(wrong[:4]))
        return f"{len(wrong)} of {len(texts)} texts differ and the others do not: {shown}"

    def _differences(self, predicted: Mapping[Role, Floats]) -> NDArray[Any]:
        rows = [np.abs(_cut_to(predicted[role], self._width) - self._given[role]).max(1) for role in ROLES]
        return np.concatenate(rows)

    def _error_of(
        self,
        predicted: Mapping[Role, Floats],
        of: Mapping[Role, NDArray[Any]] | None,
        rows: Mapping[Role, NDArray[Any]] | None = None,
    ) -> float:
        """Mean error over the roles: of some rows of all predictions, or of predictions of some rows."""
        parts = []
        for role in ROLES:
            vectors = predicted[role] if of is None else predicted[role][of[role]]
            kept = of if of is not None else rows
            parts.append(self._error(vectors, self._given[role] if kept is None else self._given[role][kept[role]]))
        return float(np.mean(parts))

    def _error(self, vectors: Floats, given: Floats) -> float:
        """Mean of 1 - cosine; 1 where the vectors are too short to be compared."""
        if vectors.shape[1] < given.shape[1]:
            return 1.0
        return float(1 - (_cut_to(vectors, given.shape[1]) * given).sum(1).mean())


def _picked(texts: Sequence[str], rows: NDArray[Any] | None) -> list[str]:
    return list(texts) if rows is None else [texts[row] for row in rows.tolist()]


def _cut_to(vectors: Floats, width: int) -> Floats:
    return unit_length(vectors[:, :width])


def _simplest(errors: Mapping[str, float], own: str) -> str:
    least = min(errors.values())
    return own if errors[own] <= _NEARLY * least + _NOTHING else min(errors, key=lambda prompt: errors[prompt])


def _lengths(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[Any]:
    tokenizer: Any = model.tokenizer
    if not callable(tokenizer):  # a static model's is a bare tokenizer, and cuts nothing
        return np.array([len(text.split()) for text in texts])
    return np.array([len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]])
