"""Plain training of a torch module, where the script has no loop of its own.

`epochs` passes over the data in batches of `batch_size`, shuffled; the script's optimizer and loss, where
it has attributes of that name, else SGD and a loss that fits the labels: cross entropy for classes, the
same with logits for one output, the squared error for real numbers. Torch is the script's.
"""

import sys
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from .data import arrays_of, features_and_labels
from .values import number_of

__all__ = ("Settings", "evaluate_module", "settings_of", "train_module")

_LOSSES = ("loss", "loss_fn", "criterion", "loss_function")


class Settings(NamedTuple):
    """Of one client's training in one round; `optimizer` is SGD or Adam."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.01
    optimizer: str = "SGD"
    momentum: float = 0.0
    weight_decay: float = 0.0


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Read the settings there are, numbers and text alike. Raises ValueError for a wrong one."""
    found: Dict[str, Any] = {}
    for name, default in Settings()._asdict().items():
        value = values.get(name)
        if value is None or value == "":
            continue
        if name == "optimizer":
            found[name] = str(value)
            continue
        number = number_of(name, value, type(default))
        if number < 0 or (number == 0 and name in ("epochs", "batch_size")):
            raise ValueError("{}: got {!r}, expected a positive number".format(name, value))
        found[name] = number
    return Settings(**found)


def train_module(
    module: Any, owner: Any, data: Any, settings: Settings
) -> Tuple[Dict[str, float], int]:
    """Train in place; give the last epoch's mean loss and the number of optimizer steps.

    `owner` is the script's estimator, whose `optimizer` and `loss` are used.
    """
    torch = sys.modules["torch"]
    optimizer = _optimizer_of(module, owner, settings)
    loss_function = _loss_of(owner)
    device = _device_of(module)
    dataset = _dataset_of(module, data)
    loader = torch.utils.data.DataLoader(dataset, batch_size=settings.batch_size, shuffle=True)
    steps = 0
    mean = 0.0
    torch.nn.Module.train(module, True)
    for _ in range(settings.epochs):
        total, seen = 0.0, 0
        for features, labels in loader:
            optimizer.zero_grad()
            loss = loss_function(module(features.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            steps += 1
            total += float(loss.detach()) * len(labels)
            seen += len(labels)
        mean = total / max(seen, 1)
    return {"loss": mean}, steps


def evaluate_module(module: Any, owner: Any, data: Any) -> Dict[str, float]:
    """Give the mean loss, and the accuracy where the labels are classes."""
    torch = sys.modules["torch"]
    loss_function = _loss_of(owner)
    device = _device_of(module)
    loader = torch.utils.data.DataLoader(_dataset_of(module, data), batch_size=256)
    total, correct, seen, classes = 0.0, 0, 0, True
    torch.nn.Module.train(module, False)
    with torch.no_grad():
        for features, given in loader:
            labels = given.to(device)
            output = module(features.to(device))
            total += float(loss_function(output, labels)) * len(labels)
            seen += len(labels)
            classes = classes and not labels.is_floating_point()
            if classes:
                correct += int((_classes_in(output) == labels).sum())
    metrics = {"loss": total / max(seen, 1)}
    if classes and seen:
        metrics["accuracy"] = correct / seen
    return metrics


def _classes_in(output: Any) -> Any:
    if output.dim() > 1 and output.shape[1] > 1:
        return output.argmax(1)
    return (output.reshape(len(output)) > 0).long()


def _optimizer_of(module: Any, owner: Any, settings: Settings) -> Any:
    torch = sys.modules["torch"]
    own = getattr(owner, "optimizer", None)
    if isinstance(own, torch.optim.Optimizer):
        return own
    if callable(own):
        return own(module.parameters(), lr=settings.learning_rate)
    name = (own if isinstance(own, str) else settings.optimizer).upper()
    common = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if name == "SGD":
        return torch.optim.SGD(module.parameters(), momentum=settings.momentum, **common)
    if name == "ADAM":
        return torch.optim.Adam(module.parameters(), **common)
    raise ValueError(
        "optimizer: got {!r}, expected SGD or Adam; another one goes into the estimator's attribute "
        "`optimizer`, as a class or an object".format(name)
    )


def _loss_of(owner: Any) -> Any:
    for name in _LOSSES:
        own = getattr(owner, name, None)
        if callable(own):
            return own() if isinstance(own, type) else own
    return _default_loss


def _default_loss(output: Any, labels: Any) -> Any:
    functional = sys.modules["torch"].nn.functional
    several = output.dim() == labels.dim() + 1 and output.shape[1] > 1
    if several:
        return functional.cross_entropy(output, labels.long())
    flat = output.reshape(labels.shape)
    if labels.is_floating_point():
        return functional.mse_loss(flat, labels)
    return functional.binary_cross_entropy_with_logits(flat, labels.to(flat.dtype))


def _device_of(module: Any) -> Any:
    first = next(iter(module.parameters()), None)
    return None if first is None else first.device


def _dataset_of(module: Any, data: Any) -> Any:
    """Give a torch dataset of (features, label)."""
    torch = sys.modules["torch"]
    if isinstance(data, torch.utils.data.DataLoader):
        return data.dataset
    if isinstance(data, torch.utils.data.Dataset) or features_and_labels(data) is None:
        _check_dataset(data)
        return data
    features, labels = arrays_of(data, "data")
    if labels is None:
        raise ValueError("data: got no labels (y)")
    dtype = _float_dtype(module) or torch.float32
    return torch.utils.data.TensorDataset(
        torch.as_tensor(features).to(dtype), torch.as_tensor(labels)
    )


def _check_dataset(data: Any) -> None:
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise ValueError(
            "data: got {}, expected a torch dataset, .x and .y, or a pair (x, y)".format(
                type(data).__name__
            )
        )


def _float_dtype(module: Any) -> Optional[Any]:
    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(floats, None)
