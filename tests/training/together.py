"""What each of several processes does in test_distributed.py: train whole, stop at boundaries, resume, save."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from tests.training.graded import config_of, encoder, examples, largest_difference, scored_examples

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


class StoppedError(Exception):
    """Plays the machine that goes down, in all processes at the same step."""


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
    if is_main_process():
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), quick=sys.argv[3] == "quick")
    leave_together()
