"""Through a real MLflow: a model that one job registered is found by another, and both tell of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LOOK = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
(run,) = client.search_runs([e.experiment_id for e in client.search_experiments()
                             if e.name == "default/target"])
(version,) = client.search_model_versions("name = 'pupil'")
print(json.dumps({"run": run.data.tags, "params": run.data.params, "version": version.tags}))
"""


def run_command(shop: Any, path: Path, name: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-I", "-m", "cli.main", "run", "-f", path, "-o", "json"]
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{shop.folder}/mlflow.db", "PATH": "/usr/bin"}
    done = subprocess.run(
        [*command, "--state", shop.folder / "state" / name],
        capture_output=True,
        cwd=shop.folder,
        env=environment,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_registered_model_is_found_by_its_tensors_and_its_lineage_is_told(
    shop: Any, line: Any
) -> None:
    shop.model("good", line(3.0))
    output = {"registeredModel": "teacher"}
    warm = {"mode": "warmStart", "from": [{"model": "good"}]}
    path = shop.write(("teacher", shop.spec(warm, output=output)))
    run_command(shop, path, "teacher")
    large = {"initialize": "size=(1, 4)", "head": "np.zeros((4, 1)"}
    shop.script, script = shop.script.replace(large["initialize"], "size=(1, 9)"), shop.script
    shop.script = shop.script.replace(large["head"], "np.zeros((9, 1)")
    run_command(shop, shop.write(("other", shop.spec(None, output=output))), "other")
    shop.script = script
    spec = shop.spec({"mode": "auto"}, output={"registeredModel": "pupil"})
    events = run_command(shop, shop.write(("target", spec)), "target")
    begun = events[0]
    assert (begun["event"], begun["choice"]) == ("transfer", "registered/teacher:1")
    assert begun["source"]["job"] == "default/teacher"
    assert [each["reason"] for each in begun["unusable"]] == ["SourceMismatch"]
    command = [sys.executable, "-c", LOOK, f"sqlite:///{shop.folder}/mlflow.db"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert told["run"]["transfer.choice"] == "registered/teacher:1"
    assert told["params"]["transfer.mode"] == "auto"
    lineage = {name: told["version"][f"transfer.source-{name}"] for name in ("version", "run")}
    assert lineage == {"version": "1", "run": begun["source"]["run_id"]}
