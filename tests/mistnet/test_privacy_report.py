"""The report: every number that others omit, and warnings in plain words."""

from __future__ import annotations

import json
import math

import pytest

from fedloom.algorithms.mistnet.disclosure import privacy_report, summary
from fedloom.algorithms.mistnet.inversion import InversionFigures
from fedloom.algorithms.mistnet.linkage import LinkageFigures
from fedloom.algorithms.mistnet.manifest import ReleaseManifest
from fedloom.algorithms.mistnet.randomized_response import RandomizedResponse
from fedloom.errors import JobError

LINKAGE = LinkageFigures(releases=256, candidates=256, top1=1.0)
INVERSION = InversionFigures(images=64, mse=0.05, blind_mse=0.1, correlation=0.6)


def manifest(epsilon=1.0, convention="paper", **changes):
    mechanism = RandomizedResponse(epsilon, convention)
    fields = {
        "edge": "a",
        "extractor": "sha256:" + "0" * 64,
        "shape": (64, 80, 80),
        "mechanism": mechanism,
        "images": 64,
        "ones": 64 * 200_000,
        "labels": 465,
        "label_columns": 5,
        "duplicates": 0,
        "dropped": 0,
        "total_epsilon": 409_600 * mechanism.epsilon,
        "mean_image_bytes": 54_000.0,
    }
    return ReleaseManifest(**(fields | changes))


def test_it_holds_every_number_that_others_omit():
    report = privacy_report([manifest(), manifest(edge="b")], LINKAGE, INVERSION)
    json.dumps(report, allow_nan=False)
    assert (report["eps_bit"], report["eps_bit_plato_sue"]) == (1, 2)
    assert report["p"] == pytest.approx(0.7310586)
    assert report["r"] == 409_600
    assert report["eps_image"] == report["eps_total"] == 409_600
    assert report["information_bytes"] == pytest.approx(8195, rel=1e-3)
    assert (report["image_bytes"], report["release_bytes"]) == (54_000, 51_200)
    assert report["labels"] == {"form": "plaintext", "count": 930}
    assert report["images"] == 128
    assert [each["edge"] for each in report["releases"]] == ["a", "b"]
    assert report["releases"][0]["information_share"] == pytest.approx(8195 / 54_000, rel=1e-3)
    assert report["leakage"]["linkage"]["top1"] == 1
    assert report["leakage"]["linkage"]["chance"] == 1 / 256
    assert report["leakage"]["inversion"]["variance_recovered"] == pytest.approx(0.5)
    assert report["leakage"]["inversion"]["blind_mse"] == 0.1
    assert "lower bound" in report["leakage"]["inversion"]["attack"]


def test_its_summary_is_one_line():
    line = summary(privacy_report([manifest()], LINKAGE, INVERSION))
    assert line == (
        "eps_bit 1 (p = 0.7311), eps_image 4.096e+05, eps_total 4.096e+05, at most 8195 B of an "
        "image of 54000 B, linked to its image 100% of the time, labels in clear"
    )


def warnings(*manifests, linkage=None, inversion=None):
    return " | ".join(privacy_report(manifests, linkage, inversion)["warnings"])


@pytest.mark.parametrize(("epsilon", "convention"), [(100, "paper"), (100, "plato-sue")])
def test_an_epsilon_of_100_is_called_no_privacy_at_all(epsilon, convention):
    report = privacy_report([manifest(epsilon, convention)])
    assert f"epsilon 100 ({convention}) per bit is no privacy at all" in report["warnings"][0]
    numbers = ("eps_bit", "eps_bit_plato_sue", "eps_image", "eps_total")
    assert [report[name] for name in numbers] == ["infinite"] * 4
    assert report["p"] == 1
    json.dumps(report, allow_nan=False)
    assert "eps_bit infinite" in summary(report)


def test_no_noise_on_purpose_is_called_so():
    assert "without noise: no privacy" in warnings(manifest(math.inf))


def test_an_epsilon_of_4_is_called_practically_none():
    assert "tells 98.2% of the bits as they are" in warnings(manifest(4))


def test_a_guarantee_for_an_image_is_called_vacuous():
    assert "4.096e+05: as a guarantee for an image that is vacuous" in warnings(manifest())


def test_labels_are_always_warned_of():
    assert "Labels are in plaintext" in warnings(manifest(1e-5))


def test_releases_before_this_one_are_told():
    assert "together their epsilon is 8.192e+05" in warnings(manifest(total_epsilon=819_200.0))


def test_a_release_that_can_carry_the_whole_image_is_told():
    assert "as much as the image's own file" in warnings(manifest(2, mean_image_bytes=20_000.0))


def test_edges_that_differ_and_copies_are_told():
    found = warnings(manifest(1), manifest(2, edge="b", duplicates=3))
    assert "different epsilons" in found
    assert "3 copies of images" in found
    report = privacy_report([manifest(1), manifest(2, edge="b")])
    assert (report["eps_bit"], report["eps_image"]) == (2, 819_200)


def test_leakage_is_told_in_words():
    found = warnings(manifest(), linkage=LINKAGE, inversion=INVERSION)
    assert "the right one of 256 was found 100.0% of the time; guessing finds it 0.4%" in found
    assert "recovers 50% of the variance" in found
    quiet = LinkageFigures(256, 256, 0.004), InversionFigures(9, 0.1, 0.1, 0.0)
    found = warnings(manifest(), linkage=quiet[0], inversion=quiet[1])
    assert "found" not in found
    assert "recovers" not in found


def test_attacks_that_were_not_tried_are_no_figures():
    report = privacy_report([manifest()])
    assert report["leakage"] == {"linkage": None, "inversion": None}
    with pytest.raises(JobError, match="no release"):
        privacy_report([])
