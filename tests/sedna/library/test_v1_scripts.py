"""V1 scripts run as they are: the first model, rounds of training, evaluation, what is left after them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
V1 = SCRIPTS / "v1_train.py"


def test_three_rounds_of_two_clients_learn(run, data):
    (first, second), test = data
    model = run(V1, "initialize").arrays
    before = run(V1, "evaluate", model=model, TRAIN_DATASET_URL=test).result
    for round_number in range(1, 4):
        updates = [
            run(
                V1,
                "train",
                model=model,
                TRAIN_DATASET_URL=url,
                FEDLOOM_ROUND=str(round_number),
                FEDLOOM_SEED=str(round_number),
            )
            for url in (first, second)
        ]
        counts = [done.result["num_examples"] for done in updates]
        assert counts == [60, 72]
        model = {
            name: np.average(
                [done.arrays[name] for done in updates], axis=0, weights=counts
            ).astype("f4")
            for name in model
        }
    after = run(V1, "evaluate", model=model, TRAIN_DATASET_URL=test).result
    assert after["num_examples"] == 90
    assert after["metrics"]["accuracy"] > max(0.9, before["metrics"]["accuracy"])


def test_the_first_model_is_made_without_data_and_code_after_it_does_not_run(run):
    done = run(V1, "initialize")
    assert done.code == 0
    assert {name: a.shape for name, a in done.arrays.items()} == {"0000": (8, 3), "0001": (3,)}
    assert all(a.dtype == np.float32 for a in done.arrays.values())
    assert done.left == ["update.safetensors"]
    assert "after train" not in done.output


def test_a_round_tells_its_samples_and_the_last_epochs_metrics(run, data):
    model = run(V1, "initialize").arrays
    done = run(
        V1, "train", model=model, TRAIN_DATASET_URL=data[0][0], epochs="3", learning_rate="0.05"
    )
    assert done.code == 0
    assert done.result["num_examples"] == 60
    assert set(done.result["metrics"]) == {"loss", "accuracy"}
    assert "after train: {'accuracy'" in done.output  # code after train() goes on
    assert not np.array_equal(done.arrays["0000"], model["0000"])


def test_the_same_task_gives_the_same_bits_and_another_seed_others(run, data):
    model = run(V1, "initialize").arrays
    first, again, other = (
        run(V1, "train", model=model, TRAIN_DATASET_URL=data[0][0], FEDLOOM_SEED=seed)
        for seed in ("5", "5", "6")
    )
    updates = [(d.folder / "update.safetensors").read_bytes() for d in (first, again, other)]
    assert updates[0] == updates[1] != updates[2]


def test_arguments_of_old_are_tolerated(run, data):
    model = run(V1, "initialize", "-i", "1").arrays
    assert run(V1, "train", "-i", "2", model=model, TRAIN_DATASET_URL=data[0][0]).code == 0


def test_a_script_with_its_own_aggregation_trains_like_any_other(run, data):
    script = SCRIPTS / "v1_custom_train.py"
    model = run(script, "initialize").arrays
    assert run(script, "train", model=model, TRAIN_DATASET_URL=data[0][0]).code == 0


def test_a_scikit_learn_model_learns_by_its_coefficients(run, data):
    pytest.importorskip("sklearn")
    script = SCRIPTS / "v1_sklearn_train.py"
    model = run(script, "initialize").arrays
    assert {name: a.shape for name, a in model.items()} == {"0000": (3, 8), "0001": (3,)}
    done = run(script, "train", model=model, TRAIN_DATASET_URL=data[0][0])
    assert done.code == 0, done.output
    found = run(script, "evaluate", model=done.arrays, TRAIN_DATASET_URL=data[1]).result
    assert found["metrics"]["accuracy"] > 0.8


def test_the_model_is_saved_where_sedna_saved_it(run, data, tmp_path):
    model = run(V1, "initialize").arrays
    place = tmp_path / "edge"
    place.mkdir()
    variables = {"MODEL_URL": str(place), "MODEL_NAME": "toy.npz", "TRAIN_DATASET_URL": data[0][0]}
    done = run(V1, "train", model=model, **variables)
    saved = np.load(place / "toy.npz")
    assert np.array_equal(saved["kernel"], done.arrays["0000"])


def test_a_place_that_cannot_be_written_to_is_a_warning(run, data):
    model = run(V1, "initialize").arrays
    place = {"MODEL_URL": "/proc", "MODEL_NAME": "toy"}  # where not even root may write
    done = run(V1, "train", model=model, TRAIN_DATASET_URL=data[0][0], **place)
    assert done.code == 0
    assert "WARNING" in done.output
    assert "the model is not saved" in done.output
    assert done.left == ["result.json", "update.safetensors"]


def test_where_the_global_model_will_lie_nothing_is_made(run, data, tmp_path):
    model = run(V1, "initialize").arrays
    place = {"MODEL_URL": str(tmp_path / "out" / "toy.safetensors"), "MODEL_NAME": "toy"}
    assert run(V1, "train", model=model, TRAIN_DATASET_URL=data[0][0], **place).code == 0
    assert not (tmp_path / "out").exists()


def test_files_missing_from_an_index_are_left_out_and_named(run, data, tmp_path):
    index = Path(data[0][0])
    lines = index.read_text().splitlines()
    gone = index.with_name("gaps.txt")
    gone.write_text("\n".join([lines[0], "sample-9999.npy 1", lines[1]]) + "\n")
    model = run(V1, "initialize").arrays
    done = run(V1, "train", model=model, TRAIN_DATASET_URL=str(gone))
    assert done.result["num_examples"] == 2
    assert "gaps.txt line 2" in done.output


def test_a_dataset_without_samples_is_refused(run):
    model = run(V1, "initialize").arrays
    done = run(V1, "train", model=model, TRAIN_DATASET_URL="/nowhere/index.txt")
    assert done.code == 1
    assert "holds no samples" in done.last_line
    assert "'/nowhere/index.txt'" in done.last_line
    assert done.left == []


class _Controller(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, json.loads(body)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"Status": 200, "Message": "OK"}')

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def controller():
    server = HTTPServer(("127.0.0.1", 0), _Controller)
    server.received = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(("number", "status"), [("2", "running"), ("3", "completed")])
def test_a_worker_reports_its_round_to_the_local_controller(run, data, controller, number, status):
    model = run(V1, "initialize").arrays
    done = run(
        V1,
        "train",
        model=model,
        TRAIN_DATASET_URL=data[0][0],
        FEDLOOM_ROUND=number,
        LC_SERVER=f"http://127.0.0.1:{controller.server_port}",
        http_proxy="http://127.0.0.1:9",
        WORKER_NAME="trainworker-a",
        NAMESPACE="edge",
        JOB_NAME="toy",
        MODEL_URL="/home/data/models/toy.pb",
        DATA_PATH_PREFIX="/home/data",
    )
    assert done.code == 0
    [(path, body)] = controller.received
    assert path == "/sedna/workers/trainworker-a/info"
    info, [result] = body.pop("ownerInfo"), body.pop("results")
    assert body == {
        "name": "trainworker-a",
        "namespace": "edge",
        "ownerName": "toy",
        "ownerKind": "federatedlearningjob",
        "kind": "train",
        "status": status,
    }
    assert (info["currentRound"], info["sampleCount"]) == (int(number), 60)
    assert len(info["updateTime"]) == len("2021-01-01 10:00:00")
    assert (result["format"], result["url"]) == ("pb", "/models/toy.pb")
    assert result["metrics"] == done.result["metrics"]


def test_no_local_controller_does_not_hold_a_round_up(run, data):
    model = run(V1, "initialize").arrays
    done = run(
        V1,
        "train",
        model=model,
        TRAIN_DATASET_URL=data[0][0],
        LC_SERVER="http://127.0.0.1:9",
        WORKER_NAME="w",
    )
    assert done.code == 0
    assert "did not arrive" in done.output
