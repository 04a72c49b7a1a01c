"""Classes and functions found by kind and name: how a script adds an aggregation or a callback."""

import inspect
from typing import Any, Callable, Dict, Optional, TypeVar

__all__ = ("ClassFactory", "ClassType")

T = TypeVar("T")


class ClassType:
    """The kinds of things that can be registered, in Sedna's words (also its misspelt ones)."""

    GENERAL = "general"
    HEM = "hard_example_mining"
    FL_AGG = "aggregation"
    MTL = "multi_task_learening"
    UTD = "unseen_task_detect"
    ALGORITHM = "algorithm"
    DATASET = "data_process"
    CALLBACK = "post_process_callback"


_REGISTERED: Dict[str, Dict[str, Any]] = {}


class ClassFactory:
    """The registry of this process. A later registration of a name replaces an earlier one."""

    @classmethod
    def register(
        cls, type_name: str = ClassType.GENERAL, alias: Optional[str] = None
    ) -> Callable[[T], T]:
        """Decorate a class or function to be found as `alias`, or by its own name."""

        def decorate(target: T) -> T:
            return cls.register_cls(target, type_name, alias)

        return decorate

    @classmethod
    def register_cls(
        cls, t_cls: T, type_name: str = ClassType.GENERAL, alias: Optional[str] = None
    ) -> T:
        """Register a class or function and give it back."""
        name = alias if alias is not None else str(getattr(t_cls, "__name__", t_cls))
        _REGISTERED.setdefault(type_name, {})[name] = t_cls
        return t_cls

    @classmethod
    def register_from_package(cls, package: Any, type_name: str = ClassType.GENERAL) -> None:
        """Register every public class and function of a module."""
        for name, value in vars(package).items():
            if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                cls.register_cls(value, type_name)

    @classmethod
    def is_exists(cls, type_name: str, cls_name: Optional[str] = None) -> bool:
        """Say whether there is such a kind, or such a name of the kind."""
        return type_name in _REGISTERED and (cls_name is None or cls_name in _REGISTERED[type_name])

    @classmethod
    def get_cls(cls, type_name: str, t_cls_name: Optional[str] = None) -> Any:
        """Give what is registered. Raises ValueError that lists the names there are."""
        known = _REGISTERED.get(type_name, {})
        if t_cls_name is None or t_cls_name not in known:
            raise ValueError(
                "ClassFactory: got {} {!r}, registered are: {}".format(
                    type_name, t_cls_name, ", ".join(sorted(known)) or "none"
                )
            )
        return known[t_cls_name]
