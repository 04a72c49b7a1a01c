"""What other jobs' models give to a job: the first model, an anchor, and models of its clients' own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from fedloom.api.declaration import Bounds, Declared, Rule
from fedloom.api.metadata import OBJECT_NAME

ALLOWED_ANNOTATION = "fedloom.io/transfer-to"
"""Of a job or a Model: the namespaces, with commas, whose jobs may learn from it; `*` for all."""

MOST_CANDIDATES = 5
"""So many sources are probed, beside starting from scratch; of more the first ones."""

KINDS = ("model", "job", "registered_model", "uri", "registry")
_ONE = (
    "(has(self.model) ? 1 : 0) + (has(self.job) ? 1 : 0) + (has(self.registeredModel) ? 1 : 0) + "
    "(has(self.uri) ? 1 : 0) + (has(self.registry) ? 1 : 0) == 1"
)


@dataclass(frozen=True)
class RegistrySearch:
    """Models to look for in MLflow's registry: whatever fits the job's tensors."""

    tags: Annotated[
        Mapping[str, str],
        Declared("Tags that a version must have, all of them."),
    ] = field(default_factory=dict)
    name: Annotated[
        str | None,
        Declared("A pattern (%) of the registered model's name.", Bounds(max_length=250)),
    ] = None


@dataclass(frozen=True)
class TransferSource:
    """A model to learn from, named in one of five ways."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(_ONE, "expected exactly one of model, job, registeredModel, uri and registry"),
    )

    model: Annotated[str | None, Declared("The name of a Model.", OBJECT_NAME)] = None
    job: Annotated[
        str | None,
        Declared(
            "The name of another job, whose final model it is; it is waited for.", OBJECT_NAME
        ),
    ] = None
    registered_model: Annotated[
        str | None,
        Declared("A name in MLflow's registry; its newest version.", Bounds(max_length=250)),
    ] = None
    uri: Annotated[
        str | None,
        Declared("s3://, https:// or a path: a safetensors file.", Bounds(max_length=4096)),
    ] = None
    registry: Annotated[
        RegistrySearch | None,
        Declared("Of mode auto: all that is found in MLflow's registry, best first."),
    ] = None
    version: Annotated[
        str | None, Declared("The version of a registeredModel.", Bounds(max_length=32))
    ] = None
    alias: Annotated[
        str | None, Declared("The version of a registeredModel.", Bounds(max_length=250))
    ] = None
    namespace: Annotated[
        str | None,
        Declared(
            f"Where the model or job is, if not here; it must allow that ({ALLOWED_ANNOTATION}).",
            OBJECT_NAME,
        ),
    ] = None
    start: Annotated[
        bool,
        Declared("Of a job: its first model, what it began with itself, not its final one."),
    ] = False
    credential_name: Annotated[
        str | None, Declared("The Secret that opens the uri.", Bounds(max_length=253))
    ] = None


@dataclass(frozen=True)
class Anchor:
    """What holds weights near others."""

    kind: Annotated[
        str,
        Declared(
            "l2sp holds the clients' weights near the first model, ditto a second model of each "
            "client, which never leaves it, near the global one.",
            Bounds(choices=("l2sp", "ditto")),
        ),
    ] = "l2sp"
    mu: Annotated[float, Declared("The strength of the penalty.", Bounds(minimum=0))] = 0.1


@dataclass(frozen=True)
class Transfer:
    """What other jobs' models give to the first model of this one."""

    mode: Annotated[
        str | None,
        Declared(
            "warmStart takes all arrays of the first source, body those before the last layer, auto "
            "whatever a probe on the clients' data finds best; auto where sources are given.",
            Bounds(choices=("warmStart", "body", "auto")),
        ),
    ] = None
    sources: Annotated[
        tuple[TransferSource, ...],
        Declared("The models to take from, best first.", Bounds(max_items=16), name="from"),
    ] = ()
    head: Annotated[
        tuple[str, ...],
        Declared(
            "Patterns (* and ?) of the arrays of the last layer; found by their names if left out.",
            Bounds(max_items=64),
        ),
    ] = ()
    freeze: Annotated[
        bool, Declared("Of mode body: what was taken is not trained, and never sent again.")
    ] = False
    anchor: Annotated[Anchor | None, Declared("A penalty that keeps weights near others.")] = None
    personalize: Annotated[
        str | None,
        Declared(
            "Every client keeps a model of its own on its node: finetune what its last training "
            "made, body a last layer that it never sends.",
            Bounds(choices=("finetune", "body")),
        ),
    ] = None
    probe: Annotated[
        str,
        Declared(
            "losses lets nothing but losses and counts leave a node; heads, besides, lets clients "
            "train last layers for bodies, which are sent as updates are, and judge each other's.",
            Bounds(choices=("losses", "heads")),
        ),
    ] = "losses"
    metric: Annotated[
        str, Declared("What of evaluate's metrics a probe looks at.", Bounds(max_length=250))
    ] = "loss"
    goal: Annotated[
        str,
        Declared("Whether more of it is better.", Bounds(choices=("minimize", "maximize"))),
    ] = "minimize"
    bound: Annotated[
        float | None,
        Declared(
            "Of a probe under noise: the largest loss of a client that counts.", Bounds(above=0)
        ),
    ] = None
    min_samples: Annotated[
        int | None,
        Declared(
            "A probe of fewer samples, of all clients together, is not trusted.",
            Bounds(minimum=1, maximum=1_000_000_000),
        ),
    ] = None
    fallback: Annotated[
        str | None,
        Declared(
            "What happens where no source can be used: scratch begins without one (if left out: in "
            "mode auto), fail waits for one or ends the job (in the others).",
            Bounds(choices=("scratch", "fail")),
        ),
    ] = None


def learns_from_others(transfer: Transfer | None) -> bool:
    """Say whether a job begins with what others learned; an anchor alone is no beginning."""
    return transfer is not None and (transfer.mode is not None or bool(transfer.sources))


def source_kind(source: TransferSource) -> str:
    """Give which of the five ways a source is named in; the first one where there are several."""
    return next((kind for kind in KINDS if getattr(source, kind) is not None), "")


def source_name(source: TransferSource) -> str:
    """Name a source in a line: `job/digits-clean`, `registered/digits:3`."""
    if source.model is not None or source.job is not None:
        kind, name = ("model", source.model) if source.model is not None else ("job", source.job)
        where = f"{source.namespace}/" if source.namespace else ""
        return f"{kind}/{where}{name}{':start' if source.start else ''}"
    if source.registered_model is not None:
        which = (
            f":{source.version}" if source.version else f"@{source.alias}" if source.alias else ""
        )
        return f"registered/{source.registered_model}{which}"
    return f"uri/{(source.uri or '').partition('?')[0]}" if source.uri is not None else "registry"
