"""What fits into a model, what its head is, and what is copied."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.layout import layout_of
from fedloom.algorithms.transfer.body import transferred, without_own, zero_head
from fedloom.algorithms.transfer.deltas import common_base, difference, restored
from fedloom.algorithms.transfer.head import head_of
from fedloom.algorithms.transfer.matching import body_names, match
from fedloom.algorithms.transfer.personal import ditto
from fedloom.algorithms.transfer.signature import body_signature, tensor_signature
from fedloom.errors import JobError, UpdateError

HEAD = ("output.bias", "output.weight")


def perceptron(labels=10, hidden=200, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "hidden.weight": rng.normal(size=(64, hidden)).astype(dtype),
        "hidden.bias": rng.normal(size=hidden).astype(dtype),
        "output.weight": rng.normal(size=(hidden, labels)).astype(dtype),
        "output.bias": rng.normal(size=labels).astype(dtype),
    }


def layout(*names):
    return layout_of({name: np.zeros(2, np.float32) for name in names})


def test_a_signature_is_of_names_shapes_and_dtypes_and_stays_what_it_is():
    own = tensor_signature(layout_of(perceptron()))
    assert own == tensor_signature(layout_of(perceptron(seed=1)))
    assert own == "sha256:50dc23e9f1e68ad17f424920da97b7acacdd5b14ee2db71a83320485be3149de"
    assert tensor_signature({}) == (
        "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    )


@pytest.mark.parametrize(
    "other",
    [
        perceptron(labels=7),
        perceptron(dtype=np.float64),
        {**perceptron(), "more": np.zeros(1)},
        {name + "x": array for name, array in perceptron().items()},
        {**perceptron(), "hidden.bias": np.zeros((200, 1), np.float32)},
    ],
    ids=["labels", "dtype", "more", "names", "dimensions"],
)
def test_another_architecture_has_another_signature(other):
    assert tensor_signature(layout_of(other)) != tensor_signature(layout_of(perceptron()))


@given(st.randoms(use_true_random=False))
def test_the_order_and_the_byte_order_make_no_difference_to_a_signature(shuffle: random.Random):
    own = layout_of(perceptron())
    names = list(own)
    shuffle.shuffle(names)
    assert tensor_signature({name: own[name] for name in names}) == tensor_signature(own)
    swapped = layout_of(perceptron(dtype=np.dtype(np.float32).newbyteorder()))
    assert tensor_signature(swapped) == tensor_signature(own)


def test_names_cannot_be_mistaken_for_shapes():
    one = layout_of({"a": np.zeros((1, 2)), "b": np.zeros(3)})
    other = layout_of({'a","float64",[1,2]],["b': np.zeros(3)})
    assert tensor_signature(one) != tensor_signature(other)


def test_models_that_differ_in_their_labels_share_the_body_signature():
    own, other = layout_of(perceptron()), layout_of(perceptron(labels=7))
    assert body_signature(own, HEAD) == body_signature(other, HEAD)
    assert body_signature(own, HEAD) != tensor_signature(own)


def test_what_fits_fits():
    found = match(layout_of(perceptron()), layout_of(perceptron(seed=3)))
    assert found.is_full
    assert found.matched == ("hidden.bias", "hidden.weight", *HEAD)
    assert found.problems() == ""


def test_what_does_not_fit_is_named():
    own = layout_of({**perceptron(), "steps": np.zeros((), np.int64)})
    source = {**perceptron(labels=5), "steps": np.zeros((), np.int32), "teacher": np.zeros(3)}
    del source["hidden.bias"]
    found = match(own, layout_of(source))
    assert not found.is_full
    assert found.matched == ("hidden.weight",)
    assert (found.reshaped, found.retyped) == (HEAD, ("steps",))
    assert (found.missing, found.unexpected) == (("hidden.bias",), ("teacher",))
    assert found.problems() == (
        "output.bias: got shape [5], expected [10]; "
        "output.weight: got shape [200, 5], expected [200, 10]; "
        "steps: got dtype int32, expected int64; "
        "hidden.bias: got none; teacher: expected no such array"
    )


def test_a_line_of_problems_stays_a_line():
    own = layout(*(f"layer.{k}" for k in range(40)))
    problems = match(own, layout("other")).problems()
    assert problems.count("got none") == 5
    assert problems.endswith("and 35 more")


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (("hidden.weight", "hidden.bias", "output.weight"), {"output.weight"}),
        (("fc2.weight", "fc10.weight", "fc10.bias", "fc9.bias"), {"fc10.weight", "fc10.bias"}),
        (("w1", "b1", "w2", "b2"), {"w2", "b2"}),
        (("W_1", "W_2", "B_2"), {"W_2", "B_2"}),
        (("0.weight", "2.weight", "10.weight", "10.bias"), {"10.weight", "10.bias"}),
        (("conv1.weight", "bn1.bias", "layer4.0.conv1.weight", "fc.weight"), {"fc.weight"}),
        (("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"), {"fc2.weight"}),
        (("features.0.weight", "classifier.1.weight"), {"classifier.1.weight"}),
        (("head.weight", "layers.0.weight", "layers.9.weight"), {"head.weight"}),
        (("net.model.0.conv.weight", "net.model.24.m.0.bias"), {"net.model.24.m.0.bias"}),
        (("bert.layer.0.output.dense.weight", "classifier.bias"), {"classifier.bias"}),
        (("transformer.h.0.w", "transformer.wte", "lm_head.weight"), {"lm_head.weight"}),
        (("dense/kernel", "dense_1/kernel", "dense_1/bias"), {"dense_1/kernel", "dense_1/bias"}),
        (("hidden_weight", "output_weight", "output_bias"), {"output_weight", "output_bias"}),
        (("cls_token", "blocks.0.w", "head.weight"), {"head.weight"}),
    ],
    ids=lambda value: ",".join(sorted(value)) if isinstance(value, set) else None,
)
def test_the_head_is_found_by_the_names_that_people_give(names, head):
    assert head_of(layout(*names)) == head


@pytest.mark.parametrize(
    "names",
    [(), ("w",), ("layer.weight", "layer.bias"), ("encoder.w", "decoder.w"), ("output.weight",)],
    ids=["nothing", "one", "one layer", "no order", "nothing beside"],
)
def test_a_head_that_the_names_do_not_tell_is_not_guessed(names):
    with pytest.raises(JobError) as caught:
        head_of(layout(*names))
    assert caught.value.reason == "NoHead"


def test_the_users_patterns_win():
    own = layout("encoder.w", "decoder.w", "output.w")
    assert head_of(own, ["decoder.*"]) == {"decoder.w"}
    for patterns in (["nothing.*"], ["*"]):
        with pytest.raises(JobError, match=r"patterns .*expected some of decoder\.w") as caught:
            head_of(own, patterns)
        assert caught.value.reason == "NoHead"


def test_where_names_do_not_tell_the_arrays_of_other_shapes_do():
    own = layout("encoder.w", "readout.w", "readout.b")
    source = {**own, "readout.w": layout_of({"x": np.zeros((3, 3))})["x"]}
    assert head_of(own, source=source) == {"readout.w", "readout.b"}
    with pytest.raises(JobError, match="do not tell"):
        head_of(own, source=own)


def test_the_body_is_what_fits_without_the_head():
    own, source = layout_of(perceptron()), layout_of(perceptron(labels=7))
    assert body_names(own, source, head_of(own)) == {"hidden.bias", "hidden.weight"}
    assert body_names(own, own, head_of(own)) == {"hidden.bias", "hidden.weight"}
    assert body_names(own, layout_of(perceptron(hidden=99)), head_of(own)) == set()


def test_a_transferred_model_is_its_own_but_for_what_is_taken():
    own, source = perceptron(), perceptron(labels=7, seed=1)
    body = ["hidden.bias", "hidden.weight"]
    model = transferred(own, source, body)
    assert list(model) == list(own)
    for name, array in model.items():
        np.testing.assert_array_equal(array, (source if name in body else own)[name])
    np.testing.assert_array_equal(own["hidden.bias"], perceptron()["hidden.bias"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (perceptron(labels=7), "ShapeMismatch"),
        (perceptron(dtype=np.float64), "DtypeMismatch"),
        ({}, "MissingTensor"),
    ],
    ids=["shape", "dtype", "missing"],
)
def test_an_array_that_does_not_fit_is_not_taken(source, reason):
    with pytest.raises(UpdateError) as caught:
        transferred(perceptron(), source, HEAD)
    assert caught.value.reason == reason


@given(st.integers(0, 999), st.integers(2, 12))
def test_a_head_at_zero_is_no_worse_than_random_heads_on_average(seed, labels):
    model = perceptron(labels, hidden=8, dtype=np.float64, seed=seed)
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(30, 8)), rng.integers(0, labels, 30)

    def loss(arrays):
        scores = x @ arrays["output.weight"] + arrays["output.bias"]
        return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(30), y])

    at_zero = loss(zero_head(model, HEAD))
    assert at_zero == pytest.approx(np.log(labels))
    # A head and its mirror image: what is drawn around zero has both as often.
    mirrored = {name: -array if name in HEAD else array for name, array in model.items()}
    assert (loss(model) + loss(mirrored)) / 2 >= at_zero


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6), st.integers(0, 99), st.data())
def test_the_mean_without_one_client_is_the_mean_of_the_others(counts, seed, data):
    rng = np.random.default_rng(seed)
    heads = rng.normal(size=(len(counts), 4))
    shares = np.array(counts) / sum(counts)
    own = data.draw(st.integers(0, len(counts) - 1))
    rest = without_own({"h": shares @ heads}, {"h": heads[own]}, shares[own])["h"]
    others = np.arange(len(counts)) != own
    np.testing.assert_allclose(rest, np.average(heads[others], axis=0, weights=shares[others]))


@pytest.mark.parametrize("share", [1.0, 1.5, -0.1, float("nan")])
def test_an_only_client_has_nobody_to_judge(share):
    with pytest.raises(JobError) as caught:
        without_own({"h": np.zeros(2)}, {"h": np.zeros(2)}, share)
    assert caught.value.reason == "OnlyClient"


def test_the_base_is_the_candidate_nearest_to_the_others():
    rows = {"far": 9.0, "left": 0.0, "middle": 1.0, "right": 2.5}
    candidates = {name: {"w": np.full(70_000, value)} for name, value in rows.items()}
    assert common_base(candidates) == "middle"
    assert common_base(dict(reversed(candidates.items()))) == "middle"
    assert common_base({"b": candidates["left"], "a": candidates["right"]}) == "a"
    assert common_base({"only": {}}) == "only"
    with pytest.raises(ValueError, match="got none"):
        common_base({})


@given(st.integers(0, 99))
def test_a_difference_put_back_is_the_candidate(seed):
    base, candidate = perceptron(seed=seed), perceptron(labels=7, seed=seed + 1)
    candidate["steps"] = base["steps"] = np.array(seed)
    delta = difference(candidate, base)
    assert delta["output.bias"].shape == (7,)
    assert delta["steps"] == seed
    back = restored(delta, base)
    for name, array in candidate.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_allclose(back[name], array, rtol=1e-5, atol=1e-6)


def test_siblings_have_small_differences():
    base = perceptron()
    sibling = {name: array + np.float32(1e-3) for name, array in base.items()}
    assert max(np.abs(array).max() for array in difference(sibling, base).values()) < 2e-3


def test_dittos_step_minimizes_the_loss_and_the_distance_to_the_common_model():
    """min over v of 1/2 |v - data|^2 + mu/2 |v - common|^2 is (data + mu * common) / (1 + mu)."""
    common, data, mu = {"w": np.zeros(3)}, np.array([1.0, 2.0, 3.0]), 0.5
    correct, own = ditto(mu, common), {"w": np.ones(3)}
    for _ in range(200):
        gradients = correct({"w": own["w"] - data}, own)
        own = {"w": own["w"] - 0.2 * gradients["w"]}
    np.testing.assert_allclose(own["w"], data / 1.5)


@pytest.mark.parametrize("mu", [-0.1, float("inf"), float("nan")])
def test_a_strength_that_is_none_is_refused(mu):
    with pytest.raises(JobError, match="expected a finite number >= 0"):
        ditto(mu, {"w": np.zeros(3)})
