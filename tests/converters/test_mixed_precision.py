from itertools import combinations

import numpy as np
import pytest

from solov2_edge.converters.mixed_precision import Candidate, keep_float
from solov2_edge.errors import GateError, InputError


def problem(harms, costs, expected=None):
    """A network whose drop is the sum of the harms of the layers that are not float."""
    gains = harms if expected is None else expected
    candidates = [
        Candidate(f"group {number}", (f"{number}a", f"{number}b"), gain, cost)
        for number, (gain, cost) in enumerate(zip(gains, costs, strict=True))
    ]

    def drop(kept):
        return sum(harm for number, harm in enumerate(harms) if not {f"{number}a", f"{number}b"} <= kept)

    return candidates, drop


def cheapest(harms, costs, max_drop):
    """The least cost, by trying every set."""
    numbers = range(len(harms))
    return min(
        sum(costs[n] for n in kept)
        for size in range(len(harms) + 1)
        for kept in combinations(numbers, size)
        if sum(harms[n] for n in numbers if n not in kept) <= max_drop
    )


def test_the_known_optimum_is_found():
    """Two layers do the harm; a third is harmful and dear, and the budget can bear it."""
    candidates, drop = problem(harms=[0.05, 1.0, 0.02, 2.0, 0.3, 0.03], costs=[1, 1, 1, 2, 9, 1])
    choice = keep_float(candidates, lambda kept: kept, drop, 0.5)
    assert [candidate.name for candidate in choice.kept] == ["group 1", "group 3"]
    assert choice.layers == {"1a", "1b", "3a", "3b"}
    assert choice.drop == pytest.approx(0.4)
    assert choice.cost == 3
    assert choice.cost == cheapest([0.05, 1.0, 0.02, 2.0, 0.3, 0.03], [1, 1, 1, 2, 9, 1], 0.5)


def test_nothing_is_kept_where_nothing_must_be():
    candidates, drop = problem([0.1, 0.2], [1, 1])
    said = []
    choice = keep_float(candidates, lambda kept: kept, drop, 0.5, log=said.append)
    assert (choice.kept, choice.cost, choice.tried) == ((), 0, 1)
    assert said == ["nothing kept float: 0.30 points lost, 0.5 allowed"]


def test_wrong_expectations_are_taken_back():
    """Expected gains only give an order: a layer that brings nothing is not kept."""
    candidates, drop = problem(harms=[0.0, 0.0, 1.0, 0.0], costs=[1, 1, 1, 1], expected=[5.0, 4.0, 3.0, 2.0])
    choice = keep_float(candidates, lambda kept: kept, drop, 0.5)
    assert [candidate.name for candidate in choice.kept] == ["group 2"]


@pytest.mark.parametrize("seed", range(12))
def test_random_problems_come_near_the_optimum_and_keep_the_budget(seed):
    random = np.random.default_rng(seed)
    harms = random.exponential(0.3, 9).tolist()
    costs = random.uniform(0.2, 2.0, 9).tolist()
    budget = 0.3 * sum(harms)
    candidates, drop = problem(harms, costs)
    choice = keep_float(candidates, lambda kept: kept, drop, budget)
    assert choice.drop <= budget
    assert choice.cost <= 1.35 * cheapest(harms, costs, budget)
    assert choice.tried <= 2 * 4 + 9


def test_a_budget_that_cannot_be_kept_is_a_gate():
    candidates, drop = problem([1.0, 1.0], [1, 1])
    with pytest.raises(GateError, match=r"all 2 groups of layers float the network still loses 0\.70 points of AP"):
        keep_float(candidates, lambda kept: kept, lambda kept: drop(kept) + 0.7, 0.5)


@pytest.mark.parametrize(
    ("candidates", "budget", "message"),
    [
        ([Candidate("a", ("a",), 1, 1)], -1, "at least 0 points"),
        ([Candidate("a", ("a",), 1, 0)], 1, "a costs nothing"),
        ([Candidate("a", ("a",), 1, 1), Candidate("a", ("b",), 1, 1)], 1, "the same name"),
    ],
)
def test_nonsense_is_refused(candidates, budget, message):
    with pytest.raises(InputError, match=message):
        keep_float(candidates, lambda kept: kept, lambda _: 0.0, budget)


def test_candidates_that_may_not_be_float_together_are_left_out():
    """A file called int8 must stay mostly integer, however much would be gained."""
    candidates, drop = problem(harms=[1.0, 1.0, 1.0, 0.4], costs=[1, 1, 1, 1])

    def may(layers):
        return len(layers) <= 4  # of two groups

    choice = keep_float(candidates, lambda kept: kept, drop, 1.5, may=may)
    assert [candidate.name for candidate in choice.kept] == ["group 0", "group 1"]
    with pytest.raises(GateError, match=r"the most that may be, 2 groups of layers float .* loses 1\.40 points"):
        keep_float(candidates, lambda kept: kept, drop, 1.0, may=may)
