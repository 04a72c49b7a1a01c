"""Example 06 is Sedna's own YAML, and it runs as it stands with a folder for the nodes' disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fedloom.api.documents import read_documents
from fedloom.api.validation import job_to_run
from fedloom.artifacts.arrays import load_arrays

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/06-mistnet-yolov5"
SEED = ROOT.parent / "shared/seeds/mistnet-yolov5-example.yaml"
NODES = {"$CLOUD_NODE": "cloud", "$EDGE1_NODE": "edge-1", "$EDGE2_NODE": "edge-2"}


def without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_its_yaml_is_sednas_but_for_the_names_of_the_nodes():
    if not SEED.exists():
        pytest.skip("the original document is not beside this repository")
    seed = SEED.read_text(encoding="utf-8")
    for variable, node in NODES.items():
        seed = seed.replace(variable, node)
    ours = (EXAMPLE / "job.yaml").read_text(encoding="utf-8")
    assert without_comments(ours) == without_comments(seed)


def test_what_its_variables_say_counts():
    spec = job_to_run(read_documents([EXAMPLE / "job.yaml"])).spec
    assert (spec.algorithm.name, spec.rounds) == ("mistnet", 1)
    assert spec.algorithm.parameters["epsilon"] == 100
    assert spec.algorithm.parameters["cutLayer"] == 4
    said = {name: spec.hyperparameters[name] for name in ("epochs", "batchSize", "learningRate")}
    assert said == {"epochs": 100, "batchSize": 32, "learningRate": 0.001}, "the cloud trains"


def test_the_quickstart_maps_the_images_that_are_no_more():
    given = json.loads((EXAMPLE / "images.json").read_text(encoding="utf-8"))
    (settings,) = yaml.safe_load_all(
        (ROOT / "manifests/overlays/quickstart/settings.yaml").read_text(encoding="utf-8")
    )
    mapped = json.loads(settings["data"]["FEDLOOM_IMAGES"])
    assert mapped.keys() == given.keys()
    named = {
        container["image"]
        for document in yaml.safe_load_all((EXAMPLE / "job.yaml").read_text(encoding="utf-8"))
        if document["kind"] == "FederatedLearningJob"
        for worker in (document["spec"]["aggregationWorker"], *document["spec"]["trainingWorkers"])
        for container in worker["template"]["spec"]["containers"]
    }
    assert {image.rpartition(":")[0] for image in named} == mapped.keys()


@pytest.mark.slow
@pytest.mark.torch
def test_it_runs_on_this_machine_with_a_folder_for_the_nodes_disks(tmp_path):
    pytest.importorskip("torch")
    folder = tmp_path / EXAMPLE.name
    made = shutil.ignore_patterns("node", "data", "output", ".fedloom", "__pycache__")
    shutil.copytree(EXAMPLE, folder, ignore=made)
    write = (
        "from pathlib import Path; from detector.network import Network, Shape;"
        "from detector.checkpoints import write_network;"
        "write_network(Path('node/pretrained/yolov5.pth'), Network(Shape('n', 3, anchor_scale=0.6)))"
    )
    run = [
        sys.executable,
        "-m",
        "cli.main",
        "run",
        "-f",
        "job.yaml",
        "--root",
        "node",
        "-o",
        "json",
    ]
    images = (EXAMPLE / "images.json").read_text(encoding="utf-8")
    for command in (
        [sys.executable, "-c", write],
        [sys.executable, "prepare.py", "--images", "10"],
        run,
    ):
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "FEDLOOM_IMAGES": images},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "no privacy at all" in done.stderr
    (round_,) = (event for event in events if event["event"] == "round")
    assert {client["num_examples"] for client in round_["clients"].values()} == {10}
    assert "mAP50" in events[-1]["metrics"]
    saved, _ = load_arrays(folder / "node/model/yolov5.pth.safetensors")
    assert any(name.startswith("layers.24") for name in saved)


def test_without_the_commands_of_its_images_it_says_so_and_writes_nothing(tmp_path):
    shutil.copy(EXAMPLE / "job.yaml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", "-f", "job.yaml", "--root", "node"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "FEDLOOM_IMAGES"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "trainingWorkers[1].template.spec.containers[0].command: got no command" in done.stderr
    assert "Dataset 'coco-dataset-1'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]
