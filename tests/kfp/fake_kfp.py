"""A server of `/apis/v2beta1` in this process: experiments and runs, and what can go wrong with them.

Answers, codes and the sentences of refusals are those of a backend 2.0.5, looked up one by one; where later
releases differ, `release` says which of them it is. Nothing runs: a test says how a run stands. The real
`kfp.Client` drives it in test_the_server.py, so that what passes against it has a chance elsewhere.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Document = dict[str, Any]
ROOT = "/apis/v2beta1"
_OPEN = ("PENDING", "RUNNING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED")
_RUN_KEYS = {
    "run_id": "run_id",
    "id": "run_id",
    "display_name": "display_name",
    "name": "display_name",
    "description": "description",
    "created_at": "created_at",
    "experiment_id": "experiment_id",
    "state": "state",
    "storage_state": "storage_state",
}
_EXPERIMENT_KEYS = {
    "experiment_id": "experiment_id",
    "id": "experiment_id",
    "display_name": "display_name",
    "name": "display_name",
    "description": "description",
    "created_at": "created_at",
    "namespace": "namespace",
    "storage_state": "storage_state",
}


_OPERATIONS = {
    1: "EQUALS",
    2: "NOT_EQUALS",
    3: "GREATER_THAN",
    5: "GREATER_THAN_EQUALS",
    6: "LESS_THAN",
    7: "LESS_THAN_EQUALS",
    8: "IN",
    9: "IS_SUBSTRING",
}
"""The client says a number, people say the word; the API takes both."""


class RefusalError(Exception):
    """An answer that refuses: HTTP code, code of gRPC, sentence."""

    def __init__(self, http: int, grpc: int, message: str) -> None:
        super().__init__(message)
        self.http, self.grpc = http, grpc


class Cut(Exception):
    """The connection is closed without an answer."""


def not_found(kind: str, name: str) -> RefusalError:
    return RefusalError(404, 5, f"ResourceNotFoundError: {kind} {name} not found")


def invalid(message: str) -> RefusalError:
    return RefusalError(400, 3, f"InvalidInputError: {message}")


class FakeKfp:
    """See the module.

    Attributes:
        token: what a caller must show as Bearer; None for everybody.
        is_forbidden: whoever is known may do nothing.
        release: (2, 0) calls a cancelled run FAILED, later ones CANCELED.
        multi_user: experiments belong to namespaces.
        largest_page: entries of a page, whatever is asked for.
        login: a page that everybody gets in place of an answer, as from a proxy that wants a login.
        before, after: called with (verb, path) before and after each request is served; may raise.
        calls: (verb, path without ids), in order.
    """

    def __init__(self, release: tuple[int, int] = (2, 17)) -> None:
        self.release = release
        self.token: str | None = None
        self.is_forbidden = False
        self.multi_user = False
        self.largest_page = 200
        self.login = ""
        self.before: Callable[[str, str], None] = lambda verb, path: None
        self.after: Callable[[str, str], None] = lambda verb, path: None
        self.certificate: Path | None = None  # and its key, in one file: then it speaks TLS
        self.calls: list[tuple[str, str]] = []
        self.experiments: dict[str, Document] = {}
        self.runs: dict[str, Document] = {}
        self.is_up = False
        self._lock = threading.RLock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    # What a test does with it.

    @property
    def url(self) -> str:
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, at the same port as before where it did."""
        fake = self

        class Handler(_Handler):
            kfp = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self.is_up = True
        self._port = self._server.server_address[1]
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused."""
        self.is_up = False  # for those who are connected
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def set_state(self, run: str, state: str, error: str = "", **tasks: str) -> None:
        """Let a run stand so; `tasks` are states of its tasks by name."""
        with self._lock:
            found = self.runs[run]
            found["state"] = state
            found["state_history"].append({"update_time": _now(), "state": state})
            if error:
                found["error"] = {"code": 13, "message": error}
            if tasks:
                details = [
                    {"run_id": run, "task_id": name, "display_name": name, "state": each}
                    for name, each in tasks.items()
                ]
                found["run_details"] = {"task_details": details}

    def cancel(self, run: str) -> None:
        """Somebody presses Terminate, and the run has ended."""
        self.terminate(run)
        is_old = self.release < (2, 1)
        if is_old:  # whose history forgets it
            self.runs[run]["state_history"].pop()
        self.set_state(run, "FAILED" if is_old else "CANCELED")

    def terminate(self, run: str) -> None:
        with self._lock:
            found = self._run(run)
            if found["state"] not in _OPEN:
                raise invalid(f"Failed to terminate a run {run}. Row not found")
            self.set_state(run, "CANCELING")

    def named(self, name: str) -> list[Document]:
        """Every run of this name, in the order of their making."""
        return [run for run in self.runs.values() if run["display_name"] == name]

    # What it answers.

    def answer(self, verb: str, path: str, query: dict[str, str], body: Document) -> Document:
        parts = [unquote(each) for each in path.split("/") if each]
        if parts[:1] == ["healthz"] and verb == "GET":
            return {"commit_sha": "fake", "tag_name": "fake", "multi_user": self.multi_user}
        serve = {"experiments": self._serve_experiments, "runs": self._serve_runs}.get(parts[0])
        if serve is None or len(parts) > 2:
            raise RefusalError(404, 5, "Not Found")
        with self._lock:
            return serve(verb, parts[1] if len(parts) > 1 else "", query, body)

    def _serve_experiments(
        self, verb: str, name: str, query: dict[str, str], body: Document
    ) -> Document:
        if not name:
            if verb == "POST":
                return self._create_experiment(body)
            self._check_namespace(query.get("namespace", ""))
            found = [
                each
                for each in self.experiments.values()
                if not self.multi_user or each.get("namespace") == query["namespace"]
            ]
            return self._page("experiments", found, _EXPERIMENT_KEYS, query)
        name, _, action = name.partition(":")
        if name not in self.experiments:
            raise not_found("Experiment", name)
        found_one = self.experiments[name]
        if action in ("archive", "unarchive"):
            is_archived = action == "archive"
            found_one["storage_state"] = "ARCHIVED" if is_archived else "AVAILABLE"
            for run in self.runs.values():
                if is_archived and run["experiment_id"] == name:
                    run["storage_state"] = "ARCHIVED"
            return {}
        if verb == "DELETE":
            del self.experiments[name]
            return {}
        return found_one

    def _create_experiment(self, body: Document) -> Document:
        name, namespace = body.get("display_name", ""), body.get("namespace", "")
        if not name:
            message = "Invalid input error: Experiment must have a non-empty name"
            raise RefusalError(500, 13, f"InternalServerError: {message}")
        self._check_namespace(namespace)
        for each in self.experiments.values():
            if (each["display_name"], each.get("namespace", "")) == (name, namespace):
                message = f"Failed to create a new experiment. The name {name} already exists."
                raise RefusalError(409, 6, f"Already exist error: {message}")
        made = {
            "experiment_id": str(uuid.uuid4()),
            "display_name": name,
            "description": body.get("description", ""),
            "created_at": _now(),
            "storage_state": "AVAILABLE",
        }
        if self.multi_user:
            made["namespace"] = namespace
        self.experiments[made["experiment_id"]] = made
        return made

    def _serve_runs(self, verb: str, name: str, query: dict[str, str], body: Document) -> Document:
        if not name:
            return self._create_run(body) if verb == "POST" else self._list_runs(query)
        name, _, action = name.partition(":")
        run = self._run(name)
        if action == "terminate":
            self.terminate(name)
            return {}
        if action == "retry":
            if run["state"] != "FAILED":
                raise RefusalError(500, 13, "Failed to retry run: it does not allow reties")
            self.set_state(name, "RUNNING")
            return {}
        if action in ("archive", "unarchive"):
            run["storage_state"] = "ARCHIVED" if action == "archive" else "AVAILABLE"
            return {}
        if verb == "DELETE":
            del self.runs[name]
            return {}
        return run

    def _create_run(self, body: Document) -> Document:
        if not body.get("display_name"):
            message = "Invalid input error: Run name cannot be empty"
            raise RefusalError(500, 13, f"InternalServerError: {message}")
        experiment = body.get("experiment_id", "")
        if experiment not in self.experiments:
            raise not_found("Experiment", experiment)
        source = body.get("pipeline_spec") or {}
        spec = source.get("pipeline_spec", source)
        if not spec.get("pipelineInfo"):
            message = "unknown template format: pipeline spec is invalid"
            raise RefusalError(500, 13, f"InternalServerError: InvalidInputError: {message}")
        if spec.get("pipelineInfo", {}).get("name") == "refused":
            raise invalid("it has a feature that this backend does not know")
        now, name = _now(), str(uuid.uuid4())
        self.runs[name] = {
            "experiment_id": experiment,
            "run_id": name,
            "display_name": body["display_name"],
            "storage_state": "AVAILABLE",
            "description": body.get("description", ""),
            "pipeline_spec": source,
            **({"runtime_config": body["runtime_config"]} if body.get("runtime_config") else {}),
            **({"plugins_input": body["plugins_input"]} if body.get("plugins_input") else {}),
            "service_account": body.get("service_account") or "pipeline-runner",
            "created_at": now,
            "scheduled_at": now,
            "finished_at": "1970-01-01T00:00:00Z",
            "state": "PENDING",
            "state_history": [{"update_time": now, "state": "PENDING"}],
        }
        return self.runs[name]

    def _list_runs(self, query: dict[str, str]) -> Document:
        experiment, found = query.get("experiment_id", ""), list(self.runs.values())
        if experiment:
            if experiment not in self.experiments:
                raise not_found("Experiment", experiment)
            found = [run for run in found if run["experiment_id"] == experiment]
        else:
            self._check_namespace(query.get("namespace", ""))
        return self._page("runs", found, _RUN_KEYS, query)

    def _run(self, name: str) -> Document:
        if name not in self.runs:
            raise not_found("Run", name)
        return self.runs[name]

    def _check_namespace(self, namespace: str) -> None:
        if self.multi_user and not namespace:
            raise invalid("Namespace cannot be empty in multi-user mode")

    def _page(
        self, kind: str, found: list[Document], keys: dict[str, str], query: dict[str, str]
    ) -> Document:
        for predicate in json.loads(query.get("filter") or "{}").get("predicates") or ():
            found = [each for each in found if _holds(predicate, each, keys)]
        field, _, order = query.get("sort_by", "").partition(" ")
        if field:
            if field not in keys:
                raise invalid(f"Invalid sorting field: {field!r}")
            found.sort(key=lambda each: str(each[keys[field]]), reverse=order == "desc")
        size = min(int(query.get("page_size") or 20) or 20, self.largest_page)
        try:
            first = int(base64.b64decode(query.get("page_token") or "MA==", validate=True))
        except ValueError as error:
            raise invalid(f"Invalid package token: {error}") from error
        answer: Document = {kind: found[first : first + size], "total_size": len(found)}
        if first + size < len(found):
            token = base64.b64encode(str(first + size).encode()).decode()
            answer["next_page_token"] = token
        return {key: value for key, value in answer.items() if value}


def _holds(predicate: Document, entry: Document, keys: dict[str, str]) -> bool:
    key, operation = predicate.get("key", ""), predicate.get("operation", "")
    operation = _OPERATIONS.get(operation, operation)
    if key not in keys:
        raise invalid(f'no support for filtering on unrecognized field "{key}"')
    value = str(entry.get(keys[key], ""))
    text = predicate.get("stringValue", predicate.get("string_value"))
    several = predicate.get("stringValues", predicate.get("string_values"))
    if operation == "IN":
        if several is None:
            raise invalid("cannot use IN operator with scalar type string")
        return value in several.get("values", ())
    if text is None:
        raise invalid("Error using Filter.Predicate.Value with <nil>")
    if operation == "EQUALS":
        return value == text
    if operation == "NOT_EQUALS":
        return value != text
    if operation == "IS_SUBSTRING":
        return text in value
    raise invalid(f"invalid predicate operation: {operation}")


class _Handler(BaseHTTPRequestHandler):
    kfp: FakeKfp
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: else every answer waits for an acknowledgement
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def log_message(self, format: str, *args: Any) -> None:
        """Tests say what they have to say themselves."""

    def _serve(self, verb: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        split = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(split.query).items()}
        path = split.path.removeprefix(ROOT)
        self.kfp.calls.append((verb, _without_ids(path)))
        if self.kfp.login:
            self._say(200, self.kfp.login)
            return
        try:
            if not self.kfp.is_up:
                raise Cut
            self.kfp.before(verb, path)
            if path != "/healthz":
                self._check_caller()
            if not split.path.startswith(ROOT):
                raise RefusalError(404, 5, "Not Found")
            found = self.kfp.answer(verb, path, query, json.loads(text or b"null") or {})
            code, answer = 200, json.dumps(found)
            self.kfp.after(verb, path)
        except Cut:
            self.close_connection = True
            return
        except RefusalError as error:
            message = f"Failed: {error}"
            details = [{"@type": "type.googleapis.com/google.rpc.Status", "code": error.grpc}]
            code = error.http
            answer = json.dumps(
                {"error": message, "code": error.grpc, "message": message, "details": details}
            )
        self._say(code, answer)

    def _check_caller(self) -> None:
        token = self.kfp.token
        if token is not None and self.headers.get("Authorization") != f"Bearer {token}":
            raise RefusalError(401, 16, "Unauthenticated: Request header error: there is no user")
        if self.kfp.is_forbidden:
            raise RefusalError(403, 7, "PermissionDenied: User is not authorized")

    def _say(self, code: int, answer: str) -> None:
        body = answer.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _without_ids(path: str) -> str:
    parts = path.split("/")
    if len(parts) > 2:
        _, mark, action = parts[2].partition(":")
        parts[2] = f"ID{mark}{action}"
    return "/".join(parts)


def _now() -> str:
    return datetime.fromtimestamp(int(time.time()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
