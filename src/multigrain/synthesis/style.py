"""The user's own queries, as examples of style: what they are, which are shown, and whether one was copied."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from multigrain.config import Config
from multigrain.errors import ConfigError, SourceError
from multigrain.llm.protocol import Message, UnusableAnswer
from multigrain.sources.asked import read_asked
from multigrain.sources.words import fold_words
from multigrain.synthesis.prompts import Prompts


@dataclass(frozen=True)
class StyleQueries:
    """Queries of the user's own.

    Attributes:
        queries: each once, in order.
        count: how many a prompt shows.
        seed: of the draw.
    """

    queries: tuple[str, ...]
    count: int
    seed: int = 0

    @classmethod
    def read(cls, path: Path | None, count: int, *, seed: int) -> StyleQueries | None:
        """Read a file of queries, one a line or in a table; None where there is none.

        Raises:
            ConfigError: it cannot be read, or holds no query.
        """
        if path is None:
            return None
        try:
            asked = [" ".join(query.split()) for query in read_asked(path)]
        except SourceError as error:
            raise ConfigError(f"synthesis.style_queries: {error}") from None
        queries = tuple(dict.fromkeys(filter(fold_words, asked)))
        if not queries:
            raise ConfigError(f"synthesis.style_queries {path}: holds no query; write one a line")
        return cls(queries, count, seed)

    def before(self, messages: Sequence[Message], prompts: Prompts, place: str) -> tuple[Message, ...]:
        """A prompt with some of the queries before what it asks.

        Args:
            messages: the prompt.
            prompts: the templates.
            place: what the prompt is for; other places are shown other queries.
        """
        draw = random.Random(f"{self.seed}:style:{place}")
        shown = draw.sample(self.queries, min(self.count, len(self.queries)))
        intro = prompts.render("style", queries=shown)[-1].content
        *earlier, last = messages
        return (*earlier, Message(last.role, f"{intro}\n\n{last.content}"))

    def check(self, query: str) -> None:
        """See that a written query is none of them, whatever its case, punctuation and spaces.

        Raises:
            UnusableAnswer: it is ("copied_style").
        """
        if fold_words(query) in self._folded:
            raise UnusableAnswer("copied_style", f"it repeats one of synthesis.style_queries: {query[:80]}")

    @cached_property
    def _folded(self) -> frozenset[str]:
        return frozenset(fold_words(query) for query in self.queries)


def style_queries(config: Config) -> StyleQueries | None:
    """The examples of style that a config names, if it names any; see `StyleQueries.read`."""
    return StyleQueries.read(config.synthesis.style_queries, config.synthesis.style_count, seed=config.seed)
