"""Names and labels of what a round makes in a cluster: deterministic, legal, unique, pure.

A name that is legal stays as it is; any other is made legal and gets eight characters of its SHA-256.
"""

from __future__ import annotations

import hashlib
import re

from pipelines.plan import Plan

MOST_CHARACTERS = 63
"""Of a label's value, and so of every name that Kubernetes or Argo also writes into a label."""

LABEL = "federatedlearningjob.sedna.io"
NAME, UID, WORKER_TYPE = f"{LABEL}/name", f"{LABEL}/uid", f"{LABEL}/worker-type"
ROUND, ATTEMPT, CLIENT = "fedloom.io/round", "fedloom.io/attempt", "fedloom.io/client"
LAST_TASK = "fedloom.io/last-task"
"""Annotation of a Workflow: the task whose end is the round's end."""
PART = "fedloom.io/part"
"""Label of a Workflow with a part of a round's clients: its number, from 1."""
PARTS, AWAITED, COHORT = "fedloom.io/parts", "fedloom.io/awaited", "fedloom.io/cohort"
"""Annotations of the Workflows of a round of several: how many with clients the server waits for, how many
tasks of its own a part waits for, and a digest of who takes part in it."""

SHARED_ABOVE = 64
CLIENTS_PER_SECRET = 50

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_TASK = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def workflow_name(job: str, uid: str, number: int, attempt: int, part: int = 0) -> str:
    """Name the workflow of one attempt at one round: `digits-8c2f1a77-r7-a1`."""
    tail = f"-{_legal(uid[:8].lower(), _DNS_LABEL, 17)}-r{number}-a{attempt}"
    tail += f"-p{part}" if part else ""
    return _legal(job, _DNS_LABEL, MOST_CHARACTERS - len(tail)) + tail


def workflow_of(plan: Plan) -> str:
    """Name the plan's workflow; that of a part of a round ends with `-p` and its number."""
    return workflow_name(plan.job["name"], plan.job["uid"], plan.round, plan.attempt, plan.part)


def secret_part(index: int, clients: int) -> int:
    """Give the number of the Secret of a workflow's client number `index`, of `clients` in all.

    A node may read whole Secrets only: few clients get one each, so that none sees another's URLs;
    many share, for the API server's sake.
    """
    return index if clients <= SHARED_ABOVE else index // CLIENTS_PER_SECRET


def client_secret(workflow: str, part: int | str) -> str:
    """Name a Secret of a workflow's clients."""
    return f"{workflow}-edge-{part}"


def server_secret(workflow: str) -> str:
    """Name the Secret of a workflow's cloud side."""
    return f"{workflow}-server"


def dispatch_secret(workflow: str, task: str, part: int) -> str:
    """Name a Secret with what one dispatcher has to start."""
    return f"{workflow}-{task}-{part}"


def job_name(workflow: str, group: str) -> str:
    """Name the Job of a dispatched group."""
    return _legal(f"{workflow}-{group}", _DNS_LABEL, MOST_CHARACTERS)


def task_name(group: str) -> str:
    """Name the task of a group: a letter first, no dots, as `depends` wants it."""
    return _legal(group, _TASK, MOST_CHARACTERS)


def label_value(text: str) -> str:
    """Give a legal label value for any text."""
    return _legal(text, _LABEL_VALUE, MOST_CHARACTERS)


def job_labels(plan: Plan) -> dict[str, str]:
    """Give the labels of everything that belongs to an attempt."""
    return {
        NAME: label_value(plan.job["name"]),
        UID: label_value(plan.job["uid"]),
        ROUND: str(plan.round),
        ATTEMPT: str(plan.attempt),
        **({PART: str(plan.part)} if plan.part else {}),
    }


def _legal(text: str, pattern: re.Pattern[str], most: int) -> str:
    if len(text) <= most and pattern.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    allowed = "A-Za-z0-9_." if pattern is _LABEL_VALUE else "a-z0-9"
    plain = text if pattern is _LABEL_VALUE else text.lower()
    stem = re.sub(f"[^{allowed}]", "-", plain)[: most - 9].strip("-_.")
    if not pattern.fullmatch(stem or "-"):
        stem = f"x-{stem}"[: most - 9].strip("-_.")
    return f"{stem}-{digest}"
