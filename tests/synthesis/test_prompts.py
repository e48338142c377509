"""Templates as files: the built-in ones keep their own rules, a user's are held to them before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from multigrain.errors import ConfigError
from multigrain.synthesis.attributes import Attributes
from multigrain.synthesis.prompts import Prompts, template_names, template_variables

VALUES = {"document": "The valve closes.", "title": None, "index": 0, "query": None, "style": Attributes()}


@pytest.mark.parametrize("name", template_names())
def test_every_built_in_template_uses_what_it_says_and_nothing_else(name: str, tmp_path: Path) -> None:
    import multigrain.synthesis as package

    source = (Path(package.__file__).parent / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    (tmp_path / f"{name}.jinja").write_text(source, encoding="utf-8")

    assert any(template_variables(name).values()), "no variable that must be used"
    Prompts(tmp_path).check()


def test_a_folder_of_the_users_own_goes_before_the_built_in_templates_file_by_file(tmp_path: Path) -> None:
    text = "{% block user %}Ask of {{ document }} in style {{ style.query_type }}.{% endblock %}"
    (tmp_path / "query.jinja").write_text(text)
    own = Prompts(tmp_path)

    own.check()

    assert own.render("query", **VALUES)[-1].content == "Ask of The valve closes. in style search."
    assert own.render("negative", **VALUES, level=1) == Prompts().render("negative", **VALUES, level=1)
    assert own.fingerprint() != Prompts().fingerprint()


def test_a_part_can_be_replaced_by_itself(tmp_path: Path) -> None:
    (tmp_path / "_query_type.jinja").write_text("a haiku")

    assert (
        "a haiku" in Prompts(tmp_path).render("mgh", **VALUES, write_positive=False, levels=[1, 2, 3, 4])[-1].content
    )


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("querry.jinja", "{% block user %}{{ document }}{% endblock %}", "did you mean 'query.jinja'"),
        ("query.jinja", "{% block user %}{{ document }} {{ style }} {{ doc }}{% endblock %}", "'doc' is not given"),
        ("query.jinja", "{% block user %}{{ style }}{% endblock %}", "never uses 'document'"),
        ("query.jinja", "{{ document }} {{ style }}", "no `user` block"),
        ("query.jinja", "{% block user %}\n{{ document }\n{% endblock %}", "query.jinja:2: not a Jinja template"),
        ("query.jinja", "{% block user %}{% include 'gone.jinja' %}{% endblock %}", "gone.jinja"),
        ("readme.txt", "", "no *.jinja file"),
    ],
)
def test_what_is_wrong_with_a_template_is_said_before_anything_is_asked(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError) as caught:
        Prompts(tmp_path).check()

    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_template_that_fails_on_a_value_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "query.jinja").write_text("{% block user %}{{ document }} {{ style.tone }}{% endblock %}")

    with pytest.raises(ConfigError, match=r"query\.jinja: cannot be filled"):
        Prompts(tmp_path).render("query", **VALUES)
