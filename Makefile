# Every target works on a fresh clone: what it needs it makes first, in .venv and .tools.
PYTHON ?= python3
BIN := .venv/bin
EXAMPLE := examples/01-digits-numpy
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check lint types architecture minio crds compiled cluster-install test-cluster \
	benchmarks benchmarks-cluster clean

help:  ## say what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed  ## run the main job: ten clients learn to read digits
	@$(BIN)/python $(EXAMPLE)/prepare.py
	@rm -rf $(EXAMPLE)/.fedloom
	@cd $(EXAMPLE) && ../../$(BIN)/fedloom run -f job.yaml
	@$(BIN)/fedloom report $(EXAMPLE)/.fedloom/default/digits
	@echo "your own job: copy $(EXAMPLE), change train.py and job.yaml (see its README)"

test: .venv/installed-cluster check minio  ## style, types, architecture and every test that is not slow
	$(BIN)/python -m pytest -n 2 -m "not slow and not cluster"

test-slow: .venv/installed-torch minio  ## the tests that `make test` leaves out; installs torch, 3 GB
	$(BIN)/python -m pytest -m "(slow or torch) and not cluster"

check: lint types architecture  ## style, types and architecture alone

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

architecture: .venv/installed-dev
	$(BIN)/lint-imports

minio: .tools/bin/minio  ## a real S3 server for the tests, built from its source; needs Go

.tools/bin/minio:
	@if command -v minio >/dev/null; then :; \
	elif command -v go >/dev/null; then \
		echo "building MinIO for the S3 tests; once, a few minutes"; \
		mkdir -p .tools/bin && GOBIN="$(CURDIR)/.tools/bin" go install github.com/minio/minio@$(MINIO_VERSION); \
	else echo "no Go and no minio on the path: the S3 tests will be left out"; fi

crds: .venv/installed  ## write manifests/base/crds and docs/fields.md from the types in fedloom/api
	$(BIN)/python -c "from pathlib import Path; from fedloom.api import crd, documents; \
	[Path('manifests/base/crds', name).write_text(documents.render_crd(crd_)) for name, crd_ in crd.crds().items()]"
	$(BIN)/python -m fedloom.api.field_page > docs/fields.md

compiled: .venv/installed-cluster  ## write each example's compiled round beside it, and the components of kfp
	@for job in examples/*-*/job.yaml; do example=$$(dirname $$job); mkdir -p $$example/compiled; \
	  $(BIN)/fedloom compile -f $$job --engine argo > $$example/compiled/round-1.yaml; done
	@$(BIN)/fedloom compile -f examples/08-kfp/job.yaml --engine kfp > examples/08-kfp/compiled/round-1.kfp.yaml
	@$(BIN)/fedloom compile -f examples/08-kfp/job.yaml --engine kfp --all-rounds > examples/08-kfp/compiled/job.kfp.yaml
	@$(BIN)/python -m pipelines.engines.kfp_components components/kfp

cluster-install: .venv/installed-dev  ## build the images, load them into $$KUBECONFIG's cluster, apply the quickstart
	PYTHON=$(BIN)/python manifests/install $(EXAMPLES)

test-cluster: .venv/installed-cluster  ## the tests that need a cluster: any $$KUBECONFIG with the quickstart in it
	$(BIN)/python -m pytest -m cluster tests/cluster

benchmarks: .venv/installed-dev  ## measure beside the peers; minutes
	$(BIN)/python benchmarks/aggregation.py
	$(BIN)/python benchmarks/codecs.py
	$(BIN)/python benchmarks/learning.py
	$(BIN)/python benchmarks/embedded_round.py
	$(BIN)/python benchmarks/sedna_round.py
	$(BIN)/python benchmarks/transfer.py
	$(BIN)/python benchmarks/kfp_compile.py
	$(BIN)/python benchmarks/mistnet.py
	$(BIN)/python benchmarks/mistnet_edge.py
	$(BIN)/python benchmarks/document.py

benchmarks-cluster: .venv/installed-cluster  ## measure on $$KUBECONFIG's cluster, with the quickstart in it; minutes
	$(BIN)/python benchmarks/cluster_idle.py
	$(BIN)/python benchmarks/cluster_round.py

.venv/installed: pyproject.toml constraints.txt
	@echo "installing Fedloom into .venv; once, a minute or two"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.venv/installed-torch: .venv/installed-dev
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev-torch]'
	@touch $@

.venv/installed-cluster: .venv/installed-dev
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster,kfp]'
	@touch $@

clean:  ## remove what the targets made
	rm -rf .venv .tools .fedloom $(EXAMPLE)/data $(EXAMPLE)/output $(EXAMPLE)/.fedloom
