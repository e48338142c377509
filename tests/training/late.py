"""What each of two processes does in test_distributed.py: go on where every rate is tuned, the second one late."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed

from multigrain.config.file import load_config
from multigrain.stages import run_stages
from multigrain.stages import training as stage
from multigrain.training.processes import WAIT_SECONDS, is_main_process

_LATE_SECONDS = 3.0


def main(run: Path) -> None:
    whole, late = stage._validation, run.with_name("late")

    def validation(*values: Any) -> Any:
        if is_main_process():
            while not late.exists():  # both have seen by now that the stage is not complete
                time.sleep(0.01)
        else:
            late.touch()
            time.sleep(_LATE_SECONDS)  # by then a main process that waits for nobody has cleared everything away
        return whole(*values)

    def build(*_: Any, **__: Any) -> Any:
        raise AssertionError("tuned a model that was tuned already")

    connect, limits = distributed.init_process_group, []

    def connecting(*values: Any, **named: Any) -> Any:
        limits.append(named["timeout"])
        return connect(*values, **named)

    stage._validation, stage.open_trainee = validation, build
    distributed.init_process_group = connecting
    run_stages(load_config(run), run, ["training"])
    assert limits == [timedelta(seconds=WAIT_SECONDS)], "whoever waits would give up sooner"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
