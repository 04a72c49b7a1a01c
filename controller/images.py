"""Which images run in the place of those that a job names: Sedna's published ones are no more.

    FEDLOOM_IMAGES    JSON: {"<image of a template>": {"image": "<what runs>", "command": [...]}, ...}

A name without a tag stands for all its tags; one with a tag goes before it. `command` is that of templates
without one: `fedloom run` sees no image, and Argo has to know what a container runs. (A pod that it cannot
make itself is started by the dispatcher, as a plain Job.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedloom.api.job import FederatedLearningJob
from fedloom.api.pod import PodTemplate

_FORM = 'expected {"<image>": {"image": "<other image>", "command": ["...", ...]}}'


@dataclass(frozen=True)
class Substitute:
    """What runs instead; an empty image is the one of the template, an empty command its own."""

    image: str
    command: tuple[str, ...] = ()


Images = Mapping[str, Substitute]


def read_images(text: str) -> Images:
    """Read the setting; nothing is no substitute. Raises ValueError that says what was expected."""
    try:
        document = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"got no JSON ({error}), {_FORM}") from None
    if not isinstance(document, dict):
        raise ValueError(f"got {text[:80]!r}, {_FORM}")
    return {name: _substitute(name, value) for name, value in document.items()}


def with_images(job: FederatedLearningJob, images: Images) -> FederatedLearningJob:
    """Give the job with its images substituted, in the templates of all its workers."""
    if not images:
        return job
    spec = job.spec
    aggregation, evaluation = spec.aggregation_worker, spec.evaluation
    if evaluation is not None and evaluation.template is not None:
        evaluation = replace(evaluation, template=_changed(evaluation.template, images))
    return replace(
        job,
        spec=replace(
            spec,
            aggregation_worker=replace(
                aggregation, template=_changed(aggregation.template, images)
            ),
            training_workers=tuple(
                replace(worker, template=_changed(worker.template, images))
                for worker in spec.training_workers
            ),
            evaluation=evaluation,
        ),
    )


def _changed(template: PodTemplate, images: Images) -> PodTemplate:
    containers = template.spec.get("containers")
    if not isinstance(containers, Sequence) or isinstance(containers, str):
        return template
    changed = [_container(each, images) for each in containers]
    if all(new is old for new, old in zip(changed, containers, strict=True)):
        return template
    return PodTemplate({**template.raw, "spec": {**template.spec, "containers": changed}})


def _container(container: Any, images: Images) -> Any:
    if not isinstance(container, Mapping):
        return container
    image = str(container.get("image", ""))
    found = images.get(image) or images.get(_without_tag(image))
    if found is None:
        return container
    command = container.get("command") or list(found.command)
    changed = {**container, "image": found.image or image}
    return {**changed, "command": command} if command else changed


def _without_tag(image: str) -> str:
    """`host:5000/name:tag@digest` -> `host:5000/name`."""
    name = image.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def _substitute(name: str, value: Any) -> Substitute:
    where = f"{name!r}: got {json.dumps(value)[:80]}, {_FORM}"
    if not isinstance(value, dict) or value.keys() - {"image", "command"} or not value:
        raise ValueError(where)
    image, command = value.get("image", ""), value.get("command", [])
    texts = [image, *command] if isinstance(command, list) else [None]
    if not all(isinstance(text, str) for text in texts) or not (image or command):
        raise ValueError(where)
    return Substitute(image, tuple(command))
