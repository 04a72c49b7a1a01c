"""docs/how-to/from-sedna.md does what it says: its commands run, its links lead somewhere, its rows are true.

Its lines of kubectl are run by tests/cluster/test_sedna.py; here it is seen that they fit the example.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fedloom.api.crd import crds

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs/how-to").glob("*.md"))
GUIDE = (ROOT / "docs/how-to/from-sedna.md").read_text()
JOB = "examples/10-from-sedna/job.yaml"
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines() if line.strip()]
HERE = [command for command in COMMANDS if command[0] != "kubectl"]
THERE = [command for command in COMMANDS if command[0] == "kubectl"]
ROWS = [
    (found[1], found[2], found.start())
    for found in re.finditer(r"^\| +(.+?) +\| +(.+?) +\|$", GUIDE, re.MULTILINE)
]
SOURCES = ("fedloom", "components", "pipelines", "controller", "cli", "compat", "manifests")


def test_commands_of_this_machine_run_from_the_root_of_the_repository(example):
    """In a copy of the example: all of the block, in its order."""
    assert [command[:2] for command in HERE] == [
        ["python", "examples/10-from-sedna/prepare.py"],
        ["fedloom", "validate"],
        ["fedloom", "run"],
    ]
    root = example.parents[1]
    programs = {"python": [sys.executable], "fedloom": [sys.executable, "-m", "cli.main"]}
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    said = []
    for program, *arguments in HERE:
        done = subprocess.run(
            [*programs[program], *arguments],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[1] == "default/digits-sedna: valid\n"
    assert "round 10/10" in said[2]
    assert "Succeeded: all 10 rounds are done" in said[2]
    assert (example / "output/digits.npz").is_file()


def test_commands_of_a_cluster_are_of_this_job_and_tests_of_the_cluster_run_them():
    documents = list(yaml.safe_load_all((ROOT / JOB).read_text()))
    (name,) = [d["metadata"]["name"] for d in documents if d["kind"] == "FederatedLearningJob"]
    assert [command[1] for command in THERE] == ["apply", "wait", "get"]
    apply, wait, get = THERE
    assert apply[2:] == ["-f", JOB]
    assert wait[2] == "--for=condition=Complete"
    assert wait[3] == f"fl/{name}"
    assert get[2:] == ["fl", name]
    assert "docs/how-to/from-sedna.md" in (ROOT / "tests/cluster/test_sedna.py").read_text()


def test_commands_that_stand_alone_are_ones_that_there_are():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"^    make ([a-z-]+)$", GUIDE, re.MULTILINE):
        assert target in targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_paths_that_the_guide_names_are_there():
    for span in re.findall(r"`([\w./-]+/[\w./-]+)`", GUIDE):
        if span.partition("/")[0] in ("examples", "manifests", "docs", "tests"):
            assert (ROOT / span).exists(), span


def schema_fields() -> set[str]:
    """Every field of the three kinds as `a.b.c`, lists and maps left out."""
    found = set()

    def walk(schema: dict, path: str) -> None:
        found.add(path)
        for name, part in schema.get("properties", {}).items():
            walk(part, f"{path}.{name}".strip("."))
        if "items" in schema:
            walk(schema["items"], path)

    for crd in crds().values():
        (version,) = crd["spec"]["versions"]
        walk(version["schema"]["openAPIV3Schema"], "")
    return found


@pytest.fixture(scope="module")
def product() -> str:
    """Everything that the product is made of, in one text."""
    paths = [path for source in SOURCES for path in (ROOT / source).rglob("*") if path.is_file()]
    texts = [p.read_text() for p in paths if p.suffix in (".py", ".yaml") or p.name == "install"]
    texts += [(ROOT / "docs/operations.md").read_text()]
    return "\n".join(texts)


def spans() -> list[tuple[str, str]]:
    """Code in the right column of a row; in the left one too where the row says that it stays."""
    first, last = GUIDE.index("## What stays"), GUIDE.index("## What is different")
    found = []
    for left, right, where in ROWS:
        text = f"{left} {right}" if first < where < last else right
        found += [(left, span) for span in re.findall(r"`([^`]+)`", text)]
    return found


def test_the_guide_has_rows_of_features_and_of_bugs():
    assert len(ROWS) > 25
    assert len(spans()) > 30


@pytest.mark.parametrize(("row", "span"), spans(), ids=[span for _, span in spans()])
def test_what_a_row_names_is_part_of_the_product(row, span, product):
    dotted = re.fullmatch(r"(?:Dataset\.)?((?:spec|status)\.[\w.]+|[a-z]\w+\.\w+)(?:: \w+)?", span)
    if dotted:
        field = dotted[1]
        fields = schema_fields()
        assert field in fields or f"spec.{field}" in fields, f"{row}: no field {field}"
        return
    for word in re.findall(r"[A-Za-z_][\w-]*", span):
        assert re.search(rf"\b{re.escape(word)}\b", product), f"{row}: nothing has the word {word}"


def test_the_reasons_that_the_guide_names_are_explained():
    page = (ROOT / "docs/operations.md").read_text()
    for reason in re.findall(r"`\w+=False/(\w+)`", GUIDE):
        assert f"`{reason}`" in page
