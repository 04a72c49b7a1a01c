"""The commands as a user types them: what they print, where, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/01-digits-numpy/job.yaml"


def fedloom(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-m", "cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        timeout=60,
    )


def test_help_names_every_command_and_loads_nothing_heavy():
    found = fedloom("--help")
    assert found.returncode == 0
    for command in ("run", "validate", "compile", "crds", "report"):
        assert f"  {command}" in found.stdout
    code = (
        "import sys; from cli.main import commands; "
        "heavy = {'numpy', 'mlflow', 'yaml', 'rich', 'minio', 'safetensors'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True)


def test_wrong_usage_exits_with_2():
    assert fedloom("run").returncode == 2
    assert fedloom("fly").returncode == 2
    assert fedloom("run", "-f", EXAMPLE, "--parallel", "0").returncode == 2


def test_validate_says_that_a_job_is_valid():
    found = fedloom("validate", "-f", EXAMPLE)
    assert (found.returncode, found.stdout) == (0, "default/digits: valid\n")


def test_validate_prints_every_problem(tmp_path):
    text = EXAMPLE.read_text()
    text = text.replace("rounds: 20", "rouds: 20").replace("codec: int8", "codec: int9")
    (tmp_path / "job.yaml").write_text(text.replace("name: digits-3\n", "name: digits-x\n"))
    found = fedloom("validate", "-f", tmp_path / "job.yaml")
    assert found.returncode == 1
    assert found.stdout == ""
    for words in ("rouds", "did you mean", "int9", "digits-3"):
        assert words in found.stderr
    assert "Traceback" not in found.stderr


BAD = {
    "misspelt": ("rounds: 20", "rouds: 20", "spec.rouds"),
    "type": ("rounds: 20", "rounds: many", "spec.rounds"),
    "negative": ("rounds: 20", "rounds: -1", "spec.rounds"),
    "no-such-dataset": ("dataset: {name: digits-3}", "dataset: {name: gone}", "gone"),
    "codec": ("codec: int8", "codec: zip", "spec.compression.uplink.codec"),
    "minimum": ("minClients: 8", "minClients: 80", "spec.participation.minClients"),
    "missing-data": (
        "url: data/client-3.npz",
        "url: data/none.npz",
        "data/none.npz does not exist",
    ),
    "empty-data": ("url: data/client-3.npz", "url: empty.npz", "empty.npz is empty"),
    "unreadable-data": (
        "url: data/client-3.npz",
        "url: data/client-4.npz/inside",
        "inside cannot be read",
    ),
    "remote-data": ("url: data/client-3.npz", "url: s3://b/k", "spec.trainingWorkers[3].dataset"),
    "no-command": ("command: [python, train.py]", "args: [train]", "containers[0].command"),
}


@pytest.mark.parametrize(("old", "new", "words"), BAD.values(), ids=BAD)
def test_a_bad_job_is_named_by_file_and_field_and_writes_nothing(tmp_path, old, new, words):
    text = EXAMPLE.read_text()
    assert old in text
    (tmp_path / "job.yaml").write_text(text.replace(old, new))
    (tmp_path / "empty.npz").touch()
    data = tmp_path / "data"
    data.mkdir()
    for name in ("test", *(f"client-{n}" for n in range(10))):
        (data / f"{name}.npz").write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    found = fedloom("run", "-f", "job.yaml", cwd=tmp_path)
    assert found.returncode == 1
    assert words in found.stderr
    assert "Traceback" not in found.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"a: [", b"- 1\n- 2\n", b"kind: Pod\n"])
def test_a_file_that_is_no_job_is_refused_by_name(tmp_path, content):
    (tmp_path / "job.yaml").write_bytes(content)
    found = fedloom("run", "-f", "job.yaml", cwd=tmp_path)
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr


def test_compile_prints_the_plan_of_a_round():
    import yaml

    plan = yaml.safe_load(fedloom("compile", "-f", EXAMPLE, "--round", "2").stdout)
    assert plan["round"] == 2
    assert len([task for task in plan["tasks"] if task["step"] == "train"]) == 10


def test_crds_prints_three_definitions():
    import yaml

    kinds = [d["spec"]["names"]["kind"] for d in yaml.safe_load_all(fedloom("crds").stdout)]
    assert sorted(kinds) == ["Dataset", "FederatedLearningJob", "Model"]


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -I -m cli.main crds | head -1"
    found = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in found.stderr


def test_json_output_is_one_object_per_line(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(EXAMPLE.read_text().replace("command: [python, train.py]", "command: [false]"))
    data = tmp_path / "data"
    data.mkdir()
    for name in ("test", *(f"client-{n}" for n in range(10))):
        (data / f"{name}.npz").write_bytes(b"x")
    found = fedloom("run", "-f", job, "--state", tmp_path / "state", "-o", "json")
    assert found.returncode == 1
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["finished"]
    assert lines[0]["phase"] == "Failed"
    assert lines[0]["reason"] == "NoInitialModel"


def test_on_a_terminal_a_table_grows_and_stays_whole(tmp_path):
    import shutil

    folder = tmp_path / "example"
    shutil.copytree(
        EXAMPLE.parent, folder, ignore=shutil.ignore_patterns("data", "output", ".fed*")
    )
    subprocess.run([sys.executable, folder / "prepare.py"], check=True)
    command = f"{sys.executable} -I -m cli.main run -f {folder}/job.yaml --state {tmp_path}/state"
    screen = subprocess.run(
        ["script", "-qec", f"stty rows 12 cols 100; {command}", "/dev/null"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm-256color"},
    ).stdout
    assert "Traceback" not in screen
    final = screen[screen.rindex("default/digits: fedavgm") :]
    for number in range(1, 21):
        assert f" {number}/20 " in final
    assert "Succeeded: all 20 rounds are done" in final
    assert "mlflow ui" in final
