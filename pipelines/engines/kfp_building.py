"""Builds pipelines with kfp's own words, which the one door hands in: tasks, loops, rounds inside rounds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from pipelines.engines.kfp_job import ENDPOINT, GO_ON, RUN, STORE, RoundTasks
from pipelines.engines.kfp_loops import COHORT, Stage
from pipelines.engines.kfp_parts import configure
from pipelines.engines.kfp_tasks import COMMAND, METRICS, MODEL, SUMMARY, KfpTask

_CLIENTS = "clients"
_ITEM, _CLIENT, _SELECTOR = "item", "--client", "--selector"
_NOTHING: Mapping[str, Any] = {}


class Builder:
    """Builds what is inside of a pipeline.

    Args:
        dsl, kubernetes: the modules of kfp and of kfp-kubernetes.
    """

    def __init__(self, dsl: Any, kubernetes: Any) -> None:
        self._dsl = dsl
        self._kubernetes = kubernetes

    def pipeline(
        self,
        name: str,
        body: Callable[..., None],
        types: Mapping[str, Any] = _NOTHING,
        defaults: Mapping[str, Any] = _NOTHING,
        root: str = "",
    ) -> Any:
        """Give a pipeline of what `body` does, called with an argument for each of `types`."""
        more = {"pipeline_root": root} if root else {}
        return self._dsl.pipeline(name=name, **more)(_typed(body, types, defaults))

    def round_with_exit(self, tasks: Mapping[str, KfpTask], exit_key: str) -> None:
        """Add tasks, one of which runs when all others have ended, however they did."""
        exit_task = self.task(tasks[exit_key])
        with self._dsl.ExitHandler(exit_task, name=_CLIENTS):
            self.tasks({key: task for key, task in tasks.items() if key != exit_key})

    def tasks(
        self,
        tasks: Mapping[str, KfpTask],
        stages: Mapping[str, Stage] = _NOTHING,
        inner: Mapping[str, Any] = _NOTHING,
        given: Mapping[str, Any] = _NOTHING,
    ) -> dict[str, Any]:
        """Add all, whoever waits after those it waits for; give them by key.

        `inner` are the pipelines of the stages, whose items the task COHORT knows; `given` the inputs
        of the tasks.
        """
        order = {key: task.depends for key, task in tasks.items()}
        order |= {key: (COHORT, *stage.depends) for key, stage in stages.items()}
        known = {key: [name for name in before if name in order] for key, before in order.items()}
        made: dict[str, Any] = {}
        for key in TopologicalSorter(known).static_order():
            if key in tasks:
                made[key] = self.task(tasks[key], given)
            else:
                made[key] = self._stage(stages[key], inner[key], made[COHORT])
            if known[key]:
                made[key].after(*(made[name] for name in known[key]))
        return made

    def stage_pipeline(self, stage: Stage) -> Any:
        """Give a stage as a pipeline of its own: nobody outside of a loop may wait for what is inside."""

        def body(*lists: Any) -> None:  # in the order of the loops
            for loop, items in zip(stage.loops, lists, strict=True):
                with self._dsl.ParallelFor(items, name=loop.task.key) as item:
                    option = _SELECTOR if loop.has_selectors else _CLIENT
                    self.task(loop.task, {_ITEM: item}, option)

        kinds = {loop.name: _list_of(loop.has_selectors) for loop in stage.loops}
        return self.pipeline(stage.key, body, kinds)

    def _stage(self, stage: Stage, pipeline: Any, cohort: Any) -> Any:
        new = pipeline(**{loop.name: cohort.outputs[loop.name] for loop in stage.loops})
        new.set_display_name(stage.display_name)
        return new.set_caching_options(enable_caching=False)

    def job(self, start: KfpTask, rounds: Sequence[RoundTasks], given: Mapping[str, Any]) -> None:
        """Add a whole job; `given` are STORE and ENDPOINT."""
        begun = self.task(start, given)
        self._rounds(rounds, 0, begun, {**given, RUN: begun.outputs[RUN]})

    def _rounds(
        self, rounds: Sequence[RoundTasks], number: int, before: Any, given: Mapping[str, Any]
    ) -> None:
        """Add a round and, where it goes on, those behind it: each lies in the group of the one before."""
        made = self.tasks(rounds[number].tasks, given=given)
        if number == 0:
            for task in made.values():
                task.after(before)
        if number + 1 == len(rounds):
            return
        plan = self.task(rounds[number + 1].plan, given).after(made[rounds[number].end])
        name = f"Round {rounds[number + 1].number}"
        with self._dsl.If(plan.outputs[GO_ON] == "yes", name=name):
            self._rounds(rounds, number + 1, plan, given)

    def task(self, task: KfpTask, given: Mapping[str, Any] = _NOTHING, item: str = "") -> Any:
        """Add a task.

        `given` are its inputs by name; `item` is the option of the one that is an item of the loop
        around it.
        """
        own = {name: given[name] for name in (*task.inputs, *([_ITEM] if item else []))}
        new = self.component(task, item)(**own)
        new.set_caching_options(enable_caching=False)
        new.set_display_name(task.display_name)
        for name, value in task.variables.items():
            new.set_env_variable(name, value)
        for label, value in task.node_selector.items():
            self._kubernetes.add_node_selector(new, label, value)
        if item == _SELECTOR:
            self._kubernetes.add_node_selector_json(new, given[_ITEM])
        for each in task.tolerations:
            self._tolerate(new, each)
        if task.seconds is not None:
            self._kubernetes.set_timeout(new, task.seconds)
        configure(self._kubernetes, new, task.parts)
        return new

    def component(self, task: KfpTask, item: str = "") -> Any:
        """Give the component of a task: what runs in its container, its inputs and its outputs."""
        dsl = self._dsl
        kinds = {METRICS: dsl.Metrics, SUMMARY: dsl.Markdown, MODEL: dsl.Model}
        typed: dict[str, Any] = {name: dsl.Output[kinds[name]] for name in task.outputs}
        typed |= {name: dsl.OutputPath(_list_of(each)) for name, each in task.lists.items()}
        typed |= {_text_name(name): dsl.OutputPath(str) for name in task.texts}
        options = {name: f"--{name}" for name in task.inputs} | ({_ITEM: item} if item else {})
        typed |= {name: _INPUTS.get(options[name], str) for name in options}

        def container(*values: Any) -> Any:  # in the order of `typed`
            added = zip(options.values(), values[len(values) - len(options) :], strict=True)
            return dsl.ContainerSpec(
                image=task.image,
                command=[*COMMAND, task.module],
                args=[*task.arguments, *(text for pair in added for text in pair)],
            )

        container.__name__ = task.key.replace("-", "_")
        made = dsl.container_component(_typed(container, typed))
        if GO_ON in task.texts:  # no name for a function's argument, and yet what KFP calls it
            outputs = made.component_spec.outputs
            outputs[GO_ON] = outputs.pop(_text_name(GO_ON))
        return made

    def _tolerate(self, task: Any, toleration: Mapping[str, Any]) -> None:
        seconds = toleration.get("tolerationSeconds")
        self._kubernetes.add_toleration(
            task,
            key=toleration.get("key"),
            operator=toleration.get("operator"),
            value=toleration.get("value"),
            effect=toleration.get("effect"),
            toleration_seconds=None if seconds is None else int(seconds),
        )


_INPUTS: Mapping[str, Any] = {_SELECTOR: dict, "--round": int}


def job_inputs(values: Sequence[Any]) -> dict[str, Any]:
    """Name the arguments of the body of a pipeline of a whole job."""
    return dict(zip((STORE, ENDPOINT), values, strict=True))


def _text_name(name: str) -> str:
    return name.lower()


def _list_of(objects: bool) -> Any:
    return list[dict] if objects else list[str]  # type: ignore[type-arg]


def _typed(
    function: Callable[..., Any],
    types: Mapping[str, Any],
    defaults: Mapping[str, Any] = _NOTHING,
) -> Callable[..., Any]:
    """Give a function the signature that kfp reads; that of its source has texts in place of types."""
    kind, none = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    parameters = [
        inspect.Parameter(name, kind, default=defaults.get(name, none), annotation=each)
        for name, each in types.items()
    ]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function
