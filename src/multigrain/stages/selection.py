"""Whether there is anything to choose a model by: seen in the config, before anything is paid for."""

from __future__ import annotations

from collections.abc import Sequence

from multigrain.config import Config
from multigrain.errors import ConfigError, EvaluationError

__all__ = ["check_choice"]


def check_choice(config: Config, stages: Sequence[str], *, none_held: bool = False) -> None:
    """See that what will have to be chosen can be chosen: shares to merge in training, candidates in evaluation.

    Args:
        config: the run's.
        stages: those that will be run.
        none_held: that the run was seen to hold no validation queries out, whatever the config says.

    Raises:
        ConfigError: there is a share to choose, and nothing to choose it by.
        EvaluationError: there are several candidates, and nothing to choose by.
    """
    lack = _lack(config, none_held=none_held)
    if lack is None:
        return
    candidates = config.training.candidates
    for name in candidates if "training" in stages else ():
        settings = config.training.resolve(name)
        if settings.chooses_share:
            raise ConfigError(
                f"training.merge: {settings.merge} needs validation queries to choose by, and {lack}, or give one "
                "share"
            )
    if "evaluation" in stages and len(candidates) > 1:
        raise EvaluationError(
            f"{len(candidates)} candidates ({', '.join(candidates)}) need validation queries to choose by, and "
            f"{lack}, or train one candidate"
        )


def _lack(config: Config, *, none_held: bool) -> str | None:
    """Why there are no validation queries, and what to do; None where there are."""
    if config.evaluation.choosing_sets:
        return None
    add = "add a labelled set with role: validation to evaluation.sets"
    if config.evaluation.queries == "none":
        return f"evaluation.queries is none: {add}, set evaluation.queries to titles or synthetic"
    if config.documents.validation_share == 0:
        return f"documents.validation_share is 0: {add}, set documents.validation_share above 0"
    if none_held:
        return (
            f"documents.validation_share: {config.documents.validation_share:g} held none out: {add}, raise "
            "documents.validation_share"
        )
    return None
