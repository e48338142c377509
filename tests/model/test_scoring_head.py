"""A reranker's folder is told from an embedder's, before it would be embedded with as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sentence_transformers import CrossEncoder, SentenceTransformer

from multigrain.encoders.models import Encoding, load_model, parse_model
from multigrain.errors import ModelError
from multigrain.model.encoder import load
from multigrain.model.loading import check_reference
from multigrain.model.scoring_head import is_cross_encoder, is_reranker, require_embedder


@pytest.fixture(scope="module")
def folders(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Cross-encoders by their number of scores a pair."""
    folders = {number: tmp_path_factory.mktemp("heads") / f"{number}-scores" for number in (1, 2, 3)}
    for number, folder in folders.items():
        CrossEncoder(str(small_bert), num_labels=number, device="cpu").save_pretrained(
            str(folder), create_model_card=False
        )
    return folders


def test_a_reranker_named_as_an_embedder_is_one_line(folders: dict[int, Path]) -> None:
    folder = str(folders[1])
    assert SentenceTransformer(folder, device="cpu").encode(["river"]).shape == (1, 32), (
        "else it would be embedded with"
    )
    for use in (
        lambda: load(folder, device="cpu"),
        lambda: check_reference(folder),
        lambda: load_model(parse_model(f"tuned={folder}"), Encoding()),
    ):
        with pytest.raises(
            ModelError, match=r"is a reranker, which scores pairs and embeds nothing.*--rerank"
        ) as caught:
            use()
        assert str(caught.value).startswith(folder)
        assert "\n" not in str(caught.value)


def test_classifiers_and_encoders_are_no_rerankers(folders: dict[int, Path], small_bert: Path, tmp_path: Path) -> None:
    for folder in folders.values():
        (folder / "config_sentence_transformers.json").unlink(missing_ok=True)  # as transformers itself saves them
    assert [is_reranker(str(folders[number])) for number in (1, 2, 3)] == [True, False, False]
    assert all(is_cross_encoder(str(folder)) for folder in folders.values())
    for reference in (str(small_bert), str(tmp_path), "bm25", "openai:some/model", "./no/such/folder"):
        require_embedder(reference)
    (tmp_path / "config.json").write_text(json.dumps(["no config"]))
    assert not is_reranker(str(tmp_path))
