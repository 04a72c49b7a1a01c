"""What the backend gets: real packages, in the requests that they are meant for."""

from __future__ import annotations

import base64
import json

from controller.cluster.resources import CONFIG_MAPS, DATASETS, SECRETS


def test_the_run_holds_a_real_package_and_its_record_knows_whose_tasks_are_whose(
    bench, real_compiler
):
    bench.apply_job()
    for name in ("a", "b"):
        bench.cluster.patch(DATASETS, "ns", name, {"spec": {"url": f"https://example.com/{name}"}})
    bench.look()
    bench.round(0)
    source = bench.run(1)["pipeline_spec"]
    assert set(source) == {"pipeline_spec", "platform_spec"}
    assert source["pipeline_spec"]["pipelineInfo"]["name"] == "toy-38bc8f64-r1-a1"
    assert "kubernetes" in source["platform_spec"]["platforms"]
    (record,) = [
        each
        for each in bench.cluster.all(CONFIG_MAPS)
        if each["metadata"]["name"] == "toy-38bc8f64-r1-a1"
    ]
    clients = json.loads(record["data"]["clients"])
    tasks = json.dumps(source["pipeline_spec"])
    assert set(clients.values()) == {"a", "b"}
    assert any(f'"{task}"' in tasks for task in clients)
    text = json.dumps(source)
    for secret in bench.cluster.all(SECRETS):
        assert secret["metadata"]["name"] in text or "-r0-" in secret["metadata"]["name"]
        for value in secret["data"].values():
            assert base64.b64decode(value).decode(errors="replace")[:40] not in text


def test_data_in_a_folder_of_the_node_is_not_accepted_and_the_alternative_named(
    bench, real_compiler
):
    bench.apply_job()
    bench.look()
    bench.round(0)
    assert bench.condition("Accepted") == ("False", "HostPathNotSupported")
    (message,) = [c["message"] for c in bench.status["conditions"] if c["type"] == "Accepted"]
    assert "persistentVolumeClaim" in message
