"""The state of a torch module as named arrays, out and in again."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from fedloom.errors import UpdateError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from fedloom.training.torch import load_weights, weights_of  # noqa: E402  after that question


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
    net(torch.rand(8, 1, 4, 4)).sum().backward()
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
    before = weights_of(net)
    with pytest.raises(UpdateError, match=message) as caught:
        load_weights(net, model)
    assert caught.value.reason == reason
    for name, array in weights_of(net).items():
        np.testing.assert_array_equal(array, before[name])


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
