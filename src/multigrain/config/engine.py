"""Where work runs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from multigrain.config.section import Section


class EngineConfig(Section):
    """Where requests are sent from, and where texts are embedded and searched. Decides nothing about the results."""

    kind: Literal["local", "ray"] = "local"
    """local: this process. ray: workers of a Ray cluster (extra `ray`); the journal stays with this
    process."""

    address: str | None = None
    """ray only: the cluster, e.g. auto on one of its nodes (null: $RAY_ADDRESS, else Ray is started here)."""

    workers: int | None = Field(default=None, ge=1)
    """ray only: how many (null: one a node, or one for each gpus_per_worker GPUs). They share `llm.concurrency`."""

    cpus_per_worker: float = Field(default=1.0, ge=0)
    """ray only: CPUs that each worker reserves."""

    gpus_per_worker: float = Field(default=0.0, ge=0)
    """ray only: GPUs that each worker reserves, for embedding."""

    object_store_mb: int = Field(default=200, ge=80)
    """ray only: shared memory of a Ray that is started here; units and results are small."""

    start_seconds: float = Field(default=300.0, gt=0)
    """ray only: how long to wait for a worker where none is left, e.g. for a node to join."""
