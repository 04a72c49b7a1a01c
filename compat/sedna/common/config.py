"""A worker's environment, as Sedna's scripts read it: Context by name, BaseConfig by attribute.

Where Sedna has a default that names a place which may not exist here (the local controller, S3), the
attribute has that default too, but nothing of this package uses it: only what is set in the environment.
"""

import json
import os
from typing import Any, Dict, Mapping, Optional

__all__ = ("BaseConfig", "Context")


class Context:
    """Parameters of a job by name. Everything is text, as the environment is."""

    parameters: Mapping[str, str] = os.environ

    @classmethod
    def get_parameters(cls, param: str, default: Any = None) -> Any:
        """Give the variable `param`, else the same in upper case, else in lower case, else `default`.

        An empty variable counts as absent. Sedna never looks at lower case; so a script that asks for
        `EPOCHS` passed by a job's `epochs`. Here it does not.
        """
        name = str(param)
        for spelling in (name, name.upper(), name.lower()):
            value = cls.parameters.get(spelling)
            if value:
                return value
        return default


def _of(name: str, default: Optional[str] = None) -> Optional[str]:
    return os.environ.get(name, default)


class BaseConfig:
    """The worker's settings, read from the environment as this module is imported.

    `BaseConfig.train_dataset_url` and `BaseConfig().train_dataset_url` are the same; every call gives the
    one instance.
    """

    device_category = _of("DEVICE_CATEGORY", "CPU")
    backend_type = _of("BACKEND_TYPE", "TENSORFLOW")
    lc_server = _of("LC_SERVER", "http://127.0.0.1:9100")
    original_dataset_url = _of("ORIGINAL_DATASET_URL")
    train_dataset_url = _of("TRAIN_DATASET_URL")
    test_dataset_url = _of("TEST_DATASET_URL")
    data_path_prefix = _of("DATA_PATH_PREFIX", "/home/data")
    namespace = _of("NAMESPACE", "")
    worker_name = _of("WORKER_NAME", "")
    service_name = _of("SERVICE_NAME", "")
    job_name = _of("JOB_NAME", "sedna")
    pretrained_model_url = _of("PRETRAINED_MODEL_URL", "./")
    model_url = _of("MODEL_URL")
    model_name = _of("MODEL_NAME")
    transmitter = _of("TRANSMITTER", "ws")
    agg_data_path = _of("AGG_DATA_PATH", "./")
    s3_endpoint_url = _of("S3_ENDPOINT_URL", "http://s3.amazonaws.com")
    access_key_id = _of("ACCESS_KEY_ID", "")
    secret_access_key = _of("SECRET_ACCESS_KEY", "")
    parameters = _of("PARAMETERS")

    _instance: "Optional[BaseConfig]" = None

    def __new__(cls) -> "BaseConfig":
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __getitem__(self, item: str) -> Any:
        return getattr(self, item, None)

    def get(self, item: str, default: Any = "") -> Any:
        """Give an attribute, or `default` where there is none or it is empty."""
        return self[item] or default

    def update(self, **values: Any) -> None:
        """Change attributes that exist; others are passed over."""
        for name, value in values.items():
            if hasattr(type(self), name) and not name.startswith("_"):
                setattr(self, name, value)

    @property
    def parameter(self) -> Dict[str, Any]:
        """PARAMETERS as an object: JSON text, or the path of a .json file; empty where neither."""
        text = self.parameters or ""
        if text.endswith(".json"):
            with open(text, encoding="utf-8") as file:
                text = file.read()
        value = json.loads(text) if text else {}
        return value if isinstance(value, dict) else {}

    @classmethod
    def is_gpu_device(cls) -> bool:
        """Say whether DEVICE_CATEGORY is GPU."""
        return cls.device_category == "GPU"

    @classmethod
    def is_npu_device(cls) -> bool:
        """Say whether DEVICE_CATEGORY is NPU."""
        return cls.device_category == "NPU"

    @classmethod
    def is_torch_backend(cls) -> bool:
        """Say whether BACKEND_TYPE is torch, in either of Sedna's spellings."""
        return str(cls.backend_type).upper() in ("TORCH", "PYTORCH")

    @classmethod
    def is_tf_backend(cls) -> bool:
        """Say whether BACKEND_TYPE is TENSORFLOW."""
        return str(cls.backend_type).upper() == "TENSORFLOW"

    @classmethod
    def is_kr_backend(cls) -> bool:
        """Say whether BACKEND_TYPE is KERAS."""
        return str(cls.backend_type).upper() == "KERAS"

    @classmethod
    def is_ms_backend(cls) -> bool:
        """Say whether BACKEND_TYPE is MINDSPORE."""
        return str(cls.backend_type).upper() == "MINDSPORE"
