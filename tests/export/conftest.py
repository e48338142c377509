"""The tiny models and the real one that the tests of encoders use, and a small labelled set."""

from __future__ import annotations

import pytest
from tests.model.conftest import minilm_ata, minilm_reference, tiny_folder

from multigrain.evaluation.sets.retrieval_set import EvaluationSet

__all__ = ["minilm_ata", "minilm_reference", "small_set", "tiny_folder"]


@pytest.fixture(scope="session")
def small_set() -> EvaluationSet:
    """Twelve questions, each with the one passage that answers it."""
    subjects = ["rivers", "bread", "engines", "tides", "vaccines", "glaciers", "bees", "steel", "violins", "rust"]
    subjects += ["lightning", "cheese"]
    return EvaluationSet(
        name="subjects",
        role="test",
        provenance="made for a test",
        corpus={
            f"d{n}": f"A short passage about {topic} and how they come about." for n, topic in enumerate(subjects)
        },
        queries={f"q{n}": f"where do {topic} come from?" for n, topic in enumerate(subjects)},
        qrels={f"q{n}": {f"d{n}": 1} for n in range(len(subjects))},
    )
