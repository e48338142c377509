"""What older versions had in a section: fingerprints that stay, and defaults that a run keeps."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from multigrain.config import Config, fingerprint
from multigrain.config.file import parse_config
from multigrain.config.section import Section


def _sections(section: Section) -> list[Section]:
    inner = [getattr(section, key) for key in type(section).model_fields]
    return [section, *(part for value in inner if isinstance(value, Section) for part in _sections(value))]


def test_what_a_section_says_of_older_versions_are_keys_that_it_has_with_values_that_it_takes() -> None:
    for section in _sections(Config()):
        earlier = {**section.added, **section.changed}
        assert earlier.keys() <= type(section).model_fields.keys()
        assert not section.added.keys() & section.changed.keys()
        type(section).model_validate({**section.model_dump(exclude_unset=True), **earlier})


def test_an_added_key_is_no_part_of_a_fingerprint_where_it_changes_nothing() -> None:
    old = parse_config({"training": {"save_max_seq_length": True, "early_stopping": None}})

    assert not old.training.fingerprinted().keys() & {"save_max_seq_length", "early_stopping"}
    assert Config().training.fingerprinted()["save_max_seq_length"] is False
    assert fingerprint(old) != fingerprint(Config())


@pytest.mark.parametrize(("named", "expected"), [({}, 2e-5), ({"learning_rate": 1e-3}, 1e-3)])
def test_a_run_keeps_the_defaults_that_it_was_begun_with_unless_the_config_names_others(
    named: dict[str, Any], expected: float
) -> None:
    before = Config().model_dump(mode="json")
    for section in ("training", "evaluation", "audit", "synthesis"):
        values, kind = before[section], getattr(Config(), section)
        before[section] = {key: value for key, value in values.items() if key not in kind.added} | dict(kind.changed)
    config = parse_config({"training": named})
    begun = config.updated(config.as_begun(yaml.safe_load(yaml.safe_dump(before))))

    assert begun.training.learning_rate == expected
    assert begun.training.merge is None
    assert begun.training.save_max_seq_length is True
    assert begun.evaluation.seen_documents is False
    assert config.updated(config.as_begun(begun.model_dump(mode="json"))) == begun  # and goes on keeping them


def test_a_run_of_today_has_todays_defaults() -> None:
    begun = Config().updated(Config().as_begun(Config().model_dump(mode="json")))

    assert begun == Config()
