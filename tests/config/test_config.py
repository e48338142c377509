from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from multigrain.config import Config, fingerprint
from multigrain.config.file import load_config, parse_config
from multigrain.config.template import chosen_settings, full_template, short_template
from multigrain.config.writers import KNOWN_WRITERS, KnownWriter
from multigrain.display.text import without_credentials
from multigrain.errors import ConfigError
from multigrain.recipes import recipe

MOST = {
    "documents": {"chunk_size": 180},
    "synthesis": {"query_types": {"question": 1.0, "keywords": 1.0}, "languages": {"German": 1.0}},
    "training": {"max_seq_length": 128},
}


def test_every_problem_is_told_at_once_with_the_nearest_key() -> None:
    values = {
        "seeed": 1,
        "training": {"step": 5, "batch_size": 1, "candidates": {"a": {"poolling": "ata"}}},
        "evaluation": {"sets": [{"name": "x", "path": "y", "roles": "test"}]},
    }

    with pytest.raises(ConfigError) as caught:
        parse_config(values, origin="my.yaml")

    message = str(caught.value)
    assert message.startswith("my.yaml: ")
    for part in (
        "seeed: unknown key (did you mean 'seed'?)",
        "training.step: unknown key (did you mean 'steps'?)",
        "training.batch_size",
        "training.candidates.a.poolling: unknown key (did you mean 'pooling'?)",
        "evaluation.sets.0.roles: unknown key (did you mean 'role'?)",
    ):
        assert part in message
    assert "\n" not in message


Place = tuple[str | int, ...]


def _sections(
    schema: dict[str, Any], place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every place of the config that a section may be at, with the section's schema."""
    if "$ref" in schema:
        yield from _sections(_SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], place)
    for form in schema.get("anyOf", ()):
        yield from _sections(form, place)
    if isinstance(schema.get("items"), dict):
        yield from _sections(schema["items"], (*place, 0))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _sections(schema["additionalProperties"], (*place, "name"))
    if "properties" in schema:
        yield place, schema
        for key, value in schema["properties"].items():
            yield from _sections(value, (*place, key))


_SCHEMA = Config.model_json_schema()
_KEYS = [(place, key, schema["properties"]) for place, schema in _sections(_SCHEMA) for key in schema["properties"]]


def _values(place: Place, value: object) -> Any:
    for key in reversed(place):
        value = [value] if key == 0 else {key: value}
    return value


def test_the_walk_sees_sections_in_sections_in_lists_and_in_mappings() -> None:
    places = {place for place, _, _ in _KEYS}

    assert len(_KEYS) > 200
    assert places >= {
        (),
        ("evaluation", "llm"),
        ("evaluation", "llm", "more_endpoints", 0),
        ("audit", "judge"),
        ("llm", "prices", "name"),
        ("training", "candidates", "name", "lora"),
        ("training", "mix", 0, "columns"),
    }


@pytest.mark.parametrize(
    "misspell", [lambda key: key[0] + key, lambda key: key + "z", lambda key: key[:-2] + key[:-3:-1]]
)
def test_every_key_of_every_section_is_suggested_when_it_is_misspelt(misspell: Callable[[str], str]) -> None:
    for place, key, siblings in _KEYS:
        wrong = misspell(key)
        if wrong in siblings or len(key) < 4:
            continue
        with pytest.raises(ConfigError) as caught:
            parse_config(_values((*place, wrong), 1))

        where = ".".join(map(str, place))
        if where == "audit.checks":  # other packages' checks are keys of it too
            assert f"{where}: no check has the name '{wrong}'; did you mean '{key}'?" in str(caught.value)
        else:
            assert f"{f'{where}.' if where else ''}{wrong}: unknown key (did you mean '{key}'?)" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"documents": {"validation_share": 0.5, "test_share": 0.5}}, "nothing is left to train on"),
        ({"documents": {"kind": "csv"}}, "kind 'csv' needs a path"),
        ({"audit": {"bands": [[0, 8], [8, 40], [40, 200], [200, 2000]]}}, "level 4 must hold the nearest ranks"),
        ({"audit": {"bands": [[9, 9], [6, 8], [3, 5], [0, 2]]}}, "0 <= from < to"),
        ({"training": {"candidates": {}}}, "at least one model"),
        ({"training": {"candidates": {"base": {}}}}, "candidate name 'base'"),
        ({"training": {"candidates": {"a/b": {}}}}, "candidate name 'a/b'"),
        (
            {"evaluation": {"sets": [{"name": "p", "path": "pairs.tsv", "role": "validation"}]}},
            "set 'p': role: validation needs queries .* pairs.tsv is a file of sentence pairs",
        ),
        (
            {"evaluation": {"sets": [{"name": "s", "path": "mteb:SciFact", "role": "validation"}]}},
            "set 's': role: validation needs queries .* mteb:SciFact is an MTEB task",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(values)


def test_a_candidate_overrides_what_it_names_and_inherits_the_rest() -> None:
    config = parse_config(
        {"training": {"steps": 7, "candidates": {"a": {"pooling": "ata"}, "b": {"schedule": "in-batch"}}}}
    )

    a, b = config.training.resolve("a"), config.training.resolve("b")
    assert (a.pooling, a.schedule, a.steps) == ("ata", "coarse-to-fine", 7)
    assert (b.pooling, b.schedule, b.steps) == ("keep", "in-batch", 7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"training": {"steps": "many"}},
            "training.steps: expected a whole number or auto, got 'many'",
        ),
        ({"training": {"merge": [2]}}, "training.merge: expected .* or at most 1 or auto, got \\[2\\]"),
        ({"training": {"mix": [{"name": "a"}]}}, "training.mix.0.path: Field required$"),
        ({"audit": {"bands": [[1, 2], [3]]}}, "audit.bands.1.1: Field required; audit.bands.2: Field required"),
    ],
)
def test_a_setting_that_may_take_several_forms_is_one_problem_under_its_own_name(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(values)


@pytest.mark.parametrize(
    ("training", "rows", "steps"),
    [
        ({}, 36, 20),
        ({}, 500, 63),
        ({}, 50_000, 200),
        ({"batch_size": 8}, 200, 100),
        ({"mix": [{"name": "a", "path": "b"}]}, 500, 125),
        ({"mix": [{"name": "a", "path": "b"}], "graded_weight": 0}, 0, 200),
        ({"steps": 7}, 50_000, 7),
    ],
)
def test_without_a_number_of_steps_rows_are_met_once_a_level(
    training: dict[str, object], rows: int, steps: int
) -> None:
    assert parse_config({"training": training}).training.steps_for(rows) == steps


@pytest.mark.parametrize("provider", ["local", "openai"])
def test_the_full_template_is_a_config_whose_commented_lines_are_the_defaults(tmp_path: Path, provider: str) -> None:
    text = full_template(chosen_settings(documents="texts", provider=provider))
    path = tmp_path / "c.yaml"
    path.write_text(text)
    plain = load_config(path)
    # Uncomment every line that is `# key: value`.
    path.write_text("\n".join(line.replace("# ", "", 1) if _is_setting(line) else line for line in text.splitlines()))
    uncommented = load_config(path)

    assert plain.llm.provider == provider
    assert plain.documents.path == tmp_path.resolve() / "texts"
    assert uncommented == plain


@pytest.mark.parametrize("writer", [None, *KNOWN_WRITERS])
@pytest.mark.parametrize("provider", ["local", "openai"])
@pytest.mark.parametrize("more", [{}, MOST])
def test_the_short_template_says_the_same_in_forty_lines_with_a_reason_for_each(
    provider: str, writer: KnownWriter | None, more: dict[str, dict[str, Any]]
) -> None:
    chosen = chosen_settings(documents="texts", provider=provider, writer=writer, more=more)
    short, full = short_template(chosen), full_template(chosen)
    lines = short.splitlines()

    assert len(lines) <= 40
    assert max(map(len, lines)) <= 119
    assert parse_config(yaml.safe_load(short)) == parse_config(yaml.safe_load(full))
    assert "multigrain init --full" in short
    for before, line in itertools.pairwise(lines):
        assert before.startswith("  # ") == (line.startswith("  ") and not line.startswith("  #"))


def _is_setting(line: str) -> bool:
    body = line.strip().removeprefix("# ")
    key = body.split(":", 1)[0]
    names = {
        name for section in Config.model_fields.values() for name in getattr(section.annotation, "model_fields", {})
    }
    return line.strip().startswith("# ") and key in names and isinstance(yaml.safe_load(body), dict)


def test_paths_are_relative_to_the_config_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "c.yaml"
    sets = [{"name": "a", "path": "beir"}, {"name": "b", "path": "package:x/y.jsonl"}]
    path.write_text(yaml.safe_dump({"documents": {"path": "texts"}, "evaluation": {"sets": sets}}))

    config = load_config(path)

    assert config.documents.path == tmp_path.resolve() / "deep" / "texts"
    assert [source.path for source in config.evaluation.sets] == [
        str(tmp_path.resolve() / "deep" / "beir"),
        "package:x/y.jsonl",
    ]


@pytest.mark.parametrize(
    ("place", "value", "resolved"),
    [
        (("documents", "path"), "hf:owner/name:train", "hf:owner/name:train"),
        (("documents", "path"), "hf:./saved", "hf:{folder}/saved"),
        (("tasks", "path"), "tasks.txt", "{folder}/tasks.txt"),
        (("pairs", "path"), "/data/pairs.csv", "/data/pairs.csv"),
        (("synthesis", "templates"), "prompts", "{folder}/prompts"),
        (("synthesis", "few_shot_path"), "../few.jsonl", "{folder}/../few.jsonl"),
        (("training", "base_model"), "owner/name", "owner/name"),
        (("training", "base_model"), "~/base", "{home}/base"),
        (("evaluation", "llm", "model"), "./writer.gguf", "{folder}/writer.gguf"),
    ],
)
def test_a_path_setting_is_taken_from_the_folder_of_its_file_and_from_values_as_it_is(
    tmp_path: Path, place: Place, value: str, resolved: str
) -> None:
    def setting(config: Any) -> str:
        for key in place:
            config = getattr(config, str(key))
        return str(config)

    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(_values(place, value)))

    expected = resolved.format(folder=tmp_path.resolve(), home=Path.home())
    assert setting(load_config(path)) == expected
    assert setting(parse_config(_values(place, value))) == value
    path.write_text(yaml.safe_dump(load_config(path).model_dump(mode="json")))
    assert setting(load_config(path)) == expected  # what is saved means the same anywhere


def test_models_that_are_plainly_paths_lie_beside_the_config_file_too(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep" / "c.yaml"
    values = {
        "llm": {"model": "./models/writer.gguf"},
        "audit": {"reference_model": "../encoder", "cross_encoder": {"model": "./ce"}},
        "training": {
            "base_model": "static:../base",
            "loss": "guided",
            "loss_options": {"guide": "./guide"},
            "mix": [{"name": "a", "path": "./later.parquet"}, {"name": "b", "path": "owner/pairs"}],
            "candidates": {"a": {"loss_options": {"guide": "~/guide"}}},
        },
        "evaluation": {"llm": {"model": "../other.gguf"}},
        "synthesis": {"few_shot_model": "owner/name:file.gguf"},
    }
    path.write_text(yaml.safe_dump(values))
    folder = tmp_path.resolve() / "deep"

    config = load_config(path)

    assert config.llm.model == str(folder / "models" / "writer.gguf")
    assert config.audit.reference_model == str(folder / "../encoder")
    assert config.audit.cross_encoder is not None
    assert config.audit.cross_encoder.model == str(folder / "ce")
    assert config.training.base_model == f"static:{folder}/../base"
    assert config.training.loss_options["guide"] == str(folder / "guide")
    assert [source.path for source in config.training.mix] == [str(folder / "later.parquet"), "owner/pairs"]
    assert config.training.resolve("a").loss_options["guide"] == str(Path("~/guide").expanduser())
    assert config.evaluation.llm is not None
    assert config.evaluation.llm.model == str(folder / "../other.gguf")
    assert config.synthesis.few_shot_model == "owner/name:file.gguf"


def test_names_of_sets_are_no_paths_whatever_lies_beside_the_config(tmp_path: Path) -> None:
    for folder in ("evaluation", "faq", "other"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "c.yaml"
    named = {"sets": ["evaluation", "faq", "other"]}
    sets = [{"name": "faq", "path": "elsewhere"}]
    path.write_text(yaml.safe_dump({"audit": {"decontamination": named}, "evaluation": {"sets": sets}}))

    resolved = load_config(path).audit.decontamination.sets
    assert resolved == ["evaluation", "faq", str(tmp_path.resolve() / "other")]


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("shared: &a {steps: 3}\ntraining:\n  <<: *a\n  learning_rate: 1e-4\ntraining:\n  steps: 4\n")

    with pytest.raises(ConfigError, match=r"c.yaml: .*line 5, .*'training' stands here again, after line 2"):
        load_config(path)


def test_the_name_of_a_model_at_an_endpoint_is_no_path(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"llm": {"provider": "openai", "model": "./served-name"}}))

    assert load_config(path).llm.model == "./served-name"


def test_the_fingerprint_follows_every_setting() -> None:
    config = Config()
    changed = config.model_copy(update={"seed": 14})

    assert fingerprint(config) == fingerprint(Config())
    assert fingerprint(config) != fingerprint(changed)
    assert fingerprint("a", "b") != fingerprint("ab")


def test_the_demo_recipe_is_valid_and_needs_no_network() -> None:
    config = recipe("demo")

    assert config.documents.kind == "docstrings"
    assert config.llm.provider == "local"
    named = [config.llm.model, config.training.base_model, *(labelled.path for labelled in config.evaluation.sets)]
    assert all(name.startswith("package:") for name in named)
    assert set(config.training.candidates) == {"ata", "mean"}


@pytest.mark.parametrize(
    ("llm", "message"),
    [
        (
            {"extra_body": {"temperature": 1}},
            "llm.extra_body: multigrain sets 'temperature' itself: set llm.temperature",
        ),
        ({"extra_body": {"max_completion_tokens": 9}}, "set llm.max_tokens instead"),
        ({"extra_body": {"since": date(2024, 6, 1)}}, "llm.extra_body: it becomes JSON.*put dates in quotes"),
        ({"extra_body": {"top_k": float("nan")}}, "llm.extra_body: it becomes JSON"),
        (
            {"extra_headers": {"api-key": "sk-of-the-test"}},
            "llm.extra_headers: api-key seems to hold a secret.*write env:NAME$",
        ),
        ({"extra_headers": {"Ocp-Apim-Subscription-Key": "sk-of-the-test"}}, "Key seems to hold a secret"),
        ({"extra_headers": {"X-Auth-Token": "sk-of-the-test"}}, "Token seems to hold a secret"),
        ({"extra_headers": {"X-Key": "env:two words"}}, "the value of X-Key names no environment variable"),
        ({"extra_headers": {"X Key": "a"}}, "'X Key' is no name of a header"),
        ({"extra_headers": {"X-Team": "a\r\nb"}}, "the value of X-Team has signs"),
        ({"extra_headers": {"content-length": "3"}}, "multigrain sets content-length itself"),
        (
            {"more_endpoints": [{"base_url": "http://h/v1", "extra_headers": {"Cookie": "a=sk-of-the-test"}}]},
            "llm.more_endpoints.0.extra_headers: Cookie seems to hold a secret",
        ),
    ],
)
def test_extras_set_nothing_twice_and_hold_no_secret(llm: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config({"llm": llm})
    assert "sk-of-the-test" not in str(caught.value)


def test_what_a_config_says_without_extras_is_what_it_said_before_there_were_any() -> None:
    plain = parse_config({"llm": {"more_endpoints": [{"base_url": "http://h/v1"}]}, "evaluation": {"llm": {}}})
    assert "extra_" not in json.dumps(plain.model_dump(mode="json"))
    extras = {"extra_body": {"top_k": 20}, "extra_headers": {"X-Key": "env:KEY"}}
    own = [{"base_url": "http://h/v1", "extra_headers": {}}]
    config = parse_config({"llm": {**extras, "more_endpoints": own}})
    assert parse_config(config.model_dump(mode="json")) == config
    assert config.model_dump(mode="json")["llm"]["more_endpoints"][0]["extra_headers"] == {}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:hunter22@h:1/v1?code=hunter22", "http://…@h:1/v1?code=…"),
        (
            "'https://h/v1?api-version=2024-06-01&sig=hunter22', now",
            "'https://h/v1?api-version=2024-06-01&sig=…', now",
        ),
        ("why? a=b at https://h/v1", "why? a=b at https://h/v1"),
    ],
)
def test_addresses_are_shown_without_credentials(address: str, shown: str) -> None:
    assert without_credentials(address) == shown
