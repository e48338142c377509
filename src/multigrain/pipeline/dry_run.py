"""What a synthesis would ask and cost. Reads documents, asks no model, writes nothing."""

from __future__ import annotations

from pathlib import Path

from multigrain.config import Config
from multigrain.engine.local import LocalEngine
from multigrain.llm.build import client_identity
from multigrain.llm.prices import find_price
from multigrain.pipeline.strategy import run_strategy
from multigrain.pipeline.synthesis import training_units
from multigrain.rundir import RunDirectory
from multigrain.sources.load import load_corpus
from multigrain.synthesis.estimate import Estimate, estimate_synthesis
from multigrain.synthesis.journal import Journal

__all__ = ["dry_run"]


def dry_run(config: Config, directory: Path, *, prompts: int = 3) -> Estimate:
    """Estimate the rest of a run's synthesis.

    Args:
        config: the run's.
        directory: the run directory; what its journal holds need not be asked again. It need not exist.
        prompts: how many requests to show.

    Raises:
        SourceError: the documents cannot be used.
        LLMError: the local model cannot be used.
    """
    documents = load_corpus(config.documents, seed=config.seed).documents
    units = training_units(config, documents)
    strategy = run_strategy(config, RunDirectory(directory), ask=False)
    price = find_price(config.llm)
    path = RunDirectory(directory).journal_path
    with LocalEngine() as engine:
        if not path.is_file():
            return estimate_synthesis(units, strategy, engine, identity="", price=price, prompts=prompts)
        identity = client_identity(config.llm)
        with Journal(path, create=False) as journal:
            return estimate_synthesis(
                units, strategy, engine, identity=identity, price=price, journal=journal, prompts=prompts
            )
