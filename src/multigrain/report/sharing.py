"""What of a report may be passed on: figures and names, no text of the run and no file path.

Gone are queries, documents, negatives, rejected texts, token weights, ids and titles of documents, the config, and
every path. What stays: names of models and sets, who judged, prompts of models, what reading left out, counts, scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final, TypeVar

from multigrain.evaluation.query_kinds import is_built_in
from multigrain.evaluation.results import EvaluationResults
from multigrain.report.data import ReportData

T = TypeVar("T")

# An absolute path, one from the home folder or from the folder above, or a Windows path, within a sentence.
_PART: Final = r"[^\s/'\",;:()<>]+"
_PATH: Final = re.compile(
    rf"(?:file:/*)?(?<![\w/:.~])(?:~[\w.-]*|\.{{1,2}})?/(?:{_PART}/)*({_PART})/?"
    r"|(?<!\w)[A-Za-z]:\\(?:[^\s\\'\",;()<>]+\\)*([^\s\\'\",;()<>]+)"
)
# A name that is a path as a whole; `owner/model` is none, as that is how hubs name models.
_WHOLE: Final = re.compile(r"(?:file:)?(?:~[\w.-]*|\.{1,2})?/(?!.* /).*[^.!?]|(?!\w+://)[^\s/]+(?:/[^\s/]+){2,}/?")
_WINDOWS: Final = re.compile(r"[A-Za-z]:\\(?!.* [A-Za-z]:\\).*[^.!?]")


def without_texts(data: ReportData) -> ReportData:
    """The same report without texts of the run and without file paths."""
    documents = data.documents and replace(
        data.documents, source="", too_short_names="", repeated_names="", left_out=""
    )
    made, cut = data.reproduction, PathCutter()
    return replace(
        data,
        is_shared=True,
        evaluation=cut(_evaluation(data.evaluation)),
        changes=tuple(replace(moved, wins=(), losses=()) for moved in data.changes),
        excerpts={},
        documents=documents,
        synthesis=cut(data.synthesis),
        audit=cut(data.audit),
        drops=tuple(replace(drop, examples=()) for drop in data.drops),
        rows=(),
        samples=(),
        anchors=(),
        training=tuple(cut(log) for log in data.training),
        reproduction=replace(made, config=None, shown_config=None, source="", source_path="", run="RUN"),
        near_duplicates=(data.near_duplicates[0], ()),
    )


def _evaluation(results: EvaluationResults) -> EvaluationResults:
    """Without values of a user's own columns, which are texts, and without reasons of failures, which may hold paths.

    Such kinds of query stay, by number: intervals and p-values allow for how many there are.
    """
    return replace(
        results,
        slices=tuple(
            each if is_built_in(each.kind, each.value) else replace(each, kind="own column", value=f"value {number}")
            for number, each in enumerate(results.slices, 1)
        ),
        rivals=tuple(replace(each, reference="", skipped=each.skipped and "not available") for each in results.rivals),
    )


class PathCutter:
    """Cuts the file paths in records to their last parts, and keeps names apart that differ in their folders alone."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __call__(self, record: T) -> T:
        """A record in which every file path is cut to its last part, however deep it stands."""
        return self._cut(record)  # type: ignore[no-any-return]

    def _cut(self, value: Any) -> Any:
        if type(value) is str:
            return self._text(value)
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{field.name: self._cut(getattr(value, field.name)) for field in fields(value)})
        if isinstance(value, tuple):
            return tuple(map(self._cut, value))
        if isinstance(value, Mapping):
            return {self._cut(key): self._cut(each) for key, each in value.items()}
        return value

    def _text(self, text: str) -> str:
        if _WHOLE.fullmatch(text):
            return self._name(text, PurePosixPath(text).name)
        if _WINDOWS.fullmatch(text):
            return self._name(text, PureWindowsPath(text).name)
        return _PATH.sub(lambda found: found[1] or found[2], text)

    def _name(self, path: str, name: str) -> str:
        if path not in self._names:
            alike = sum(each.partition(" (")[0] == name for each in self._names.values())
            self._names[path] = f"{name} ({alike + 1})" if alike else name or "…"
        return self._names[path]
