"""TensorBoard, Weights & Biases and their like: the trainer's own reporting, checked before anything is paid for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multigrain.config import TrainingConfig
from multigrain.display.suggest import did_you_mean
from multigrain.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from transformers import Trainer

# The trainer's names; the module that each needs, and the package that brings it, where they are called otherwise.
_TRACKERS: Final = (
    *("azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow", "mlflow", "neptune"),
    *("swanlab", "tensorboard", "trackio", "wandb"),
)
_PACKAGES: Final = {
    "azure_ml": ("azureml", "azureml-sdk"),
    "comet_ml": ("comet_ml", "comet-ml"),
    "flyte": ("flytekit", "flytekit"),
}


def check_trackers(config: TrainingConfig) -> None:
    """See that every tracker of `report_to` is known and installed.

    Raises:
        ConfigError: the trainer knows none of this name.
        MissingExtraError: its package is not installed.
    """
    for name in config.report_to:
        if name not in _TRACKERS:
            hint = did_you_mean(name, _TRACKERS)
            raise ConfigError(f"training.report_to: no tracker {name!r}{hint}; there are {', '.join(_TRACKERS)}")
        module, package = _PACKAGES.get(name, (name, name))
        if find_spec(module) is None:
            raise MissingExtraError(package, f"training.report_to: {name}", f"pip install {package}")


def keep_logs(trainer: Trainer, folder: Path) -> None:
    """Have TensorBoard write where its logs outlive the checkpoints; `$TENSORBOARD_LOGGING_DIR` goes before.

    Args:
        trainer: before training.
        folder: where to.
    """
    from transformers.integrations.integration_utils import TensorBoardCallback

    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder)
