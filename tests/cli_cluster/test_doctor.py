"""`fedloom doctor`: what is well, what is wrong and what to do about it."""

from __future__ import annotations

import base64
import copy
import json

import pytest

from cli.cluster.diagnosis import cluster, house, rights
from cli.cluster.diagnosis.finding import OK, PROBLEM, UNKNOWN, Scope, guarded
from cli.cluster.diagnosis.probes import Probe, pod_of, run_probes
from cli.cluster.diagnosis.verdicts import mlflow_findings, store_finding
from cli.cluster.doctor import examine, findings
from controller.cluster.answers import RefusedError
from fedloom.api.crd import crds

SCOPE = Scope("team", "fedloom-system", 2, has_pods=True)
VARIABLES = {
    "FEDLOOM_STORE": "s3://fedloom/jobs",
    "FEDLOOM_STORE_ENDPOINT": "http://minio:9000",
    "FEDLOOM_EDGE_ENDPOINT": "http://edge-minio:30901",
    "FEDLOOM_STEPS_IMAGE": "steps:1",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
}
NO_SUCH_KEY = {"code": 404, "body": "<Error><Code>NoSuchKey</Code>", "seconds": 0.01}


def deployment(name, namespace, image, ready=1):
    sources = [{"configMapRef": {"name": name}}, {"secretRef": {"name": "fedloom-store"}}]
    pod = {"serviceAccountName": name, "containers": [{"image": image, "envFrom": sources}]}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "template": {"spec": pod}},
        "status": {"readyReplicas": ready},
    }


def node(name, labels=None, ready="True"):
    conditions = [{"type": "Ready", "status": ready}]
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "status": {"conditions": conditions},
    }


def answering(answers):
    """Have pods end at once with these answers to whatever they ask."""

    def create(pod):
        asked = json.loads(pod["spec"]["containers"][0]["env"][0]["value"])
        message = json.dumps({name: answers[name] for name in asked})
        state = {"terminated": {"exitCode": 0, "message": message}}
        pod["status"] = {
            "phase": "Succeeded",
            "containerStatuses": [{"name": "doctor", "state": state}],
        }
        return pod

    return create


@pytest.fixture
def healthy(server):
    for document in crds().values():
        server.put("customresourcedefinitions", document)
    for name in ("workflows.argoproj.io", "workflowtaskresults.argoproj.io"):
        server.put("customresourcedefinitions", {"metadata": {"name": name}})
    argo = deployment("wf", "argo", "quay.io/argoproj/workflow-controller:v3.7.18")
    server.put("deployments", argo)
    own = deployment(house.NAME, "fedloom-system", "fedloom/controller:0.1.0")
    server.put("deployments", own)
    meta = {"name": house.NAME, "namespace": "fedloom-system"}
    server.put("configmaps", {"metadata": meta, "data": dict(VARIABLES)})
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "hush"}
    data = {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()}
    secret = {"name": "fedloom-store", "namespace": "fedloom-system"}
    server.put("secrets", {"metadata": secret, "data": data})
    renewed = "2099-01-01T00:00:00Z"
    server.put("leases", {"metadata": meta, "spec": {"holderIdentity": "me", "renewTime": renewed}})
    for account in ("fedloom-worker", "fedloom-dispatcher"):
        server.put("serviceaccounts", {"metadata": {"name": account, "namespace": "team"}})
    for name in ("edge-1", "edge-2", "edge-3"):
        server.put("nodes", node(name, {cluster.EDGE_LABEL: ""}))
    answers = {"version": {"code": 200, "body": "3.17.2"}, "api": {"code": 200}}
    server.on_create = answering({"store": NO_SUCH_KEY} | answers)
    return server


def problems(found):
    return [each for each in found if each.state == PROBLEM]


def test_a_healthy_cluster_has_no_problem_and_exits_with_0(healthy, capsys):
    assert examine(healthy, SCOPE, "table") == 0
    out = capsys.readouterr().out
    assert "0 problems" in out
    assert out.count("a presigned GET is answered") == 3
    assert "MLflow 3.17.2" in out
    assert "hush" not in out


def test_json_is_one_object_a_line_and_a_problem_exits_with_1(healthy, capsys):
    healthy.objects.pop(("serviceaccounts", "team", "fedloom-worker"))
    assert examine(healthy, SCOPE, "json") == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (problem,) = [each for each in found if each["state"] == PROBLEM]
    assert problem["check"] == "accounts"
    assert "kubectl apply -n team -k manifests/base/worker" in problem["advice"]


def test_pods_look_from_so_many_edges_as_wanted_and_are_taken_away(healthy):
    list(findings(healthy, SCOPE))
    made = [call[2] for call in healthy.calls if call[:2] == ("create", "pods")]
    gone = [call[2] for call in healthy.calls if call[:2] == ("delete", "pods")]
    assert len(made) == 3
    assert sorted(made) == sorted(gone)


def test_no_pods_starts_none_and_says_what_was_left_out(healthy):
    found = list(findings(healthy, Scope("team", "fedloom-system", 0, has_pods=False)))
    assert not [call for call in healthy.calls if call[0] == "create"]
    assert found[-1].state == UNKNOWN
    assert "--no-pods" in found[-1].message


def test_what_one_may_not_see_is_unknown_and_not_wrong(healthy):
    healthy.forbidden |= {"nodes", "deployments", "secrets", "customresourcedefinitions"}
    found = list(findings(healthy, SCOPE))
    assert problems(found) == []
    assert {each.check for each in found if each.state == UNKNOWN} >= {"nodes", "crds", "argo"}


def test_crds_that_are_missing_or_of_another_version_are_named(healthy):
    healthy.objects.pop(("customresourcedefinitions", "", "datasets.sedna.io"))
    key = ("customresourcedefinitions", "", "federatedlearningjobs.sedna.io")
    changed = copy.deepcopy(healthy.objects[key])
    root = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    del root["spec"]["properties"]["privacy"]["properties"]["maxEpsilon"]
    healthy.objects[key] = changed
    told = [each.message for each in problems(cluster.crd_findings(healthy))]
    assert told == [
        "FederatedLearningJob is of another version: it lacks spec.privacy.maxEpsilon",
        "Dataset is not installed",
    ]


@pytest.mark.parametrize(
    ("image", "ready", "state"),
    [
        ("quay.io/argoproj/workflow-controller:v3.7.18", 1, OK),
        ("mirror/workflow-controller:v4.1.0@sha256:0", 1, OK),
        ("quay.io/argoproj/workflow-controller:v3.6.9", 1, PROBLEM),
        ("quay.io/argoproj/workflow-controller:v3.7.18", 0, PROBLEM),
        ("somebody/else:1", 1, UNKNOWN),
    ],
)
def test_argo_must_be_there_and_new_enough(healthy, image, ready, state):
    healthy.put("deployments", deployment("wf", "argo", image, ready))
    assert [each.state for each in cluster.argo_findings(healthy)] == [state]


def test_without_argo_it_says_what_to_install(healthy):
    healthy.objects.pop(("customresourcedefinitions", "", "workflows.argoproj.io"))
    (found,) = cluster.argo_findings(healthy)
    assert (found.state, "3.7" in found.advice) == (PROBLEM, True)


def test_rights_that_are_missing_are_named_with_their_verbs(healthy):
    healthy.denied |= {
        ("create", "secrets"),
        ("watch", "nodes"),
        ("patch", "federatedlearningjobs"),
    }
    (mine,) = problems(rights.user_findings(healthy, SCOPE))
    assert "patch federatedlearningjobs" in mine.message
    theirs = problems(rights.controller_findings(healthy, SCOPE, "fedloom-controller"))
    assert "watch nodes" in theirs[0].message
    assert "create secrets in namespace team" in theirs[1].message


def test_a_controller_that_does_not_run_or_lead_is_a_problem(healthy):
    healthy.put("deployments", deployment(house.NAME, "fedloom-system", "c:0.1.0", ready=0))
    home = house.look_at_house(healthy, SCOPE)
    found = list(house.controller_findings(healthy, SCOPE, home, now=5e9))
    assert [each.state for each in found] == [PROBLEM, PROBLEM]
    assert "has not renewed it" in found[1].message
    empty = house.House()
    (nothing,) = house.controller_findings(healthy, SCOPE, empty, now=0.0)
    assert "there is no Deployment" in nothing.message


def test_settings_are_judged_as_the_controller_reads_them(healthy):
    variables = VARIABLES | {"FEDLOOM_STORE": "gs://x", "FEDLOOM_WORKERS": "many"}
    meta = {"name": house.NAME, "namespace": "fedloom-system"}
    healthy.put("configmaps", {"metadata": meta, "data": variables})
    home = house.look_at_house(healthy, SCOPE)
    told = [each.message for each in house.settings_findings(home)]
    assert any("FEDLOOM_WORKERS: got 'many'" in each for each in told)
    assert any("FEDLOOM_STORE: got 'gs://x'" in each for each in told)
    assert "hush" not in repr(home)


def test_nodes_say_how_clients_reach_them(healthy):
    agent = {cluster.EDGE_LABEL: "", "node-role.kubernetes.io/agent": ""}
    healthy.put("nodes", node("edge-2", agent))
    healthy.put("nodes", node("edge-3", {cluster.EDGE_LABEL: ""}, ready="Unknown"))
    dataset = {"metadata": {"name": "d", "namespace": "team"}, "spec": {"nodeName": "edge-9"}}
    healthy.put("datasets", dataset)
    found = [(each.state, each.message) for each in cluster.node_findings(healthy, SCOPE)]
    assert found[0] == (PROBLEM, "there is no node 'edge-9', which Dataset d names")
    assert [state for state, _ in found[1:]] == [OK, OK, PROBLEM]
    assert "edge-2: dispatch" in found[2][1]


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        (NO_SUCH_KEY, OK, "answered"),
        ({"code": None, "error": "timed out"}, PROBLEM, "timed out"),
        (
            {"code": 403, "body": "<Code>SignatureDoesNotMatch</Code>"},
            PROBLEM,
            "SignatureDoesNotMatch",
        ),
        ({"code": 403, "body": "<Code>RequestTimeTooSkewed</Code>"}, PROBLEM, "Skewed"),
        ({"code": 404, "body": "<Code>NoSuchBucket</Code>"}, PROBLEM, "NoSuchBucket"),
        ({"code": 404, "body": "<html>nginx"}, PROBLEM, "nginx"),
    ],
)
def test_what_the_store_answers_is_told_from_one_another(answer, state, words):
    found = store_finding("edge-1", "http://s3", answer, is_signed=True)
    assert found.state == state
    assert words in found.message
    assert bool(found.advice) == (state == PROBLEM)


def test_kubeflow_pipelines_is_looked_at_where_the_controller_has_it(healthy):
    meta = {"name": house.NAME, "namespace": "fedloom-system"}
    endpoint = {"FEDLOOM_KFP_ENDPOINT": "http://ml-pipeline.kubeflow:8888"}
    healthy.put("configmaps", {"metadata": meta, "data": VARIABLES | endpoint})
    answers = {"version": {"code": 200, "body": "3.17.2"}, "api": {"code": 200}}
    kfp = {"code": 200, "body": '{"multi_user":false}'}
    healthy.on_create = answering({"store": NO_SUCH_KEY, "kfp": kfp} | answers)
    found = [each for each in findings(healthy, SCOPE) if each.check == "kfp"]
    assert [each.state for each in found] == [OK, OK]
    assert "namespace kubeflow" in found[0].message
    healthy.denied = {("patch", "configmaps")}
    (wrong,) = problems([each for each in findings(healthy, SCOPE) if each.check == "kfp"])
    assert "manifests/components/kfp" in wrong.advice


def test_an_unsigned_look_only_tells_whether_there_is_a_store():
    denied = {"code": 403, "body": "<Code>AccessDenied</Code>"}
    assert store_finding("edge-1", "http://s3", denied, is_signed=False).state == OK
    assert (
        store_finding("e", "http://s3", {"code": 502, "body": ""}, is_signed=False).state == UNKNOWN
    )


@pytest.mark.parametrize(
    ("version", "api", "state", "words"),
    [
        ({"code": 200, "body": "3.17.2"}, {"code": 200}, OK, "MLflow 3.17.2"),
        (
            {"code": 200, "body": "3.17.2"},
            {"code": 403},
            PROBLEM,
            "refuses the Host header 'mlflow:5000'",
        ),
        ({"code": 200, "body": "3.17.2"}, {"code": 401}, UNKNOWN, "login"),
        ({"code": 200, "body": "<html>"}, {"code": 404}, PROBLEM, "expected a version"),
        ({"code": None, "error": "refused"}, {"code": None}, PROBLEM, "refused"),
    ],
)
def test_an_mlflow_that_refuses_our_host_is_told_from_one_that_is_down(version, api, state, words):
    (found,) = mlflow_findings("http://mlflow:5000", version, api)
    assert (found.state, words in found.message) == (state, True)


def test_a_probe_runs_under_the_restricted_standard_and_holds_no_token():
    spec = pod_of(Probe("edge-1", "team", "edge-1", {"store": "http://x"}), "steps:1")["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    rights_of_it = spec["containers"][0]["securityContext"]
    assert rights_of_it["capabilities"] == {"drop": ["ALL"]}
    assert rights_of_it["readOnlyRootFilesystem"]
    assert spec["activeDeadlineSeconds"] <= 60


def test_a_pod_that_cannot_start_or_be_made_is_a_finding(server):
    state = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    server.on_create = lambda pod: (
        pod
        | {
            "status": {
                "phase": "Pending",
                "containerStatuses": [{"name": "doctor", "state": state}],
            }
        }
    )
    probe = Probe("edge-1", "team", "edge-1", {"store": "http://x"})
    (report,) = run_probes(server, "steps:1", [probe])
    assert "ImagePullBackOff" in report.finding.message

    def refuse(_):
        raise RefusedError("Refused", "violates PodSecurity")

    server.on_create = refuse
    (report,) = run_probes(server, "steps:1", [probe])
    assert (report.finding.state, "PodSecurity" in report.finding.message) == (PROBLEM, True)


def test_a_check_that_breaks_does_not_end_the_others():
    def broken():
        raise RefusedError("Refused", "odd")
        yield

    (found,) = guarded("argo", broken)
    assert (found.check, found.state) == ("argo", PROBLEM)
