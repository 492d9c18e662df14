"""Retries stay within their budget, circuits open and close, hedges know when."""

import pytest

from serve_app.resilience import Circuit, Latencies, RetryBudget, back_off_s


def test_back_off_doubles_up_to_a_bound_and_is_jittered() -> None:
    longest = [back_off_s(attempt, lambda: 1.0) for attempt in (1, 2, 3, 4, 5, 6, 100)]
    assert longest == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5])
    assert back_off_s(6, lambda: 0.0) == 0


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(share=0.1, reserve=5)
    spent = 0
    for _ in range(1_000):
        budget.earn()
        spent += budget.spend()
    assert 100 <= spent <= 105


def test_the_reserve_is_there_at_the_start_and_no_larger_later() -> None:
    budget = RetryBudget(share=0.5, reserve=3)
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]


def test_a_circuit_opens_after_failures_in_a_row() -> None:
    circuit = Circuit(threshold=3)
    circuit.fail(0)
    circuit.fail(0)
    circuit.succeed()
    circuit.fail(0)
    circuit.fail(0)
    assert circuit.wait_s(0) == 0
    circuit.fail(0)
    assert circuit.wait_s(0) == pytest.approx(0.1)


def test_an_open_circuit_lets_one_call_try_at_a_time() -> None:
    circuit = Circuit(threshold=1)
    circuit.fail(0)
    assert circuit.wait_s(0.1) == 0
    circuit.begin(0.1, timeout_s=1)
    assert circuit.wait_s(0.2) == Circuit.IN_PROBE_S
    circuit.succeed()
    assert circuit.wait_s(0.2) == 0


def test_a_try_whose_end_was_never_told_does_not_block_for_ever() -> None:
    circuit = Circuit(threshold=1)
    circuit.fail(0)
    circuit.begin(0.1, timeout_s=1)
    assert circuit.wait_s(1.1) == 0


def test_an_open_circuit_waits_longer_after_each_failed_try() -> None:
    circuit = Circuit(threshold=1)
    waits = []
    for _ in range(6):
        circuit.fail(0)
        waits.append(circuit.wait_s(0))
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_the_percentile_is_known_after_enough_calls() -> None:
    latencies = Latencies()
    for number in range(31):
        latencies.add(number)
    assert latencies.p95_s() is None
    latencies.add(31)
    assert latencies.p95_s() == 29


def test_old_calls_are_forgotten() -> None:
    latencies = Latencies()
    for seconds in [9.0] * 256 + [1.0] * 256:
        latencies.add(seconds)
    assert latencies.p95_s() == 1
