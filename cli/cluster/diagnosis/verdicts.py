"""What the answers mean that a pod got from the store and from MLflow. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cli.cluster.diagnosis.finding import OK, PROBLEM, UNKNOWN, Finding

Answer = Mapping[str, Any]
"""`code` (None where there was no answer), `body` (its beginning), `error`, `seconds`."""

_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
_ADVICE = {
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is another, or a proxy changes the Host header: "
    "FEDLOOM_EDGE_ENDPOINT must be the address as edges use it",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is not known to the store",
    "RequestTimeTooSkewed": "the clocks of the node and of the store differ by more than 15 minutes",
    "AccessDenied": "the keys may not read (s3:GetObject, s3:ListBucket) in FEDLOOM_STORE",
    "NoSuchBucket": "make the bucket of FEDLOOM_STORE",
}


def store_finding(where: str, endpoint: str, answer: Answer, *, is_signed: bool) -> Finding:
    """Judge the answer to a GET of an object that is not there."""
    code, name = answer.get("code"), _s3_code(answer)
    place = f"the store at {endpoint} as {where} sees it"
    if code is None:
        advice = "FEDLOOM_EDGE_ENDPOINT must be an address that the node reaches"
        return Finding("store", PROBLEM, f"{place}: {answer.get('error')}", advice)
    if not is_signed:
        message = f"{place}: it answers (HTTP {code}); without its keys nothing more can be told"
        return Finding("store", OK if name or code == 200 else UNKNOWN, message)
    if code == 200 or name == "NoSuchKey":
        took = f", {answer['seconds'] * 1000:.0f} ms" if answer.get("seconds") else ""
        return Finding("store", OK, f"{place}: a presigned GET is answered{took}")
    said = name or str(answer.get("body", ""))[:100] or "no body"
    advice = _ADVICE.get(name, "is this address an S3 store?")
    return Finding("store", PROBLEM, f"{place}: a presigned GET got HTTP {code}, {said}", advice)


def mlflow_findings(uri: str, version: Answer, api: Answer) -> Iterator[Finding]:
    """Judge the answers to /version, which every Host may ask, and to the API, which not every may."""
    code, host = version.get("code"), re.sub(r"^https?://|/.*$", "", uri)
    if code is None:
        advice = "rounds go on without it; MLFLOW_TRACKING_URI of the controller"
        yield Finding("mlflow", PROBLEM, f"MLflow at {uri}: {version.get('error')}", advice)
        return
    text = str(version.get("body", "")).strip()
    if code != 200 or not re.match(r"\d+\.\d+", text):
        message = f"MLflow at {uri}: /version got HTTP {code}, expected a version"
        yield Finding("mlflow", PROBLEM, message, "is this address an MLflow server?")
        return
    code = api.get("code")
    if code == 200:
        yield Finding("mlflow", OK, f"MLflow {text} at {uri}")
    elif code == 403:
        advice = f'MLFLOW_SERVER_ALLOWED_HOSTS of the MLflow server must hold "{host}"'
        message = f"MLflow {text} at {uri} refuses the Host header {host!r} (HTTP 403)"
        yield Finding("mlflow", PROBLEM, message, advice)
    elif code == 401:
        advice = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of the controller"
        yield Finding("mlflow", UNKNOWN, f"MLflow {text} at {uri} wants a login", advice)
    else:
        said = api.get("error") or f"HTTP {code}"
        yield Finding("mlflow", PROBLEM, f"MLflow {text} at {uri}: its API got {said}")


def kfp_finding(endpoint: str, answer: Answer) -> Finding:
    """Judge the answer to Kubeflow Pipelines' healthz, asked without a token."""
    place, code, body = f"Kubeflow Pipelines at {endpoint}", answer.get("code"), answer.get("body")
    if code is None:
        advice = "FEDLOOM_KFP_ENDPOINT of the controller: http://ml-pipeline.kubeflow:8888"
        return Finding("kfp", PROBLEM, f"{place}: {answer.get('error')}", advice)
    if code == 200 and str(body).lstrip().startswith("{") and "multi_user" in str(body):
        users = (
            "several users" if '"multi_user":true' in re.sub(r"\s", "", str(body)) else "one user"
        )
        return Finding("kfp", OK, f"{place}: it answers, set up for {users}")
    if code in (200, 401, 403):
        message = (
            f"{place}: it wants a login (HTTP {code}); the controller's token is not tried here"
        )
        return Finding("kfp", UNKNOWN, message, "FEDLOOM_KFP_TOKEN_FILE of the controller")
    message = f"{place}: /apis/v2beta1/healthz got HTTP {code}, expected 200"
    return Finding("kfp", PROBLEM, message, "is this address its API server, version 2.0 or newer?")


def _s3_code(answer: Answer) -> str:
    found = _S3_CODE.search(str(answer.get("body", "")))
    return found[1] if found else ""
