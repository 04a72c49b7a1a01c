"""The one door to Kubeflow Pipelines: JSON in, JSON out, errors of our own tree.

Its REST API v2beta1 through the transport of `kfp_server_api`, whose models are not used: they refuse
what a newer backend says and lose what they do not know. The SDK `kfp` itself stays outside: it wants
an old kubernetes client. The library is imported with the first call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.cluster.answers import EngineUnavailableError, RefusedError

Document = dict[str, Any]

ROOT = "/apis/v2beta1"
CALL_SECONDS = 20.0
"""How long an answer may take: what was asked for and not answered by then may still happen."""
CONNECT_SECONDS = 5.0
MOST_IDS = 100
"""How many runs are asked for in one call: their ids are in the URL."""
_CONNECTIONS = 8
_REASONS = {401: "KfpUnauthorized", 403: "KfpForbidden"} | dict.fromkeys(
    (0, 408, 429, 502, 503, 504), "KfpUnreachable"
)


@dataclass(frozen=True)
class KfpConnection:
    """Where the API is and who asks.

    Attributes:
        endpoint: `http://ml-pipeline.kubeflow:8888`, without a slash at its end.
        token_path: a file with a token, read before every call; None to send none.
        ca_path: certificates that the endpoint's is signed by; None for the public ones.
    """

    endpoint: str
    token_path: Path | None = None
    ca_path: Path | None = None


class KfpApi:
    """Kubeflow Pipelines.

    Every call raises EngineUnavailableError where there is no answer, or the answer is that nobody
    knows who asks; RefusedError where the request is not taken as it is.
    """

    def __init__(self, connection: KfpConnection) -> None:
        self._connection = connection
        self._client: Any = None

    def health(self) -> Document:
        """Ask whether it is there; says `multi_user`."""
        return self._found(self._call("GET", "/healthz"))

    def find_experiment(self, name: str, namespace: str) -> Document | None:
        """Look an experiment up by its name; namespace only where the backend has several users."""
        query = {"filter": _filter("EQUALS", "display_name", name), "page_size": 1}
        answer = self._found(self._call("GET", "/experiments", query | _namespace(namespace)))
        return next(iter(answer.get("experiments") or ()), None)

    def create_experiment(self, name: str, description: str, namespace: str) -> Document:
        """Make an experiment, or give the one that has this name."""
        body = {"display_name": name, "description": description} | _namespace(namespace)
        try:
            return self._found(self._call("POST", "/experiments", body=body))
        except RefusedError as error:  # 409: somebody made it just now
            found = self.find_experiment(name, namespace)
            if found is None:
                raise error from None
            return found

    def unarchive_experiment(self, experiment: str) -> None:
        self._call("POST", f"/experiments/{experiment}:unarchive", body={})

    def create_run(self, body: Mapping[str, Any]) -> Document | None:
        """Make a run; None where its experiment is gone.

        Without an answer nobody knows whether there is a run now: see `find_runs`.
        """
        query = {"experiment_id": body["experiment_id"]}  # releases after 2.0 read it here
        return self._call("POST", "/runs", query, body)

    def find_runs(self, name: str, namespace: str) -> list[Document]:
        """Give the runs of a name, in whatever experiment, archived or not."""
        return self._runs(_filter("EQUALS", "display_name", name), namespace)

    def get_runs(self, runs: Sequence[str], namespace: str) -> dict[str, Document]:
        """Give the runs with these ids, at most `MOST_IDS`; who is missing is not there."""
        found = self._runs(_filter("IN", "run_id", list(runs)), namespace)
        return {each["run_id"]: each for each in found}

    def terminate_run(self, run: str) -> bool:
        """Ask for the end of a run; False where it is gone or has ended."""
        try:
            return self._call("POST", f"/runs/{run}:terminate", body={}) is not None
        except RefusedError:
            return False

    def _runs(self, filter_text: str, namespace: str) -> list[Document]:
        query: Document = {"filter": filter_text, "page_size": MOST_IDS} | _namespace(namespace)
        found: list[Document] = []
        while True:
            answer = self._found(self._call("GET", "/runs", query))
            found += answer.get("runs") or ()
            token = answer.get("next_page_token")
            if not token:
                return found
            query["page_token"] = token

    def _found(self, answer: Document | None) -> Document:
        """What is always there: an address that does not know it is another's."""
        if answer is None:
            message = f"{self._where}: got HTTP 404, expected the API {ROOT} there"
            raise EngineUnavailableError("KfpUnreachable", message, 10.0)
        return answer

    @property
    def _where(self) -> str:
        return f"Kubeflow Pipelines at {self._connection.endpoint}"

    def _call(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Document | None:
        """Ask; None where the answer is 404."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

        try:
            answer, _, _ = self._open().call_api(
                ROOT + path,
                verb,
                query_params=list((query or {}).items()),
                header_params=self._headers(),
                body=body,
                response_type="object",
                _request_timeout=(CONNECT_SECONDS, CALL_SECONDS),
            )
        except ApiException as error:
            self._refuse(int(error.status or 0), error.body or error.reason, path)
            return None
        except (HTTPError, OSError) as error:
            cause = getattr(error, "reason", None) or error
            raise EngineUnavailableError(
                "KfpUnreachable",
                f"{self._where} does not answer: {type(cause).__name__}",
                is_open=not isinstance(cause, NewConnectionError | ConnectTimeoutError),
            ) from error
        if not isinstance(answer, dict):  # a login page, after having been led there
            message = f"{self._where}: got a page instead of an answer, expected JSON: a login?"
            raise EngineUnavailableError("KfpUnauthorized", message, 10.0)
        return answer

    def _refuse(self, code: int, body: Any, path: str) -> None:
        """Raise what an answer means that is no success; 404 is for whoever asked."""
        message = f"{self._where}: {path}: {_message_of(body)} (HTTP {code})"
        if code == 404:
            return
        if code in (400, 409, 412, 413, 415, 422):
            raise RefusedError("KfpRefused", message)
        is_open = code not in (401, 403)
        raise EngineUnavailableError(_REASONS.get(code, "KfpFailed"), message, is_open=is_open)

    def _headers(self) -> dict[str, str]:
        """Kubernetes renews a projected token in its file: it is read each time."""
        path = self._connection.token_path
        head = {"Content-Type": "application/json", "Accept": "application/json"}
        if path is None:
            return head
        try:
            token = path.read_text().strip()
        except OSError as error:
            message = f"{self._where}: no token: {path}: {error.strerror}"
            raise EngineUnavailableError("KfpUnauthorized", message, 10.0) from error
        return head | {"Authorization": f"Bearer {token}"}

    def _open(self) -> Any:
        if self._client is None:
            import kfp_server_api

            settings: Any = kfp_server_api.Configuration(host=self._connection.endpoint)
            settings.retries = 0  # who asks again is the controller's queue
            settings.connection_pool_maxsize = _CONNECTIONS
            if self._connection.ca_path is not None:
                settings.ssl_ca_cert = str(self._connection.ca_path)
            self._client = kfp_server_api.ApiClient(settings)
        return self._client


def _namespace(namespace: str) -> Document:
    return {"namespace": namespace} if namespace else {}


def _filter(operation: str, key: str, value: str | list[str]) -> str:
    given = (
        {"stringValue": value} if isinstance(value, str) else {"stringValues": {"values": value}}
    )
    return json.dumps({"predicates": [{"operation": operation, "key": key, **given}]})


def _message_of(body: Any) -> str:
    """The sentence of an answer that refuses; KFP wraps the cause in what it was doing."""
    try:
        found = json.loads(body)
    except (TypeError, ValueError):
        found = None
    if isinstance(found, dict):
        body = found.get("message") or found.get("error_message") or found.get("error") or body
    return str(body)[:500]
