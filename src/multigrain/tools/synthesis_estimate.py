"""What a synthesis would ask and cost. Reads what the run starts from, asks no model, writes nothing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from multigrain.config import Config
from multigrain.engine.local import LocalEngine
from multigrain.llm.build import client_identity
from multigrain.llm.prices import find_price
from multigrain.llm.protocol import CompletionRequest
from multigrain.llm.session.journal import Journal
from multigrain.stages.fingerprints import documents_fingerprint
from multigrain.stages.preflight import check_prices
from multigrain.storage.rundir import RunDirectory
from multigrain.synthesis.brainstorm import first_requests
from multigrain.synthesis.estimate import Estimate, estimate_synthesis
from multigrain.synthesis.inputs import heldout_units, load_material, read_material, training_units
from multigrain.synthesis.prompts import Prompts
from multigrain.synthesis.run_strategy import run_strategy

__all__ = ["dry_run"]


def dry_run(config: Config, directory: Path, *, prompts: int = 3) -> Estimate:
    """Estimate the rest of a run's synthesis, the brainstorm of tasks included.

    Args:
        config: the run's.
        directory: the run directory; what its journal holds need not be asked again. It need not exist.
        prompts: how many requests to show.

    Raises:
        SourceError: what the run starts from cannot be used.
        ConfigError: a prompt template cannot be used, or there is a limit on the cost and no price.
        LLMError: the local model cannot be used.
    """
    check_prices(config)
    Prompts(config.synthesis.templates).check()
    run = RunDirectory(directory)
    known = config.start_from == "tasks" and run.is_complete("documents", documents_fingerprint(config))
    material = read_material(config, run) if known else load_material(config)
    units = [*training_units(config, material), *heldout_units(config, material)]
    with ExitStack() as stack:
        engine = stack.enter_context(LocalEngine())
        journal = None
        if run.journal_path.is_file():
            journal = stack.enter_context(Journal(run.journal_path, create=False))
        return estimate_synthesis(
            units,
            run_strategy(config, run, ask=False),
            engine,
            identity=client_identity(config.llm) if journal is not None else "",
            price=find_price(config.llm),
            journal=journal,
            prompts=prompts,
            before=() if known else _brainstorm(config),
        )


def _brainstorm(config: Config) -> tuple[CompletionRequest, ...]:
    """The lists of tasks that are asked for if none has to be asked for again."""
    if config.start_from != "tasks" or config.tasks.path is not None:
        return ()
    prompts = Prompts(config.synthesis.templates)
    return tuple(first_requests(config.tasks, config.llm, seed=config.seed, prompts=prompts))
