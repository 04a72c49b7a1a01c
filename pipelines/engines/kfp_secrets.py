"""The Secrets of a round that Kubeflow Pipelines runs. Pure.

    <pipeline>-edge-<n>   <client>.json: the client's tasks and presigned URLs
    <pipeline>-edge       clients.json: those of all clients, where they are items of loops; packed by gzip
    <pipeline>-server     plan.json, and the keys of the store, a file each

They lie where KFP runs its pods, which as a rule is not the job's namespace: nothing there can be owned by
the job, so whoever makes them deletes them, by their labels.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.engines import argo_secrets
from pipelines.engines.argo_secrets import Urls
from pipelines.engines.kfp_loops import CLIENTS_FILE, crowd_document, crowd_secret
from pipelines.engines.kfp_setting import KfpSetting
from pipelines.engines.kfp_tasks import slice_file
from pipelines.plan import Plan, Task

_NOTHING: Mapping[str, str] = {}


def secrets_of(
    plan: Plan,
    setting: KfpSetting,
    urls: Callable[[Task], Urls],
    access: Mapping[str, str],
    signed: Mapping[str, str] = _NOTHING,
) -> list[dict[str, Any]]:
    """Give the Secrets that the pipeline of the same plan and setting refers to.

    `urls` signs what a client's task reads and writes, `access` holds the keys of the job's store,
    `signed` the presigned URLs of what the cloud downloads. Raises JobError("NoStoreAccess" |
    "SecretTooLarge").
    """
    found = [_unowned(argo_secrets.server_secret(plan, setting, access, signed))]
    slices = argo_secrets.client_slices(plan, urls)
    if len(slices) > setting.most_unrolled:
        head = argo_secrets.head_of(plan)
        clients = {c: {k: s[k] for k in ("tasks", "urls")} for c, s in slices.items()}
        document = {"head": head, "clients": clients, **crowd_document(plan, setting)}
        data = gzip.compress(json.dumps(document).encode(), 6, mtime=0)
        files = {crowd_secret(plan): {CLIENTS_FILE: data}}
    else:
        files = {}
        for name, client in argo_secrets.parts_of(plan, slices):
            data = json.dumps(slices[client]).encode()
            files.setdefault(name, {})[slice_file(client)] = data
    made = (argo_secrets.secret_of(name, own, plan, setting) for name, own in files.items())
    return [*found, *map(_unowned, made)]


def files_of(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """Give the files that a pod finds where the Secret is mounted."""
    return {name: base64.b64decode(text) for name, text in secret["data"].items()}


def _unowned(secret: dict[str, Any]) -> dict[str, Any]:
    del secret["metadata"]["ownerReferences"]
    return secret
