"""A real MLflow server over HTTP, with its artifact proxy: it is late, it hangs, it is stopped."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

pytestmark = pytest.mark.slow
FINISH = {"task": "finish", "status": "FINISHED"}


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def serve(address, empty_database, tmp_path):
    """Start the server; give its process. It is stopped at the end."""
    started = []

    def start():
        folder = tmp_path / "server"
        folder.mkdir()
        shutil.copyfile(empty_database, folder / "mlflow.db")
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", address.rpartition(":")[2], "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, start_new_session=True
            )
        started.append(process)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=2):
                    return process
            except OSError:
                time.sleep(0.1)
        pytest.fail((folder / "log").read_text()[-2000:])

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_job_is_tracked_by_a_server_that_comes_late_and_its_model_predicts(
    publish, serve, address, job, round_result
):
    import mlflow

    process = publish(tracking_uri=address)
    process.send_rounds([0, 1])
    message = process.wait_for("unavailable")["message"]
    assert message == f"MLflow at {address}: ConnectionRefusedError: [Errno 111] Connection refused"
    serve()
    found = process.wait_for("tracking")
    assert found["url"] == (
        f"{address}/#/experiments/{found['experiment_id']}/runs/{found['run_id']}"
    )
    process.wait_for("registered", round=1)
    process.send_rounds([2, 3])
    process.send(FINISH)
    assert process.end() == 0
    assert process.events[-1] == {"event": "finished", "available": True, "pending_rounds": 0}
    mlflow.set_tracking_uri(address)
    client = mlflow.MlflowClient()
    run = client.get_run(found["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["client/b/loss"] == round_result(3)["clients"]["b"]["metrics"]["loss"]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "accuracy")] == [1, 2, 3]
    model = mlflow.pyfunc.load_model("models:/digits@champion")
    weights = model.unwrap_python_model().weights
    assert weights["w"].tolist() == (3 * np.eye(3)).tolist()

    again = publish(tracking_uri=address)
    again.send_rounds([0, 1, 2, 3])
    again.send(FINISH)
    assert again.end() == 0
    assert [e["event"] for e in again.events] == ["tracking", "finished"]
    (model_versions,) = [client.search_model_versions("name = 'digits'")]
    assert len(model_versions) == 3


def test_a_server_that_hangs_delays_the_end_by_a_bounded_time(publish, serve, address):
    server = serve()
    process = publish(tracking_uri=address, MLFLOW_HTTP_REQUEST_TIMEOUT="2")
    process.send_rounds([1])
    process.wait_for("registered", round=1)
    os.killpg(server.pid, signal.SIGSTOP)
    process.send_rounds([2])
    process.wait_for("unavailable")
    process.send(FINISH)
    started = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - started < 20
    assert process.events[-1] == {"event": "finished", "available": False, "pending_rounds": 1}


def test_an_interrupted_job_does_not_wait_for_a_server_that_hangs(publish, serve, address):
    server = serve()
    process = publish(tracking_uri=address, MLFLOW_HTTP_REQUEST_TIMEOUT="30")
    process.send_rounds([1])
    process.wait_for("registered", round=1)
    os.killpg(server.pid, signal.SIGSTOP)
    process.send_rounds([2])
    started = time.monotonic()
    assert process.end() == 0
    assert time.monotonic() - started < 5
    assert process.events[-1] == {"event": "finished", "available": False, "pending_rounds": 1}
