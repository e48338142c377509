from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from multigrain.ablation.matrix import MatrixFile, expand, load_matrix
from multigrain.config import Config
from multigrain.errors import ConfigError


def made(**values: object):
    return expand(MatrixFile.model_validate({"config": "c.yaml", **values}), Config(), origin="matrix.yaml")


def test_arms_are_all_combinations_with_their_settings() -> None:
    matrix = made(
        vary={"source": ["mined", "hybrid"], "schedule": ["random", "fixed-1"], "training.temperature": [0.02]}
    )
    assert [arm.name for arm in matrix.arms] == [
        "source=mined, schedule=random, training.temperature=0.02",
        "source=mined, schedule=fixed-1, training.temperature=0.02",
        "source=hybrid, schedule=random, training.temperature=0.02",
        "source=hybrid, schedule=fixed-1, training.temperature=0.02",
    ]
    last = matrix.arms[-1].config
    assert (last.audit.negatives, last.training.schedule, last.training.temperature) == ("hybrid", "fixed-1", 0.02)
    assert list(last.training.candidates) == ["arm"]
    assert matrix.reference is matrix.arms[0]


def test_an_arms_key_does_not_depend_on_the_rest_of_the_matrix() -> None:
    small = made(vary={"schedule": ["random"]})
    large = made(vary={"schedule": ["fixed-1", "random"]}, seeds=[1, 2])
    assert small.arms[0].key == large.arms[1].key
    assert large.arms[0].key != large.arms[1].key


def test_what_computes_attention_counts_where_it_is_chosen_alone() -> None:
    plain, chosen = made(vary={"training.attn_implementation": [None, "sdpa"]}).arms
    assert "attn_implementation" not in plain.training_settings
    assert chosen.training_settings == {**plain.training_settings, "attn_implementation": "sdpa"}
    assert plain.key == made(vary={"schedule": ["coarse-to-fine"]}).arms[0].key != chosen.key


def test_combinations_can_be_left_out_and_the_reference_chosen() -> None:
    matrix = made(
        vary={"source": ["mined", "written"], "schedule": ["random", "in-batch"]},
        skip=[{"source": "written", "schedule": "in-batch"}],
        reference={"schedule": "in-batch"},
    )
    assert len(matrix.arms) == 3
    assert matrix.reference.values == {"source": "mined", "schedule": "in-batch"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vary": {"documents.limit": [10, 20]}}, "'documents.limit' must not vary"),
        ({"vary": {"evaluation.queries": ["titles"]}}, "must not vary"),
        ({"vary": {"seed": [1]}}, "'seed' must not vary"),
        ({"vary": {"schedule": ["random", "randm"]}}, "training.schedule"),
        ({"vary": {"training.los": ["x"]}}, "training.los: unknown key"),
        ({"vary": {"schedule": []}}, "vary.schedule lists no values"),
        ({"vary": {"schedule": ["random", "random"]}}, "listed twice"),
        ({"vary": {"schedule": ["random"]}, "seeds": [1, 1]}, "listed twice"),
        ({"vary": {"schedule": ["random"]}, "reference": {"schedule": "mixed"}}, "no arm is left"),
        ({"vary": {"training.kind": ["embedder", "reranker"]}}, "training.kind must not vary"),
        ({"vary": {"schedule": ["random"]}, "rerank": {"depth": 5}}, "rerank is for arms that are rerankers"),
        ({"vary": {"kind": ["reranker"], "pooling": ["ata"]}}, "pooling: this run trains rerankers alone"),
        (
            {
                "vary": {
                    "training.base_model": ["openai:some-embedder"],
                    "training.side": ["query"],
                    "training.query_adapter": [{}],
                }
            },
            "arms are tuned from a base that runs here",
        ),
    ],
)
def test_a_wrong_matrix_gets_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_matrix_file_names_its_config_beside_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"seed": 5, "training": {"steps": 7}}))
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump({"config": "run.yaml", "vary": {"pooling": ["mean", "ata"]}}))
    matrix = load_matrix(path)
    assert {(arm.config.seed, arm.config.training.steps) for arm in matrix.arms} == {(5, 7)}

    for text, message in (("- 1", "matrix.yaml"), ("vary: {}", "config"), ("config: x\nvry: {}", "vry")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_matrix(path)
    with pytest.raises(ConfigError, match="no such matrix file"):
        load_matrix(tmp_path / "none.yaml")


def test_arms_that_are_rerankers_have_the_rate_and_the_schedule_of_rerankers_unless_named() -> None:
    plain, named = (
        made(vary={"kind": ["reranker"], "loss": ["binary"], **more}).arms[0].config.training.resolve("arm")
        for more in ({}, {"schedule": ["reverse"], "learning_rate": [1e-3]})
    )
    assert (plain.schedule, plain.rates(choose=True), plain.loss) == ("listwise", (5e-5,), "binary")
    assert (named.schedule, named.rates(choose=True)) == ("reverse", (1e-3,))
    with pytest.raises(ValueError, match="is behind an endpoint; name base, bm25, hybrid"):
        MatrixFile.model_validate(
            {"config": "c.yaml", "vary": {"loss": ["binary"]}, "rerank": {"first_stage": "openai:m"}}
        )
