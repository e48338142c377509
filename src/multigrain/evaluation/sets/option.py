"""An evaluation set as an option of a command names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from multigrain.config import EvaluationSetConfig
from multigrain.evaluation.sets.loading import MTEB
from multigrain.evaluation.sets.retrieval_set import Role

_NAMED: Final = re.compile(r"(?P<name>[\w.-]+)=(?P<rest>.+)", re.DOTALL)
_OWN_FILES: Final = ("queries", "documents", "qrels")


def parse_set(
    text: str, role: Role, max_queries: int | None = None, max_documents: int | None = None
) -> EvaluationSetConfig:
    """Understand `[NAME=]PATH` or `[NAME=]QUERIES,DOCUMENTS,QRELS`; a set without a name is called after its path.

    Args:
        text: the option's value.
        role: what the set is for.
        max_queries: take a sample of this many queries; MTEB tasks are taken whole.
        max_documents: take a sample of this many documents.
    """
    named = _NAMED.fullmatch(text)
    path = named["rest"] if named else text
    files = path.split(",")
    is_own_files = len(files) == len(_OWN_FILES) and not Path(path).exists()
    inside = Path(files[-1].removeprefix("package:").removeprefix(MTEB))
    default_name = f"{inside.parent.name}-{inside.stem}" if path.startswith("package:") else inside.stem
    whole = path.startswith(MTEB)
    return EvaluationSetConfig(
        name=named["name"] if named else default_name,
        role="forgetting" if role == "forgetting" else "test",
        max_queries=None if whole else max_queries,
        max_documents=None if whole else max_documents,
        **(dict(zip(_OWN_FILES, files, strict=True)) if is_own_files else {"path": path}),
    )
