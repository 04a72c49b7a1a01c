"""`fedloom doctor`: every check in turn, a clear line for each, and what to do where something is wrong."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import click

from cli.cluster.diagnosis import cluster, house, rights, verdicts
from cli.cluster.diagnosis.finding import OK, PROBLEM, UNKNOWN, Finding, Scope, forbidden, guarded
from cli.cluster.diagnosis.house import House
from cli.cluster.diagnosis.probes import Probe, Report, run_probes
from cli.cluster.server import Server
from controller.cluster.answers import ApiUnavailableError, ForbiddenError
from controller.cluster.kfp_settings import OF_THE_JOB
from controller.cluster.resources import NODES
from controller.cluster.settings import StoreSettings, region_of
from fedloom.artifacts.credentials import S3Credentials
from fedloom.artifacts.presigning import Presigner
from fedloom.errors import FedloomError

_URL_SECONDS = 300.0
_NO_SUCH_KEY = "doctor/no-such-object"
_MARKS = {OK: ("ok", "green"), PROBLEM: ("problem", "red"), UNKNOWN: ("unknown", "yellow")}


def examine(server: Server, scope: Scope, output: str) -> int:
    """Print what every check finds; give 1 where something is wrong, else 0."""
    problems = 0
    for finding in findings(server, scope):
        problems += finding.state == PROBLEM
        if output == "json":
            named = {"check": finding.check, "state": finding.state, "message": finding.message}
            print(json.dumps(named | {"advice": finding.advice}), flush=True)
            continue
        word, colour = _MARKS[finding.state]
        is_coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        mark = click.style(f"{word:<8}", fg=colour) if is_coloured else f"{word:<8}"
        click.echo(f"{mark} {finding.check:<11} {finding.message}")
        if finding.advice and finding.state != OK:
            click.echo(f"{'':<21}→ {finding.advice}")
    if output != "json":
        click.echo(f"{problems} problems" if problems != 1 else "1 problem")
    return 1 if problems else 0


def findings(server: Server, scope: Scope) -> Iterator[Finding]:
    """Give what every check finds, in the order in which things depend on one another."""
    try:
        yield Finding("api", OK, f"Kubernetes {server.version()}")
    except ApiUnavailableError as error:
        advice = "--kubeconfig, --context; kubectl cluster-info"
        yield Finding("api", PROBLEM, f"the API server does not answer: {error}", advice)
        return
    except FedloomError as error:
        yield Finding("api", PROBLEM, str(error), "kubectl auth whoami")
        return
    yield from guarded("crds", lambda: cluster.crd_findings(server))
    yield from guarded("argo", lambda: cluster.argo_findings(server))
    try:
        home = house.look_at_house(server, scope)
    except ForbiddenError as error:
        yield Finding("controller", UNKNOWN, f"you may not look: {forbidden(error)}")
        home = House()
    else:
        yield from guarded(
            "controller", lambda: house.controller_findings(server, scope, home, time.time())
        )
    yield from guarded("settings", lambda: house.settings_findings(home))
    yield from guarded("rights", lambda: rights.user_findings(server, scope))
    yield from guarded("rights", lambda: rights.controller_findings(server, scope, home.account))
    variables = home.variables
    if variables.get("FEDLOOM_KFP_ENDPOINT"):
        runs = variables.get("FEDLOOM_KFP_NAMESPACE") or "kubeflow"
        runs = "" if runs == OF_THE_JOB else runs
        yield from guarded("kfp", lambda: rights.runs_findings(server, scope, home.account, runs))
    worker = variables.get("FEDLOOM_SERVICE_ACCOUNT") or "fedloom-worker"
    dispatcher = variables.get("FEDLOOM_DISPATCHER_ACCOUNT") or "fedloom-dispatcher"
    yield from guarded(
        "accounts", lambda: rights.account_findings(server, scope, worker, dispatcher)
    )
    yield from guarded("nodes", lambda: cluster.node_findings(server, scope))
    yield from guarded("pods", lambda: probe_findings(server, scope, home))


def probe_findings(server: Server, scope: Scope, home: House) -> Iterator[Finding]:
    """Look at the store and MLflow from where they are used."""
    image = home.variables.get("FEDLOOM_STEPS_IMAGE")
    if not scope.has_pods:
        yield Finding(
            "pods", UNKNOWN, "left out (--no-pods): the store and MLflow as pods see them"
        )
        return
    if not image:
        yield Finding("pods", UNKNOWN, "left out: FEDLOOM_STEPS_IMAGE is not known")
        return
    reports = run_probes(server, image, _probes(server, scope, home))
    for report in sorted(reports, key=lambda each: each.probe.where):
        if report.finding is not None:
            yield report.finding
        else:
            yield from _judged(report, home)


def _probes(server: Server, scope: Scope, home: House) -> Iterator[Probe]:
    store, uri = store_of(home), home.variables.get("MLFLOW_TRACKING_URI") or ""
    urls = {}
    if store is not None:
        urls["store"] = _url(store, store.endpoint, home)
    if uri.startswith("http"):
        base = uri.rstrip("/")
        urls["version"] = f"{base}/version"
        urls["api"] = f"{base}/api/2.0/mlflow/experiments/get?experiment_id=0"
    if endpoint := home.variables.get("FEDLOOM_KFP_ENDPOINT"):
        urls["kfp"] = f"{endpoint.rstrip('/')}/apis/v2beta1/healthz"
    if urls:
        yield Probe("the cloud", scope.system_namespace, None, urls)
    if store is None:
        return
    nodes = {node["metadata"]["name"]: node for node in server.list(NODES, None)[0]}
    named = cluster.datasets_by_node(server, scope.namespace)
    for name in cluster.edges_of(nodes, named)[: scope.edges]:
        url = _url(store, store.edge_endpoint, home)
        yield Probe(name, scope.namespace, name, {"store": url})


def _judged(report: Report, home: House) -> Iterator[Finding]:
    answers, store = report.answers, store_of(home)
    if "store" in answers and store is not None:
        is_cloud = report.probe.node is None
        endpoint = store.endpoint if is_cloud else store.edge_endpoint
        yield verdicts.store_finding(
            report.probe.where, endpoint, answers["store"], is_signed=home.has_keys
        )
    if "kfp" in answers:
        yield verdicts.kfp_finding(home.variables["FEDLOOM_KFP_ENDPOINT"], answers["kfp"])
    if "version" in answers:
        uri = home.variables["MLFLOW_TRACKING_URI"]
        yield from verdicts.mlflow_findings(_without_login(uri), answers["version"], answers["api"])


def store_of(home: House) -> StoreSettings | None:
    """The controller's own store; None where it has none or its settings are wrong."""
    given = home.variables
    uri, endpoint = given.get("FEDLOOM_STORE", ""), given.get("FEDLOOM_STORE_ENDPOINT", "")
    if not uri.startswith("s3://") or not endpoint:
        return None
    return StoreSettings(
        uri=uri,
        endpoint=endpoint,
        edge_endpoint=given.get("FEDLOOM_EDGE_ENDPOINT") or endpoint,
        region=region_of(given),
        credentials=S3Credentials(
            given.get("AWS_ACCESS_KEY_ID", ""),
            given.get("AWS_SECRET_ACCESS_KEY", ""),
            given.get("AWS_SESSION_TOKEN") or None,
        ),
    )


def _url(store: StoreSettings, endpoint: str, home: House) -> str:
    """A URL of an object that is not there: reading it needs valid keys and shows nothing to anybody."""
    bucket, _, prefix = store.uri.removeprefix("s3://").partition("/")
    if not home.has_keys:
        return f"{endpoint.rstrip('/')}/{bucket}/{_NO_SUCH_KEY}"
    signer = Presigner(endpoint, bucket, prefix, store.credentials, store.region)
    return signer.get_url(_NO_SUCH_KEY, _URL_SECONDS)


def _without_login(uri: str) -> str:
    parts = urlsplit(uri)
    return (
        uri.replace(parts.netloc, parts.netloc.rpartition("@")[2]) if "@" in parts.netloc else uri
    )
