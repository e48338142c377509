"""The run as a whole: stages in order, each skipped where its manifest says that it is complete."""

from multigrain.stages.run import STAGES, run, run_stages

__all__ = ["STAGES", "run", "run_stages"]
