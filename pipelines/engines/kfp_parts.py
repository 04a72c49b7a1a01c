"""The parts of a pod, said in the words of kfp-kubernetes, which the one door hands in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedloom.errors import JobError
from pipelines.engines.kfp_pods import PodParts

_SIZED = ("cpu", "memory")


def configure(kubernetes: Any, task: Any, parts: PodParts) -> None:
    """Give a task what its pod is made of; `kubernetes` is the module of kfp-kubernetes.

    Raises JobError("BadTemplate") where kfp refuses a value.
    """
    try:
        _give_values(kubernetes, task, parts)
        _mount(kubernetes, task, parts)
        _need(task, parts)
        _place(kubernetes, task, parts.affinity)
        if parts.pull_policy:
            kubernetes.set_image_pull_policy(task, parts.pull_policy)
        if parts.pull_secrets:
            kubernetes.set_image_pull_secrets(task, list(parts.pull_secrets))
        if parts.rights:
            names = {
                "runAsUser": "run_as_user",
                "runAsGroup": "run_as_group",
                "runAsNonRoot": "run_as_non_root",
            }
            given = {names[name]: value for name, value in parts.rights.items()}
            kubernetes.set_security_context(task, **given)
        for name, value in parts.labels.items():
            kubernetes.add_pod_label(task, name, value)
        for name, value in parts.annotations.items():
            kubernetes.add_pod_annotation(task, name, value)
    except (ValueError, TypeError, KeyError) as error:
        said = str(error).strip()
        raise JobError(
            "BadTemplate", f"the pod template of {task.name}: kfp says: {said}"
        ) from error


def _give_values(kubernetes: Any, task: Any, parts: PodParts) -> None:
    for name, key, variable in parts.secret_variables:
        kubernetes.use_secret_as_env(task, name, {key: variable})
    for name, key, variable in parts.config_variables:
        kubernetes.use_config_map_as_env(task, name, {key: variable})
    for path, variable in parts.field_variables:
        kubernetes.use_field_path_as_env(task, variable, path)


def _mount(kubernetes: Any, task: Any, parts: PodParts) -> None:
    for name, path in parts.secrets:
        kubernetes.use_secret_as_volume(task, name, path)
    for name, path in parts.configs:
        kubernetes.use_config_map_as_volume(task, name, path)
    for name, path, folder in parts.claims:
        kubernetes.mount_pvc(task, name, path, folder)
    for name, path, medium, size in parts.empty:
        kubernetes.empty_dir_mount(task, name, path, medium or None, size or None)
    for name, path, claim in parts.ephemeral:
        spec, metadata = claim["spec"], claim.get("metadata") or {}
        kubernetes.add_ephemeral_volume(
            task,
            name,
            path,
            [str(mode) for mode in spec["accessModes"]],
            str(spec["resources"]["requests"]["storage"]),
            spec.get("storageClassName"),
            metadata.get("labels") or {},
            metadata.get("annotations") or {},
        )


def _need(task: Any, parts: PodParts) -> None:
    for name, value in parts.requests.items():
        if name in _SIZED:
            getattr(task, f"set_{name}_request")(value)
        elif name not in parts.limits:
            raise ValueError(
                f"got the request {name}, expected cpu, memory, or a limit for a device"
            )
    for name, value in parts.limits.items():
        if name in _SIZED:
            getattr(task, f"set_{name}_limit")(value)
        elif "/" in name:
            task.set_accelerator_type(name)
            task.set_accelerator_limit(value)
        else:
            raise ValueError(
                f"got the limit {name}, expected cpu, memory or a device like nvidia.com/gpu"
            )


def _place(kubernetes: Any, task: Any, affinity: Mapping[str, Any]) -> None:
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    for term, weight in (
        *((term, None) for term in terms),
        *((each["preference"], int(each["weight"])) for each in preferred),
    ):
        kubernetes.add_node_affinity(
            task, term.get("matchExpressions"), term.get("matchFields"), weight
        )
