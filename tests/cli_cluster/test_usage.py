"""The commands as a user types them, with no cluster near."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERBS = ("submit", "get", "watch", "logs", "suspend", "resume", "cancel", "retry", "doctor")


def fedloom(*arguments, program="fedloom", **environ):
    code = f"import sys; sys.argv[0] = {program!r}; from cli.main import main; main()"
    clean = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean | {"HOME": "/nonexistent"} | environ,
        check=False,
        timeout=60,
    )


def test_help_names_every_command_and_loads_no_client():
    found = fedloom("--help")
    assert found.returncode == 0
    for verb in VERBS:
        assert f"  {verb} " in found.stdout
    code = (
        "import sys; from cli.main import commands; "
        "heavy = {'kubernetes', 'numpy', 'yaml', 'rich', 'urllib3'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_kubectl_sees_its_own_name_in_the_usage():
    found = fedloom("watch", "--help", program="/usr/bin/kubectl-fedloom")
    assert found.stdout.startswith("Usage: kubectl fedloom watch")
    for option in ("--namespace", "--context", "--kubeconfig", "--output"):
        assert option in found.stdout


def test_without_a_kubeconfig_it_says_so_in_one_line():
    found = fedloom("get")
    assert (found.returncode, found.stdout) == (1, "")
    assert "no usable kubeconfig" in found.stderr
    assert "Traceback" not in found.stderr


def test_an_api_server_that_is_not_there_is_a_problem_of_doctor(tmp_path):
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "mine"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "u", "user": {}}],
        "current-context": "x",
    }
    import json

    (tmp_path / "config").write_text(json.dumps(config))
    found = fedloom("doctor", KUBECONFIG=str(tmp_path / "config"))
    assert found.returncode == 1
    assert "the API server does not answer" in found.stdout
    found = fedloom("get", "--kubeconfig", tmp_path / "config", "--context", "nope")
    assert (found.returncode, "nope" in found.stderr) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("watch",),
        ("logs", "x", "--client", "a", "--server"),
        ("submit",),
        ("get", "x", "-A"),
        ("get", "-o", "yaml"),
        ("suspend",),
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert fedloom(*arguments).returncode == 2
