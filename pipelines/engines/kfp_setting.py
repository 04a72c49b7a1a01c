"""What the KFP engine must know beside the plan: what the Argo engine must, and a few things more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.engines.argo_setting import Setting

MOST_UNROLLED = 100
"""So many clients have tasks of their own, by name; more are items of loops."""


@dataclass(frozen=True)
class KfpSetting(Setting):
    """How the rounds of one job are run by Kubeflow Pipelines.

    Attributes:
        namespace: where KFP runs its pods, not the job's: Secrets go there.
        pipeline_root: where KFP keeps a run's artifacts; empty for the backend's own choice.
        edge_state_claim: the PersistentVolumeClaim in which clients keep their state from round to round;
            `{client}` and `{node}` in it stand for their names. Empty for state that ends with the pod.
        tracking: `run_id` and `url` of the job's MLflow run, where they are known.
        server_selector: the node selector of the cloud's side where the job names no place for it: its
            pods have the keys of the store, and nothing else keeps them off the edges.
        most_unrolled: of more clients than so many none has a task of its own.
    """

    pipeline_root: str = ""
    edge_state_claim: str = ""
    tracking: Mapping[str, str] = field(default_factory=dict)
    server_selector: Mapping[str, str] = field(default_factory=dict)
    most_unrolled: int = MOST_UNROLLED
