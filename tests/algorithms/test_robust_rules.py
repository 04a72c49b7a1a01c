"""The streamed robust rules against their three-line twins, what an attacker gains, and bad input."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.aggregation import stacking
from fedloom.algorithms.aggregation.distances import squared_distances
from fedloom.algorithms.aggregation.geometric_median import GeometricMedian
from fedloom.algorithms.aggregation.krum import Krum
from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.median import Median
from fedloom.algorithms.aggregation.protocol import Aggregator
from fedloom.algorithms.aggregation.registry import aggregator
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.trimmed_mean import TrimmedMean
from fedloom.algorithms.layout import BLOCK_ELEMENTS, accumulator_dtype, layout_of
from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.errors import JobError

RULES = {
    "mean": Mean(),
    "median": Median(),
    "trimmed-mean": TrimmedMean(2),
    "krum": Krum(2),
    "multi-krum": Krum(2, keep=0),
    "geometric-median": GeometricMedian(),
}
ROBUST = {name: rule for name, rule in RULES.items() if name != "mean"}
SHAPES = [(), (0,), (1,), (2, 3), (9001,), (BLOCK_ELEMENTS + 1,)]
small = settings(derandomize=True, deadline=None, max_examples=25)
counts = st.integers(1, 12)
seeds = st.integers(0, 2**32)
specs = st.dictionaries(
    st.text("ab.", min_size=1, max_size=3),
    st.tuples(st.sampled_from(SHAPES), st.sampled_from(["float16", "float32", "float64", "int64"])),
    min_size=1,
    max_size=3,
)
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
every_robust_rule = pytest.mark.parametrize("rule", ROBUST.values(), ids=ROBUST)


def updates_of(wanted, clients, seed):
    """Small numbers with many ties, zeros of both signs among them."""
    rng = np.random.default_rng(seed)
    return [
        {
            name: np.asarray(np.rint(rng.normal(0, 3, shape))).astype(d)
            for name, (shape, d) in wanted.items()
        }
        for _ in range(clients)
    ]


def noise(clients, size=40, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [{"w": rng.normal(1, 0.3, size).astype(dtype)} for _ in range(clients)]


def run(rule: Aggregator, updates, weights=None):
    layout = layout_of(updates[0])
    weights = np.ones(len(updates)) if weights is None else np.asarray(weights, np.float64)
    sources = [ArraySource(update) for update in updates]
    result = {
        name: np.full(spec.size, 7, accumulator_dtype(spec.dtype)) for name, spec in layout.items()
    }
    for block in rule.aggregate(sources, weights, layout):
        assert block.values.dtype == result[block.name].dtype
        result[block.name][block.start : block.start + block.values.size] = block.values
    return {name: values.reshape(layout[name].shape) for name, values in result.items()}


def stacked(updates, name):
    dtype = accumulator_dtype(updates[0][name].dtype)
    return np.stack([update[name].astype(dtype) for update in updates])


def flat(updates):
    """The floats of each client in one row, or everything where there are none."""
    names = [name for name, array in sorted(updates[0].items()) if array.dtype.kind == "f"]
    return np.stack(
        [
            np.concatenate([update[name].ravel().astype(np.float64) for name in names or update])
            for update in updates
        ]
    )


def slow_krum(updates, byzantine, keep):
    rows = flat(updates)
    squares = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    scores = np.sort(squares, axis=1)[:, 1 : len(rows) - byzantine - 1].sum(axis=1)
    return np.sort(np.argsort(scores, kind="stable")[:keep])


def slow_geometric_median(rows, weights, iterations, smoothing):
    v = np.average(rows, axis=0, weights=weights)
    for _ in range(iterations):
        pulls = weights / np.maximum(np.linalg.norm(rows - v, axis=1), smoothing)
        v = np.average(rows, axis=0, weights=pulls)
    return v


@small
@given(specs, counts, seeds)
def test_the_streamed_median_equals_numpy_s(wanted, clients, seed):
    updates = updates_of(wanted, clients, seed)
    for name, got in run(Median(), updates).items():
        np.testing.assert_array_equal(got, np.median(stacked(updates, name), axis=0))


@small
@given(specs, counts, st.integers(0, 5), seeds)
def test_the_streamed_trimmed_mean_equals_its_slow_twin(wanted, clients, trim, seed):
    trim = min(trim, (clients - 1) // 2)
    updates = updates_of(wanted, clients, seed)
    for name, got in run(TrimmedMean(trim), updates).items():
        kept = np.sort(stacked(updates, name), axis=0)[trim : clients - trim]
        np.testing.assert_array_equal(got, kept.mean(axis=0, dtype=np.float64).astype(got.dtype))


@small
@given(specs, st.integers(0, 3), st.integers(0, 4), st.integers(0, 5), seeds)
def test_the_streamed_krum_chooses_as_its_slow_twin(wanted, byzantine, more, keep, seed):
    clients = 2 * byzantine + 3 + more
    keep = min(keep, clients - byzantine)
    updates = updates_of(wanted, clients, seed)
    chosen = slow_krum(updates, byzantine, keep or clients - byzantine)
    got = run(Krum(byzantine, keep), updates)
    expected = run(Mean(), [updates[index] for index in chosen])
    for name in got:
        assert got[name].tobytes() == expected[name].tobytes()


@small
@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 30), seeds)
def test_the_gram_weiszfeld_equals_the_one_over_vectors(weights, iterations, seed):
    updates = noise(len(weights), seed=seed, dtype=np.float64)
    expected = slow_geometric_median(flat(updates), np.array(weights), iterations, 1e-3)
    got = run(GeometricMedian(iterations, 1e-3), updates, weights)["w"]
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_the_geometric_median_is_where_the_pulls_are_in_balance():
    points = [{"w": np.array(p, np.float64)} for p in [(0, 0), (4, 0), (1, 3), (2, -1), (9, 9)]]
    v = run(GeometricMedian(10_000, 1e-12), points)["w"]
    pulls = [(p["w"] - v) / np.linalg.norm(p["w"] - v) for p in points]
    assert np.linalg.norm(sum(pulls)) < 1e-6


@small
@given(st.integers(1, 140), st.integers(1, 40), seeds)
def test_the_sorting_network_sorts_any_number_of_rows(rows, columns, seed):
    values = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    (first, lines), *others = stacking.sorted_strips(values.copy())
    assert (first, others) == (0, [])
    np.testing.assert_array_equal(lines, np.sort(values, axis=0))


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum", "multi-krum"])
@pytest.mark.parametrize("clients", [7, 10, 131])
def test_the_order_of_the_clients_changes_no_bit_of_the_choice(name, clients):
    updates = noise(clients, size=300)
    for update in updates[:4]:
        update["w"][:9] = [0.0, -0.0, 0.0] * 3
    order = np.random.default_rng(1).permutation(clients)
    rule = Krum(2, keep=1) if name == "multi-krum" else RULES[name]
    one, other = run(rule, updates)["w"], run(rule, [updates[index] for index in order])["w"]
    assert one.tobytes() == other.tobytes()


@every_rule
def test_the_order_of_the_clients_changes_no_more_than_rounding(rule):
    updates, weights = noise(9), np.arange(1.0, 10.0)
    order = np.random.default_rng(2).permutation(9)
    one = run(rule, updates, weights)["w"]
    other = run(rule, [updates[index] for index in order], weights[order])["w"]
    np.testing.assert_allclose(one, other, rtol=1e-5)


@every_rule
def test_the_same_call_gives_the_same_bits(rule):
    updates = noise(9, size=100_000)
    assert run(rule, updates)["w"].tobytes() == run(rule, updates)["w"].tobytes()


def test_distances_are_those_of_the_vectors_and_move_with_the_clients():
    updates = noise(6, size=20_000)
    layout, order = layout_of(updates[0]), [3, 1, 5, 0, 2, 4]
    got = squared_distances([ArraySource(update) for update in updates], layout)
    rows = flat(updates)
    np.testing.assert_allclose(got, ((rows[:, None] - rows[None]) ** 2).sum(axis=2), rtol=1e-9)
    moved = squared_distances([ArraySource(updates[index]) for index in order], layout)
    assert moved.tobytes() == got[np.ix_(order, order)].tobytes()


@pytest.mark.parametrize("factor", [-5.0, -1e6, 1e30])
@every_robust_rule
def test_two_poisoned_clients_of_ten_move_the_mean_but_not_the_rules(rule, factor):
    updates = noise(10)
    honest = run(Mean(), updates[2:])["w"]
    for update in updates[:2]:
        update["w"] *= np.float32(factor)
    away = np.linalg.norm(run(Mean(), updates)["w"].astype(np.float64) - honest)
    assert away > 0.9 * np.linalg.norm(honest)
    moved = np.linalg.norm(run(rule, updates)["w"].astype(np.float64) - honest)
    assert moved < 0.35 * np.linalg.norm(honest)


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum", "multi-krum"])
def test_weights_do_not_count_where_a_client_could_lie_about_them(name):
    updates = noise(8)
    plain = run(RULES[name], updates)["w"]
    for weights in ([1e9] + [1] * 7, [0] * 8):
        assert run(RULES[name], updates, weights)["w"].tobytes() == plain.tobytes()


def test_the_geometric_median_counts_examples():
    updates = noise(5)
    got = run(GeometricMedian(), updates, [1, 1, 100, 1, 1])["w"]
    np.testing.assert_allclose(got, updates[2]["w"], rtol=1e-4)
    got = run(GeometricMedian(), updates, [1, 0, 1, 1, 1])["w"]
    np.testing.assert_allclose(
        got, run(GeometricMedian(), updates[:1] + updates[2:])["w"], rtol=1e-5
    )
    with pytest.raises(JobError) as caught:
        run(GeometricMedian(), updates, [0] * 5)
    assert caught.value.reason == "ZeroWeight"


@pytest.mark.parametrize("clients", [7, 8, 130])
@every_robust_rule
def test_equal_updates_are_their_own_result(rule, clients):
    updates = updates_of({"w": ((50,), "float32"), "n": ((), "int64")}, 1, 3) * clients
    for name, got in run(rule, updates).items():
        np.testing.assert_allclose(got, updates[0][name], rtol=1e-5)


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0), GeometricMedian()], ids=str)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_one_client_is_its_own_result(rule, dtype):
    update = {
        "w": (np.arange(70_000) % 100).astype(dtype),
        "s": np.ones((), dtype),
        "e": np.ones(0, dtype),
    }
    for name, got in run(rule, [update]).items():
        np.testing.assert_array_equal(got, update[name].astype(got.dtype))


@every_robust_rule
def test_integers_come_back_rounded(rule):
    updates = [{"n": np.array([k, 10, -k], np.int64)} for k in (1, 1, 2, 2, 2, 2, 900)]
    got = to_dtype(run(rule, updates)["n"], np.dtype(np.int64))
    np.testing.assert_allclose(got, [2, 10, -2], atol=1)


def test_counters_have_no_say_in_the_choice_of_krum():
    updates = [{**update, "steps": np.array(10**6 * k)} for k, update in enumerate(noise(7))]
    updates[0]["w"] -= 50
    chosen = run(Krum(1), updates)
    index = int(chosen["steps"] // 10**6)
    assert index != 0
    np.testing.assert_array_equal(chosen["w"], updates[index]["w"])
    without = [{"w": update["w"]} for update in updates]
    np.testing.assert_array_equal(chosen["w"], run(Krum(1), without)["w"])


def test_of_equal_scores_the_first_client_is_chosen():
    values = [50.0, 1.0, 1.0, 9.0, 1.0, 9.0, 9.0]
    updates = [{"w": np.array([v]), "n": np.array(k)} for k, v in enumerate(values)]
    assert run(Krum(1), updates)["n"] == 1
    assert run(Krum(1, keep=2), updates)["n"] == 1.5


@pytest.mark.parametrize(
    ("rule", "clients", "expected"),
    [
        pytest.param(Krum(0), 2, 3, id="krum-0"),
        pytest.param(Krum(2), 6, 7, id="krum-2"),
        pytest.param(Krum(1, keep=0), 4, 5, id="multi-krum"),
        pytest.param(Krum(1, keep=6), 6, 7, id="multi-krum-keep"),
        pytest.param(TrimmedMean(1), 2, 3, id="trim-1"),
        pytest.param(TrimmedMean(5), 10, 11, id="trim-nothing-left"),
        pytest.param(TrimmedMean(1), 1, 3, id="trim-one-client"),
    ],
)
def test_too_few_updates_for_a_rule_are_refused_at_the_call(rule, clients, expected):
    sources = [ArraySource({})] * clients
    with pytest.raises(JobError, match=f"got {clients} updates, expected at least {expected}") as e:
        rule.aggregate(sources, np.ones(clients), layout_of({"w": np.zeros(3)}))
    assert e.value.reason == "TooFewForRule"


@every_rule
def test_no_update_at_all_is_refused(rule):
    with pytest.raises(JobError) as caught:
        rule.aggregate([], np.ones(0), {})
    assert caught.value.reason == "NoUpdates"


def test_the_largest_floats_do_not_overflow_in_the_middle():
    top = np.finfo(np.float32).max
    updates = [{"w": np.full(5, value, np.float32)} for value in (top, top, top / 2, 0)]
    assert np.isfinite(run(Median(), updates)["w"]).all()
    np.testing.assert_allclose(run(TrimmedMean(1), updates)["w"], top * 0.75, rtol=1e-6)


@pytest.mark.parametrize("rule", [Krum(1), Krum(1, keep=0), GeometricMedian()], ids=str)
def test_an_update_beyond_measure_is_infinitely_far(rule):
    updates = noise(6, dtype=np.float64)
    updates[2]["w"][:] = 1e200
    assert np.abs(run(rule, updates)["w"]).max() < 10
    for update in updates:
        update["w"][:] = 1e200
    with pytest.raises(JobError) as caught:
        run(rule, updates)
    assert caught.value.reason == "TooLargeForRule"


class Wave:
    """An update of any size that takes no memory."""

    def __init__(self, client):
        self.client = client

    def read(self, name, start, stop, scratch):
        scratch[: stop - start] = self.client % 7
        return scratch[: stop - start]


@pytest.mark.parametrize(("clients", "size"), [(7, 2_000_000), (500, 100_000)])
@every_robust_rule
def test_memory_is_flat_in_clients_and_parameters(rule, clients, size):
    if clients > 100 and not isinstance(rule, Median | TrimmedMean):
        size = 3000  # time grows with the square of the clients
    layout = layout_of({"w": np.broadcast_to(np.float32(0), (size,))})
    tracemalloc.start()
    try:
        blocks = rule.aggregate([Wave(k) for k in range(clients)], np.ones(clients), layout)
        assert sum(int(block.values.size) for block in blocks) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 2**20


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("fedsgd", {}),
        ("median", {"trim": 1}),
        ("trimmed-mean", {"trim": -1}),
        ("trimmed-mean", {"trim": 1.5}),
        ("krum", {"byzantine": True}),
        ("krum", {"keep": 2}),
        ("krum", {"serverLearningRate": 0.5}),
        ("fedavg", {}),
        ("multi-krum", {"keep": -1}),
        ("geometric-median", {"iterations": 0}),
        ("geometric-median", {"smoothing": 0}),
    ],
)
def test_unknown_rules_and_parameters_out_of_range_are_refused(name, parameters):
    with pytest.raises(JobError, match=r"expected"):
        aggregator(name, parameters)


def test_the_registry_makes_what_the_job_asks_for():
    assert aggregator("mean", {}) == Mean()
    assert aggregator("trimmed-mean", {"trim": 3}) == TrimmedMean(3)
    assert aggregator("krum", {"byzantine": 2}) == Krum(2, 1)
    assert aggregator("multi-krum", {"byzantine": 2}) == Krum(2, 0)
    assert aggregator("geometric-median", {"iterations": 5}) == GeometricMedian(5, 1e-6)
