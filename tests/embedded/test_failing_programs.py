"""Programs of any language that go wrong in the ways programs do."""

from __future__ import annotations

from pathlib import Path

import pytest

PROGRAM = """
import json, os, struct, sys
import numpy as np
from safetensors.numpy import load_file, save_file

task, update, result = (os.environ.get("FEDLOOM_" + n) for n in ("TASK", "UPDATE", "RESULT"))
if task == "initialize":
    save_file({"w": np.zeros(4, np.float32)}, update)
    sys.exit()
model = load_file(os.environ["FEDLOOM_MODEL"])
outcome = {"num_examples": 3, "metrics": {"loss": 1.0}}
if task == "train":
    model["w"] = model["w"] + 1
    if os.environ["FEDLOOM_CLIENT"] == "b":
        FAULT
    save_file(model, update)
json.dump(outcome, open(result, "w"))
"""
FAULTS = {
    "exit-code": ("sys.exit('disk on fire')", "ScriptFailed", "disk on fire"),
    "signal": ("os.kill(os.getpid(), 11)", "ScriptFailed", "SIGSEGV"),
    "no-update": ("sys.exit(0)", "NoUpdate", "FEDLOOM_UPDATE"),
    "no-result": ("save_file(model, update); sys.exit(0)", "NoUpdate", "FEDLOOM_RESULT"),
    "no-json": (
        "save_file(model, update); open(result, 'w').write('3'); sys.exit()",
        "BadResult",
        "num_examples",
    ),
    "broken-json": (
        "save_file(model, update); open(result, 'w').write('{'); sys.exit()",
        "BadResult",
        "not JSON",
    ),
    "nan-examples": ("outcome['num_examples'] = float('nan')", "BadResult", "got nan"),
    "text-examples": ("outcome['num_examples'] = '3'", "BadResult", "got '3'"),
    "truncated": (
        "save_file(model, update); os.truncate(update, 40)\n"
        "        json.dump(outcome, open(result, 'w')); sys.exit()",
        "MalformedUpdate",
        "FEDLOOM_UPDATE",
    ),
    "huge-header": (
        "open(update, 'wb').write(struct.pack('<Q', 2**60) + b'{}')\n"
        "        json.dump(outcome, open(result, 'w')); sys.exit()",
        "MalformedUpdate",
        "FEDLOOM_UPDATE",
    ),
    "binary-update": (
        "open(update, 'wb').write(os.urandom(500))\n"
        "        json.dump(outcome, open(result, 'w')); sys.exit()",
        "MalformedUpdate",
        "FEDLOOM_UPDATE",
    ),
    "binary-output": (
        "sys.stdout.buffer.write(bytes(range(256)) * 50); sys.exit(1)",
        "ScriptFailed",
        "not text",
    ),
}


@pytest.fixture
def programs(bench):
    bench.spec["rounds"] = 1
    bench.spec.pop("evaluation")
    for worker in bench.spec["trainingWorkers"]:
        worker["template"]["spec"]["containers"][0]["command"] = ["python", "-u", "program.py"]
    return bench


@pytest.mark.parametrize("fault", FAULTS, ids=FAULTS)
def test_a_broken_program_is_dropped_and_named(programs, fault):
    statements, reason, words = FAULTS[fault]
    programs.files["program.py"] = PROGRAM.replace("FAULT", statements)
    assert programs.run().phase == "Succeeded"
    failed = programs.rounds()[0]["clients"]["b"]
    assert (failed["state"], failed["reason"]) == ("Failed", reason)
    assert words in failed["message"]


def test_binary_output_of_a_good_program_does_no_harm(programs):
    programs.files["program.py"] = PROGRAM.replace(
        "FAULT", "sys.stdout.buffer.write(bytes(range(256)) * 50)"
    )
    assert programs.run().phase == "Succeeded"
    assert programs.rounds()[0]["clients"]["b"]["state"] == "Succeeded"
    assert (programs.state / "logs/b.log").stat().st_size == 256 * 50


def test_a_command_that_does_not_exist_is_named(programs):
    programs.files["program.py"] = PROGRAM.replace("FAULT", "pass")
    worker = programs.spec["trainingWorkers"][1]
    worker["template"]["spec"]["containers"][0]["command"] = ["no-such-program", "train"]
    assert programs.run().phase == "Succeeded"
    failed = programs.rounds()[0]["clients"]["b"]
    assert failed["reason"] == "ScriptFailed"
    assert "no-such-program" in failed["message"]


def test_a_program_that_hangs_is_killed_with_its_children(programs, tmp_path):
    programs.spec["participation"]["deadlineSeconds"] = 2
    programs.files["program.py"] = PROGRAM.replace(
        "FAULT",
        "import subprocess\n"
        "        child = subprocess.Popen(['sleep', '600'])\n"
        "        open('child', 'w').write(str(child.pid)); child.wait()",
    )
    assert programs.run().phase == "Succeeded"
    assert programs.rounds()[0]["clients"]["b"]["reason"] == "DeadlineExceeded"
    child = int((tmp_path / "child").read_text())
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")
