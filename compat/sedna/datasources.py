"""Datasets of a script: `x` and `y`, parsed from index and table files.

A file that is empty or missing gives no samples and no error, and is named in the log: the task that makes
the first model has no data at all.
"""

import csv
import importlib
import importlib.util
import json
import os
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from .common.class_factory import ClassFactory, ClassType
from .common.log import LOGGER

__all__ = ("BaseDataSource", "CSVDataParse", "JSONDataParse", "TxtDataParse")


class BaseDataSource:
    """A dataset: `x` holds the features, `y` the labels; its length is the number of samples.

    `data_type` is train, eval or test; `func` turns a piece of a file into samples: a function, or the
    name under which one is registered as ClassType.CALLBACK.
    """

    def __init__(self, data_type: str = "train", func: Any = None) -> None:
        self.data_type = data_type
        self.process_func: Optional[Callable[..., Any]] = None
        if callable(func):
            self.process_func = func
        elif func:
            self.process_func = ClassFactory.get_cls(ClassType.CALLBACK, func)()
        self.x: Any = None
        self.y: Any = None
        self.meta_attr: Any = None

    def num_examples(self) -> int:
        """Give the number of samples; 0 before `parse`."""
        return 0 if self.x is None else len(self.x)

    def __len__(self) -> int:
        return self.num_examples()

    def parse(self, *args: Any, **kwargs: Any) -> None:
        """Read files into `x` and `y`."""
        raise NotImplementedError("{}: expected its own parse()".format(type(self).__name__))

    @property
    def is_test_data(self) -> bool:
        """Say whether samples have no labels."""
        return self.data_type == "test"

    def save(self, output: str = "") -> None:
        """Write `x` and `y` as a compressed .npz of numbers (Sedna: a pickle)."""
        arrays = {name: np.asarray(getattr(self, name)) for name in ("x", "y")}
        for name, array in arrays.items():
            if array.dtype == object:
                raise ValueError("save: {} got objects, expected numbers or text".format(name))
        np.savez_compressed(output, x=arrays["x"], y=arrays["y"])


class TxtDataParse(BaseDataSource):
    """An index: a line is a sample, `features label`, or what `func` makes of the line.

    Paths in an index are as its lines say; `func` resolves them. Files of the data lie beside the index.
    """

    def __init__(self, data_type: str = "train", func: Any = None) -> None:
        super().__init__(data_type, func)

    def parse(self, *args: Any, **kwargs: Any) -> None:
        """Read the lines of all files; with `use_raw=True`, `x` keeps each line's parts together.

        What `func` gives for a line is the line's parts; None or nothing leaves the line out. An error in
        `func` is told with file and line: FileNotFoundError is logged, and the line left out.
        """
        features: List[Any] = []
        labels: List[Any] = []
        missing = 0
        for path in _present(args):
            with open(path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
            for number, line in enumerate(lines, 1):
                if not line:
                    continue
                try:
                    parts = self.process_func(line) if self.process_func else line.split()
                except FileNotFoundError as error:
                    missing += 1
                    LOGGER.warning("%s line %d: %s; the line is left out", path, number, error)
                    continue
                if parts is None or len(parts) == 0:
                    continue
                if kwargs.get("use_raw"):
                    features.append(parts)
                    continue
                features.append(parts[0])
                if not self.is_test_data:
                    labels.append(parts[1] if len(parts) > 1 else 0)
        if missing:
            LOGGER.warning("%d samples of the index have no file and are left out", missing)
        self.x, self.y = _packed(features), _packed(labels)


class CSVDataParse(BaseDataSource):
    """Tables. With pandas installed `x` is a DataFrame and `y` a Series, as in Sedna; else arrays."""

    def __init__(self, data_type: str = "train", func: Any = None) -> None:
        super().__init__(data_type, func)

    def parse(self, *args: Any, **kwargs: Any) -> None:
        """Read all files, one below the other.

        `label` names the column that becomes `y`; `usecols` (a list, or names joined by commas) the
        columns of `x`. With pandas, other keywords go to `pandas.read_csv`, and `func` gets each table.
        """
        label = kwargs.pop("label", "") or ""
        columns = kwargs.pop("usecols", None) or []
        columns = columns.split(",") if isinstance(columns, str) else list(columns)
        if columns and label and label not in columns:
            columns.append(label)
        if importlib.util.find_spec("pandas") is not None:
            self._parse_tables(args, label, columns, kwargs)
        else:
            self._parse_rows(args, label, columns)

    def _parse_tables(
        self, args: Any, label: str, columns: List[str], options: Dict[str, Any]
    ) -> None:
        pandas = importlib.import_module("pandas")
        if columns:
            options["usecols"] = columns
        tables, labels = [], []
        frames = [arg for arg in args if isinstance(arg, (dict, list))]
        read = [pandas.DataFrame(f if isinstance(f, list) else [f]) for f in frames]
        read += [
            pandas.read_csv(p, **options) for p in _present(a for a in args if a not in frames)
        ]
        for table in read:
            made = self.process_func(table) if self.process_func else table
            if label:
                if label not in made.columns:
                    LOGGER.warning("a table has no column %r and is left out", label)
                    continue
                labels.append(made[label])
                made = made.drop(columns=label)
            tables.append(made)
        if tables:
            self.x = pandas.concat(tables)
            self.y = pandas.concat(labels) if labels else None

    def _parse_rows(self, args: Any, label: str, columns: List[str]) -> None:
        rows, labels = [], []
        for path in _present(args):
            with open(path, encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    kept = {name: row[name] for name in columns} if columns else dict(row)
                    if label:
                        labels.append(kept.pop(label))
                    rows.append(list(kept.values()))
        if rows:
            self.x = _numbers(rows)
            self.y = _numbers(labels) if labels else None
            if self.process_func:
                self.x = self.process_func(self.x)


class JSONDataParse(BaseDataSource):
    """JSON: a list of samples, or one sample per line, each `{"x": ..., "y": ...}` or what `func` gives."""

    def __init__(self, data_type: str = "train", func: Any = None) -> None:
        super().__init__(data_type, func)

    def parse(self, *args: Any, **kwargs: Any) -> None:
        """Read all files. `func` gets a sample and gives (features, label), or None to leave it out."""
        features: List[Any] = []
        labels: List[Any] = []
        for path in _present(args):
            for sample in _json_samples(path):
                if self.process_func:
                    parts = self.process_func(sample)
                elif isinstance(sample, dict) and "x" in sample:
                    parts = (sample["x"], sample.get("y", 0))
                else:
                    raise ValueError(
                        '{}: got the sample {!r:.80}, expected {{"x": ..., "y": ...}} or a func'.format(
                            path, sample
                        )
                    )
                if parts is None or len(parts) == 0:
                    continue
                features.append(parts if kwargs.get("use_raw") else parts[0])
                if not self.is_test_data and not kwargs.get("use_raw"):
                    labels.append(parts[1] if len(parts) > 1 else 0)
        self.x, self.y = _packed(features), _packed(labels)


def _present(paths: Any) -> List[str]:
    """Give the files that are there; say which are not."""
    found = []
    for path in paths:
        if path and os.path.isfile(path):
            found.append(path)
        elif path:
            LOGGER.warning("the dataset file %s is not there and gives no samples", path)
    return found


def _json_samples(path: str) -> List[Any]:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        samples = json.loads(text)
    except ValueError:
        samples = [json.loads(line) for line in text.splitlines() if line.strip()]
    return samples if isinstance(samples, list) else [samples]


def _packed(values: List[Any]) -> Any:
    """Give an array, of objects where the values differ in shape."""
    shapes = {np.shape(value) for value in values}
    if len(shapes) <= 1:
        return np.array(values)
    packed = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        packed[place] = value
    return packed


def _numbers(rows: List[Any]) -> Any:
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(rows)
