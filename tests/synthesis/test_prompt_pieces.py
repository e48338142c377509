"""What stands around a document is rendered once, and never another text than a rendering of its own would give."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multigrain.synthesis import prompts
from multigrain.synthesis.attributes import Attributes
from multigrain.synthesis.prompts import BUILT_IN, Prompts, _blocks, _environment, _variables

VALUES = {"title": None, "query": None, "write_positive": False, "levels": [4, 3, 2, 1]}


def _plainly(held: Prompts, template: str, **values: object) -> list[str]:
    """As Jinja renders it, without what is kept."""
    texts = _blocks(_environment(held.folder, held._state).get_template(f"{template}.jinja"), values)
    return [texts[name].strip() for name in ("system", "user") if texts.get(name, "").strip()]


@settings(deadline=None, max_examples=30)
@given(
    document=st.text(max_size=60),
    index=st.sampled_from([0, 1, True, 2]),
    query=st.none() | st.text(min_size=1, max_size=9),
    kind=st.sampled_from(["search", "question", "claim"]),
)
def test_a_prompt_is_what_jinja_makes_of_the_template(document: str, index: int, query: str | None, kind: str) -> None:
    values = {**VALUES, "document": document, "index": index, "query": query, "style": Attributes(kind)}

    messages = BUILT_IN.render("mgh", **values)

    assert [message.content for message in messages] == _plainly(BUILT_IN, "mgh", **values)


@pytest.mark.parametrize(
    "body",
    [
        "{{ document | upper }}",
        "{% filter upper %}{{ document }}{% endfilter %}",
        "{% set shown %}{{ document }}{% endset %}{{ shown | length }}",
        "{% if document %}{{ document }}{% endif %}",
        "{% for letter in document %}{{ letter }},{% endfor %}",
        "{% macro quoted(text) %}<{{ text }}>{% endmacro %}{{ quoted(document) }}",
        "{{ document }} {{ levels }} {{ index }}",
    ],
)
def test_a_template_of_ones_own_may_do_anything_with_its_variables(tmp_path: Path, body: str) -> None:
    (tmp_path / "mgh.jinja").write_text(f"{{% block user %}}{body}{{% endblock %}}")
    held = Prompts(tmp_path)

    for document, index in (("first text", 0), ("second", 1), ("", 1), ("first text", True)):
        values = {**VALUES, "document": document, "index": index, "style": Attributes()}
        (message,) = held.render("mgh", **values)
        assert [message.content] == (_plainly(held, "mgh", **values) or [""])


def test_the_document_is_put_in_as_it_is_and_the_rest_is_kept() -> None:
    environment = _environment(None, ())
    plain, used = _variables(environment, "mgh.jinja")

    assert "document" in plain
    assert {"query", "style", "levels"} <= used - plain
    BUILT_IN.render("mgh", document="one", index=0, style=Attributes(), **VALUES)
    before = len(prompts._PIECES[environment])
    for number in range(20):
        BUILT_IN.render("mgh", document=f"text {number}", index=0, style=Attributes(), **VALUES)
    assert len(prompts._PIECES[environment]) == before
