"""What the engines of all jobs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.cluster.cache import Cache
from controller.cluster.kfp_runs import KfpRuns
from controller.cluster.kubernetes import Cluster
from controller.cluster.nodes import Node
from controller.cluster.settings import Settings


@dataclass(frozen=True)
class Shared:
    """See the module.

    Attributes:
        workflows, pods: caches of what belongs to jobs, indexed by the job's uid.
        nodes: gives all nodes; None where they are not known.
        kfp: the runs of Kubeflow Pipelines; None where there is no such backend.
    """

    cluster: Cluster
    settings: Settings
    workflows: Cache
    pods: Cache
    nodes: Callable[[], Sequence[Node] | None]
    kfp: KfpRuns | None = None
