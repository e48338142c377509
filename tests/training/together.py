"""What each of several processes does in test_distributed.py: train whole, stop at boundaries, resume, save."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from tests.training.graded import config_of, encoder, examples, largest_difference, scored_examples

from multigrain.config import TrainingConfig
from multigrain.model.reranker import build_reranker, save_reranker
from multigrain.training.processes import is_main_process, leave_together
from multigrain.training.train import train_candidate

LOSSES = {
    "infonce": "coarse-to-fine",
    "masked": "coarse-to-fine",
    "listmle": "listwise",
    "wasserstein": "listwise",
    "distil": "coarse-to-fine",
    "margin-mse": "listwise",
    "graded": "mixed",
}
RERANKER_LOSSES = {
    "lambda": "listwise",
    "listnet": "listwise",
    "binary": "coarse-to-fine",
    "distil": "cumulative",
    "graded": "listwise",
}


class StoppedError(Exception):
    """Plays the machine that goes down, in all processes at the same step."""


def reranker_config(base: Path, **values: object) -> TrainingConfig:
    """A reranker's settings, as `config_of`."""
    own = {"kind": "reranker", "base_model": str(base), "teacher": "judge", "max_seq_length": 32}
    return config_of(**own, **values).resolve("tuned")


def train_rerankers(small_bert: Path, out: Path, *, quick: bool) -> dict[str, float]:
    """Train them whole, and stopped and resumed with dropout; save the former, say how far apart the latter end."""
    for loss, schedule in [("lambda", "listwise")] if quick else RERANKER_LOSSES.items():
        for accumulation in (2,) if quick else (1, 2):
            config = reranker_config(
                small_bert,
                loss=loss,
                schedule=schedule,
                accumulation=accumulation,
                dropout=0.0,
                learning_rate=3e-4,
                checkpoint_every=1000,
            )
            exact = build_reranker(config, seed=7, device="cpu")
            train_candidate(exact, scored_examples(), config, name="r", seed=7, checkpoints=out / f"exact-r-{loss}")
            if is_main_process():
                save_reranker(exact, out / f"reranker-{loss}-{accumulation}")
    config = reranker_config(small_bert, loss="binary", schedule="coarse-to-fine", accumulation=2)
    whole, resumed = (build_reranker(config, seed=7, device="cpu") for _ in range(2))
    train_candidate(whole, scored_examples(), config, name="r", seed=7, checkpoints=out / "whole-r")

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise StoppedError

    for model, on_step in ((build_reranker(config, seed=7, device="cpu"), stop), (resumed, None)):
        with contextlib.suppress(StoppedError):
            train_candidate(
                model, scored_examples(), config, name="r", seed=7, checkpoints=out / "cut-r", on_step=on_step
            )
    return {"reranker-resumed": largest_difference(whole, resumed)}


def main(small_bert: Path, out: Path, *, quick: bool) -> None:
    found: dict[str, float] = {}
    for accumulation in (2,) if quick else (1, 2):
        config = config_of(accumulation=accumulation)
        whole = encoder(small_bert)
        name = f"dropout-{accumulation}"
        train_candidate(whole, examples(), config, name="a", seed=7, checkpoints=out / name)
        for first in (5,) if quick else (3, 5, 7):

            def stop(step: int, steps: int, loss: float, first: int = first) -> None:
                if step == first:
                    raise StoppedError

            checkpoints = out / f"cut-{accumulation}-{first}"
            with contextlib.suppress(StoppedError):
                train_candidate(
                    encoder(small_bert), examples(), config, name="a", seed=7, checkpoints=checkpoints, on_step=stop
                )
            resumed = encoder(small_bert)
            train_candidate(resumed, examples(), config, name="a", seed=7, checkpoints=checkpoints)
            found[f"resumed-{accumulation}-{first}"] = largest_difference(whole, resumed)
        for loss, schedule in [("infonce", LOSSES["infonce"])] if quick else LOSSES.items():
            exact = encoder(small_bert, dropout=False)
            config = config_of(
                accumulation=accumulation, loss=loss, schedule=schedule, teacher="judge", checkpoint_every=1000
            )
            train_candidate(exact, scored_examples(), config, name="a", seed=7, checkpoints=out / f"exact-{loss}")
            if is_main_process():
                exact.save_pretrained(str(out / f"{loss}-{accumulation}"), create_model_card=False)
    found |= train_rerankers(small_bert, out, quick=quick)
    if is_main_process():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), quick=sys.argv[3] == "quick")
    leave_together()
