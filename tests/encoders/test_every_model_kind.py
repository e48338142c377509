"""Whatever kind of model folder: every part puts the same words before a text and takes the same route."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import SUBJECTS, VERBS

from multigrain.encoders import reference
from multigrain.encoders.encoder import model_fingerprint
from multigrain.encoders.protocol import unit_length
from multigrain.model.encoder import build_encoder, load
from multigrain.model.prompts import document_prompt, query_prompt, set_prompts

from .model_kinds import KINDS, PARTS, D, Embed, ModelKind, Q, expected_vectors

TEXTS = st.lists(
    st.lists(st.sampled_from(SUBJECTS + VERBS), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=4
)


class Opened(NamedTuple):
    """A kind's folder, and each part with it."""

    kind: ModelKind
    folder: Path
    parts: dict[str, Embed]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def opened(
    request: pytest.FixtureRequest, small_bert: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opened]:
    kind: ModelKind = request.param
    folder = tmp_path_factory.mktemp("kinds") / "model"
    kind.write(folder, small_bert)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "supports_native_bf16", lambda _: False)
        patch.setenv("OPENAI_API_KEY", "sk-none")
        yield Opened(kind, folder, {name: stack.enter_context(part(folder)) for name, part in PARTS.items()})


@pytest.mark.parametrize("part", PARTS)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=TEXTS)
def test_every_part_sees_the_same_text(part: str, texts: list[str], opened: Opened) -> None:
    if part == "served" and "route" in opened.kind.name:
        pytest.skip("a server embeds every text alike")
    for vectors, expected in zip(
        opened.parts[part](texts), expected_vectors(opened.kind, opened.folder, texts), strict=True
    ):
        np.testing.assert_allclose(unit_length(vectors), expected, atol=3e-5)


def test_what_stands_before_texts_is_in_the_fingerprint_and_survives_saving(opened: Opened, tmp_path: Path) -> None:
    model = load(str(opened.folder), device="cpu")
    assert (query_prompt(model), document_prompt(model)) == (opened.kind.query, opened.kind.document)
    before = model_fingerprint(model)
    set_prompts(model, query="bridge ", document="")
    assert (query_prompt(model), document_prompt(model)) == ("bridge ", "")
    assert model_fingerprint(model) != before
    model.save_pretrained(str(tmp_path / "saved"))
    again = load(str(tmp_path / "saved"), device="cpu")
    assert (query_prompt(again), document_prompt(again)) == ("bridge ", "")


@pytest.mark.parametrize("kind", ["query and passage", "query and corpus", "a default"])
def test_caches_of_models_whose_prompts_were_passed_over_are_not_found_again(
    kind: str, small_bert: Path, tmp_path: Path
) -> None:
    (chosen,) = (each for each in KINDS if each.name == kind)
    chosen.write(tmp_path / "model", small_bert)
    plain = model_fingerprint(build_encoder(str(small_bert), device="cpu"))
    assert model_fingerprint(load(str(tmp_path / "model"), device="cpu")) != plain


def test_the_sides_of_the_table_can_be_told_apart(small_bert: Path) -> None:
    queries, documents = (
        expected_vectors(ModelKind("k", query, document), small_bert, ["planet fades"])[side]
        for side, (query, document) in enumerate(((Q, ""), ("", D)))
    )
    assert np.abs(queries - documents).max() > 1e-3
