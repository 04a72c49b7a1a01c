"""What must hold of a package before it leaves the engine: what KFP or etcd would refuse late. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from fedloom.errors import JobError
from pipelines.engines.braces import text_with
from pipelines.engines.kfp_tasks import EXECUTOR_INPUT, KfpTask

MOST_BYTES = 400_000
"""Of a package: the Workflow that KFP makes of it is two and a half times as long with its status in the
end, measured, and etcd takes 1 MiB. (KFP 2.0 keeps it in annotations: Kubernetes takes 256 KiB of those.)
"""
MOST_ARGUMENT_BYTES = (1 << 17) - 1
"""Of one component or container: KFP hands it to its driver as a single argument, and Linux takes no
longer one.
"""
_BRACES = ("{{", "}}")


def check_texts(tasks: Iterable[KfpTask]) -> None:
    """Refuse `{{` in what the user wrote: KFP or Argo would replace it. Raises JobError("TemplateBraces").

    The user's command and variables are in no pipeline: they travel in the plan, and may say what they like.
    """
    for task in tasks:
        shown = text_with(_BRACES, _told(task))
        if shown is not None:
            raise JobError(
                "TemplateBraces",
                f"{task.display_name}: got {shown!r}, expected a text without '{{{{' and '}}}}': "
                "Kubeflow Pipelines replaces what is between such braces",
            )


def _told(task: KfpTask) -> list[Any]:
    own = tuple(text for text in task.arguments if text != EXECUTOR_INPUT)
    values = (
        own,
        task.display_name,
        task.image,
        task.variables,
        task.node_selector,
        task.tolerations,
    )
    return [*values, *(getattr(task.parts, each.name) for each in fields(task.parts))]


def check_package(pipeline: Mapping[str, Any], platform: Mapping[str, Any]) -> None:
    """Check the sizes. Raises JobError("PackageTooLarge")."""
    size = _size(pipeline) + _size(platform)
    if size > MOST_BYTES:
        raise _too_large("the package", size, MOST_BYTES)
    parts = {
        "root": pipeline["root"],
        **pipeline.get("components", {}),
        **pipeline["deploymentSpec"]["executors"],
    }
    for name, part in parts.items():
        size = _size(part)
        if size > MOST_ARGUMENT_BYTES:
            raise _too_large(name, size, MOST_ARGUMENT_BYTES)


def _too_large(what: str, got: int, most: int) -> JobError:
    return JobError(
        "PackageTooLarge",
        f"{what}: got {got} bytes, expected at most {most}, what a run of Kubeflow Pipelines takes. Lower "
        "spec.participation.clientsPerRound, or use the engine argo, which cuts a round into parts",
    )


def _size(document: Any) -> int:
    return len(json.dumps(document, separators=(",", ":")))
