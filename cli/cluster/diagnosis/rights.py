"""Checks of rights: what the user, the controller and the pods of a round may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cli.cluster.diagnosis.finding import OK, PROBLEM, Finding, Scope, listed
from controller.cluster.kubernetes import Cluster
from controller.cluster.resources import Resource

_REVIEWS = "authorization.k8s.io/v1"
MINE = Resource(_REVIEWS, "selfsubjectaccessreviews", "SelfSubjectAccessReview", False)
OTHERS = Resource(_REVIEWS, "subjectaccessreviews", "SubjectAccessReview", False)
ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")


@dataclass(frozen=True)
class Need:
    """Verbs on one kind; `place` is jobs, system, cluster or runs: where they are needed."""

    verbs: tuple[str, ...]
    group: str
    resource: str
    place: str = "jobs"


_LOOK = ("get", "list", "watch")
_USER = (
    Need((*_LOOK, "create", "patch", "delete"), "sedna.io", "federatedlearningjobs"),
    Need((*_LOOK, "create", "patch"), "sedna.io", "datasets"),
    Need((*_LOOK, "create", "patch"), "sedna.io", "models"),
    Need(("list", "watch"), "argoproj.io", "workflows"),
    Need(("list", "watch"), "", "pods"),
    Need(("get",), "", "pods/log"),
)
CONTROLLER = (
    Need((*_LOOK, "patch", "update"), "sedna.io", "federatedlearningjobs"),
    Need(("get", "patch", "update"), "sedna.io", "federatedlearningjobs/status"),
    Need(_LOOK, "sedna.io", "datasets"),
    Need(("patch",), "sedna.io", "datasets/status"),
    Need(_LOOK, "sedna.io", "models"),
    Need(("patch",), "sedna.io", "models/status"),
    Need((*_LOOK, "create", "patch"), "argoproj.io", "workflows"),
    Need(("get", "list", "patch"), "argoproj.io", "workflowtaskresults"),
    Need((*_LOOK, "delete"), "", "pods"),
    Need(("create", "patch"), "", "events"),
    Need(_LOOK, "", "nodes", "cluster"),
    Need(("get", "create", "update"), "coordination.k8s.io", "leases", "system"),
)
_SECRETS = (
    Need(("create", "get", "patch"), "", "secrets"),
    Need(("create", "get"), "", "services"),
)
_RUNS = (
    Need((*_LOOK, "create", "patch", "delete"), "", "configmaps", "runs"),
    Need(("create", "patch", "delete"), "", "secrets", "runs"),
    Need(_LOOK, "", "pods", "runs"),
)
_WORKER = (Need(("create", "patch"), "argoproj.io", "workflowtaskresults"),)
_DISPATCHER = (
    *_WORKER,
    Need(("create", "get", "list", "watch"), "batch", "jobs"),
    Need(("get", "list", "watch"), "", "pods"),
)


def user_findings(server: Cluster, scope: Scope) -> Iterator[Finding]:
    """Whether whoever asks may submit and follow jobs in the namespace."""
    lacking = list(_lacking(server, scope, _USER, None))
    where = f"in namespace {scope.namespace}"
    if lacking:
        advice = "ask for a RoleBinding to the ClusterRole `edit` (fedloom-edit is part of it)"
        yield Finding("rights", PROBLEM, f"you may not {listed(lacking)} {where}", advice)
    else:
        yield Finding("rights", OK, f"you may submit, follow and end jobs {where}")


def controller_findings(server: Cluster, scope: Scope, account: str) -> Iterator[Finding]:
    """Whether the controller may do its work, and hand out Secrets in the namespace."""
    user = _user(scope.system_namespace, account)
    lacking = list(_lacking(server, scope, CONTROLLER, user))
    if lacking:
        message = f"the controller ({user}) may not {listed(lacking)}"
        yield Finding("rights", PROBLEM, message, "kubectl apply -k manifests/base/rbac")
    else:
        yield Finding("rights", OK, f"the controller may do its work ({account})")
    lacking = list(_lacking(server, scope, _SECRETS, user))
    if lacking:
        message = f"the controller may not {listed(lacking)} in namespace {scope.namespace}"
        yield Finding("rights", PROBLEM, message, _worker_advice(scope))


def runs_findings(server: Cluster, scope: Scope, account: str, namespace: str) -> Iterator[Finding]:
    """Whether the controller may keep records and Secrets where Kubeflow Pipelines has its pods."""
    user, where = _user(scope.system_namespace, account), namespace or scope.namespace
    lacking = list(_lacking(server, scope, _RUNS, user, where))
    if lacking:
        message = f"the controller ({user}) may not {listed(lacking)} in namespace {where}"
        yield Finding("kfp", PROBLEM, message, "manifests/components/kfp, part of an overlay")
    else:
        yield Finding("kfp", OK, f"the controller may run rounds in namespace {where}")


def account_findings(
    server: Cluster, scope: Scope, worker: str, dispatcher: str
) -> Iterator[Finding]:
    """Whether the accounts of a round's pods are in the namespace and may do what they have to."""
    for account, needs in ((worker, _WORKER), (dispatcher, _DISPATCHER)):
        if not account:
            continue
        where = f"ServiceAccount {scope.namespace}/{account}"
        if server.get(ACCOUNTS, scope.namespace, account) is None:
            yield Finding("accounts", PROBLEM, f"there is no {where}", _worker_advice(scope))
            continue
        lacking = list(_lacking(server, scope, needs, _user(scope.namespace, account)))
        if lacking:
            message = f"{where} may not {listed(lacking)}"
            yield Finding("accounts", PROBLEM, message, _worker_advice(scope))
        else:
            yield Finding("accounts", OK, f"{where} may do what it has to")


def _lacking(
    server: Cluster, scope: Scope, needs: tuple[Need, ...], user: str | None, runs: str = ""
) -> Iterator[str]:
    places = {"jobs": scope.namespace, "system": scope.system_namespace, "cluster": ""}
    places["runs"] = runs
    for need in needs:
        missing = [
            verb for verb in need.verbs if not _may(server, places[need.place], need, verb, user)
        ]
        if missing:
            yield f"{'/'.join(missing)} {need.resource}"


def _may(server: Cluster, namespace: str, need: Need, verb: str, user: str | None) -> bool:
    resource, _, subresource = need.resource.partition("/")
    wanted = {"verb": verb, "group": need.group, "resource": resource, "subresource": subresource}
    wanted |= {"namespace": namespace} if namespace else {}
    kind = MINE if user is None else OTHERS
    spec = {"resourceAttributes": wanted} | (
        {"user": user, "groups": _groups(user)} if user else {}
    )
    review = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
    return bool((server.create(kind, review).get("status") or {}).get("allowed"))


def _user(namespace: str, account: str) -> str:
    return f"system:serviceaccount:{namespace}:{account}"


def _groups(user: str) -> list[str]:
    namespace = user.split(":")[2]
    return [
        "system:authenticated",
        "system:serviceaccounts",
        f"system:serviceaccounts:{namespace}",
    ]


def _worker_advice(scope: Scope) -> str:
    return f"kubectl apply -n {scope.namespace} -k manifests/base/worker"
