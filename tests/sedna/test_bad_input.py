"""What goes wrong across parts: a script's misuse as the job sees it, a dying local controller, clocks.

Each part's own refusals are tested in its folder.
"""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest

from controller.link.calling import Line
from controller.link.tls import client_context
from fedloom.keys import certificates
from fedloom.keys.certificates import EDGE, Identity

SCRIPT = """
import numpy as np
from sedna.common.config import BaseConfig, Context
from sedna.core.federated_learning import FederatedLearning
from sedna.datasources import TxtDataParse


class Pull:
    def __init__(self):
        self.w = np.zeros((3, 2), np.float32)

    def get_weights(self):
        return [self.w]

    def set_weights(self, weights):
        self.w = np.asarray(weights[0], np.float32)

    def train(self, train_data, valid_data=None):
        self.w = self.w + np.float32(0.5) * (np.mean(train_data.x, dtype=np.float32) - self.w)
        return {"loss": 1.0}

    def predict(self, data):
        return data

    def evaluate(self, data, **kwargs):
        return {"loss": 1.0}


def number_of(line):
    word = str(line).split()[0]
    if word.endswith(".npy"):
        return np.load(word), 0
    return float(word), 0


data = TxtDataParse(data_type="train", func=number_of)
data.parse(BaseConfig.train_dataset_url)
job = FederatedLearning(estimator=Pull, aggregation="FedAvg")
if Context.get_parameters("DATASET_NAME") == "c":
    FAULT
job.train(train_data=data)
"""
LATER = 'Context.get_parameters("FEDLOOM_ROUND") == "2"'


@pytest.mark.parametrize(
    ("fault", "from_round", "said"),
    [
        pytest.param("job.train(train_data=data)", 1, "train() was called twice", id="twice"),
        pytest.param("raise SystemExit(0)", 1, "ended without calling train()", id="never"),
        pytest.param(
            "job.inference(data); raise SystemExit(0)",
            1,
            "ended without calling train()",
            id="inference only",
        ),
        pytest.param(
            f"if {LATER}: Pull.get_weights = lambda self: [np.zeros((4, 2), np.float32)]",
            2,
            "the shape (4, 2)",
            id="shapes change between rounds",
        ),
        pytest.param(
            f"if {LATER}: data.x = data.y = []", 2, "holds no samples", id="an index of nothing"
        ),
    ],
)
def test_a_client_whose_script_is_wrong_is_named_with_its_mistake_and_the_others_go_on(
    mover, fault, from_round, said
):
    mover.files["train.py"] = SCRIPT.replace("FAULT", fault)
    mover.describe({"rounds": 2, "participants": 2})
    assert mover.run().phase == "Succeeded"
    for number in (1, 2):
        clients = mover.result(number)["clients"]
        assert [clients[name]["state"] for name in "ab"] == ["Succeeded", "Succeeded"]
        is_bad = number >= from_round
        assert clients["c"]["state"] == ("Failed" if is_bad else "Succeeded")
        if is_bad:
            assert clients["c"]["reason"] == "ScriptFailed"
            assert said in clients["c"]["message"]


def test_files_that_an_index_names_and_are_missing_are_left_out_and_said(mover):
    mover.files["train.py"] = SCRIPT.replace("FAULT", "pass")
    mover.describe({"rounds": 1, "participants": 3})
    for name in ("one", "two"):
        np.save(mover.folder / f"{name}.npy", np.float32(10))
    (mover.folder / "c.txt").write_text("one.npy 0\ngone.npy 0\ntwo.npy 0\n")
    assert mover.run().phase == "Succeeded"
    assert mover.result(1)["clients"]["c"]["num_examples"] == 2
    log = (mover.folder / "state/logs/c.log").read_text()
    assert "c.txt line 2" in log
    assert "gone.npy" in log


def test_a_local_controller_killed_in_the_middle_of_a_post_keeps_no_half_of_it(cloud, edge, wait):
    one = edge()
    one.launch()
    wait(lambda: (one.health() or {}).get("held") == 2)
    whole = b'{"name": "trainworker-a", "namespace": "ns", "ownerName": "toy", "kind": "train"}'
    head = "POST /sedna/workers/trainworker-a/info HTTP/1.1\r\nHost: x\r\n"
    with socket.create_connection(("127.0.0.1", one.worker_port), 5) as connection:
        connection.sendall(f"{head}Content-Length: {len(whole)}\r\n\r\n".encode() + whole[:40])
        time.sleep(0.1)
        one.kill()
    one.launch()
    assert one.health()["waiting"] == 0
    assert cloud.condition("Training") is None
    assert one.report("trainworker-a", 1)[0] == 200
    wait(lambda: cloud.condition("Training"))

    def applied() -> list[int]:
        said = [what for _, place, _, what in cloud.messages if "/datasets/" not in place]
        return [round_ for round_, more in said if more["applied"]]

    wait(applied)  # written down after the condition
    assert applied() == [1]


@pytest.fixture
def post(cloud, secret_of):
    """Post to the cloud as node edge-1, with a certificate that was signed at some time."""
    lines = []

    def made(path: str, message: object, signed_at: float):
        key = certificates.new_key()
        request, who = certificates.request_of(key), Identity(EDGE, "edge-1")
        signed = secret_of(cloud).sign(request, who, signed_at, 3600)
        context = client_context(signed, key, cloud.authority())
        lines.append(Line(("127.0.0.1", cloud.port), lambda: context))
        return lines[-1].call("POST", path, message, {})

    yield made
    for line in lines:
        line.close()


def progress(clock: str, **info: object) -> dict:
    told = {"currentRound": 1, "updateTime": clock, **info}
    return {"phase": "train", "status": "running", "output": {"jobInfo": told}}


@pytest.mark.parametrize("skew_seconds", [-240.0, 0.0, 240.0])
def test_clocks_that_differ_by_minutes_keep_no_node_out(post, skew_seconds):
    """A certificate that was signed by somebody whose clock is ahead is not "not yet valid" here."""
    message = progress("1970-01-01 00:00:00")
    code, answer = post("/ns/federatedlearningjobs/toy/status", message, time.time() + skew_seconds)
    assert (code, answer["applied"]) == (200, True)


def test_a_message_that_names_no_worker_is_nobodys_where_a_node_has_several(cloud, post, wait):
    cloud.dataset("c", "edge-1")
    cloud.job("pair", ("a", "c"))
    path = "/ns/federatedlearningjobs/pair/status"
    wait(lambda: post(path, progress("now", sampleCount=7), time.time())[0] == 200)
    assert cloud.condition("Training", "pair")["message"] == "Round 1 reaches at now"
    clients = cloud.status("pair")["clients"]
    assert [each["name"] for each in clients if "samples" not in each] == ["a", "c"]
