"""The run as a whole: stages in order, each skipped where its manifest says that it is complete."""

from multigrain.stages.run import run, run_stages
from multigrain.stages.table import STAGES

__all__ = ["STAGES", "run", "run_stages"]
