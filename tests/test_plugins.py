"""What the one loader promises of every kind of named part."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.installed import install

from multigrain.errors import ConfigError, MissingExtraError
from multigrain.plugins import Registry

GROUP = "multigrain.tests"
PARTS: Registry[object] = Registry(
    "part",
    GROUP,
    {"seven": 7, "join": "os.path:join", "extra": "no_such_library:x"},
    "section.part",
    {"extra": "deep"},
)


def add(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str = "theirs", **parts: str) -> None:
    module = f"{package.replace('-', '_')}_module"
    values = {name: f"{module}:{attribute}" for name, attribute in parts.items()}
    install(folder / package, package, {GROUP: values}, {module: "PART = 'a part'\nNUMBER = 3\n"})
    monkeypatch.syspath_prepend(str(folder / package))


def test_parts_of_other_packages_are_names_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PARTS.names() == ["extra", "join", "seven"]

    add(tmp_path, monkeypatch, "plugins-one", part="PART")

    assert PARTS.names() == ["extra", "join", "part", "seven"]
    assert PARTS.get("part") == "a part"
    assert PARTS.get("seven") == 7
    assert PARTS.get("join") is __import__("os").path.join


@pytest.mark.parametrize(
    ("name", "words"), [("sevn", "did you mean 'seven'"), ("zzz", "there are extra, join, seven")]
)
def test_an_unknown_name_is_refused_with_what_there_is(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^section.part '{name}': no part has this name; {words}"):
        PARTS.get(name)


def test_a_name_that_is_offered_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, monkeypatch, "plugins-two", seven="PART", twice="PART")
    add(tmp_path, monkeypatch, "plugins-three", twice="PART")

    with pytest.raises(ConfigError, match="package plugins-two offers one of that name, which is built in"):
        PARTS.get("seven")
    with pytest.raises(
        ConfigError, match=r"'twice' is offered by package plugins-(two|three) and by package plugins-"
    ):
        PARTS.check("twice")
    PARTS.check("join")


def test_a_part_that_cannot_be_loaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, monkeypatch, "plugins-four", gone="MISSING", three="NUMBER")
    texts = Registry[str]("part", GROUP, {}, "section.part", instance_of=str)

    with pytest.raises(ConfigError, match=r"^section.part 'gone': .* of package plugins-four, .* cannot be loaded \("):
        PARTS.get("gone")
    with pytest.raises(ConfigError, match=r"is a int, not a str$"):
        texts.get("three")
    with pytest.raises(MissingExtraError, match=r'section.part extra needs .* `pip install .*\[deep\]"'):
        PARTS.get("extra")
