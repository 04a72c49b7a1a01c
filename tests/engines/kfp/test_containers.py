"""What the one container of a task does: what it is told, what it tells, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components import kfp_page, kfp_work
from components.kfp_output import ExecutorOutput
from components.request import Place, Request
from components.updates import absent_clients, collect_reports
from fedloom.artifacts.local import LocalStore
from fedloom.errors import JobError, UpdateError
from pipelines.engines.kfp_job import plain_json

SELECTOR = '{"kubernetes.io/hostname": "east"}'


def run(module: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a module as a container does; give its exit code and the last line that it printed."""
    command = [sys.executable, "-I", "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def executor_input(folder: Path, artifacts=("metrics",), parameters=()) -> str:
    outputs = {
        "outputFile": str(folder / "out/executor_output.json"),
        "artifacts": {
            name: {"artifacts": [{"name": name, "uri": str(folder / "out" / name)}]}
            for name in artifacts
        },
        "parameters": {name: {"outputFile": str(folder / "out" / name)} for name in parameters},
    }
    return json.dumps({"inputs": {}, "outputs": outputs})


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out/executor_output.json").read_text())
    return found


def sleeping() -> dict[str, Any]:
    time.sleep(60)
    return {}


def raising(error: BaseException):
    def work() -> dict[str, Any]:
        raise error

    return work


def test_work_beyond_its_deadline_is_killed_with_whatever_it_started(tmp_path):
    def work() -> dict[str, Any]:
        child = subprocess.Popen(["sleep", "60"])
        (tmp_path / "child").write_text(str(child.pid))
        return sleeping()

    started = time.monotonic()
    ended = kfp_work.in_process(work, tmp_path, tmp_path / "log", 0.5)
    assert time.monotonic() - started < 10
    assert (ended["state"], ended["reason"]) == ("Failed", "DeadlineExceeded")
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _is_alive(child):
        time.sleep(0.02)
    assert not _is_alive(child)


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_work_that_is_killed_is_a_failure_with_the_signal_named(tmp_path):
    def work() -> dict[str, Any]:
        os.kill(os.getpid(), 9)
        return {}

    ended = kfp_work.in_process(work, tmp_path, tmp_path / "log", None)
    assert ended["reason"] == "Killed"
    assert "SIGKILL: out of memory?" in ended["message"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpdateError("ScriptFailed", "it fell over"), "ScriptFailed"),
        (MemoryError(), "OutOfMemory"),
        (ValueError("what?"), "InternalError"),
    ],
)
def test_whatever_work_raises_is_an_end_with_a_reason(tmp_path, error, reason):
    ended = kfp_work.in_process(raising(error), tmp_path, tmp_path / "log", 30)
    assert (ended["state"], ended["reason"]) == ("Failed", reason)


def test_what_programs_print_is_in_the_log_of_the_task(tmp_path, capfd):
    def work() -> dict[str, Any]:
        (tmp_path / "log").write_bytes(b"epoch 1\nepoch 2 \xff\n")
        return {"state": "Succeeded"}

    assert kfp_work.in_process(work, tmp_path, tmp_path / "log", 30) == {"state": "Succeeded"}
    assert "epoch 1\nepoch 2" in capfd.readouterr().out


def test_a_client_whose_turn_it_is_on_its_node_is_found_in_the_file_of_all(tmp_path):
    task = {
        "group": "client-b",
        "client": "b",
        "step": "train",
        "may_fail": True,
        "deadline_seconds": 5,
        "outputs": {},
        "inputs": {},
        "settings": {},
    }
    document = {
        "head": {
            "job": {"namespace": "n", "name": "j", "uid": "12345678"},
            "round": 1,
            "rounds": 1,
            "attempt": 1,
        },
        "nodes": {"east": ["a", "b"]},
        "clients": {"b": {"tasks": [task], "urls": {"get": {}, "put": {}}}},
        "loops": {"train_1": [json.loads(SELECTOR)]},
    }
    plan = tmp_path / "clients.json"
    plan.write_bytes(gzip.compress(json.dumps(document).encode()))
    told = ("--plan", str(plan), "--step", "train", "--selector", SELECTOR, "--turn")
    code, said = run(
        "components.kfp_task", *told, "1", "--executor-input", executor_input(tmp_path)
    )
    # It got as far as its work, which such a plan does not hold together.
    assert (code, said["client"], said["state"]) == (0, "b", "Failed")
    assert written(tmp_path)["artifacts"]["metrics"]["artifacts"][0]["metadata"]["succeeded"] == 0
    code, said = run("components.kfp_task", *told, "2")
    assert (code, said["reason"]) == (1, "NoSuchTask")
    (tmp_path / "loops").mkdir()
    given = executor_input(tmp_path / "loops", (), ("train_1",))
    code, _ = run("components.kfp_cohort", "--plan", str(plan), "--executor-input", given)
    assert code == 0
    assert written(tmp_path / "loops")["parameterValues"] == {"train_1": [json.loads(SELECTOR)]}
    assert json.loads((tmp_path / "loops/out/train_1").read_text()) == [json.loads(SELECTOR)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--plan", "/nowhere/plan.json", "--client", "a"), "NoPlan"),
        (("--executor-input", "{{$}}"), "BadExecutorInput"),
        (("--run", "n/j", "--round", "1", "--store", "s3://b/p", "--client", "a"), "NoStoreAccess"),
    ],
)
def test_a_pipeline_without_its_secrets_fails_with_a_reason(arguments, reason):
    code, said = run("components.kfp_task", *arguments)
    assert (code, said["reason"]) == (1, reason)


def test_outputs_say_nothing_that_kfp_could_not_store(tmp_path):
    outputs = ExecutorOutput(executor_input(tmp_path))
    values = {"a": 1.5, "b": float("nan"), "c": "text", "d": [1], "e": None}
    outputs.describe("metrics", values)
    outputs.write()
    (found,) = written(tmp_path)["artifacts"]["metrics"]["artifacts"]
    assert found["metadata"] == {"a": 1.5, "c": "text"}


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://bucket/a/model", "/s3/bucket/a/model"),
        ("minio://mlpipeline/a", "/minio/mlpipeline/a"),
        ("gs://b/a", "/gcs/b/a"),
    ],
)
def test_artifacts_are_written_where_the_launcher_looks_for_them(uri, path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    given = {"outputs": {"artifacts": {"model": {"artifacts": [{"uri": uri}]}}}}
    assert ExecutorOutput(json.dumps(given)).path_of("model") == Path(path)


def test_a_client_that_says_why_it_failed_is_named_with_that_and_has_no_update(tmp_path):
    store = LocalStore(tmp_path)
    said = {"reason": "ScriptFailed", "message": "no disk"}
    store.put("a.json", json.dumps({"client": "a", "failure": said}).encode())
    store.put("b.json", json.dumps({"client": "b", "failure": "what is this?"}).encode())
    store.put("c.json", json.dumps({"client": "c", "uplink_bytes": 1}).encode())
    keys = {name: f"{name}.json" for name in "abcd"}
    request = Request({}, 1, 1, 1, "aggregate", None, {}, {}, {"reports": keys}, tuple("abcd"))
    place = Place(store, *(tmp_path for _ in range(5)))
    reports, failures = collect_reports(request, place, {})
    assert reports.keys() == {"c"}
    absent = absent_clients(request, reports, failures)
    assert absent["a"] == said
    assert absent["b"]["reason"] == "Failed"
    assert absent["d"]["reason"] == "NoUpdate"


def test_what_a_client_says_stays_text_in_the_page_of_the_round():
    message = "| <script> [x](javascript:1) `a` ![i](u)\nnext"
    client = {"state": "Failed", "reason": "R", "message": message, "metrics": {}}
    result = {
        "job": {"namespace": "n", "name": "j"},
        "round": 1,
        "rounds": 2,
        "seconds": 1.0,
        "traffic": {"uplink_bytes": 1_500, "downlink_bytes": 0},
        "metrics": {"accuracy": 0.5},
        "clients": {"a": client},
        "model": {"uri": "s3://b/m", "digest": "sha256:0", "size_bytes": 3},
    }
    page = kfp_page.round_page(result, {})
    (row,) = [line for line in page.splitlines() if line.startswith("| a ")]
    assert row.count(" | ") == 6
    for mark in ("\\| ", "\\<script>", "\\[x]", "\\`a\\`", "\\!\\[i]"):
        assert mark in row
    assert "0 clients, 1 failed, 1.0 s, 1.5 kB up, 0 B down." in page
    assert kfp_page.round_metrics(result)["clients_failed"] == 1


@given(
    st.recursive(
        st.text(alphabet='{}"\\a: '),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='{}"\\b'), inner),
    )
)
def test_json_in_a_pipeline_has_no_two_braces_side_by_side_and_reads_back_the_same(value):
    text = plain_json(value)
    assert "{{" not in text
    assert "}}" not in text
    assert json.loads(text) == value
    assert yaml.safe_load(text) == value


def test_a_pipeline_compiles_without_any_kubernetes_client():
    """kfp asks for kubernetes<31, the controller has the newest: what compiles uses nothing of it."""
    code = """
import sys, types
class Nothing(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(f"{self.__name__}.{name}")  # nothing that can be called
for name in ("kubernetes", "kubernetes.client", "kubernetes.config"):
    sys.modules[name] = Nothing(name)
sys.modules["kubernetes"].client = sys.modules["kubernetes.client"]
sys.modules["kubernetes"].config = sys.modules["kubernetes.config"]
for name in ("google.cloud", "requests_toolbelt", "tabulate", "click_option_group"):
    sys.modules[name] = None
from pathlib import Path
from cli.compile import compile_job, compile_round
print(compile_round([Path(sys.argv[1])], "kfp", 1), end="")
"""
    example = Path(__file__).resolve().parents[3] / "examples/08-kfp"
    command = [sys.executable, "-c", code, str(example / "job.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (example / "compiled/round-1.kfp.yaml").read_text()


def test_the_controllers_image_leaves_kfps_pins_out():
    root = Path(__file__).resolve().parents[3]
    text = (root / "controller/Dockerfile").read_text()
    assert "grep -v '^kubernetes=='" in text
    assert "--no-deps -c /src/image-constraints.txt" in text
    assert "kfp kfp-kubernetes kfp-pipeline-spec kfp-server-api" in text
    assert (root / "constraints.txt").read_text().count("\nkubernetes==") == 1


def test_the_pipeline_of_the_notebook_compiles_from_the_published_components(tmp_path):
    example = Path(__file__).resolve().parents[3] / "examples/08-kfp"
    target = tmp_path / "digits.yaml"
    command = [sys.executable, str(example / "custom_pipeline.py"), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pipeline, platform = yaml.safe_load_all(target.read_text())
    tasks = pipeline["root"]["dag"]["tasks"]
    assert len(tasks) == 2 + 2 * (1 + 3 + 1) + 1
    assert tasks["check"]["inputs"]["artifacts"]["model"]["taskOutputArtifact"]
    executors = pipeline["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["image"] == "fedloom/example-kfp:0.1.0"
    own = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert own["exec-train"]["secretAsVolume"][0]["mountPath"] == "/fedloom/keys"


def test_what_is_no_executor_input_is_refused():
    with pytest.raises(JobError, match="expected the JSON"):
        ExecutorOutput("[]")
