"""The privacy report of a mistnet job: made of the releases that were used and the attacks that were tried.

JSON and a page to look at, both in the job's store before the round is committed; what the round's result
says of them is enough for a status, a table and a tracking page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from components import disclosure_page
from components.aggregated import Aggregated
from components.request import Place, Request
from components.split_files import LEAKAGE_FILE
from fedloom.algorithms.mistnet.disclosure import privacy_report, summary
from fedloom.algorithms.mistnet.inversion import InversionFigures
from fedloom.algorithms.mistnet.linkage import LinkageFigures
from fedloom.algorithms.mistnet.manifest import ReleaseManifest
from fedloom.errors import JobError

REPORT, PAGE = "privacy-report", "privacy-page"
_FIGURES = ("eps_bit", "eps_bit_plato_sue", "p", "r", "eps_image", "eps_total")
_SIZES = ("information_bytes", "image_bytes", "release_bytes", "images")
_METRICS = (
    "eps_bit",
    "eps_image",
    "eps_total",
    "information_bytes",
    "linkage_top1",
    "inversion_variance_recovered",
)
_NOT_TRIED = "attacks were not tried: they need images in the cloud, of spec.evaluation"


def disclose(
    request: Request, place: Place, found: Aggregated, evaluation: Mapping[str, float]
) -> dict[str, float]:
    """Write the report, note it in `found`, and give its finite figures as metrics, `privacy/<name>`."""
    manifests = [
        ReleaseManifest.from_document(report["release"], f"the release of {client}")
        for client, report in sorted(found.reports.items())
    ]
    measured = _measured(place)
    linkage, inversion = measured["linkage"], measured["inversion"]
    report = privacy_report(
        manifests,
        None if linkage is None else LinkageFigures(**linkage),
        None if inversion is None else InversionFigures(**inversion),
    )
    report["warnings"] = [*report["warnings"], *measured["notes"]]
    report |= {
        "job": dict(request.job),
        "effective": dict(request.settings["effective"]),
        "metrics": dict(evaluation),
        "dropped_clients": {c: why["reason"] for c, why in sorted(found.failures.items())},
    }
    data = json.dumps(report, indent=1, sort_keys=True, allow_nan=False).encode()
    page = disclosure_page.page_of(report).encode()
    places = {
        "report": place.store.put(request.outputs[REPORT], data, replace=True),
        "page": place.store.put(request.outputs[PAGE], page, replace=True),
    }
    figures = _figures(report)
    found.disclosure = {
        "summary": summary(report),
        "figures": figures,
        "effective": report["effective"],
        "warnings": report["warnings"],
        **{
            name: {"key": each.key, "uri": place.store.uri_of(each.key), "digest": each.digest}
            for name, each in places.items()
        },
    }
    numbers = {name: figures[name] for name in _METRICS if name in figures}
    finite = {name: value for name, value in numbers.items() if not isinstance(value, str)}
    return {f"privacy/{name}": float(value) for name, value in finite.items()}


def _measured(place: Place) -> dict[str, Any]:
    """Give what leakage-report wrote. Raises JobError("LeakageReportFailed") where that is nothing of it."""
    path = place.work / LEAKAGE_FILE
    if not path.exists():
        return {"linkage": None, "inversion": None, "notes": [_NOT_TRIED]}
    try:
        found = json.loads(path.read_bytes())
        return {
            "linkage": found["linkage"],
            "inversion": found["inversion"],
            "notes": [str(note) for note in found["notes"]],
        }
    except (KeyError, TypeError, ValueError) as error:
        message = (
            f"leakage-report: FEDLOOM_RESULT: got {error!r}, expected linkage, inversion, notes"
        )
        raise JobError("LeakageReportFailed", message) from error


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Give the numbers that a table shows; infinity is a word."""
    figures = {name: report[name] for name in (*_FIGURES, *_SIZES)}
    linkage, inversion = report["leakage"]["linkage"], report["leakage"]["inversion"]
    if linkage is not None:
        figures |= {"linkage_top1": linkage["top1"], "linkage_chance": linkage["chance"]}
    if inversion is not None:
        names = ("variance_recovered", "mse", "blind_mse")
        figures |= {f"inversion_{name}": inversion[name] for name in names}
    return figures
