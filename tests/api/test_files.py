"""Files of YAML and JSON become objects, or a problem that names the file and the place in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedloom.api.documents import MOST_FILE_BYTES, read_documents, render_documents
from fedloom.errors import InvalidJobError

SEDNA = """\
apiVersion: sedna.io/v1alpha1
kind: Dataset
metadata: {name: "photos-1"}
spec: {url: "/data/1/photos", format: "dir", nodeName: $EDGE1_NODE}
---
apiVersion: sedna.io/v1alpha1
kind: Model
metadata: {name: "detector"}
spec: {url: "/model/detector.pth", format: "pth", device_soc_versions: ["Ascend310"]}
---
apiVersion: v1
kind: Secret
metadata:
  name: mysecret
  annotations: {s3-endpoint: s3.amazonaws.com, s3-usehttps: "1"}
stringData: {ACCESS_KEY_ID: XXXX, SECRET_ACCESS_KEY: XXXXXXXX}
---
apiVersion: sedna.io/v1alpha1
kind: FederatedLearningJob
metadata: {name: detect}
spec:
  pretrainedModel: {name: "detector-before"}
  transmitter:
    ws: { } # both may be given
    s3: {aggDataPath: "s3://sedna/fl/aggregation_data", credentialName: mysecret}
  aggregationWorker:
    model: {name: "detector"}
    template:
      spec:
        nodeName: $CLOUD_NODE
        containers:
          - image: example/aggregator:v0.4.0
            name: agg-worker
            imagePullPolicy: IfNotPresent
            env:
              - {name: "cut_layer", value: "4"}
              - {name: "aggregation_algorithm", value: "mistnet"}
              - {name: "exit_round", value: "3"}
            resources: {limits: {memory: 8Gi}}
  trainingWorkers:
    - dataset: {name: "photos-1"}
      template:
        metadata: {labels: {team: vision}}
        spec:
          nodeName: $EDGE1_NODE
          hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]
          containers:
            - image: example/client:v0.4.0
              name: train-worker
              args: [ "-i", "1" ]
              env:
                - name: "batch_size"
                  value: "32"
              resources: {limits: {memory: 2Gi}}
"""


def problems_of(*paths: Path) -> list[str]:
    with pytest.raises(InvalidJobError) as caught:
        read_documents(paths)
    return [str(problem) for problem in caught.value.problems]


def test_a_sedna_document_reads_as_it_is(read, tmp_path):
    documents = read(SEDNA)
    (job,) = documents.jobs
    worker = job.spec.training_workers[0].template
    assert job.spec.transmitter.ws
    assert job.spec.transmitter.s3.agg_data_path == "s3://sedna/fl/aggregation_data"
    assert worker.raw["spec"]["hostAliases"] == [{"ip": "10.0.0.1", "hostnames": ["db"]}]
    assert worker.raw["metadata"] == {"labels": {"team": "vision"}}
    assert documents.models[0].spec.device_soc_versions == ("Ascend310",)
    assert documents.datasets[0].spec.node_name == "$EDGE1_NODE"
    assert documents.secrets[0].metadata.annotations["s3-usehttps"] == "1"
    assert documents.base_folder == tmp_path
    assert documents.where(job) == f"{tmp_path}/job.yaml FederatedLearningJob/detect"


def test_a_folder_means_its_files_in_order(tmp_path, job_document, other_documents):
    job, *others = [job_document(), *other_documents]
    (tmp_path / "b.yml").write_text(render_documents(others[:2]))
    (tmp_path / "a.json").write_text(json.dumps(job))
    (tmp_path / "c.yaml").write_text(render_documents(others[2:]))
    (tmp_path / "notes.txt").write_text("not: [read")
    (tmp_path / "d.yaml").mkdir()
    documents = read_documents([tmp_path])
    assert len(documents.jobs) == 1
    assert [each.metadata.name for each in documents.datasets] == [
        "ward-a",
        "ward-b",
        "ward-c",
        "ward-test",
    ]


def test_a_file_that_is_named_twice_is_read_once(tmp_path, read):
    read(SEDNA)
    documents = read_documents([tmp_path / "job.yaml", tmp_path, tmp_path / "." / "job.yaml"])
    assert len(documents.jobs) == 1


def test_a_list_is_the_objects_in_it(tmp_path, job_document):
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [job_document()]}))
    assert len(read_documents([path]).jobs) == 1


def test_other_kinds_are_passed_over_but_listed(read, tmp_path):
    documents = read("kind: ConfigMap\nmetadata: {name: settings}\n---\n" + SEDNA)
    assert documents.ignored == (f"{tmp_path}/job.yaml ConfigMap/settings",)
    assert len(documents.jobs) == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("", "job.yaml: empty", id="empty"),
        pytest.param("# only a comment\n---\n", "job.yaml: empty", id="comment"),
        pytest.param("a: [1\nb: 2\n", "job.yaml:2: not valid YAML", id="syntax"),
        pytest.param("a: 1\n\tb: 2\n", "job.yaml:2: not valid YAML", id="tab"),
        pytest.param(b"\x00\x01\x02", "job.yaml: not valid YAML", id="control"),
        pytest.param(b"\x93NUMPY\x01", "job.yaml: not UTF-8 text (byte 0)", id="binary"),
        pytest.param(
            "just text", "job.yaml: got 'just text' (text), expected an object", id="text"
        ),
        pytest.param("- 1\n- 2\n", "job.yaml: got a list", id="list"),
        pytest.param("spec: {}\n", "job.yaml: an object whose kind is nothing", id="no-kind"),
        pytest.param(
            "kind: {}\n", "job.yaml: an object whose kind is a mapping", id="kind-mapping"
        ),
        pytest.param(
            "apiVersion: sedna.io/v1alpha1\nkind: FederatedLearningjob\n",
            "job.yaml: unknown kind 'FederatedLearningjob', did you mean 'FederatedLearningJob'?",
            id="kind-misspelt",
        ),
        pytest.param(
            "apiVersion: sedna.io/v2\nkind: Dataset\nmetadata: {name: a}\n"
            "spec: {url: a, format: b, nodeName: c}\n",
            "job.yaml Dataset/a apiVersion: got 'sedna.io/v2' (text), expected 'sedna.io/v1alpha1'",
            id="version",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Dataset\nmetadata: {name: a}\nspec: {ulr: a, format: b, nodeName: c}\n",
            "job.yaml Dataset/a spec.ulr: unknown field, did you mean 'url'?",
            id="field",
        ),
        pytest.param("a: 1\nb: 2\na: 3\n", "job.yaml:3: duplicate name 'a'", id="duplicate"),
        pytest.param(
            "a: {b: 1, 'b': 2}\n", "job.yaml:1: duplicate name 'b'", id="duplicate-quoted"
        ),
        pytest.param(
            "a: !!python/object/apply:os.system [ls]\n", "job.yaml:1: tag ", id="python-tag"
        ),
        pytest.param("a: !!binary aGVsbG8=\n", "job.yaml:1: tag ", id="binary-tag"),
        pytest.param("a: !secret x\n", "job.yaml:1: tag !secret is not taken", id="own-tag"),
        pytest.param("a: !!int x\n", "job.yaml:1: 'x' is not what its tag", id="wrong-tag"),
        pytest.param(
            "a: &x [*x]\n", "job.yaml:1: alias *x stands inside of what it refers to", id="cycle"
        ),
        pytest.param("a: *x\n", "job.yaml:1: alias *x refers to nothing", id="dangling"),
        pytest.param(
            "a: &x 1\n---\nb: *x\n", "job.yaml:3: alias *x refers to nothing", id="other-document"
        ),
        pytest.param(
            "? [a]\n: 1\n", "job.yaml:1: got a mapping or a list as a name", id="list-name"
        ),
        pytest.param("a: &x [1]\n*x : 1\n", "job.yaml:2: got alias *x as a name", id="alias-name"),
        pytest.param("a: {<<: 3}\n", "job.yaml:1: '<<' takes a mapping", id="merge"),
        pytest.param("[" * 100_000, "job.yaml:1: nested deeper than 200 levels", id="deep"),
        pytest.param(f"a: {'9' * 5000}\n", "job.yaml:1: a number of 5000 digits", id="long-number"),
    ],
)
def test_a_file_that_is_wrong_is_named(read, content, problem):
    with pytest.raises(InvalidJobError) as caught:
        read(content)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("{", "job.json:1: not valid JSON", id="syntax"),
        pytest.param('{"kind": "A",\n "kind": "B"}', "duplicate name 'kind'", id="duplicate"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        pytest.param("9" * 5000, "not plain data", id="long-number"),
        pytest.param("null", "empty", id="null"),
    ],
)
def test_a_json_file_that_is_wrong_is_named(read, content, problem):
    with pytest.raises(InvalidJobError, match="job") as caught:
        read(content, name="job.json")
    assert problem in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    (problem,) = problems_of(tmp_path / "nowhere.yaml")
    assert problem == f"{tmp_path}/nowhere.yaml: cannot be read: No such file or directory"


def test_a_folder_without_documents_is_named(tmp_path):
    (problem,) = problems_of(tmp_path)
    assert "a folder without any *.yaml, *.yml, *.json" in problem


def test_a_link_to_itself_is_named(tmp_path):
    (tmp_path / "a.yaml").symlink_to(tmp_path / "a.yaml")
    (direct,) = problems_of(tmp_path / "a.yaml")
    (inside,) = problems_of(tmp_path)
    assert "a.yaml: cannot be read" in direct
    assert "a.yaml: cannot be read" in inside


def test_a_file_without_end_is_not_read_to_the_end(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as stream:
        stream.truncate(MOST_FILE_BYTES + 1)
    (problem,) = problems_of(path)
    assert "huge.yaml: larger than" in problem


def test_the_problems_of_all_files_are_said_at_once(read, job_document, other_documents):
    other_documents[0]["spec"]["format"] = 3
    other_documents[5]["metadata"]["name"] = "Bad"
    with pytest.raises(InvalidJobError) as caught:
        read([job_document(rounds=0)], [*other_documents], "a: [")
    assert [problem.field.rpartition("/")[2] for problem in caught.value.problems[:2]] == [
        "digits spec.rounds",
        "ward-a spec.format",
    ]
    assert len(caught.value.problems) == 4


def test_a_name_is_taken_once_per_kind_and_namespace(read, job_document, other_documents):
    again = json.loads(json.dumps(other_documents[0]))
    elsewhere = json.loads(json.dumps(other_documents[0]))
    elsewhere["metadata"]["namespace"] = "other"
    model = {"apiVersion": "sedna.io/v1alpha1", "kind": "Model", "metadata": {"name": "ward-a"}}
    model["spec"] = {"url": "a", "format": "b"}
    assert len(read([*other_documents, elsewhere, model]).datasets) == 5
    with pytest.raises(
        InvalidJobError, match=r"other-1\.yaml Dataset/ward-a metadata\.name: there is one"
    ):
        read([*other_documents], [again])


def test_a_name_cannot_write_to_the_terminal(read):
    with pytest.raises(InvalidJobError) as caught:
        read(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "\x1b[2J"}}))
    assert str(caught.value).isprintable()


def test_writing_and_reading_gives_the_same_document(read, job_document, other_documents):
    written = [
        job_document(hyperparameters={"a": "1e5", "b": "off", "c": [1.5, None]}),
        *other_documents,
    ]
    (job,) = read(render_documents(written)).jobs
    assert job.spec.hyperparameters == {"a": "1e5", "b": "off", "c": [1.5, None]}
