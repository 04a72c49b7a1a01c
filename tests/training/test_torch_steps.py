"""Training with torch: drift correction in an optimizer's steps, seeds, threads."""

from __future__ import annotations

import gc
import hashlib
import random
from collections import OrderedDict

import numpy as np
import pytest

import fedloom
from fedloom.algorithms.drift.anchors import combined_pull
from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.errors import UpdateError
from fedloom.training.correction import WatchedCorrection

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from fedloom.training import torch as helpers  # noqa: E402  after the question whether torch is here
from fedloom.training.torch import (  # noqa: E402
    bound_threads,
    corrected,
    seed_everything,
    weights_of,
)

MU = np.float32(0.5)
PLAIN = fedloom.Round(number=1, total=2, seed=3)


def network():
    return torch.nn.Sequential(
        OrderedDict(
            conv=torch.nn.Conv2d(1, 3, 3),
            norm=torch.nn.BatchNorm2d(3),
            relu=torch.nn.ReLU(),
            flat=torch.nn.Flatten(),
            head=torch.nn.Linear(12, 2),
        )
    )


@pytest.fixture
def net():
    torch.manual_seed(0)
    return network()


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
    anchor = {name: array + 1 for name, array in weights_of(net).items()}
    optimizer = corrected(torch.optim.SGD(net.parameters(), lr=0.1), net, proximal(anchor))
    for seed in range(3):
        backward(net, seed)
        expected = step_by_hand(net, anchor, 0.1)
        optimizer.step()
        for name, _ in net.named_parameters():
            np.testing.assert_allclose(weights_of(net)[name], expected[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_job_s_own_correction_gives_the_bits_that_it_gives_in_numpy(dtype):
    torch.manual_seed(0)
    net = network().to(dtype)
    model, rng = weights_of(net), np.random.default_rng(4)
    floats = {name: array for name, array in model.items() if array.dtype.kind == "f"}
    offset = {name: rng.normal(size=w.shape).astype(w.dtype) for name, w in floats.items()}
    strength, anchor = combined_pull([(0.25, {n: w + 1 for n, w in model.items()}), (0.5, model)])
    correction = DriftCorrection(strength, anchor, offset, untouched=frozenset({"norm.weight"}))
    context = fedloom.Round(1, 2, 3, WatchedCorrection(correction))
    x, y = torch.from_numpy(rng.normal(size=(8, 1, 4, 4))).to(dtype), torch.arange(8) % 2
    torch.nn.functional.cross_entropy(net(x), y).backward()
    gradients = {name: p.grad.numpy().copy() for name, p in net.named_parameters()}
    expected = correction(gradients, model)
    corrected(torch.optim.SGD(net.parameters(), lr=0.0), net, context).step()
    for name, parameter in net.named_parameters():
        np.testing.assert_array_equal(parameter.grad.numpy(), expected[name])
    assert context.correction.was_used


def test_a_correction_in_place_gives_the_same_step(net):
    anchor = {name: array + 1 for name, array in weights_of(net).items()}
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
        module = network()
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
