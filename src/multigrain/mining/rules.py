"""Which rows of a corpus may serve as negatives of a query, which of those are taken, and bands of ranks for levels.

Rank 0 is the nearest document that is neither the positive nor a near-duplicate of it. A band holds documents
about as similar to the query as each other, so bands give levels without any writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from multigrain.config import Band
from multigrain.encoders.protocol import Floats
from multigrain.errors import ConfigError
from multigrain.sources.words import fold_words


@dataclass(frozen=True)
class MiningRules:
    """What is mined.

    Candidates of a query are the corpus rows that are neither its positives nor the same text as one of them or as
    the query itself once case, punctuation and spacing are taken away, and that the margins admit. Ranks are counted
    among candidates: 0 is the nearest. So a margin moves ranks down and never leaves a query with too few.

    Attributes:
        negatives: how many a query.
        first_rank: ranks before it are passed over.
        last_rank: where sampling ends; None for `first_rank + negatives`, or ten times that where they are drawn.
        absolute_margin: a negative's similarity is at least this much below the positive's; None for no such rule.
        relative_margin: the same as a share of the positive's similarity (0.05: TopK-PercPos of 95%).
        max_similarity: no negative is nearer than this.
        bands: for level 1 to 4 the ranks that one negative each is drawn from; it replaces `negatives` and ranks.
        sampling: the nearest ones, or drawn at random from the ranks.
        fuse: what ranks candidates: vectors, words (BM25), or both by reciprocal rank.
        seed: of what is drawn.
    """

    negatives: int = 5
    first_rank: int = 0
    last_rank: int | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    max_similarity: float | None = None
    bands: tuple[Band, Band, Band, Band] | None = None
    sampling: Literal["top", "random"] = "top"
    fuse: Literal["dense", "lexical", "both"] = "dense"
    seed: int = 13

    def __post_init__(self) -> None:
        if self.negatives < 1 or self.first_rank < 0:
            raise ConfigError(
                f"mining: negatives must be at least 1 and the first rank at least 0, got {self.negatives} and "
                f"{self.first_rank}"
            )
        if self.last_rank is not None and self.last_rank < self.first_rank + self.negatives:
            raise ConfigError(
                f"mining: ranks {self.first_rank} to {self.last_rank} hold fewer than {self.negatives} negatives: "
                "widen the ranks, or ask for fewer"
            )

    @property
    def depth(self) -> int:
        """How many candidates must be known of a query."""
        if self.bands is not None:
            return max(high for _, high in self.bands)
        if self.last_rank is not None:
            return self.last_rank
        return self.first_rank + self.negatives * (10 if self.sampling == "random" else 1)


def ceilings_of(rules: MiningRules, positive_similarities: Floats) -> Floats | None:
    """For each query the highest similarity that a negative may have; None where there is no limit.

    Args:
        rules: the margins.
        positive_similarities: (n,) each query's similarity to its positive, the lowest where it has several.
    """
    limits: list[Any] = []
    if rules.max_similarity is not None:
        limits.append(np.full_like(positive_similarities, rules.max_similarity))
    if rules.absolute_margin is not None:
        limits.append(positive_similarities - np.float32(rules.absolute_margin))
    if rules.relative_margin is not None:
        # Below a negative similarity too, hence the magnitude.
        limits.append(positive_similarities - np.abs(positive_similarities) * np.float32(rules.relative_margin))
    return np.min(limits, axis=0).astype(np.float32) if limits else None


def word_keys(texts: list[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """A 64-bit hash of each text's words, equal for equal texts; good in this process only.

    Signs do not count: a passage behind its title and a dash is the passage still, and never its own negative.
    """
    return np.fromiter((hash(fold_words(text)) for text in texts), dtype=np.int64, count=len(texts)).view(np.uint64)


def scale_bands(bands: Sequence[Band], corpus_size: int) -> tuple[Band, ...]:
    """Shrink bands, in proportion, to a corpus that is smaller than their last rank.

    Every band keeps at least one rank, the hardest stays at the top, and none overlaps.

    Args:
        bands: for level 1 to 4 the ranks (from, to).
        corpus_size: how many documents can be ranked.
    """
    last = max(high for _, high in bands)
    share = min(1.0, corpus_size / last)
    scaled: list[Band] = []
    floor = 0
    for low, high in reversed(bands):  # hardest first: it has the smallest ranks
        start = max(floor, round(low * share))
        end = max(start + 1, round(high * share))
        scaled.append((start, end))
        floor = end
    return tuple(reversed(scaled))


def nearest_bands(bands: Sequence[Band]) -> tuple[Band, ...]:
    """Bands for the usual hard-negative mining: all four levels from the ranks of the hardest one.

    Args:
        bands: for level 1 to 4 the ranks (from, to).
    """
    low, high = bands[-1]
    cuts = [low + max(round((high - low) * share / 4), share) for share in range(5)]
    return tuple(reversed(list(pairwise(cuts))))
