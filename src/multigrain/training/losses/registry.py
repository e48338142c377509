"""Losses by name: those of this package, and those that others add under the entry-point group `multigrain.losses`.

Importing this loads no torch: losses are checked before anything is written, and built when training starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, Field, ValidationError

from multigrain.config import TrainingConfig
from multigrain.config.section import Section
from multigrain.curriculum.pools import GradedShape
from multigrain.errors import ConfigError, ModelError
from multigrain.plugins import Registry

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from torch import nn


Targets: TypeAlias = Literal["similarity", "probability"]
"""What a loss learns of a teacher's scores: as cosines, on the scale of the reference model's, or as probabilities
that a passage answers; see `training.targets`."""


_Probability = Annotated[float, Field(ge=0, le=1)]


class NoOptions(Section):
    """No options at all."""


@dataclass(frozen=True)
class LossSettings:
    """What a loss is built with.

    Attributes:
        temperature: similarities are divided by it.
        gather_across_devices: whether in-batch negatives come from all processes.
        mini_batch_size: texts a forward pass, with gradients cached; None for no caching.
        options: `training.loss_options`, checked.
        trust_remote_code: whether code that comes with a model may run.
        threshold: for a loss that takes probabilities, the reference cosine at which the rows' passages are as likely
            answers as not; else 0.
    """

    temperature: float
    gather_across_devices: bool
    mini_batch_size: int | None
    options: Any
    trust_remote_code: bool = False
    threshold: float = 0.0

    @property
    def scale(self) -> float:
        """1 / temperature, as sentence-transformers' losses take it."""
        return 1 / self.temperature


@dataclass(frozen=True)
class LossPlugin:
    """A loss as it is registered.

    Attributes:
        build: makes it for a model: a SentenceTransformer, or a CrossEncoder where it is a reranker's.
        options: a pydantic model of `training.loss_options`; unknown keys are refused where it forbids extras.
        shapes: of rows that it can be trained on: pairs (query, positive), triples (and a negative), lists (and all
            four negatives, level 1 first).
        caches: whether it heeds `mini_batch_size`.
        targets: what of a teacher's scores it takes as labels; None for a loss that has no teacher. Such a loss is
            given lists in place of triples: query, positive and the passages of one band of scores.

    A reranker's loss is always given lists, whose labels are a teacher's scores or, without `targets`, the option
    `grades`: of the positive and of levels 4 to 1.
    """

    build: Callable[[Any, LossSettings], nn.Module]
    options: type[BaseModel] = NoOptions
    shapes: tuple[GradedShape, ...] = ("pairs", "triples")
    caches: bool = False
    targets: Targets | None = None


class MaskedOptions(Section):
    """Options of the masked loss."""

    threshold: float = Field(default=0.95, gt=0, le=1)
    """Cosine above which an in-batch negative is left out."""


class GuidedOptions(Section):
    """Options of the guided loss."""

    guide: str
    """The model that decides which negatives are left out: a folder, hub id, package:NAME, or auto."""

    margin: float = Field(default=0.0, ge=0)
    """A negative is left out where the guide finds it closer than the positive less this."""


class ListMLEOptions(Section):
    """Options of ListMLE."""

    in_batch: bool = True
    """Take the texts of other rows as further negatives, below all levels."""


class WassersteinOptions(Section):
    """Options of the Wasserstein loss."""

    grades: tuple[float, float, float, float, float] = (3.0, 2.0, 1.0, 1.0, 0.0)
    """Relevance of the positive and of levels 4 to 1."""


class DistilOptions(Section):
    """Options of distillation."""

    teacher_temperature: float | None = Field(default=None, gt=0)
    """Divides the teacher's scores, once they are on the scale of cosines; null is `training.temperature`."""

    infonce_share: float = Field(default=0.1, ge=0, lt=1)
    """Weight of InfoNCE over the positives of the batch."""


class GradesOptions(Section):
    """Options of a reranker's list-wise losses."""

    grades: tuple[float, float, float, float, float] = (3.0, 2.0, 1.0, 1.0, 0.0)
    """Relevance of the positive and of levels 4 to 1."""


class BinaryOptions(Section):
    """Options of a reranker's binary loss."""

    grades: tuple[_Probability, _Probability, _Probability, _Probability, _Probability] = (1.0, 0.0, 0.0, 0.0, 0.0)
    """Probability that the positive, and negatives of levels 4 to 1, answer."""


class RerankerDistilOptions(Section):
    """Options of a reranker's distillation."""

    teacher_temperature: float | None = Field(default=None, gt=0)
    """Divides the teacher's scores, once they are on the scale of cosines; null is `training.temperature`."""


class GradedOptions(Section):
    """Options of the graded loss."""

    in_batch: bool = True
    """Take the positives of other rows as passages that answer nothing."""


def _infonce(model: SentenceTransformer, settings: LossSettings) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    gather = settings.gather_across_devices
    if settings.mini_batch_size is None:
        return MultipleNegativesRankingLoss(model, scale=settings.scale, gather_across_devices=gather)
    return CachedMultipleNegativesRankingLoss(
        model, scale=settings.scale, mini_batch_size=settings.mini_batch_size, gather_across_devices=gather
    )


def _own(name: str) -> Callable[[SentenceTransformer, LossSettings], nn.Module]:
    """Builds one of our own losses, by the name of its class; its keywords are its options."""

    def build(model: SentenceTransformer, settings: LossSettings) -> nn.Module:
        from multigrain.training.losses import ranking

        return _cached(
            getattr(ranking, name)(
                model,
                **settings.options.model_dump(),
                scale=settings.scale,
                gather_across_devices=settings.gather_across_devices,
            ),
            model,
            settings,
        )

    return build


def _distil(model: SentenceTransformer, settings: LossSettings) -> nn.Module:
    from multigrain.training.losses.scored import DistilLoss

    gather = settings.gather_across_devices
    loss = DistilLoss(model, **settings.options.model_dump(), scale=settings.scale, gather_across_devices=gather)
    return _cached(loss, model, settings)


def _margin(model: SentenceTransformer, settings: LossSettings) -> nn.Module:
    from multigrain.training.losses.scored import MarginLoss

    return _cached(MarginLoss(model), model, settings)


def _graded(model: SentenceTransformer, settings: LossSettings) -> nn.Module:
    from multigrain.training.losses.scored import GradedLoss

    loss = GradedLoss(
        model,
        **settings.options.model_dump(),
        threshold=settings.threshold,
        scale=settings.scale,
        gather_across_devices=settings.gather_across_devices,
    )
    return _cached(loss, model, settings)


def _cached(loss: Any, model: SentenceTransformer, settings: LossSettings) -> nn.Module:
    """A loss that computes from embeddings, with gradients cached where asked for."""
    if settings.mini_batch_size is None:
        return cast("nn.Module", loss)
    from multigrain.training.losses.ranking import GradientCachedLoss

    return GradientCachedLoss(model, loss, settings.mini_batch_size)


def _guided(model: SentenceTransformer, settings: LossSettings) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss, GISTEmbedLoss

    from multigrain.model.encoder import load

    guide = load(settings.options.guide, device=str(model.device), trust_remote_code=settings.trust_remote_code)
    guide.requires_grad_(False)
    shared = {
        "temperature": settings.temperature,
        "margin": settings.options.margin,
        "gather_across_devices": settings.gather_across_devices,
    }
    try:
        if settings.mini_batch_size is None:
            return GISTEmbedLoss(model, guide, **shared)
        return CachedGISTEmbedLoss(model, guide, mini_batch_size=settings.mini_batch_size, **shared)
    except ValueError as error:
        raise ModelError(f"training.loss_options.guide {settings.options.guide}: {error}") from None


def _binary(model: CrossEncoder, settings: LossSettings) -> nn.Module:
    from multigrain.training.losses.pairs import PairLoss

    return PairLoss(model)


def _listnet(model: CrossEncoder, settings: LossSettings) -> nn.Module:
    from multigrain.training.losses.pairs import ListLoss

    return ListLoss(model)


def _lambda(model: CrossEncoder, settings: LossSettings) -> nn.Module:
    from multigrain.training.losses.pairs import LambdaListLoss

    return LambdaListLoss(model)


def _reranker_distil(model: CrossEncoder, settings: LossSettings) -> nn.Module:
    from multigrain.training.losses.pairs import ListLoss

    return ListLoss(model, temperature=settings.options.teacher_temperature or settings.temperature)


_SCORED: Final[tuple[GradedShape, ...]] = ("triples", "lists")
_ALL_SHAPES: Final = ("pairs", "triples", "lists")
_INFONCE: Final = LossPlugin(_infonce, shapes=_ALL_SHAPES, caches=True)

LOSSES: Final[Registry[LossPlugin]] = Registry(
    kind="loss",
    group="multigrain.losses",
    built_in={
        "infonce": _INFONCE,
        "masked": LossPlugin(_own("MaskedRankingLoss"), MaskedOptions, shapes=_ALL_SHAPES, caches=True),
        "guided": LossPlugin(_guided, GuidedOptions, caches=True),
        "listmle": LossPlugin(_own("ListMLELoss"), ListMLEOptions, shapes=("lists",), caches=True),
        "wasserstein": LossPlugin(_own("WassersteinLoss"), WassersteinOptions, shapes=("lists",), caches=True),
        "distil": LossPlugin(_distil, DistilOptions, shapes=_SCORED, caches=True, targets="similarity"),
        "margin-mse": LossPlugin(_margin, shapes=_SCORED, caches=True, targets="similarity"),
        "graded": LossPlugin(_graded, GradedOptions, shapes=_SCORED, caches=True, targets="probability"),
    },
    named_by="training.loss",
    instance_of=LossPlugin,
)


RERANKER_LOSSES: Final[Registry[LossPlugin]] = Registry(
    kind="reranker loss",
    group="multigrain.reranker_losses",
    built_in={
        "lambda": LossPlugin(_lambda, GradesOptions, shapes=_SCORED),
        "listnet": LossPlugin(_listnet, GradesOptions, shapes=_SCORED),
        "binary": LossPlugin(_binary, BinaryOptions, shapes=_SCORED),
        "distil": LossPlugin(_reranker_distil, RerankerDistilOptions, shapes=_SCORED, targets="similarity"),
        "graded": LossPlugin(_binary, shapes=_SCORED, targets="probability"),
    },
    named_by="training.loss",
    instance_of=LossPlugin,
)


def check_losses(config: TrainingConfig) -> None:
    """Refuse what cannot be trained, before anything is done: for every candidate its loss, options and row shape.

    Raises:
        ConfigError: no such loss, wrong options, or a loss that cannot be trained on the schedule's rows.
    """
    for name in config.candidates:
        _resolve(config.resolve(name))


def graded_shape(config: TrainingConfig) -> GradedShape:
    """What of a graded row the schedule trains on."""
    return {"listwise": "lists", "in-batch": "pairs"}.get(config.schedule, "triples")  # type: ignore[return-value]


def takes_scores(config: TrainingConfig) -> bool:
    """Whether the loss of a candidate learns from a teacher's scores; a loss that is not there takes none."""
    return learned_targets(config) is not None


def learned_targets(config: TrainingConfig) -> Targets | None:
    """What the loss of a candidate takes of a teacher's scores; None for nothing, and for a loss that is not there."""
    try:
        return _losses(config).get(config.loss).targets
    except ConfigError:
        return None


def level_grades(config: TrainingConfig) -> tuple[float, ...] | None:
    """What a reranker's loss takes as labels of the positive and of levels 1 to 4; None where a teacher gives them.

    Raises:
        ConfigError: see `check_losses`.
    """
    plugin, options = _resolve(config)
    if plugin.targets is not None:
        return None
    positive, *levels = getattr(options, "grades", (1.0, 0.0, 0.0, 0.0, 0.0))
    return (positive, *reversed(levels))


def build_loss(
    model: SentenceTransformer | CrossEncoder,
    config: TrainingConfig,
    *,
    processes: int,
    graded: bool = True,
    threshold: float = 0.0,
) -> nn.Module:
    """The loss of a candidate, with Matryoshka around it where asked for.

    Args:
        model: the model to train.
        config: the candidate's settings.
        processes: that train together.
        graded: build for the graded rows; False for a retrieval set, which has neither levels nor scores: a loss that
            needs them gives way to InfoNCE there.
        threshold: see `LossSettings`.

    Raises:
        ConfigError: see `check_losses`.
        ModelError: the guide cannot be used, or a Matryoshka length is more than the model's vectors have.
    """
    plugin, options = _resolve(config)
    if not graded and (plugin.shapes == ("lists",) or plugin.targets is not None):
        plugin, options = _INFONCE, NoOptions()
    settings = LossSettings(
        temperature=config.temperature,
        gather_across_devices=config.gather_across_devices and processes > 1,
        mini_batch_size=config.mini_batch_size,
        options=options,
        trust_remote_code=config.trust_remote_code,
        threshold=threshold,
    )
    loss = plugin.build(model, settings)
    if not config.matryoshka or config.kind == "reranker":
        return loss
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    embedder = cast("SentenceTransformer", model)
    longest = embedder.get_embedding_dimension()
    if longest is not None and max(config.matryoshka) > longest:
        raise ModelError(
            f"training.matryoshka: {max(config.matryoshka)} is more than the {longest} of the model's vectors"
        )
    return MatryoshkaLoss(
        cast("SentenceTransformer", model),
        loss,
        sorted({*config.matryoshka, *([longest] if longest else [])}, reverse=True),
    )


def guide_of(config: TrainingConfig) -> str | None:
    """The model that the loss of a candidate is guided by; None where it is not."""
    _, options = _resolve(config)
    return options.guide if isinstance(options, GuidedOptions) else None


def _losses(config: TrainingConfig) -> Registry[LossPlugin]:
    return RERANKER_LOSSES if config.kind == "reranker" else LOSSES


def _resolve(config: TrainingConfig) -> tuple[LossPlugin, BaseModel]:
    plugin = _losses(config).get(config.loss)
    if plugin.targets is not None and not config.teacher:
        raise ConfigError(
            f"training.loss: {config.loss!r} learns from a teacher's scores; set training.teacher to judge, to a "
            "cross-encoder or to a larger embedder"
        )
    if graded_shape(config) not in plugin.shapes:
        misfit = f"training.loss: {config.loss!r} cannot be trained with schedule: {config.schedule}"
        if plugin.shapes == ("lists",):
            raise ConfigError(f"{misfit}: it ranks all four levels at once; set training.schedule: listwise")
        shapes = " or ".join(plugin.shapes)
        raise ConfigError(f"{misfit}: it takes {shapes}; choose a schedule that gives a row one negative or none")
    if config.mini_batch_size is not None and not plugin.caches:
        raise ConfigError(f"training.mini_batch_size: loss {config.loss!r} cannot cache gradients; leave it null")
    try:
        return plugin, plugin.options.model_validate(config.loss_options)
    except ValidationError as error:
        names = ", ".join(plugin.options.model_fields) or "none"
        problems = "; ".join(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}" for wrong in error.errors())
        raise ConfigError(
            f"training.loss_options of loss {config.loss!r}: {problems} (its options: {names})"
        ) from None
