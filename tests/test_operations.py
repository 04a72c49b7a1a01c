"""docs/operations.md names every reason, condition, metric and setting that there is in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.cluster import main, settings
from fedloom.api.status import CONDITION_TYPES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/operations.md").read_text()
ROOMS = (
    "fedloom/api/status.py",
    "fedloom/algorithms",
    "fedloom/artifacts",
    "fedloom/keys",
    "components",
    "pipelines/plan.py",
    "pipelines/engines",
    "controller/decide.py",
    "controller/cluster",
    "controller/dispatcher.py",
)
# Who makes a reason, and which of its arguments it is.
MAKERS = {
    "JobError": 0,
    "UpdateError": 0,
    "StateError": 0,
    "EngineUnavailableError": 0,
    "RefusedError": 0,
    "ArtifactError": 0,
    "Finding": 0,
    "Cause": 0,
    "Decision": 1,
    "Condition": 2,
    "_note": 0,
    "record_failure": 2,
    "tell": 2,
}
ONE_MACHINE_ONLY = {"WorkerDied", "OutOfMemory"}
WORD = re.compile(r"[A-Z][a-z0-9]+[A-Za-z0-9]*|OOMKilled")


def words(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and WORD.fullmatch(str(each.value)):
            yield str(each.value)


def made(call: ast.Call) -> Iterator[str]:
    maker = getattr(call.func, "id", getattr(call.func, "attr", ""))
    if maker in MAKERS and len(call.args) > MAKERS[maker]:
        yield from words(call.args[MAKERS[maker]])
    for keyword in call.keywords:
        if keyword.arg == "reason":
            yield from words(keyword.value)


def tabled(assignment: ast.Assign) -> Iterator[str]:
    """Reasons kept as constants, and those that Kubernetes' words are turned into."""
    name = getattr(assignment.targets[0], "id", "")
    value = assignment.value
    if name.startswith("REASON_"):
        yield from words(value)
    elif name in ("_WAITING", "_STEPS") and isinstance(value, ast.Dict):
        for each in value.values:
            yield from words(each)
    elif name == "_WHOLE_POD" and isinstance(value, ast.Tuple):
        for pair in value.elts:
            assert isinstance(pair, ast.Tuple)
            yield from words(pair.elts[1])


def is_with_a_message(node: ast.Tuple) -> bool:
    if len(node.elts) != 2 or not isinstance(node.elts[0], ast.Constant):
        return False
    message = node.elts[1]
    said = isinstance(message, ast.Constant) and " " in str(message.value)
    return said or isinstance(message, ast.JoinedStr)


def reasons() -> set[str]:
    found: set[str] = set()
    for room in ROOMS:
        path = ROOT / room
        for file in [path] if path.suffix else path.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call):
                    found.update(made(node))
                elif isinstance(node, ast.Assign):
                    found.update(tabled(node))
                elif isinstance(node, ast.Tuple) and is_with_a_message(node):
                    found.update(words(node.elts[0]))
    return found - ONE_MACHINE_ONLY - {"Error"}


def test_every_reason_has_a_row():
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = set(re.findall(r"`(\w+)`", "".join(rows)))
    found = reasons()
    assert len(found) > 100
    assert not found - told, "docs/operations.md has no row for these reasons"


def test_every_condition_has_a_row():
    for kind in CONDITION_TYPES:
        assert f"| `{kind}` |" in PAGE


def test_every_metric_has_a_row():
    for name in main._HELP:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", re.findall(r"^(FEDLOOM_\w+)", settings.__doc__ or "", re.M))
def test_every_setting_is_named(name):
    assert name in PAGE or name == "FEDLOOM_WORK"
