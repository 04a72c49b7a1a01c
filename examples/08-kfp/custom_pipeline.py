# %% [markdown]
# # A pipeline of your own from Fedloom's steps
#
# Runs as a script or cell by cell in a notebook; needs `pip install "kfp>=2.17,<3" kfp-kubernetes`.
# The components are files (`components/kfp/*.yaml`): a pipeline elsewhere can load them by URL.

# %%
import sys
from pathlib import Path

from kfp import compiler, dsl, kubernetes
from kfp.components import load_component_from_file

import components

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()
STEPS = Path(components.__file__).parent / "kfp"

start, initialize, plan, train, aggregate = (
    load_component_from_file(str(STEPS / f"{name}.yaml"))
    for name in ("start", "initialize", "plan", "train", "aggregate")
)

# %% [markdown]
# Who trains, and where. The job itself is the YAML beside this file: rules, codecs and seeds are there.

# %%
CLIENTS = {"digits-1": "edge-1", "digits-2": "edge-2", "digits-3": "edge-3"}
ROUNDS = 2
IMAGE = "fedloom/example-kfp:0.1.0"
KEYS = (
    "fedloom-s3"  # a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, where KFP runs pods
)


# %%
@dsl.container_component
def check(model: dsl.Input[dsl.Model]):
    """A step of our own: the model is an artifact like any other."""
    code = (
        "import json, sys; data = open(sys.argv[1], 'rb').read(); "
        "head = json.loads(data[8:8 + int.from_bytes(data[:8], 'little')]); "
        "print(dict((name, each['shape']) for name, each in head.items() if 'shape' in each))"
    )
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-I", "-c", code], args=[model.path])


def prepared(task: dsl.PipelineTask, node: str = "") -> dsl.PipelineTask:
    """Give a task of ours the keys of the store and its place; never take it from the cache."""
    task.set_caching_options(enable_caching=False)
    kubernetes.use_secret_as_volume(task, KEYS, "/fedloom/keys")
    if node:
        kubernetes.add_node_selector(task, "kubernetes.io/hostname", node)
    return task


def with_script(task: dsl.PipelineTask, node: str = "") -> dsl.PipelineTask:
    """The same for a task that runs the training script: in the image that has it."""
    return prepared(task, node).set_container_image(IMAGE)


# %%
@dsl.pipeline(name="digits-by-hand")
def digits(
    store: str = "s3://fedloom/jobs/kfp", endpoint: str = "http://minio.fedloom-system.svc:9000"
):
    """Two rounds, then a step of our own."""
    job = (HERE / "job.yaml").read_text(encoding="utf-8")
    begun = prepared(start(job=job, store=store, endpoint=endpoint))
    place = {"run": begun.outputs["run"], "store": store, "endpoint": endpoint}
    made = with_script(initialize(**place))
    for number in range(1, ROUNDS + 1):
        planned = prepared(plan(**place)).after(made)
        trained = [
            with_script(train(client=client, round=number, **place), node)
            .after(planned)
            .set_display_name(f"train: {client} on {node}")
            for client, node in CLIENTS.items()
        ]
        made = with_script(aggregate(round=number, **place)).after(*trained)
        made.set_display_name(f"aggregate: round {number}")
    check(model=made.outputs["model"])


# %%
if __name__ == "__main__":
    compiler.Compiler().compile(digits, sys.argv[1] if len(sys.argv) > 1 else "digits.yaml")
