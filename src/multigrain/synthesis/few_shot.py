"""Few-shot examples: solved tasks of the user's own that the model is shown before its own task.

How they are chosen: `fixed` shows the first ones to every row (and so keeps an endpoint's prefix cache warm).
`balanced` shows groups with one example of each kind, always in the same order and the same format, drawn anew for
each row: the layout of EPIC (arXiv 2404.12404, there for tabular classes; for kinds of queries: ours).
`likelihood` shows those under which a local model finds the other examples' answers likeliest: see `likelihood`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from multigrain.config import Config, SynthesisConfig, fingerprint
from multigrain.errors import ConfigError
from multigrain.synthesis.plain_text import Text


class Demonstration(BaseModel):
    """One solved task. Only the fields that a strategy asks for are needed: a query for `mined`, all for `mgh`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    document: Text
    query: Text | None = None
    positive: Text | None = None
    level_4: Text | tuple[Text, ...] | None = None
    level_3: Text | tuple[Text, ...] | None = None
    level_2: Text | tuple[Text, ...] | None = None
    level_1: Text | tuple[Text, ...] | None = None
    paraphrase: Text | None = None
    original: Text | None = None
    replacement: Text | None = None
    kind: Text | None = None

    def one(self, field: str) -> str | None:
        """A field's text, the first where there are several; None where it has none."""
        value = getattr(self, field)
        return (value[0] if value else None) if isinstance(value, tuple) else value

    def several(self, field: str) -> tuple[str, ...]:
        """A field's texts."""
        value = getattr(self, field)
        return value if isinstance(value, tuple) else () if value is None else (value,)


class FewShotSelector(Protocol):
    """Chooses what a row is shown."""

    def pick(self, row: str, fields: frozenset[str]) -> tuple[Demonstration, ...]:
        """Examples for a row.

        Args:
            row: identifies the row, so that it is shown the same examples whenever it is asked for.
            fields: what the examples must hold.

        Raises:
            ConfigError: no example holds all of them.
        """
        ...


@dataclass(frozen=True)
class FixedSelector:
    """The first examples that hold what is asked for, the same for every row.

    Attributes:
        demonstrations: in the order of preference.
        count: how many are shown.
    """

    demonstrations: tuple[Demonstration, ...]
    count: int

    def pick(self, row: str, fields: frozenset[str]) -> tuple[Demonstration, ...]:
        """See `FewShotSelector.pick`."""
        return tuple(_holding(self.demonstrations, fields)[: self.count])


@dataclass(frozen=True)
class BalancedSelector:
    """Groups with one example of each kind, in a fixed order of kinds, drawn for each row.

    Attributes:
        demonstrations: each with a kind.
        count: how many are shown, at least one of each kind; rounded down to whole groups.
        seed: of the draw.
    """

    demonstrations: tuple[Demonstration, ...]
    count: int
    seed: int = 0

    @classmethod
    def checked(cls, demonstrations: Sequence[Demonstration], count: int, *, seed: int, path: Path) -> Self:
        """A selector, if the examples can be balanced.

        Raises:
            ConfigError: an example without a kind, or more kinds than examples to show.
        """
        for number, example in enumerate(demonstrations, start=1):
            if example.kind is None:
                raise ConfigError(f'{path}: example {number} has no "kind"; few_shot: balanced needs one in each')
        selector = cls(tuple(demonstrations), count, seed)
        if count < len(selector.kinds):
            raise ConfigError(
                f"synthesis.few_shot_count {count}: {path} holds {len(selector.kinds)} kinds "
                f"({', '.join(selector.kinds)}), and a balanced group shows one of each: raise it to a multiple"
            )
        return selector

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """In the order in which every group shows them."""
        return tuple(dict.fromkeys(example.kind or "" for example in self.demonstrations))

    def pick(self, row: str, fields: frozenset[str]) -> tuple[Demonstration, ...]:
        """See `FewShotSelector.pick`."""
        usable = _holding(self.demonstrations, fields)
        draw = random.Random(f"{self.seed}:few-shot:{row}")
        columns = []
        groups = self.count // len(self.kinds)
        for kind in self.kinds:
            members = [example for example in usable if example.kind == kind]
            draw.shuffle(members)
            columns.append(members[:groups])
        whole = min(map(len, columns))  # an unbalanced group would be no group
        if not whole:
            empty = next(kind for kind, members in zip(self.kinds, columns, strict=True) if not members)
            raise ConfigError(f"few-shot examples: none of kind {empty!r} holds all of {', '.join(sorted(fields))}")
        return tuple(members[group] for group in range(whole) for members in columns)


def build_selector(
    synthesis: SynthesisConfig, *, seed: int, demonstrations: Sequence[Demonstration] | None = None
) -> FewShotSelector | None:
    """The selector that a config names; None for no examples.

    Args:
        synthesis: the config's section.
        seed: of whatever is drawn.
        demonstrations: the examples, best first, where they are ranked; None reads the config's file.

    Raises:
        ConfigError: the examples cannot be read or balanced.
    """
    path = synthesis.few_shot_path
    if synthesis.few_shot == "none" or path is None:
        return None
    examples = tuple(demonstrations) if demonstrations is not None else read_demonstrations(path)
    if synthesis.few_shot == "balanced":
        return BalancedSelector.checked(examples, synthesis.few_shot_count, seed=seed, path=path)
    return FixedSelector(examples, synthesis.few_shot_count)


def read_demonstrations(path: Path) -> tuple[Demonstration, ...]:
    """Read examples, one JSON object a line.

    Raises:
        ConfigError: no such file, no example in it, or a line that is none.
    """
    try:
        # Not split at other characters that end a line elsewhere, such as U+2028: in JSON they are text.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise ConfigError(f"synthesis.few_shot_path {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"synthesis.few_shot_path {path}: cannot be read as UTF-8 text ({error})") from None
    examples = [_read_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not examples:
        raise ConfigError(f"synthesis.few_shot_path {path}: no example in it: write one JSON object a line")
    return tuple(examples)


def few_shot_fingerprint(config: Config) -> str:
    """Changes when the few-shot examples do; empty where none are shown.

    Raises:
        ConfigError: the file cannot be used.
    """
    synthesis = config.synthesis
    if synthesis.few_shot == "none" or synthesis.few_shot_path is None:
        return ""
    return fingerprint([example.model_dump(mode="json") for example in read_demonstrations(synthesis.few_shot_path)])


def _read_line(path: Path, number: int, line: str) -> Demonstration:
    try:
        return Demonstration.model_validate_json(line)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"][:1])
        raise ConfigError(f"{path}:{number}: {where + ': ' if where else ''}{problem['msg']}") from None


def _holding(demonstrations: Sequence[Demonstration], fields: frozenset[str]) -> list[Demonstration]:
    usable = [example for example in demonstrations if all(example.one(field) is not None for field in fields)]
    if not usable:
        raise ConfigError(
            f"few-shot examples: none holds all of {', '.join(sorted(fields))}, which the strategy asks for: "
            "add them to the file, or set synthesis.few_shot: none"
        )
    return usable
