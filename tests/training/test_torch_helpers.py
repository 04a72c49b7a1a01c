"""Torch modules in a training class: weights in and out, drift correction, seeds, threads."""

from __future__ import annotations

import copy
import gc
import hashlib
import random

import numpy as np
import pytest

import fedloom
from fedloom.errors import UpdateError

torch = pytest.importorskip("torch")

from fedloom.training import torch as helpers  # noqa: E402  after the question whether torch is here
from fedloom.training.torch import (  # noqa: E402
    bound_threads,
    corrected,
    load_weights,
    seed_everything,
    weights_of,
)

MU = np.float32(0.5)
PLAIN = fedloom.Round(number=1, total=2, seed=3)


class Net(torch.nn.Module):
    """Parameters and buffers of several shapes and dtypes, a scalar and an empty one among them."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 3, 3)
        self.norm = torch.nn.BatchNorm2d(3)
        self.head = torch.nn.Linear(12, 2)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("empty", torch.zeros(0, 4, dtype=torch.float64))

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def proximal(anchor):
    """FedProx: the gradient of MU/2 times the squared distance to the round's first weights."""

    def pull(gradients, model):
        return {name: gradients[name] + MU * (model[name] - anchor[name]) for name in gradients}

    return fedloom.Round(number=1, total=2, seed=3, correction=pull)


def backward(net, seed=1):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(size=(8, 1, 4, 4)).astype(np.float32))
    y = torch.from_numpy(rng.integers(0, 2, 8))
    net.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(x), y)
    loss.backward()
    return loss


def digest(net):
    return hashlib.sha256(b"".join(a.tobytes() for a in weights_of(net).values())).hexdigest()


# weights


def test_weights_are_the_whole_state_sorted_with_shapes_and_dtypes(net):
    weights = weights_of(net)
    assert list(weights) == sorted(net.state_dict())
    assert {name: (a.dtype.name, a.shape) for name, a in weights.items()} == {
        "conv.bias": ("float32", (3,)),
        "conv.weight": ("float32", (3, 1, 3, 3)),
        "empty": ("float64", (0, 4)),
        "head.bias": ("float32", (2,)),
        "head.weight": ("float32", (2, 12)),
        "mask": ("bool", (2,)),
        "norm.bias": ("float32", (3,)),
        "norm.num_batches_tracked": ("int64", ()),
        "norm.running_mean": ("float32", (3,)),
        "norm.running_var": ("float32", (3,)),
        "norm.weight": ("float32", (3,)),
    }


def test_what_goes_out_comes_in_bit_by_bit(net):
    weights = weights_of(net)
    other = Net()
    load_weights(other, weights)
    for name, array in weights_of(other).items():
        np.testing.assert_array_equal(array, weights[name])


@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64"),
    ],
)
def test_every_dtype_that_an_artifact_can_hold_makes_the_round_trip(dtype):
    def module_with(values):
        module = torch.nn.Module()
        module.register_buffer("t", torch.tensor(values).to(getattr(torch, dtype)))
        return module

    weights = weights_of(module_with([[0, 1], [1, 0]]))
    assert weights["t"].dtype == np.dtype(dtype)
    target = module_with([[0, 0], [0, 0]])
    load_weights(target, weights)
    assert target.t.tolist() == module_with([[0, 1], [1, 0]]).t.tolist()


def test_weights_are_copies_that_training_does_not_change(net):
    before = weights_of(net)
    kept = copy.deepcopy(before)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    backward(net)
    optimizer.step()
    for name, array in before.items():
        np.testing.assert_array_equal(array, kept[name])
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_loaded_arrays_are_not_tied_to_the_module(net):
    model = weights_of(net)
    load_weights(net, model)
    model["head.bias"] += 1
    assert (net.head.bias.detach().numpy() != model["head.bias"]).all()


def test_tensors_in_another_memory_order_come_out_in_c_order():
    module = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    expected = module.weight.detach().numpy()
    weight = weights_of(module)["weight"]
    assert weight.flags.c_contiguous
    np.testing.assert_array_equal(weight, expected)


def test_read_only_and_reversed_arrays_are_loaded_too(net):
    model = weights_of(net)
    model["head.weight"] = model["head.weight"][::-1]
    model["conv.weight"].flags.writeable = False
    load_weights(net, model)
    np.testing.assert_array_equal(weights_of(net)["head.weight"], model["head.weight"])


def test_a_shared_parameter_stays_shared():
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    module["b"].weight = module["a"].weight
    weights = weights_of(module)
    np.testing.assert_array_equal(weights["a.weight"], weights["b.weight"])
    load_weights(module, weights)
    assert module["a"].weight is module["b"].weight


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        pytest.param(
            lambda m: m.pop("head.bias"),
            "MissingTensor",
            r"Net: tensor 'head.bias': got none, expected float32\[2\]",
            id="missing",
        ),
        pytest.param(
            lambda m: m.update(extra=np.zeros(3, np.float32)),
            "UnexpectedTensor",
            r"Net: tensor 'extra': got float32\[3\], expected none of that name",
            id="unexpected",
        ),
        pytest.param(
            lambda m: m.update({"head.weight": m["head.weight"].T}),
            "ShapeMismatch",
            r"Net: tensor 'head.weight': got shape \[12, 2\], expected \[2, 12\]",
            id="shape",
        ),
        pytest.param(
            lambda m: m.update({"head.weight": m["head.weight"].astype(np.float64)}),
            "DtypeMismatch",
            "Net: tensor 'head.weight': got dtype float64, expected float32",
            id="dtype",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_named_and_nothing_is_loaded(net, change, reason, message):
    model = {name: array + 1 for name, array in weights_of(net).items() if name != "mask"}
    model["mask"] = np.array([False, True])
    change(model)
    before = digest(net)
    with pytest.raises(UpdateError, match=message) as caught:
        load_weights(net, model)
    assert caught.value.reason == reason
    assert digest(net) == before


def test_bfloat16_is_refused_with_its_name_rather_than_rounded():
    module = torch.nn.Linear(2, 2).to(torch.bfloat16)
    for use in (weights_of, lambda m: load_weights(m, {})):
        with pytest.raises(UpdateError, match="tensor 'weight': got a strided tensor of bfloat16"):
            use(module)


def test_sparse_complex_and_foreign_state_is_refused():
    class Extra(torch.nn.Linear):
        def get_extra_state(self):
            return {"any": "thing"}

        def set_extra_state(self, state):
            raise AssertionError(state)

    with pytest.raises(UpdateError, match="Extra: tensor '_extra_state': got dict, expected"):
        weights_of(Extra(2, 2))
    module = torch.nn.Module()
    module.register_buffer("c", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(UpdateError, match="tensor 'c': got a strided tensor of complex64"):
        weights_of(module)
    module.register_buffer("c", torch.zeros(2, 2).to_sparse())
    with pytest.raises(UpdateError, match="tensor 'c': got a sparse_coo tensor of float32"):
        weights_of(module)


# drift correction


def test_a_round_that_corrects_nothing_leaves_the_optimizer_as_it_is(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    assert corrected(optimizer, net, PLAIN) is optimizer
    assert not optimizer._optimizer_step_pre_hooks


def step_by_hand(net, anchor, rate):
    """One step of SGD on the corrected gradient, in numpy."""
    expected = weights_of(net)
    for name, parameter in net.named_parameters():
        gradient = parameter.grad.numpy() + MU * (expected[name] - anchor[name])
        expected[name] = expected[name] - np.float32(rate) * gradient
    return expected


def test_a_corrected_step_is_a_step_along_the_corrected_gradient(net):
    anchor = {name: array + 1 for name, array in weights_of(net).items() if name != "mask"}
    optimizer = corrected(torch.optim.SGD(net.parameters(), lr=0.1), net, proximal(anchor))
    for seed in range(3):
        backward(net, seed)
        expected = step_by_hand(net, anchor, 0.1)
        optimizer.step()
        for name, _ in net.named_parameters():
            np.testing.assert_allclose(weights_of(net)[name], expected[name], rtol=1e-6, atol=1e-7)


def test_a_correction_in_place_gives_the_same_step(net):
    anchor = {name: array + 1 for name, array in weights_of(net).items() if name != "mask"}
    seen = []

    def pull(gradients, model):
        for name, parameter in net.named_parameters():
            seen.append(np.shares_memory(model[name], parameter.detach().numpy()))
            np.add(gradients[name], MU * (model[name] - anchor[name]), out=gradients[name])
        return gradients

    backward(net)
    expected = step_by_hand(net, anchor, 0.1)
    context = fedloom.Round(number=1, total=2, seed=3, correction=pull)
    corrected(torch.optim.SGD(net.parameters(), lr=0.1), net, context).step()
    for name, _ in net.named_parameters():
        np.testing.assert_allclose(weights_of(net)[name], expected[name], rtol=1e-6, atol=1e-7)
    assert seen
    assert all(seen)


def test_the_correction_sees_only_parameters_that_have_a_gradient(net):
    net.conv.weight.requires_grad_(False)
    names = []

    def note(gradients, model):
        names.append((sorted(gradients), sorted(model)))
        return gradients

    context = fedloom.Round(number=1, total=2, seed=3, correction=note)
    optimizer = corrected(torch.optim.SGD(net.parameters(), lr=0.1), net, context)
    backward(net)
    optimizer.step()
    held = ["conv.bias", "head.bias", "head.weight", "norm.bias", "norm.weight"]
    assert names == [(held, held)]


def test_an_optimizer_that_is_kept_has_only_the_last_rounds_correction(net):
    calls = []

    def context(number):
        def note(gradients, model):
            calls.append(number)
            return gradients

        return fedloom.Round(number=number, total=3, seed=3, correction=note)

    optimizer = torch.optim.Adam(net.parameters())
    for number in (1, 2):
        corrected(optimizer, net, context(number))
        backward(net)
        optimizer.step()
    corrected(optimizer, net, PLAIN)
    optimizer.step()
    assert calls == [1, 2]


@pytest.mark.parametrize("as_keyword", [False, True], ids=["positional", "keyword"])
def test_the_gradients_of_a_closure_are_corrected_each_time(net, as_keyword):
    anchor = weights_of(net)
    seen = []

    def double(gradients, model):
        seen.append({name: gradient.copy() for name, gradient in gradients.items()})
        return {name: 2 * gradient for name, gradient in gradients.items()}

    context = fedloom.Round(number=1, total=2, seed=3, correction=double)
    optimizer = corrected(torch.optim.SGD(net.parameters(), lr=0.1), net, context)

    def closure():
        return backward(net)

    loss = optimizer.step(closure=closure) if as_keyword else optimizer.step(closure)
    assert loss.item() > 0
    assert len(seen) == 1
    for name, _ in net.named_parameters():
        expected = anchor[name] - np.float32(0.2) * seen[0][name]
        np.testing.assert_allclose(weights_of(net)[name], expected, rtol=1e-5, atol=1e-7)


def test_lbfgs_and_a_scheduler_work_on_a_corrected_optimizer(net):
    calls = []
    context = fedloom.Round(
        number=1, total=2, seed=3, correction=lambda g, m: calls.append(len(g)) or g
    )
    optimizer = corrected(torch.optim.LBFGS(net.parameters(), max_iter=4), net, context)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    optimizer.step(lambda: backward(net))
    scheduler.step()
    assert len(calls) >= 2
    assert set(calls) == {6}


def test_scalar_parameters_are_corrected_too():
    module = torch.nn.Module()
    module.scale = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    corrected(optimizer, module, proximal({"scale": np.float32(0.0)}))
    (module.scale * 1.0).backward()
    optimizer.step()
    assert module.scale.item() == pytest.approx(2.0 - (1.0 + 0.5 * 2.0))


def test_sparse_gradients_are_refused_when_they_must_be_corrected():
    module = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = corrected(torch.optim.SGD(module.parameters(), lr=1.0), module, proximal({}))
    module(torch.tensor([1])).sum().backward()
    with pytest.raises(UpdateError, match=r"weight\.grad: got a sparse_coo tensor of float32"):
        optimizer.step()


def test_an_optimizer_is_not_kept_alive_by_its_correction(net):
    before = len(helpers._corrections)
    optimizer = corrected(torch.optim.SGD(net.parameters(), lr=1.0), net, proximal({}))
    assert len(helpers._corrections) == before + 1
    del optimizer
    gc.collect()
    assert len(helpers._corrections) == before


# seeds and threads


def test_the_same_seed_gives_the_same_numbers_everywhere():
    def draw(seed):
        seed_everything(seed)
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(2**31 - 1) == draw(2**31 - 1)


def test_the_same_seed_trains_the_same_bits():
    def train():
        seed_everything(9)
        module = Net()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for seed in range(5):
            backward(module, seed)
            optimizer.step()
        return digest(module)

    bound_threads(1)
    assert train() == train()


@pytest.mark.parametrize(
    ("variable", "most", "threads"),
    [("1", None, 1), ("3", None, 3), ("3", 2, 2), ("2", 8, 2), ("4,2", None, 4), ("junk", 1, 1)],
)
def test_threads_are_bounded_by_the_variable_and_the_argument(monkeypatch, variable, most, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert bound_threads(most) == threads
    assert torch.get_num_threads() == threads


def test_without_the_variable_torch_has_the_cores_of_this_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert bound_threads() >= 1
    assert bound_threads(1) == 1
    with pytest.raises(ValueError, match="most: got 0, expected an integer >= 1"):
        bound_threads(0)
