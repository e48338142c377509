"""What is shown is what was given: no name is taken for markup or for the picture that it is called like."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from multigrain.cli.console import console
from multigrain.display.terminal import console_progress

NAME = "models:heart:v2 [bold]C:\\docs[/bold] :smile:"


@pytest.mark.parametrize("terminal", [False, True])
def test_names_are_shown_as_they_are(terminal: bool) -> None:
    target = Console(file=io.StringIO(), force_terminal=terminal, width=200, record=True)
    progress = console_progress(target)
    progress.say(NAME)
    progress.remark(NAME)
    with progress.task(f"Evaluating {NAME}", 1, unit=NAME) as task:
        task.advance(note=NAME)
        target.print("")  # the bars are drawn once more
    shown = target.export_text()
    assert "\N{HEAVY BLACK HEART}" not in shown
    assert "\N{SMILING FACE WITH OPEN MOUTH AND SMILING EYES}" not in shown
    assert shown.count(NAME) >= 3


def test_the_command_lines_own_console_draws_no_pictures() -> None:
    with console().capture() as captured:
        console().print("runs:rocket:3", markup=False)
    assert captured.get().strip() == "runs:rocket:3"
