"""From a pod template to what the platform spec of Kubeflow Pipelines can say. Pure.

What it cannot say is refused by name: a setting that is dropped without a word is found out on the edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedloom.errors import JobError

HOST_PATH = "HostPathNotSupported"
_MESSAGE_HOST_PATH = (
    "the platform spec of Kubeflow Pipelines has no hostPath. Make a PersistentVolume (type local) over that "
    "folder with a claim, and mount the claim in the template: volumes: [{name: data, "
    "persistentVolumeClaim: {claimName: ...}}]; or use the engine argo"
)

# Of a pod's spec: what is read here or elsewhere, and what changes nothing that a run is about.
_READ = frozenset(
    (
        "containers",
        "volumes",
        "nodeName",
        "nodeSelector",
        "tolerations",
        "affinity",
        "imagePullSecrets",
        "securityContext",
        "activeDeadlineSeconds",
    )
)
_HARMLESS = frozenset(
    (
        "restartPolicy",
        "automountServiceAccountToken",
        "terminationGracePeriodSeconds",
        "enableServiceLinks",
    )
)
_CONTAINER_READ = frozenset(
    (
        "name",
        "image",
        "command",
        "args",
        "env",
        "resources",
        "volumeMounts",
        "workingDir",
        "imagePullPolicy",
        "securityContext",
    )
)
_CONTAINER_HARMLESS = frozenset(
    ("ports", "terminationMessagePath", "terminationMessagePolicy", "stdin", "tty")
)
_RIGHTS = ("runAsUser", "runAsGroup", "runAsNonRoot")
_OF_KFP = frozenset(("allowPrivilegeEscalation", "capabilities", "seccompProfile"))
"""KFP sets these itself, to the strictest there is."""


@dataclass(frozen=True)
class PodParts:
    """What a task's pod is made of beside its image and its arguments.

    Attributes:
        secret_variables, config_variables: (name of the Secret or ConfigMap, its key, variable).
        field_variables: (field of the pod, variable).
        secrets, configs: (name, where it is mounted).
        claims: (name of the claim, where it is mounted, folder in it).
        empty: (name, where it is mounted, medium, size); empty texts for the default.
        ephemeral: (name, where it is mounted, its volumeClaimTemplate).
        requests, limits: of `cpu`, `memory` and devices.
        rights: runAsUser, runAsGroup, runAsNonRoot, where set.
        affinity: the node affinity; empty for none.
    """

    secret_variables: tuple[tuple[str, str, str], ...] = ()
    config_variables: tuple[tuple[str, str, str], ...] = ()
    field_variables: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    configs: tuple[tuple[str, str], ...] = ()
    claims: tuple[tuple[str, str, str], ...] = ()
    empty: tuple[tuple[str, str, str, str], ...] = ()
    ephemeral: tuple[tuple[str, str, Mapping[str, Any]], ...] = ()
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()
    rights: Mapping[str, Any] = field(default_factory=dict)
    affinity: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def pod_parts(
    template: Mapping[str, Any],
    container: Mapping[str, Any],
    where: str,
    added: Sequence[Mapping[str, Any]] = (),
) -> PodParts:
    """Read a template with its one container; `added` are further entries of `env`.

    Raises JobError: `HostPathNotSupported`, or `BadTemplate` for whatever else cannot be said.
    """
    spec, metadata = template.get("spec") or {}, template.get("metadata") or {}
    _refuse_unknown(where, spec, _READ | _HARMLESS, "spec")
    _refuse_unknown(where, container, _CONTAINER_READ | _CONTAINER_HARMLESS, "container")
    resources = container.get("resources") or {}
    return PodParts(
        **_variables([*(container.get("env") or ()), *added], where),
        **_mounts(spec.get("volumes") or (), container.get("volumeMounts") or (), where),
        requests={name: str(value) for name, value in (resources.get("requests") or {}).items()},
        limits={name: str(value) for name, value in (resources.get("limits") or {}).items()},
        pull_policy=str(container.get("imagePullPolicy") or ""),
        pull_secrets=tuple(str(each["name"]) for each in spec.get("imagePullSecrets") or ()),
        rights=_rights(spec, container, where),
        affinity=_affinity(spec, where),
        labels={str(k): str(v) for k, v in (metadata.get("labels") or {}).items()},
        annotations={str(k): str(v) for k, v in (metadata.get("annotations") or {}).items()},
    )


def host_path_refusal(where: str, path: str) -> JobError:
    """Give the error for a folder of a node, with what to do instead."""
    return JobError(HOST_PATH, f"{where}: got the folder {path} of a node; {_MESSAGE_HOST_PATH}")


def own_variables(container: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the variables whose value is known to the cluster only."""
    return tuple(str(each["name"]) for each in container.get("env") or () if "valueFrom" in each)


def _variables(entries: Iterable[Mapping[str, Any]], where: str) -> dict[str, Any]:
    """Sort the entries that have no plain value; those that have reach the program another way."""
    secrets: dict[str, tuple[str, str, str]] = {}
    configs: dict[str, tuple[str, str, str]] = {}
    fields: dict[str, tuple[str, str]] = {}
    for entry in entries:
        name, source = str(entry["name"]), entry.get("valueFrom") or {}
        if "secretKeyRef" in source:
            key = source["secretKeyRef"]
            secrets[name] = (str(key["name"]), str(key["key"]), name)
        elif "configMapKeyRef" in source:
            key = source["configMapKeyRef"]
            configs[name] = (str(key["name"]), str(key["key"]), name)
        elif "fieldRef" in source:
            fields[name] = (str(source["fieldRef"]["fieldPath"]), name)
        elif source:
            raise _refusal(
                where,
                f"env {name} with {', '.join(source)}",
                "secretKeyRef, configMapKeyRef or fieldRef",
            )
    return {
        "secret_variables": tuple(secrets.values()),
        "config_variables": tuple(configs.values()),
        "field_variables": tuple(fields.values()),
    }


def _mounts(
    volumes: Iterable[Mapping[str, Any]], mounts: Iterable[Mapping[str, Any]], where: str
) -> dict[str, Any]:
    known = {str(volume["name"]): volume for volume in volumes}
    found: dict[str, list[Any]] = {
        name: [] for name in ("secrets", "configs", "claims", "empty", "ephemeral")
    }
    for mount in mounts:
        name, path = str(mount.get("name")), str(mount.get("mountPath"))
        if f"{path}/".startswith("/fedloom/"):
            raise _refusal(where, f"a mount at {path}", "another path: /fedloom is Fedloom's own")
        if name not in known:
            raise _refusal(
                where, f"a mount of the volume {name!r}", f"one of {', '.join(known) or 'none'}"
            )
        kind, entry = _mount(known[name], mount, path, where)
        found[kind].append(entry)
    return {kind: tuple(entries) for kind, entries in found.items()}


def _mount(
    volume: Mapping[str, Any], mount: Mapping[str, Any], path: str, where: str
) -> tuple[str, tuple[Any, ...]]:
    folder = str(mount.get("subPath") or "")
    if "hostPath" in volume:
        raise host_path_refusal(
            f"{where}, volume {volume['name']}", str(volume["hostPath"].get("path"))
        )
    if "persistentVolumeClaim" in volume:
        return "claims", (str(volume["persistentVolumeClaim"]["claimName"]), path, folder)
    if folder or mount.get("subPathExpr"):
        raise _refusal(
            where, f"subPath of the volume {volume['name']}", "it for persistentVolumeClaim only"
        )
    if "emptyDir" in volume:
        given = volume["emptyDir"] or {}
        size = str(given.get("sizeLimit") or "")
        return "empty", (str(volume["name"]), path, str(given.get("medium") or ""), size)
    if "secret" in volume and "items" not in volume["secret"]:
        return "secrets", (str(volume["secret"]["secretName"]), path)
    if "configMap" in volume and "items" not in volume["configMap"]:
        return "configs", (str(volume["configMap"]["name"]), path)
    if "ephemeral" in volume:
        claim = volume["ephemeral"].get("volumeClaimTemplate") or {}
        return "ephemeral", (str(volume["name"]), path, claim)
    kinds = ", ".join(kind for kind in volume if kind != "name")
    raise _refusal(
        where,
        f"the volume {volume['name']} of {kinds}",
        "persistentVolumeClaim, emptyDir, ephemeral, or secret or configMap without items",
    )


def _rights(spec: Mapping[str, Any], container: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    pod, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    _refuse_unknown(where, pod, frozenset(_RIGHTS) | _OF_KFP, "securityContext")
    _refuse_unknown(where, own, frozenset(_RIGHTS) | _OF_KFP, "securityContext")
    return {name: value for name, value in {**pod, **own}.items() if name in _RIGHTS}


def _affinity(spec: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    affinity = spec.get("affinity") or {}
    _refuse_unknown(where, affinity, frozenset(("nodeAffinity",)), "affinity")
    found: Mapping[str, Any] = affinity.get("nodeAffinity") or {}
    return found


def _refuse_unknown(where: str, given: Mapping[str, Any], known: frozenset[str], kind: str) -> None:
    for name, value in given.items():
        if name not in known and value not in (None, [], {}, ""):
            raise _refusal(
                where, f"{kind}.{name}", "only what the platform spec of Kubeflow Pipelines can say"
            )


def _refusal(where: str, got: str, expected: str) -> JobError:
    message = f"{where}: got {got}, expected {expected}; or use the engine argo"
    return JobError("BadTemplate", message)
