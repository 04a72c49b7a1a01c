"""Where a user's container sees data and models: folders of its node, what was downloaded, variables.

A url means what `fedloom.api.places` says, unless the container mounts the place itself: then it is told
the url as it is written. Folders that several urls share are mounted once. A folder that is read has no
hostPath type, so that a file or a folder right below the root works as well; a missing folder for a model
that is written is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedloom.api import places
from fedloom.api.secret import ACCESS_KEY, SECRET_KEY
from pipelines.engines.argo_setting import Setting
from pipelines.plan import Task

DATA, DOWNLOADS = places.DATA, places.DOWNLOADS
LOCAL_CONTROLLER_PORT = 9100

_MODEL, _PRETRAINED = "MODEL_URL", "PRETRAINED_MODEL_URL"
_NODE_ADDRESS = "FEDLOOM_NODE_ADDRESS"


@dataclass(frozen=True)
class Folder:
    """A folder, or a single file, of a node in a container.

    Attributes:
        volume: name of the volume.
        path: on the node; the container has it below DATA.
        is_writable: whether the container may write there.
        is_made: whether it is made where it is missing.
    """

    volume: str
    path: str
    is_writable: bool
    is_made: bool = False

    def as_volume(self) -> dict[str, Any]:
        kind = {"type": "DirectoryOrCreate"} if self.is_made else {}
        return {"name": self.volume, "hostPath": {"path": self.path, **kind}}

    def as_mount(self) -> dict[str, Any]:
        rights = {} if self.is_writable else {"readOnly": True}
        return {"name": self.volume, "mountPath": DATA + self.path, **rights}


def seen_at(url: str, container: Mapping[str, Any]) -> str:
    """Give what the container is told of a url: where it sees it."""
    if places.is_remote(url):
        return f"{DOWNLOADS}/{places.download_of(url)}"
    if not places.is_path(url) or places.is_mounted(url, container):
        return url
    return DATA + places.path_of(url)


def data_folder(task: Task, container: Mapping[str, Any]) -> str | None:
    """Give the folder of the node that holds the data of a client's task and is to be mounted."""
    if task.client is None:
        return None
    return places.folder_to_mount(str(task.settings["dataset"]), container)


def model_folders(task: Task, container: Mapping[str, Any]) -> list[Folder]:
    """Give the folders of the models of a Sedna job that the container sees, each once."""
    sedna = task.settings.get("sedna")
    if sedna is None:
        return []
    urls = task.settings["environment"]
    taken = {data_folder(task, container)}
    found = []
    for name, volume in ((_MODEL, "fedloom-model"), (_PRETRAINED, "fedloom-pretrained")):
        url = str(urls.get(name, ""))
        if name == _MODEL and not sedna["mounts_model"]:
            continue
        path = places.folder_to_mount(url, container)
        if path is None or path in taken:
            continue
        taken.add(path)
        is_parent = path != places.path_of(url)
        found.append(Folder(volume, path, name == _MODEL, is_made=name == _MODEL and is_parent))
    return found


def seen_folders(task: Task, container: Mapping[str, Any]) -> list[Folder]:
    """Give all folders that the user's container sees, but for a client's data.

    Those of models, also of the one that it begins with; in the cloud that of the data it evaluates on.
    """
    folders = model_folders(task, container)
    data = str(task.settings["dataset"]) if task.client is None else ""
    for url, volume in (
        (data, "fedloom-data"),
        (str(task.settings.get("pretrained", "")), "fedloom-pretrained"),
    ):
        path = places.folder_to_mount(url, container)
        taken = [data_folder(task, container), *(each.path for each in folders)]
        if path is not None and path not in taken:
            folders.append(Folder(volume, path, is_writable=False))
    return folders


def has_downloads(task: Task) -> bool:
    """Whether something has to be downloaded for the user's container of the task."""
    return task.template is not None and bool(task.settings.get("downloads"))


def sedna_entries(
    task: Task, container: Mapping[str, Any], setting: Setting
) -> list[dict[str, Any]]:
    """Give the entries of `env` that a Sedna job's container gets from the engine.

    Keys only ever as a reference to the user's own Secret.
    """
    sedna = task.settings.get("sedna")
    if sedna is None:
        return []
    urls = task.settings["environment"]
    plain = {name: seen_at(urls[name], container) for name in (_MODEL, _PRETRAINED) if name in urls}
    if data_folder(task, container) is not None or model_folders(task, container):
        plain["DATA_PATH_PREFIX"] = DATA
    is_client = task.client is not None
    if sedna["secret"]:
        inner, outer = setting.transmitter_endpoint, setting.transmitter_edge_endpoint
        endpoint = (outer or inner) if is_client else inner
        plain |= {"S3_ENDPOINT_URL": endpoint} if endpoint else {}
    entries: list[dict[str, Any]] = [{"name": n, "value": v} for n, v in plain.items()]
    if sedna["secret"]:
        names = zip((ACCESS_KEY, SECRET_KEY), setting.transmitter_keys, strict=True)
        entries += [_from_secret(name, sedna["secret"], key) for name, key in names]
    if is_client and setting.has_local_controller:
        address = {"fieldRef": {"fieldPath": "status.hostIP"}}
        server = f"http://$({_NODE_ADDRESS}):{LOCAL_CONTROLLER_PORT}"
        entries.append({"name": _NODE_ADDRESS, "valueFrom": address})
        entries.append({"name": "LC_SERVER", "value": server})
    return entries


def read_folders(task: Task) -> list[Folder]:
    """Give the folders of the node that a step of ours reads models from, each once."""
    if task.template is not None:
        return []
    urls = [str(task.settings.get("pretrained", ""))]
    urls += [str(source.get("url", "")) for source in task.settings.get("sources", ())]
    paths = dict.fromkeys(places.folder_of(url) for url in urls if places.is_path(url))
    return [
        Folder(f"fedloom-pretrained{number or ''}", path, is_writable=False)
        for number, path in enumerate(paths)
    ]


def _from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
