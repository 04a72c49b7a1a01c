"""What is not as it should be gets a status and a sentence, on both sides, and has no effect."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import closing

import pytest

from controller.cluster.resources import DATASETS, JOBS, NODES
from controller.edge.holding import Holding
from controller.edge.loops import Downstream
from controller.edge.storage import Storage
from controller.link.calling import Line
from controller.link.tls import client_context, stranger_context
from fedloom.keys import certificates
from fedloom.keys.certificates import CLOUD, EDGE, Authority, Identity

EDGE_1 = Identity(EDGE, "edge-1")
STATUS = "/ns/federatedlearningjobs/toy/status"


@pytest.fixture
def worker(cloud, edge, wait):
    """A node's local controller that holds the job."""
    one = edge()
    one.start()
    wait(lambda: (one.health() or {}).get("held") == 2)
    return one


def caller(cloud, authority: Authority, identity: Identity | None, lines: list[Line]):
    """Call the cloud with a certificate for some identity."""
    if identity is None:
        context = stranger_context(cloud.authority())
    else:
        key = certificates.new_key()
        signed = authority.sign(certificates.request_of(key), identity, time.time(), 600)
        context = client_context(signed, key, cloud.authority())
    line = Line(("127.0.0.1", cloud.port), lambda: context)
    lines.append(line)

    def call(path: str, body, message: str = "", **headers: str):
        more = {"Fedloom-Message": message} if message else {}
        return line.call("POST", path, body, {**more, **headers})

    return call


@pytest.fixture
def call(cloud, secret_of):
    lines: list[Line] = []

    def made(identity: Identity | None = EDGE_1, signer: Authority | None = None):
        return caller(cloud, signer or secret_of(cloud), identity, lines)

    yield made
    for line in lines:
        line.close()


@pytest.fixture
def still_call(still, secret_of):
    lines: list[Line] = []
    yield caller(still[0], secret_of(still[0]), EDGE_1, lines)
    for line in lines:
        line.close()


def progress(number: int = 1, **more):
    info = {"currentRound": number, "updateTime": "now"}
    return {"phase": "train", "status": "running", "output": {"ownerInfo": info}, **more}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([1], "body"),
        ({"name": 5}, "name"),
        ({"ownerKind": "jointinferenceservice"}, "ownerKind"),
        ({"ownerKind": None}, "ownerKind"),
        ({"name": "trainworker-b"}, "name: got 'trainworker-b', expected 'trainworker-a'"),
        ({"ownerName": 7}, "ownerName"),
        ({"namespace": ""}, "namespace"),
        ({"ownerInfo": [1]}, "ownerInfo"),
        ({"ownerInfo": {"currentRound": "three"}}, "ownerInfo.currentRound"),
        ({"ownerInfo": {"currentRound": -1}}, "ownerInfo.currentRound"),
        ({"ownerInfo": {"currentRound": True}}, "ownerInfo.currentRound"),
        ({"ownerInfo": {"sampleCount": 1.5}}, "ownerInfo.sampleCount"),
        ({"results": {"a": 1}}, "results"),
        ({"results": [{"metrics": [1]}]}, "results[0].metrics"),
        ({"results": [{"metrics": {"a": {"b": 1}}}]}, "results[0].metrics.a"),
        ({"status": 3}, "status"),
    ],
)
def test_a_worker_that_posts_nonsense_is_told_what(still, body, named):
    worker = still[1]
    given = {"name": "trainworker-a", "namespace": "ns", "ownerName": "toy", "ownerKind": "default"}
    content = {**given, **body} if isinstance(body, dict) else body
    path = "/sedna/workers/trainworker-a/info"
    code, answer = worker.send(path, json.dumps(content).encode())
    assert (code, answer["Status"]) == (400, 400)
    assert named in answer["Message"]
    assert worker.health()["waiting"] == 0


@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json_is_refused(still, body):
    assert still[1].send("/sedna/workers/trainworker-a/info", body)[0] == 400


def test_a_forged_worker_name_and_an_unknown_job_are_refused(still):
    worker = still[1]
    assert worker.report("trainworker-b", 1)[0] == 403, "of the job, but of another node"
    assert worker.report("trainworker-x", 1)[0] == 403
    assert worker.report("trainworker-a", 1, ownerName="nobody's")[0] == 404
    assert worker.send("/sedna/workers/trainworker-a", b"{}")[0] == 404
    assert worker.send("/ns/federatedlearningjobs/toy", b"{}")[0] == 404, "not for workers"


def test_both_owner_kinds_are_taken(worker, cloud, wait):
    assert worker.report("trainworker-a", 1, ownerKind="federatedlearningjob")[0] == 200
    assert worker.report("trainworker-a", 2, ownerKind="default")[0] == 200
    wait(lambda: cloud.condition("Training"))


def test_a_hundred_megabytes_are_refused_without_being_read(still):
    worker = still[1]
    with socket.create_connection(("127.0.0.1", worker.worker_port), 5) as connection:
        head = "POST /sedna/workers/trainworker-a/info HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(f"{head}Content-Length: {100 * 2**20}\r\n\r\n".encode() + b" " * 65536)
        began = time.monotonic()
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert time.monotonic() - began < 2


def test_a_body_without_a_length_is_refused(still):
    worker = still[1]
    with socket.create_connection(("127.0.0.1", worker.worker_port), 5) as connection:
        head = "POST /sedna/workers/trainworker-a/info HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 411 ")


def test_nobody_but_the_node_and_its_pods_is_listened_to(still):
    worker = still[1]
    import ipaddress
    from dataclasses import replace

    from controller.edge.workers import Workers
    from controller.link.serving import Refusal, Request

    networks = (ipaddress.ip_network("10.244.0.0/16"),)
    workers = Workers(
        worker.running._storage, worker.running._holding, networks, ("192.0.2.7",), dict
    )
    asked = Request("GET", ("healthz",), {}, None, "127.0.0.1", lambda most: b"")
    for address in ("127.0.0.1", "::1", "10.244.3.9", "::ffff:10.244.3.9", "192.0.2.7"):
        assert workers.respond(replace(asked, address=address)).code == 200
    for address in ("192.0.2.8", "203.0.113.1", "fe80::1%eth0", ""):
        with pytest.raises(Refusal) as refusal:
            workers.respond(replace(asked, address=address))
        assert refusal.value.code == 403


# The cloud.


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([], "body"),
        ({"phase": 1}, "phase"),
        ({"output": []}, "output"),
        ({"output": {"models": {}}}, "output.models"),
        ({"output": {"models": ["a"]}}, "output.models[0]"),
        ({"output": {"jobInfo": {"currentRound": "1"}}}, "output.jobInfo.currentRound"),
        ({"output": {"ownerInfo": {"currentRound": 1.5}}}, "output.ownerInfo.currentRound"),
        ({"output": {"jobInfo": {"sampleCount": -3}}}, "output.jobInfo.sampleCount"),
        ({"output": {"jobInfo": {"updateTime": 20260101}}}, "output.jobInfo.updateTime"),
    ],
)
def test_the_cloud_names_the_field_of_a_wrong_type(still_call, still, body, named):
    code, answer = still_call(STATUS, body)
    assert code == 400
    assert named in answer["Message"]
    assert still[0].condition("Training") is None


def test_both_spellings_of_the_info_count(call, cloud):
    ask = call()
    body = {"output": {"jobInfo": {"currentRound": 1, "updateTime": "t1"}}}
    assert ask(STATUS, body)[1]["applied"]
    assert cloud.condition("Training")["message"] == "Round 1 reaches at t1"
    body = {"output": {"ownerInfo": {"currentRound": 2, "updateTime": "t2"}}}
    assert ask(STATUS, body)[1]["applied"]
    assert cloud.condition("Training")["message"] == "Round 2 reaches at t2"


def test_an_unknown_job_or_path_is_404(call):
    ask = call()
    assert ask("/ns/federatedlearningjobs/nothing/status", progress())[0] == 404
    assert ask("/ns/datasets/nothing/status", {"numberOfSamples": 1})[0] == 404
    assert ask("/ns/secrets/x/status", {})[0] == 404
    assert ask("/", {})[0] == 404


def test_a_stale_round_is_taken_and_changes_nothing(call, cloud):
    ask = call()
    assert ask(STATUS, progress(5))[1]["applied"]
    code, answer = ask(STATUS, progress(4))
    assert (code, answer["applied"], answer["why"]) == (200, False, "stale")
    assert cloud.condition("Training")["message"].startswith("Round 5 ")


def test_a_replayed_message_has_its_effect_once(call, cloud):
    ask = call()
    assert ask(STATUS, progress(1), "db/7")[1]["applied"]
    code, answer = ask(STATUS, progress(9), "db/7")
    assert (code, answer["applied"], answer["why"]) == (200, False, "replayed")
    assert ask(STATUS, progress(9), "db/6")[1]["why"] == "replayed"
    assert ask(STATUS, progress(2), "db/8")[1]["applied"]
    assert ask(STATUS, progress(3), "another/1")[1]["applied"], "a node that begins anew"
    assert ask(STATUS, progress(3), "what")[0] == 400


def test_a_forged_node_or_worker_is_403(call, cloud):
    ask = call()
    assert ask(STATUS, progress(nodeName="edge-2"))[0] == 403
    assert ask(STATUS, progress(name="trainworker-b"))[0] == 403, "a worker of another node"
    assert ask(STATUS, progress(nodeName="edge-1", name="trainworker-a"))[0] == 200
    cloud.node("edge-3")
    assert call(Identity(EDGE, "edge-3"))(STATUS, progress())[0] == 403, "no client of the job"
    assert ask("/ns/datasets/b/status", {"numberOfSamples": 1})[0] == 403
    assert "numberOfSamples" not in (cloud.cluster.get(DATASETS, "ns", "b").get("status") or {})


def test_a_node_that_is_gone_is_401_and_keeps_what_it_has_to_say(call, worker, cloud, wait):
    ask = call()
    cloud.cluster.delete(NODES, None, "edge-1")
    wait(lambda: ask(STATUS, progress())[0] == 401)
    worker.report("trainworker-a", 1)
    time.sleep(0.3)
    assert worker.health()["waiting"] == 1
    cloud.cluster.create(NODES, {"metadata": {"name": "edge-1"}, "spec": {}, "status": {}})
    wait(lambda: cloud.condition("Training"))
    assert worker.health()["refused"] == 0


def test_without_a_certificate_there_is_only_enrolment(call):
    ask = call(None)
    for path in (STATUS, "/edges/downstream", "/ns/datasets/a/status"):
        assert ask(path, {})[0] == 401
    assert ask("/edges/enrolment", {"request": "x"})[0] == 401, "without a token"


def test_certificates_of_others_are_not_taken(call):
    from controller.link.calling import LinkDownError

    assert call(Identity(CLOUD, "controller"))(STATUS, progress())[0] == 403
    stranger = Authority.generate(time.time(), 3600)
    with pytest.raises(LinkDownError):
        call(Identity(EDGE, "edge-1"), stranger)(STATUS, progress())


def test_clocks_of_edges_are_shown_and_order_nothing(call, cloud):
    ask = call()
    for number, clock in ((1, "2099-01-01 00:00:00"), (2, "1970-01-01 00:00:00")):
        body = {"output": {"jobInfo": {"currentRound": number, "updateTime": clock}}}
        assert ask(STATUS, body)[1]["applied"]
    assert cloud.condition("Training")["message"] == "Round 2 reaches at 1970-01-01 00:00:00"


def test_a_report_about_a_job_of_the_same_name_before_is_not_this_ones(call, cloud):
    code, answer = call()(STATUS, progress(jobUid="an-older-one"))
    assert (code, answer["why"]) == (200, "replaced")
    assert cloud.condition("Training") is None


def test_the_cloud_refuses_a_hundred_megabytes(call, cloud, secret_of):
    key = certificates.new_key()
    signed = secret_of(cloud).sign(
        certificates.request_of(key), Identity(EDGE, "edge-1"), time.time(), 600
    )
    context = client_context(signed, key, cloud.authority())
    with (
        socket.create_connection(("127.0.0.1", cloud.port), 5) as plain,
        context.wrap_socket(plain, server_hostname=certificates.host_of(CLOUD)) as connection,
    ):
        head = f"POST {STATUS} HTTP/1.1\r\nHost: x\r\nContent-Length: {100 * 2**20}\r\n\r\n"
        connection.sendall(head.encode() + b" " * 65536)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_plain_http_and_silence_keep_nobody_waiting(call, cloud):
    plain = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=5)
    with closing(plain), socket.create_connection(("127.0.0.1", cloud.port), 5):

        def ask() -> None:  # it may hang up before all of it is sent
            plain.request("POST", STATUS, b"{}")
            plain.getresponse()

        with pytest.raises((http.client.HTTPException, OSError)):
            ask()
        assert call()(STATUS, progress())[0] == 200


@pytest.mark.parametrize("held", [None, [], "x"])
def test_a_node_must_say_what_it_holds(still_call, held):
    assert still_call("/edges/downstream", {"held": held})[0] == 400


def test_odd_things_that_a_node_says_it_holds_are_told_to_go_or_passed_over(call):
    held = {"federatedlearningjobs/ns/gone": "1", "odd": "2"}
    code, answer = call()("/edges/downstream", {"held": held})
    assert code == 200
    found = {(each["operation"], each["name"]) for each in answer["operations"]}
    assert found == {("delete", "gone"), ("insert", "toy"), ("insert", "a")}


# The node's own server for the cloud.


@pytest.mark.parametrize(
    "bad",
    [
        {"operation": "insert", "resource": "datasets", "object": {"kind": "Dataset"}},
        {"operation": "insert", "resource": "things", "object": {}},
        {"operation": "twist", "resource": "datasets"},
        {},
    ],
    ids=["object", "resource", "operation", "nothing"],
)
def test_what_the_cloud_sends_and_cannot_be_taken_is_not_asked_for_without_a_pause(tmp_path, bad):
    storage, here = Storage(tmp_path, 10), {"namespace": "ns", "name": "d"}
    good = {"operation": "insert", "resource": "datasets", "version": "v", **here}
    good["object"] = {
        "kind": "Dataset", "metadata": here, "spec": {"url": "/d", "format": "txt"}
    }  # fmt: skip
    down = Downstream(storage, Holding(storage, "e"), None, ("127.0.0.1", 1), lambda _: None)
    operations = [bad and here | bad, good]
    down.line.call = lambda *_, **__: (200, {"operations": operations, "epoch": "1"})
    assert down.turn() >= 5.0
    assert storage.held() == {"datasets/ns/d": "v"}, "the others are taken"
    operations.pop(0)
    assert down.turn() == 0.0
    storage.close()


@pytest.fixture
def as_cloud(worker, cloud, secret_of):
    """Call the node's server for the cloud, as somebody."""
    import contextlib

    stack = contextlib.ExitStack()

    def made(identity: Identity):
        key = certificates.new_key()
        signed = secret_of(cloud).sign(certificates.request_of(key), identity, time.time(), 600)
        context = client_context(signed, key, cloud.authority())
        context.check_hostname = False
        connection = http.client.HTTPSConnection(
            "127.0.0.1", worker.port, context=context, timeout=5
        )
        stack.callback(connection.close)

        def call(method: str, path: str, body=None):
            connection.request(method, path, json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.load(answer)

        return call

    with stack:
        yield made


def test_the_cloud_can_post_a_job_to_the_node_and_delete_it(as_cloud, worker):
    ask = as_cloud(Identity(CLOUD, "controller"))
    assert ask("GET", "/identity")[1]["node"] == "edge-1"
    job = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "x", "namespace": "ns", "uid": "u"},
        "spec": {"trainingWorkers": []},
    }
    stored = worker.running._storage
    assert ask("POST", "/ns/federatedlearningjobs/x", job)[0] == 200
    assert stored.get("federatedlearningjobs", "ns", "x")["spec"] == {"trainingWorkers": []}
    assert ask("DELETE", "/ns/federatedlearningjobs/x")[0] == 200
    assert stored.get("federatedlearningjobs", "ns", "x") is None
    for wrong in ({**job, "kind": "Model"}, {**job, "spec": None}, [], {**job, "metadata": {}}):
        assert ask("POST", "/ns/federatedlearningjobs/x", wrong)[0] == 400
    assert ask("POST", "/ns/models/x", job)[0] == 404


def test_the_nodes_server_takes_orders_from_the_cloud_alone(as_cloud, worker):
    ask = as_cloud(Identity(EDGE, "edge-2"))
    assert ask("DELETE", "/ns/federatedlearningjobs/toy")[0] == 403
    assert worker.running._storage.get("federatedlearningjobs", "ns", "toy") is not None


def test_an_ended_job_takes_no_more_reports(call, cloud):
    conditions = [{"type": "Complete", "status": "True", "reason": "RoundsDone"}]
    cloud.cluster.set_status(JOBS, "ns", "toy", {"phase": "Succeeded", "conditions": conditions})
    time.sleep(0.3)
    code, answer = call()(STATUS, progress())
    assert (code, answer["why"]) == (200, "ended")
