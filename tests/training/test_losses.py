from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from tests.installed import install
from torch import Tensor, nn

from multigrain.ablation.matrix import MatrixFile, expand
from multigrain.config import Config, TrainingConfig
from multigrain.errors import ConfigError, ModelError
from multigrain.training.losses.ranking import ListMLELoss, MaskedRankingLoss, WassersteinLoss, squared_wasserstein
from multigrain.training.losses.registry import LOSSES, LossPlugin, LossSettings, build_loss, check_losses
from multigrain.training.train import train_candidate

from .graded import config_of, encoder, examples

NAMES = ["infonce", "masked", "listmle", "wasserstein"]


@pytest.fixture
def model(small_bert: Path) -> SentenceTransformer:
    return encoder(small_bert, dropout=False)


def _vectors(columns: int = 6, rows: int = 5, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 8, generator=draw, dtype=torch.float64) for _ in range(columns)]


def _features(model: SentenceTransformer, config: TrainingConfig, rows: int = 6) -> list[dict[str, Tensor]]:
    chosen = examples(rows)
    columns = [[each.query for each in chosen], [each.positive for each in chosen]]
    if config.schedule == "listwise":
        columns += [[each.negatives[level].text for each in chosen] for level in range(4)]
    return [model.preprocess(column) for column in columns]


def _schedule_for(name: str) -> str:
    return "listwise" if name in ("listmle", "wasserstein") else "in-batch"


# What the losses compute


def test_masking_leaves_out_in_batch_texts_above_the_threshold_and_no_others(model: SentenceTransformer) -> None:
    query, positive, negative = _vectors(3, rows=4)
    positive[2] = positive[0] * 1.5  # a further positive of row 0, and row 0's of row 2
    negative[1] = positive[1] + 1e-4  # a row's own negative stays, however near
    loss = MaskedRankingLoss(model, threshold=0.95)

    found = loss.compute_loss_from_embeddings([query, positive, negative], torch.empty(0))

    documents = torch.nn.functional.normalize(torch.cat([positive, negative]), dim=-1)
    scores = 20 * torch.nn.functional.normalize(query, dim=-1) @ documents.T
    scores[0, 2] = scores[2, 0] = -torch.inf
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(4))
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


def test_masking_with_a_threshold_of_one_is_infonce(model: SentenceTransformer) -> None:
    vectors = _vectors(3)
    plain = MultipleNegativesRankingLoss(model).compute_loss_from_embeddings(vectors, torch.empty(0))

    masked = MaskedRankingLoss(model, threshold=1.0).compute_loss_from_embeddings(vectors, torch.empty(0))
    assert float(masked) == pytest.approx(float(plain), rel=1e-9)


def test_a_closed_list_has_the_plackett_luce_likelihood_of_its_order(model: SentenceTransformer) -> None:
    vectors = _vectors(rows=1)
    loss = ListMLELoss(model, in_batch=False, scale=3.0)
    unit = [torch.nn.functional.normalize(each, dim=-1) for each in vectors]
    # positive, level 4, 3, 2, 1
    scores = [3.0 * float(unit[0] @ unit[column].T) for column in (1, 5, 4, 3, 2)]

    def likelihood(order: tuple[float, ...]) -> float:
        weights = torch.tensor(order, dtype=torch.float64).exp()
        return float(torch.prod(weights / weights.flip(0).cumsum(0).flip(0)))

    assert sum(likelihood(order) for order in itertools.permutations(scores)) == pytest.approx(1)
    found = float(loss.compute_loss_from_embeddings(vectors, torch.empty(0)))
    assert found == pytest.approx(-float(torch.tensor(likelihood(tuple(scores))).log()) / 4, rel=1e-6)


def test_the_first_place_of_an_open_list_is_infonce_with_all_negatives(model: SentenceTransformer) -> None:
    query, positive, *negatives = _vectors()
    infonce = MultipleNegativesRankingLoss(model).compute_loss_from_embeddings(
        [query, positive, *negatives], torch.empty(0)
    )
    # With nothing but the positive to order, only the first place is left.
    only = ListMLELoss(model)
    found = only.compute_loss_from_embeddings([query, positive], torch.empty(0))
    plain = MultipleNegativesRankingLoss(model).compute_loss_from_embeddings([query, positive], torch.empty(0))
    assert float(found) == pytest.approx(float(plain), rel=1e-9)
    assert float(infonce) > 0


@pytest.mark.parametrize("name", ["listmle", "wasserstein"])
def test_a_batch_in_the_graded_order_costs_less_than_any_other_order(model: SentenceTransformer, name: str) -> None:
    axes = torch.eye(36, dtype=torch.float64)
    query = axes[:6]

    def at(cosine: float, column: int) -> Tensor:
        # What is left of a text stands on an axis of its own: no other query is near it.
        return cosine * query + (1 - cosine**2) ** 0.5 * axes[6 * column : 6 * column + 6]

    config = config_of(loss=name, schedule="listwise", temperature=0.3)
    loss: Any = build_loss(model, config, processes=1)
    cosines = (0.9, 0.7, 0.5, 0.3, 0.1)

    def cost(order: tuple[float, ...]) -> float:
        positive, hard, *rest = [at(each, column) for column, each in enumerate(order, start=1)]
        columns = [query, positive, *reversed([hard, *rest])]
        return float(loss.compute_loss_from_embeddings(columns, torch.empty(0)))

    graded = cost(cosines)
    others = [cost(order) for order in itertools.permutations(cosines) if order != cosines]
    # The Wasserstein loss grades both medium levels alike, so that swapping them costs nothing.
    assert graded <= min(others) + 1e-9
    assert sum(other > graded + 1e-6 for other in others) >= 118


def test_the_distance_is_that_of_the_fitted_gaussians() -> None:
    scipy_linalg = pytest.importorskip("scipy.linalg")
    one, other = _vectors(1, rows=40, seed=1)[0], 0.5 * _vectors(1, rows=40, seed=2)[0] + 1
    covariances = [torch.cov(each.T).numpy() for each in (one, other)]
    root = scipy_linalg.sqrtm(covariances[0])
    cross = scipy_linalg.sqrtm(root @ covariances[1] @ root).real
    means = float((one.mean(0) - other.mean(0)).square().sum())
    expected = means + float(covariances[0].trace() + covariances[1].trace() - 2 * cross.trace())

    assert float(squared_wasserstein(one, other)) == pytest.approx(expected, rel=1e-6)
    assert float(squared_wasserstein(one, one)) == pytest.approx(0, abs=1e-9)


def test_the_wasserstein_loss_has_finite_gradients_where_all_scores_agree(model: SentenceTransformer) -> None:
    vectors = [torch.ones(4, 8, requires_grad=True) for _ in range(6)]
    loss = WassersteinLoss(model, grades=(3, 2, 1, 1, 0))
    loss.compute_loss_from_embeddings(vectors, torch.empty(0)).backward()  # type: ignore[no-untyped-call]

    assert all(torch.isfinite(each.grad).all() for each in vectors if each.grad is not None)


# Caching, Matryoshka, guide


def _loss_and_gradients(small_bert: Path, config: TrainingConfig) -> tuple[float, dict[str, Tensor]]:
    model = encoder(small_bert, dropout=False)
    loss = build_loss(model, config, processes=1)
    value = loss(_features(model, config), torch.empty(0))
    value.backward()
    return float(value.detach()), {
        name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize("matryoshka", [[], [32, 16, 8]], ids=["plain", "matryoshka"])
@pytest.mark.parametrize("name", NAMES)
def test_cached_gradients_are_the_plain_ones(small_bert: Path, name: str, matryoshka: list[int]) -> None:
    settings = {"loss": name, "schedule": _schedule_for(name), "matryoshka": matryoshka}
    value, gradients = _loss_and_gradients(small_bert, config_of(**settings))
    cached_value, cached = _loss_and_gradients(small_bert, config_of(**settings, mini_batch_size=2))

    assert cached_value == pytest.approx(value, rel=1e-5)
    assert gradients
    assert cached.keys() == gradients.keys()
    for gradient_name, gradient in gradients.items():
        torch.testing.assert_close(cached[gradient_name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_matryoshka_is_the_sum_over_the_lengths(small_bert: Path, name: str) -> None:
    model = encoder(small_bert, dropout=False)
    config = config_of(loss=name, schedule=_schedule_for(name), matryoshka=[8])
    whole = build_loss(model, config, processes=1)(_features(model, config), torch.empty(0))
    inner: Any = build_loss(model, config.model_copy(update={"matryoshka": []}), processes=1)
    vectors = [model(column)["sentence_embedding"] for column in _features(model, config)]
    apart = sum(
        float(inner.compute_loss_from_embeddings([each[:, :length] for each in vectors], torch.empty(0)).detach())
        for length in (32, 8)
    )

    assert float(whole.detach()) == pytest.approx(apart, rel=1e-4)


def test_a_matryoshka_length_beyond_the_model_is_refused(model: SentenceTransformer) -> None:
    with pytest.raises(ModelError, match="64 is more than the 32"):
        build_loss(model, config_of(matryoshka=[64, 8]), processes=1)


@pytest.mark.parametrize("mini_batch_size", [None, 3])
def test_a_guide_leaves_out_what_it_finds_closer_and_is_not_trained(
    small_bert: Path, tmp_path: Path, mini_batch_size: int | None
) -> None:
    config = config_of(
        loss="guided", loss_options={"guide": str(small_bert)}, steps=3, mini_batch_size=mini_batch_size
    )
    model = encoder(small_bert)
    loss: Any = build_loss(model, config, processes=1)
    assert not any(weight.requires_grad for weight in loss.guide.parameters())

    log = train_candidate(model, examples(), config, name="a", seed=1, checkpoints=tmp_path / "c")
    assert all(step.loss > 0 for step in log.history)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_learns(small_bert: Path, tmp_path: Path, name: str) -> None:
    schedule = "listwise" if _schedule_for(name) == "listwise" else "coarse-to-fine"
    config = config_of(loss=name, schedule=schedule, steps=30, checkpoint_every=1000, temperature=0.1)
    log = train_candidate(encoder(small_bert), examples(), config, name="a", seed=1, checkpoints=tmp_path / "c")

    assert sum(step.loss for step in log.history[-3:]) < 0.8 * sum(step.loss for step in log.history[:3])


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "infonse"}, "'infonse': no loss has this name; did you mean 'infonce'"),
        ({"loss": "wasserstein"}, "cannot be trained with schedule: coarse-to-fine.*set training.schedule: listwise"),
        ({"loss": "listmle", "schedule": "mixed"}, "cannot be trained with schedule: mixed.*listwise"),
        ({"loss": "guided", "schedule": "listwise", "loss_options": {"guide": "x"}}, "takes pairs or triples"),
        ({"loss": "guided"}, "guide: Field required .its options: guide, margin"),
        ({"loss": "masked", "loss_options": {"treshold": 0.9}}, "treshold: Extra inputs.*its options: threshold"),
        ({"loss": "masked", "loss_options": {"threshold": 2}}, "threshold: Input should be less than or equal to 1"),
        ({"loss_options": {"a": 1}}, "its options: none"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_losses(config_of(**settings))
    assert "\n" not in str(raised.value)


def test_every_candidate_is_checked() -> None:
    config = config_of(
        candidates={"a": {}, "b": {"loss": "listmle"}, "c": {"loss": "listmle", "schedule": "listwise"}}
    )

    with pytest.raises(ConfigError, match="'listmle' cannot be trained with schedule: coarse-to-fine"):
        check_losses(config)


def test_losses_can_be_ablated_and_wrong_combinations_are_told_at_once() -> None:
    vary = {"loss": ["infonce", "wasserstein"], "schedule": ["coarse-to-fine", "listwise"]}
    skip = [{"loss": "wasserstein", "schedule": "coarse-to-fine"}]
    found = expand(MatrixFile(config=Path("c"), vary=vary, skip=skip), Config(), origin="m.yaml")

    assert [arm.config.training.loss for arm in found.arms] == ["infonce", "infonce", "wasserstein"]
    with pytest.raises(ConfigError, match=r"loss=wasserstein, schedule=coarse-to-fine: .*ranks all four levels"):
        expand(MatrixFile(config=Path("c"), vary=vary), Config(), origin="m.yaml")


# Plug-ins


class SpreadOptions(BaseModel, extra="forbid"):
    weight: float = 1.0


class SpreadLoss(MultipleNegativesRankingLoss):
    """Somebody's own: InfoNCE, weighted."""

    def __init__(self, model: SentenceTransformer, scale: float, weight: float) -> None:
        super().__init__(model, scale=scale)
        self.weight = weight

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        return self.weight * super().compute_loss_from_embeddings(embeddings, labels)


def _build_spread(model: SentenceTransformer, settings: LossSettings) -> nn.Module:
    return SpreadLoss(model, settings.scale, settings.options.weight)


SPREAD = LossPlugin(_build_spread, SpreadOptions)
NOT_A_PLUGIN = 3


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"spread": f"{__name__}:SPREAD", "broken": f"{__name__}:NOT_A_PLUGIN", "crashing": "crashing_loss:LOSS"}
    modules = {"crashing_loss": "raise RuntimeError('no such card')\n"}
    monkeypatch.syspath_prepend(str(install(tmp_path / "package", "losses", {LOSSES.group: parts}, modules)))


@pytest.mark.usefixtures("plugins")
def test_a_loss_of_another_package_is_trained_by_name(small_bert: Path, tmp_path: Path) -> None:
    def first_loss(**settings: object) -> float:
        config = config_of(steps=2, **settings)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        log = train_candidate(encoder(small_bert), examples(), config, name="a", seed=1, checkpoints=folder / "c")
        return log.history[0].loss

    doubled = first_loss(loss="spread", loss_options={"weight": 2.0})
    assert doubled == pytest.approx(2 * first_loss(), rel=1e-4)


@pytest.mark.usefixtures("plugins")
def test_a_plug_in_is_held_to_what_it_says() -> None:
    with pytest.raises(ConfigError, match="loss 'spread' cannot cache gradients"):
        check_losses(config_of(loss="spread", mini_batch_size=4))
    with pytest.raises(ConfigError, match="choose a schedule"):
        check_losses(config_of(loss="spread", schedule="listwise"))
    with pytest.raises(ConfigError, match="is a int, not a LossPlugin"):
        check_losses(config_of(loss="broken"))
    with pytest.raises(ConfigError, match="there are broken, crashing, distil, graded, guided, infonce"):
        check_losses(config_of(loss="zzz"))


@pytest.mark.usefixtures("plugins")
def test_a_loss_whose_import_fails_is_one_line() -> None:
    with pytest.raises(
        ConfigError, match=r"^training.loss 'crashing': .* cannot be loaded \(RuntimeError: no such card"
    ):
        check_losses(config_of(loss="crashing"))
