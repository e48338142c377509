"""The small real encoder and set that the tests of encoders share with those of evaluation, and the tiny models."""

from __future__ import annotations

from tests.evaluation.conftest import animals, word_hash
from tests.model.conftest import tiny_folder

__all__ = ["animals", "tiny_folder", "word_hash"]
