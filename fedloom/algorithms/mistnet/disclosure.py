"""The privacy report of a job: what its releases disclosed, by proof and by experiment.

The claim that it may support: MistNet makes images harder to reconstruct. It does not give a meaningful
guarantee for an image as a whole at an accuracy that anybody would use, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fedloom.algorithms.mistnet.inversion import InversionFigures
from fedloom.algorithms.mistnet.linkage import LinkageFigures
from fedloom.algorithms.mistnet.manifest import INFINITE, ReleaseManifest, number_or_word
from fedloom.algorithms.mistnet.randomized_response import MECHANISM
from fedloom.errors import JobError

_MEANINGFUL_EPSILON = 10.0
_WEAK_EPSILON = 4.0
_SEEN_SHARE = 0.05


def privacy_report(
    manifests: Sequence[ReleaseManifest],
    linkage: LinkageFigures | None = None,
    inversion: InversionFigures | None = None,
) -> dict[str, Any]:
    """Make the document of a job's releases.

    Args:
        manifests: of every release that was used, one or more.
        linkage: how often a release was linked to its image; None where it was not tried.
        inversion: how much of an image was guessed; None where it was not tried.

    Returns:
        JSON: `releases` (each manifest with the information bound beside the size of an image), the
        worst of all of them under their own names, `leakage`, and `warnings`, sentences to be shown
        as they are. Infinity is the word `infinite`.

    Raises:
        JobError: `InvalidParameter`, without a manifest.
    """
    if not manifests:
        raise JobError("InvalidParameter", "got no release to report on, expected one or more")
    worst = max(manifests, key=lambda each: (each.mechanism.epsilon, each.cost.information_bits))
    epsilons = [each.mechanism.epsilon for each in manifests]
    return {
        "mechanism": MECHANISM,
        "eps_bit": number_or_word(max(epsilons)),
        "eps_bit_plato_sue": number_or_word(2 * max(epsilons)),
        "p": worst.mechanism.p,
        "r": max(each.bits for each in manifests),
        "eps_image": number_or_word(max(each.cost.image_epsilon for each in manifests)),
        "eps_total": number_or_word(max(each.total_epsilon for each in manifests)),
        "information_bytes": max(each.cost.information_bytes for each in manifests),
        "image_bytes": _mean_image_bytes(manifests),
        "release_bytes": max(each.cost.release_bytes for each in manifests),
        "images": sum(each.images for each in manifests),
        "labels": {"form": "plaintext", "count": sum(each.labels for each in manifests)},
        "in_clear": ["labels", "number of images", "mean size of the image files"],
        "releases": [_release(each) for each in manifests],
        "leakage": {"linkage": _linkage(linkage), "inversion": _inversion(inversion)},
        "warnings": _warnings(manifests, linkage, inversion),
    }


def summary(report: dict[str, Any]) -> str:
    """Give the report in one line, for a status or a table."""
    linkage = report["leakage"]["linkage"]
    linked = "" if linkage is None else f", linked to its image {linkage['top1']:.0%} of the time"
    return (
        f"eps_bit {_short(report['eps_bit'])} (p = {report['p']:.4f}), eps_image "
        f"{_short(report['eps_image'])}, eps_total {_short(report['eps_total'])}, at most "
        f"{report['information_bytes']:.0f} B of an image of {report['image_bytes']:.0f} B{linked}, "
        "labels in clear"
    )


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _mean_image_bytes(manifests: Sequence[ReleaseManifest]) -> float:
    images = sum(each.images for each in manifests)
    return math.fsum(each.images * each.mean_image_bytes for each in manifests) / images


def _release(manifest: ReleaseManifest) -> dict[str, Any]:
    cost, image_bytes = manifest.cost, manifest.mean_image_bytes
    return manifest.document() | {
        "release_bytes": cost.release_bytes,
        "information_bytes": cost.information_bytes,
        "information_share": cost.share_of(image_bytes) if image_bytes else None,
    }


def _linkage(figures: LinkageFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "releases": figures.releases,
        "candidates": figures.candidates,
        "top1": figures.top1,
        "chance": figures.chance,
    }


def _inversion(figures: InversionFigures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "attack": "ridge, 3 x 3 places to a patch: a lower bound of what an attacker can see",
        "images": figures.images,
        "mse": figures.mse,
        "blind_mse": figures.blind_mse,
        "variance_recovered": figures.variance_recovered,
        "correlation": figures.correlation,
    }


def _warnings(
    manifests: Sequence[ReleaseManifest],
    linkage: LinkageFigures | None,
    inversion: InversionFigures | None,
) -> list[str]:
    found = [*_of_noise(manifests), *_of_images(manifests)]
    found.append("Labels are in plaintext; no epsilon counts them.")
    if linkage is not None and linkage.top1 > 2 * linkage.chance and linkage.top1 > _SEEN_SHARE:
        found.append(
            f"Who has an image can tell that it was released: the right one of {linkage.candidates} "
            f"was found {linkage.top1:.1%} of the time; guessing finds it {linkage.chance:.1%}."
        )
    if inversion is not None and inversion.variance_recovered > _SEEN_SHARE:
        found.append(
            f"A linear attack recovers {inversion.variance_recovered:.0%} of the variance of the "
            "pixels that a blind guess leaves; a stronger one sees more."
        )
    return found


def _of_noise(manifests: Sequence[ReleaseManifest]) -> list[str]:
    found = []
    for mechanism in dict.fromkeys(each.mechanism for each in manifests):
        asked = mechanism.asked
        if mechanism.is_noiseless and not math.isinf(asked):
            found.append(
                f"epsilon {asked:g} ({mechanism.convention}) per bit is no privacy at all: its noise "
                "would turn less than one bit in 2**33, so every released bit is the true one and "
                "the epsilon is infinite."
            )
        elif mechanism.is_noiseless:
            found.append("Bits were released without noise: no privacy, the epsilon is infinite.")
        elif mechanism.epsilon >= _WEAK_EPSILON:
            found.append(
                f"epsilon {asked:g} ({mechanism.convention}) tells {mechanism.p:.1%} of the bits as "
                "they are: practically no privacy."
            )
    if len({each.mechanism.flips for each in manifests}) > 1:
        found.append("Edges released under different epsilons; the figures are the worst of them.")
    return found


def _of_images(manifests: Sequence[ReleaseManifest]) -> list[str]:
    found = []
    image = max(each.cost.image_epsilon for each in manifests)
    total = max(each.total_epsilon for each in manifests)
    if _MEANINGFUL_EPSILON < image < math.inf:
        found.append(
            f"epsilon of a whole image is {image:.4g}: as a guarantee for an image that is vacuous; "
            "only single bits are protected."
        )
    if image < total:
        word = INFINITE if math.isinf(total) else f"{total:.4g}"
        found.append(f"Images were released before; together their epsilon is {word}.")
    shares = [
        each.cost.share_of(each.mean_image_bytes) for each in manifests if each.mean_image_bytes
    ]
    if shares and max(shares) >= 1:
        found.append(
            f"A release can carry as much as the image's own file: up to {max(shares):.2g} times."
        )
    duplicates = sum(each.duplicates for each in manifests)
    if duplicates:
        found.append(f"{duplicates} copies of images were left out: their bits would be the same.")
    return found
