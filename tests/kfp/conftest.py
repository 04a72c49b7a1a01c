"""What these tests share: a backend in this process, a controller over it, and calls at which it dies."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from controller.cluster.answers import EngineUnavailableError
from controller.cluster.kfp_api import KfpApi, KfpConnection
from controller.cluster.kfp_poll import RunPoll
from controller.cluster.kfp_runs import KfpRuns
from controller.cluster.kfp_settings import KfpSettings
from controller.cluster.reconcile import Reconciler
from controller.cluster.resources import CONFIG_MAPS, SECRETS
from controller.cluster.watches import RunWatches
from fedloom.errors import TransientError
from pipelines.engines import argo_names, argo_secrets

HERE = Path(__file__).parent


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fake_kfp = _load("fake_kfp", HERE / "fake_kfp.py")
benches = _load("cluster_benches", HERE.parent / "cluster_controller/conftest.py")


class Killed(BaseException):
    """The process ends here: nothing may catch it."""


class Death:
    """Kills the controller at call number `at`: before it is made (`is_after` false) or after.

    Calls are those that leave the process: to the Kubernetes API and to the backend.
    """

    def __init__(self) -> None:
        self.count, self.at, self.is_after = 0, -1, False
        self.was = ""

    def arm(self, at: int, *, is_after: bool) -> None:
        self.count, self.at, self.is_after, self.was = 0, at, is_after, ""

    def around(self, what: str, call: Callable[[], Any]) -> Any:
        self.count += 1
        is_due = self.count == self.at
        if is_due:
            self.was = what
        if is_due and not self.is_after:
            raise Killed(what)
        answer = call()
        if is_due:
            raise Killed(what)
        return answer


class MortalCluster(benches.fake.FakeCluster):
    """A Kubernetes API whose caller may die at any call."""

    def __init__(self, death: Death) -> None:
        super().__init__()
        self.death, self.is_quiet = death, True
        self.used: set[tuple[str, str, str | None]] = set()

    def _mortal(self, verb: str, resource: Any, where: Any, call: Callable[[], Any]) -> Any:
        if self.is_quiet:
            return call()
        self.used.add((verb, resource.plural, where))
        return self.death.around(f"{verb} {resource.plural}", call)

    def get(self, resource, namespace, name):
        call = partial(super().get, resource, namespace, name)
        return self._mortal("get", resource, namespace, call)

    def list(self, resource, namespace, selector=""):
        call = partial(super().list, resource, namespace, selector)
        return self._mortal("list", resource, namespace, call)

    def create(self, resource, document):
        call = partial(super().create, resource, document)
        return self._mortal("create", resource, document["metadata"].get("namespace"), call)

    def patch(self, resource, namespace, name, change, subresource=None):
        call = partial(super().patch, resource, namespace, name, change, subresource)
        return self._mortal("patch", resource, namespace, call)

    def replace(self, resource, document, subresource=None):
        call = partial(super().replace, resource, document, subresource)
        return self._mortal("replace", resource, document["metadata"].get("namespace"), call)

    def delete(self, resource, namespace, name, grace_seconds=None):
        call = partial(super().delete, resource, namespace, name, grace_seconds)
        return self._mortal("delete", resource, namespace, call)


class MortalApi(KfpApi):
    """A backend whose caller may die at any call."""

    def __init__(self, connection: KfpConnection, death: Death) -> None:
        super().__init__(connection)
        self._death = death

    def _call(self, verb, path, query=None, body=None):
        call = partial(super()._call, verb, path, query, body)
        return self._death.around(f"{verb} {path}", call)


class KfpBench(benches.Bench):
    """A controller's parts over an API server in memory, a real S3 and a backend in this process."""

    def __init__(self, cluster, store, server, settings: KfpSettings | None = None) -> None:
        self.server, self.now = server, 1_767_225_600.0
        self.death = cluster.death
        self.kfp_settings = settings or KfpSettings(KfpConnection(server.url))
        super().__init__(cluster, store)

    def restart(self) -> None:
        super().restart()
        around = self.reconciler._around
        settings = replace(around.shared.settings, kfp=self.kfp_settings)
        self.run_watches = RunWatches(
            self.cluster, self.kfp_settings, settings.namespaces, self.enqueued.append
        )
        api = MortalApi(self.kfp_settings.connection, self.death)
        self.runs = KfpRuns(
            self.cluster,
            self.kfp_settings,
            api,
            RunPoll(api, lambda: self.now),
            self.run_watches.records,
            self.run_watches.pods,
            lambda: self.now,
        )
        shared = replace(around.shared, settings=settings, kfp=self.runs)
        self.reconciler = Reconciler(replace(around, shared=shared))

    def apply_job(self, **spec: Any):
        return super().apply_job(**{"engine": {"name": "kfp"}} | spec)

    def look(self, name: str = "toy") -> float | None:
        """See everything, then take care of one job; time passes."""
        self.now += 2.0
        for cache in self.run_watches.all:
            for namespace in cache._parts or (None,):
                cache.refresh(namespace)
        for cache in self.watches.all:
            cache.refresh("ns" if cache.resource.is_namespaced else None)
        self.cluster.is_quiet = False
        try:
            return self.reconciler.reconcile(("ns", name))
        finally:
            self.cluster.is_quiet = True

    def try_look(self, name: str = "toy") -> float | None:
        """Look as the controller's threads do: what passes is told in the status."""
        try:
            return self.look(name)
        except TransientError as error:
            return error.retry_after_seconds

    def run(self, number: int, attempt: int = 1):
        """The backend's run of an attempt, the only one."""
        again = f" / attempt {attempt}" if attempt > 1 else ""
        found = self.server.named(f"toy / round {number:03}{again}")
        assert len(found) == 1, found
        return found[0]

    def end_run(self, number: int, state: str = "SUCCEEDED", attempt: int = 1, **more: Any) -> None:
        self.server.set_state(self.run(number, attempt)["run_id"], state, **more)

    def round(self, number: int, **failed: str) -> None:
        self.commit(number, **failed)
        self.end_run(number)
        self.look()

    def records(self):
        return [each["metadata"]["name"].split("-", 2)[2] for each in self.cluster.all(CONFIG_MAPS)]

    def secrets(self):
        return sorted(
            each["metadata"]["name"].split("-", 2)[2] for each in self.cluster.all(SECRETS)
        )

    def titles(self):
        return [run["display_name"] for run in self.server.runs.values()]


@pytest.fixture
def server():
    found = fake_kfp.FakeKfp()
    found.start()
    yield found
    found.stop()


@pytest.fixture
def fake_release():
    """Make a backend of another release."""
    started = []

    def make(*release: int, certificate: Path | None = None):
        found = fake_kfp.FakeKfp(release)
        found.certificate = certificate
        found.start()
        started.append(found)
        return found

    yield make
    for each in started:
        each.stop()


@pytest.fixture
def store_settings(minio_server, s3_bucket, tmp_path):
    from controller.cluster.settings import StoreSettings
    from fedloom.artifacts.credentials import S3Credentials

    return StoreSettings(
        uri=f"s3://{s3_bucket}/{tmp_path.name}",
        endpoint=minio_server.url,
        edge_endpoint="http://edge.example:9000",
        region="us-east-1",
        credentials=S3Credentials(minio_server.access_key, minio_server.secret_key),
    )


@pytest.fixture
def make_bench(store_settings, server):
    """Make a controller over a cluster of its own; the store apart by a number."""
    made = []

    def make(settings: KfpSettings | None = None, on: Any = None) -> KfpBench:
        made.append(None)
        store = replace(store_settings, uri=f"{store_settings.uri}/{len(made)}")
        return KfpBench(MortalCluster(Death()), store, on or server, settings)

    return make


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture
def unavailable():
    return EngineUnavailableError


@dataclass(frozen=True)
class _Package:
    pipeline: dict[str, Any]
    platform: dict[str, Any]


@pytest.fixture(autouse=True)
def compiler(request, monkeypatch):
    """A package in a moment, for tests that ask for no real one: they are about what is done with it."""
    if "real_compiler" in request.fixturenames:
        return None
    import pipelines.engines

    def compile_plan(plan, setting):
        name = argo_names.workflow_of(plan)
        return _Package({"pipelineInfo": {"name": name}}, {"platforms": {"kubernetes": {}}})

    def secrets_of(plan, setting, urls, access, signed):
        made = argo_secrets.client_secrets(plan, setting, urls)
        made.append(argo_secrets.server_secret(plan, setting, access, signed))
        for each in made:
            del each["metadata"]["ownerReferences"]
        return made

    stub = types.SimpleNamespace(compile_plan=compile_plan, secrets_of=secrets_of)
    for name in ("kfp", "kfp_secrets"):
        monkeypatch.setitem(sys.modules, f"pipelines.engines.{name}", stub)
        monkeypatch.setattr(pipelines.engines, name, stub, raising=False)
    return stub


@pytest.fixture
def real_compiler():
    """The packages that the backend gets."""


@pytest.fixture
def kill():
    return Killed


@pytest.fixture
def cut():
    """Raised by a server that hangs up."""
    return fake_kfp.Cut


@pytest.fixture
def refusal():
    """An answer that refuses: (HTTP code, code of gRPC, sentence)."""
    return fake_kfp.RefusalError
