"""The console on stderr, results on stdout, and quiet libraries."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import typer
from rich.console import Console

from multigrain.display.progress import Progress
from multigrain.display.terminal import console_progress


@cache
def console() -> Console:
    """The console on stderr: stdout is for results."""
    return Console(stderr=True, emoji=False)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one object on one line of stdout; `cli.shapes` says what is in it."""
    typer.echo(json_line(values))


def json_line(values: Mapping[str, Any]) -> str:
    """An object as one line of JSON; paths and the like as text."""
    return json.dumps(values, ensure_ascii=False, default=str)


def quieten_libraries() -> None:
    """Turn off libraries' own progress bars, banners and notices; warnings stay on."""
    import os

    # Said outright, so that tokenizers warns of no forks. A GPU would wait for one thread's tokens.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from datasets.utils.logging import disable_progress_bar as quiet_datasets
    from transformers.utils import logging as transformers_logging

    quiet_datasets()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("sentence_transformers", "httpx", "huggingface_hub", "mteb"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def terminal_progress() -> Progress:
    """Bars where stderr is a terminal, plain lines where it is not."""
    return console_progress(console())
