"""The server of these tests is driven by the real `kfp.Client`, as backends are."""

import json

import pytest
from kfp import Client, compiler, dsl
from kfp_server_api import ApiException

pytestmark = pytest.mark.filterwarnings("ignore:This client only works:FutureWarning")


@dsl.container_component
def step():
    return dsl.ContainerSpec(image="busybox:1", command=["true"])


@dsl.pipeline(name="one-step")
def one_step():
    step()


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "package.yaml"
    compiler.Compiler().compile(one_step, str(path))
    return str(path)


@pytest.fixture
def client(server, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    return Client(host=server.url)


def test_a_package_is_submitted_followed_and_listed(client, server, package, capsys):
    made = client.create_run_from_pipeline_package(
        package, run_name="job / round 001", experiment_name="job", enable_caching=False
    )
    assert client.get_run(made.run_id).state == "PENDING"
    server.set_state(made.run_id, "SUCCEEDED")
    found = client.wait_for_run_completion(made.run_id, timeout=5, sleep_duration=1)
    assert (found.state, found.display_name) == ("SUCCEEDED", "job / round 001")
    experiment = client.get_experiment(experiment_name="job")
    assert found.experiment_id == experiment.experiment_id
    listed = client.list_runs(experiment_id=experiment.experiment_id)
    assert [run.run_id for run in listed.runs] == [made.run_id]
    assert client.create_experiment("job").experiment_id == experiment.experiment_id
    capsys.readouterr()


def test_its_pages_filters_and_orders_are_the_backends(client, server, package, capsys):
    experiment = client.create_experiment("job")
    names = ["c", "a", "b"]
    for name in names:
        client.run_pipeline(experiment.experiment_id, name, package)
    server.largest_page = 2
    first = client.list_runs(page_size=10, sort_by="display_name desc")
    assert [run.display_name for run in first.runs] == ["c", "b"]
    second = client.list_runs(page_token=first.next_page_token, sort_by="display_name desc")
    assert [run.display_name for run in second.runs] == ["a"]
    assert second.next_page_token is None
    wanted = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": "b"}]}
    found = client.list_runs(filter=json.dumps(wanted))
    assert [run.display_name for run in found.runs] == ["b"]
    capsys.readouterr()


@pytest.mark.parametrize(("release", "state"), [((2, 0), "FAILED"), ((2, 17), "CANCELED")])
def test_a_run_is_terminated_deleted_and_archived(
    fake_release, package, monkeypatch, capsys, release, state
):
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    server = fake_release(*release)
    client = Client(host=server.url)
    experiment = client.create_experiment("job")
    run = client.run_pipeline(experiment.experiment_id, "round", package).run_id
    client.terminate_run(run)
    assert client.get_run(run).state == "CANCELING"
    server.set_state(run, state)
    with pytest.raises(ApiException) as refused:
        client.terminate_run(run)
    assert refused.value.status == 400
    client.archive_run(run)
    assert client.get_run(run).storage_state == "ARCHIVED"
    client.unarchive_run(run)
    client.archive_experiment(experiment.experiment_id)
    assert client.get_run(run).storage_state == "ARCHIVED"
    client.delete_run(run)
    with pytest.raises(ApiException) as gone:
        client.get_run(run)
    assert (gone.value.status, json.loads(gone.value.body)["code"]) == (404, 5)
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(ValueError, match="No experiment is found"):
        client.get_experiment(experiment_name="job")
    capsys.readouterr()


def test_it_wants_the_token_that_it_was_given(server, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    server.token = "secret"
    with pytest.raises(ApiException) as refused:
        Client(host=server.url, existing_token="wrong").list_runs()
    assert refused.value.status == 401
    assert Client(host=server.url, existing_token="secret").list_runs().runs is None
    server.is_forbidden = True
    with pytest.raises(ApiException) as forbidden:
        Client(host=server.url, existing_token="secret").list_runs()
    assert forbidden.value.status == 403


def test_a_run_without_an_experiment_or_a_pipeline_is_refused(client, package, capsys):
    with pytest.raises(ApiException) as gone:
        client.run_pipeline("no-such-experiment", "round", package)
    assert gone.value.status == 404
    capsys.readouterr()
