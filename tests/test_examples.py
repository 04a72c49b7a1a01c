"""Every example runs as its README says, through the real command line, and reaches what it states."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.compile import compile_round
from controller.embedded.run import Order, run_embedded
from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run

FOLDERS = sorted((Path(__file__).resolve().parent.parent / "examples").glob("[0-9][0-9]-*"))
BY_ITSELF = "06-mistnet-yolov5"  # nodes' disks in a folder: tests/detector/test_the_example.py
EXAMPLES = [
    folder for folder in FOLDERS if (folder / "job.yaml").exists() and folder.name != BY_ITSELF
]
MADE_BY_RUNS = shutil.ignore_patterns("data", "output", ".fedloom", "__pycache__")
RUN_SECONDS = 100.0
ACCURACY = re.compile(r"accuracy\s+of\s+at\s+least\s+(0\.\d+)")
PRINTED_ACCURACY = re.compile(r"^ *metrics +((?:train/)?accuracy) (\d\.\d{4})", re.MULTILINE)


def scripts_of(example: Path) -> list[Path]:
    return sorted(example.glob("train*.py"))


def needs_torch(example: Path) -> bool:
    return any("torch" in imports_of(script) for script in scripts_of(example))


def is_sednas(example: Path) -> bool:
    return any("sedna" in imports_of(script) for script in scripts_of(example))


def imports_of(script: Path) -> set[str]:
    """The packages that a script imports."""
    found = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or ".")
    return {name.partition(".")[0] for name in found}


def first_commands(example: Path) -> list[str]:
    """The first block of commands of an example's README."""
    readme = (example / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    return blocks[0].splitlines()


def sources_of(example: Path) -> list[str]:
    """The files of the jobs that the example's own job learns from; they are run before it."""
    return [
        line.removeprefix("fedloom run -f ")
        for line in first_commands(example)
        if re.fullmatch(r"fedloom run -f (?!job\.yaml)[\w-]+\.yaml", line)
    ]


def runnable(example: Path):
    marks = []
    if needs_torch(example):
        has_torch = importlib.util.find_spec("torch") is not None
        marks = [pytest.mark.slow, pytest.mark.skipif(not has_torch, reason="torch: not installed")]
    return pytest.param(example, id=example.name, marks=marks)


@dataclass(frozen=True)
class Copy:
    """An example copied to a folder of its own, its data made."""

    folder: Path
    readme: str

    @property
    def job(self) -> Path:
        return self.folder / "job.yaml"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in the copy, as a user would, tracking into the state folder."""
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def fedloom_run(self) -> tuple[int, list[dict]]:
        """`fedloom run`; give the exit code and the events."""
        command = ("-m", "cli.main", "run", "-f", "job.yaml", "--state", "state", "-o", "json")
        done = self.run(*command)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module", params=[runnable(example) for example in EXAMPLES])
def prepared(request, tmp_path_factory) -> Copy:
    folder = tmp_path_factory.mktemp("example") / request.param.name
    shutil.copytree(request.param, folder, ignore=MADE_BY_RUNS)
    copy = Copy(folder, (folder / "README.md").read_text(encoding="utf-8"))
    if (folder / "prepare.py").exists():
        done = copy.run("prepare.py")
        assert done.returncode == 0, done.stderr
    for source in sources_of(folder):
        done = copy.run("-m", "cli.main", "run", "-f", source)
        assert done.returncode == 0, done.stderr
    return copy


@pytest.fixture(scope="module")
def events(prepared) -> list[dict]:
    """What the first run of the example told."""
    code, events = prepared.fedloom_run()
    assert (code, events[-1]["phase"]) == (0, "Succeeded"), events[-1]
    return events


def test_there_are_examples():
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_readme_states_the_commands_and_the_accuracy(example):
    assert (example / "job.yaml").is_file()
    prepare = ["python prepare.py"] if (example / "prepare.py").exists() else []
    sources = [f"fedloom run -f {source}" for source in sources_of(example)]
    assert first_commands(example) == [*prepare, *sources, "fedloom run -f job.yaml"]
    assert ACCURACY.search((example / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_training_script_imports_fedloom_numpy_and_torch_only(example):
    allowed = {"sedna", "numpy"} if is_sednas(example) else {"fedloom", "numpy", "torch"}
    beside = {path.stem for path in example.glob("*.py")}
    for script in scripts_of(example):
        assert imports_of(script) - sys.stdlib_module_names - beside <= allowed
    for script in example.glob("train*.pl"):
        used = re.findall(r"^use ([\w:]+)", script.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(used) <= {"strict", "warnings", "List::Util"}


def test_every_round_is_told_with_all_of_its_clients(prepared, events):
    job = job_to_run(read_documents([prepared.job]))
    rounds = [event for event in events if event["event"] == "round"]
    assert [event["round"] for event in rounds] == list(range(1, events[-1]["rounds"] + 1))
    for event in rounds:
        assert len(event["clients"]) == len(job.spec.training_workers)
        assert {client["state"] for client in event["clients"].values()} == {"Succeeded"}


def test_the_accuracy_of_the_readme_is_reached(prepared, events):
    stated = float(ACCURACY.search(prepared.readme).group(1))
    metric, printed = PRINTED_ACCURACY.search(prepared.readme).groups()
    reached = events[-1]["metrics"][metric]
    assert reached >= stated
    assert reached == pytest.approx(float(printed), abs=0.02), (
        "the README's output is of another version"
    )


def test_the_final_model_is_where_the_job_wants_it(prepared, events):
    models = list((prepared.folder / "output").iterdir())
    assert len(models) == 1
    assert models[0].stat().st_size > 1000


def test_rounds_and_models_are_in_tracking(prepared, events):
    tracking = events[-1]["tracking"]
    assert (tracking["available"], tracking["pending_rounds"]) == (True, 0)
    assert tracking["uri"].startswith("sqlite:///")


def test_running_again_says_that_it_is_complete(prepared, events):
    code, again = prepared.fedloom_run()
    assert code == 0
    assert [event["event"] for event in again] == ["finished"]
    assert again[0]["message"] == f"all {events[-1]['rounds']} rounds are done"
    assert again[0]["model"]["digest"] == events[-1]["model"]["digest"]


def test_a_class_run_as_a_program_makes_the_same_models(prepared, events):
    if not scripts_of(prepared.folder) or is_sednas(prepared.folder):
        pytest.skip("no Python class: it runs as a program already")
    if "name: mistnet" in prepared.job.read_text(encoding="utf-8"):
        pytest.skip("its noise is an edge's own: tests/mistnet/rounds runs both on the same edges")
    rounds = 1 if needs_torch(prepared.folder) else 2  # torch is loaded anew for every task
    text = prepared.job.read_text(encoding="utf-8")
    changed = re.sub(r"rounds: \d+", f"rounds: {rounds}", text)
    changed = changed.replace("command: [python,", "command: [env, python,")
    assert changed.count("[env, python, train.py]") == 1
    job_file = prepared.folder / "job-as-program.yaml"
    job_file.write_text(changed, encoding="utf-8")
    documents = read_documents([job_file])
    twin: list[dict] = []
    state = prepared.folder / ".fedloom/default/twin"  # beside the jobs that it may learn from
    order = Order(documents, job_to_run(documents), state, parallel=2, is_tracked=False)
    assert run_embedded(order, twin.append).phase == "Succeeded"

    def digests(told):
        return [event["model"]["digest"] for event in told if event["event"] == "round"]

    assert digests(twin) == digests(events)[:rounds]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_compiled_workflow_beside_an_example_is_what_the_job_compiles_to(example):
    """`make compiled` writes them."""
    written = (example / "compiled/round-1.yaml").read_text()
    assert written == compile_round([example / "job.yaml"], "argo", 1)
