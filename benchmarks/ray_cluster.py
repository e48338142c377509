"""A Ray cluster of several node processes on this machine, for benchmarks: a head, and worker nodes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["STORE_MB", "cluster"]

STORE_MB: Final = 100
"""Shared memory of each node: units and answers are small."""


@contextmanager
def cluster(nodes: int) -> Iterator[tuple[Any, list[Any]]]:
    """Start a head and worker nodes, each a raylet of its own; yields the cluster and the worker nodes.

    The head, on which the driver runs, has no CPUs to lend: workers are actors of the other nodes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.cluster_utils import Cluster

    store = STORE_MB * 2**20
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": store})
    try:
        workers = [made.add_node(num_cpus=1, object_store_memory=store) for _ in range(nodes)]
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        made.wait_for_nodes()
        yield made, workers
    finally:
        ray.shutdown()
        made.shutdown()
