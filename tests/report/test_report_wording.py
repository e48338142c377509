from __future__ import annotations

import pytest

from multigrain.report.wording import action_words, model_words, reason_words


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("refilled:2", "level 2 filled from the documents"),
        ("relevelled:1>3", "written as level 1, measured as level 3"),
        ("relevelled:1>3 and more", "relevelled:1>3 and more"),
        ("polished", "polished"),
    ],
)
def test_actions_are_phrases_and_unknown_ones_are_kept(action, words):
    assert action_words(action) == words


def test_a_local_model_is_named_without_the_mark_of_its_file():
    assert model_words("local:small.gguf:44a49a59291c") == "local:small.gguf"
    assert model_words("openai:org/model:free") == "openai:org/model:free"


def test_unknown_reasons_are_shown_in_their_own_words():
    assert reason_words("too_many_bees") == "too many bees"
    assert reason_words("round_trip") == "the query does not find its own document"
