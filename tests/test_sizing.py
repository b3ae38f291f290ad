"""The sizer: it finds a service's knee, follows it, and is not led astray by noise, failures or operators."""

from __future__ import annotations

import pytest
from service_model import OVERLOAD, Simulation

from trio_stomp.channels.sizing import Sizer, spare


def assert_near(sizes: list[int], knee: int, within: float = 0.35) -> None:
    """Check all of the sizes, those of probes included."""
    assert sizes
    assert (1 - within) * knee <= min(sizes) <= max(sizes) <= (1 + within) * knee, sizes


def settled(threads: int = 32, **settings: float) -> Simulation:
    """Return an overloaded service of 32 places with a pool that has found that out."""
    simulation = Simulation(threads, **settings)  # type: ignore[arg-type]  # one setting's type for all
    simulation.run(20)
    assert 32 <= simulation.threads <= 37
    return simulation


def feed(
    sizer: Sizer,
    start: float,
    *,
    threads: int,
    seconds: float = 0.02,
    failing: int = 0,
    busy: int | None = None,
) -> tuple[float, int]:
    """Let calls that all take the same end, a millisecond apart, until a size is said; return when, and it.

    Args:
        failing: every so many-th fails; 0: none.
    """
    for number in range(1, 100_000):
        now = start + number / 1000
        size = sizer.ended(
            now,
            seconds,
            busy=threads if busy is None else busy,
            threads=threads,
            is_failure=bool(failing) and number % failing == 0,
        )
        if size is not None:
            return now, size
    raise AssertionError("no size was said")


def known(threads: int, *, minimum: int = 1, maximum: int = 256) -> tuple[Sizer, float]:
    """Return a sizer that has seen a light load, so that it knows the base: 20 ms."""
    sizer = Sizer(threads, minimum=minimum, maximum=maximum)
    now, size = feed(sizer, 0.0, threads=threads, busy=1)
    assert size == threads
    return sizer, now


# It finds the knee.


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 4, 32, 128, 256])
def test_it_settles_close_to_the_knee(threads: int, seed: int) -> None:
    simulation = Simulation(threads, knee=32, seed=seed)
    simulation.run(20)
    assert_near(simulation.sizes_since(5), 32)
    assert 33 <= simulation.threads <= 37


@pytest.mark.parametrize(("knee", "highest"), [(1, 2), (2, 3), (8, 11), (100, 110)])
@pytest.mark.parametrize("threads", [4, 64])
def test_it_keeps_a_small_queue_at_any_knee(threads: int, knee: int, highest: int) -> None:
    simulation = Simulation(threads, knee=knee)
    simulation.run(40)
    assert knee <= simulation.sizer.threads <= highest


def test_from_4_to_32_takes_less_than_3_seconds() -> None:
    simulation = Simulation(4, knee=32)
    assert simulation.run(3) >= 32


def test_after_the_start_it_is_as_good_as_the_best_fixed_size() -> None:
    adaptive, fixed = Simulation(4), Simulation(32, is_followed=False)
    for simulation in (adaptive, fixed):
        simulation.run(3)
        simulation.ended, simulation.times[:] = 0, []
        simulation.run(20)
        simulation.times.sort()
    assert adaptive.ended > 0.98 * fixed.ended
    nearly_all = int(0.99 * fixed.ended)
    assert adaptive.times[nearly_all] < 1.25 * fixed.times[nearly_all]


@pytest.mark.parametrize("threads", [4, 128])
def test_it_settles_at_a_service_that_collapses_beyond_its_knee(threads: int) -> None:
    simulation = Simulation(threads, slowing=1.0)
    simulation.run(30)
    assert_near(simulation.sizes_since(15), 32)


@pytest.mark.parametrize("at_the_knee", [0.1, 0.2, 0.4])
@pytest.mark.parametrize("threads", [4, 128])
def test_it_settles_where_each_call_slows_the_others_a_little(threads: int, at_the_knee: float) -> None:
    simulation = Simulation(threads, creep=at_the_knee / 32)
    simulation.run(30)
    assert_near(simulation.sizes_since(15), 32)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_it_settles_with_calls_that_differ_much(noise: float) -> None:
    simulation = Simulation(4, noise=noise)
    simulation.run(60)
    assert_near(simulation.sizes_since(30), 32)


@pytest.mark.parametrize("threads", [4, 128])
def test_it_settles_with_calls_of_2_seconds(threads: int) -> None:
    simulation = Simulation(threads, base=2.0)
    simulation.run(300)
    assert_near(simulation.sizes_since(150), 32)


# It follows the service, and nothing else.


def test_a_knee_that_halves_is_followed_within_5_seconds() -> None:
    simulation = settled()
    simulation.knee = 16
    simulation.run(20)
    assert_near(simulation.sizes_since(25), 16)


def test_a_knee_that_doubles_is_followed_within_10_seconds() -> None:
    simulation = settled()
    simulation.knee = 64
    simulation.run(20)
    assert_near(simulation.sizes_since(30), 64)


def test_ten_minutes_of_145_percent_load_do_not_make_it_run_away() -> None:
    simulation = Simulation(4, base=0.1, rate=1.45 * 320)
    simulation.run(600)
    assert_near(simulation.sizes_since(20), 32)
    assert simulation.ended > 0.98 * 320 * 600


def test_a_service_that_takes_twice_as_long_keeps_its_threads() -> None:
    simulation = settled()
    simulation.base *= 2
    simulation.run(20)
    assert_near(simulation.sizes_since(20), 32)


def test_a_service_that_gets_slower_bit_by_bit_keeps_its_threads() -> None:
    simulation = settled()
    for _ in range(8):
        simulation.base *= 1.1
        simulation.run(10)
    assert_near(simulation.sizes_since(20), 32)


def test_a_service_that_gets_faster_keeps_its_threads() -> None:
    simulation = settled()
    simulation.base /= 3
    simulation.run(20)
    assert_near(simulation.sizes_since(25), 32)
    assert 33 <= simulation.threads <= 37


def test_one_call_that_hangs_is_no_queue() -> None:
    simulation = settled()
    simulation.hanging = 10.0
    simulation.run(15)
    assert min(simulation.sizes_since(29.9)) >= 27  # as without it: the least is a probe's


# It does not grow without need.


def test_it_does_not_grow_under_a_light_load() -> None:
    simulation = Simulation(16, rate=100)
    simulation.run(60)
    assert set(simulation.sizes_since(0)) == {16}


def test_it_says_nothing_when_there_are_no_calls() -> None:
    simulation = settled()
    simulation.rate = 0
    simulation.run(1)
    simulation.run(3600)
    assert not simulation.sizes_since(21)


def test_a_load_that_wanes_during_a_probe_gives_the_threads_back() -> None:
    sizer, now = known(40)
    size = before = 40
    while size >= before and now < 100:  # until the base is probed
        before = size
        now, size = feed(sizer, now, threads=size, seconds=0.02 / (1 - spare(size) / size))  # just right
    assert (before, size) == (40, 32)
    now, after = feed(sizer, now, threads=size, busy=1)
    assert after == 40


def test_a_faster_light_load_is_the_new_base_at_once() -> None:
    sizer, now = known(40)
    now, _ = feed(sizer, now, threads=40, seconds=0.01, busy=1)
    now, size = feed(sizer, now, threads=40, seconds=0.01 / (1 - spare(40) / 40))
    assert size == 40


def test_a_slower_light_load_is_the_new_base_after_some_time() -> None:
    for windows, is_new in ((1, False), (60, True)):
        sizer, now = known(40)
        for _ in range(windows):
            now, _ = feed(sizer, now, threads=40, seconds=0.04, busy=1)
        now, _ = feed(sizer, now, threads=40, seconds=0.04 / (1 - spare(40) / 40))
        now, size = feed(sizer, now, threads=40, seconds=0.04 / (1 - spare(40) / 40))
        assert (size == 40) is is_new


# Failures.


def test_unusual_failures_take_a_fifth_once_a_window() -> None:
    sizer, now = known(40)
    now, size = feed(sizer, now, threads=40, failing=3)
    assert size == 32
    now, size = feed(sizer, now, threads=32, failing=3)
    assert size == 26


def test_timeouts_are_failures() -> None:
    sizer, now = known(40)
    sizer.ended(now, 0.02, busy=40, threads=40, is_failure=False)
    for _ in range(200):
        sizer.gave_up(now)
    assert feed(sizer, now, threads=40)[1] == 32


def test_timeouts_of_before_a_change_of_threads_do_not_count() -> None:
    sizer, now = known(40)
    sizer.ended(now, 0.02, busy=40, threads=30, is_failure=False)
    for _ in range(200):
        sizer.gave_up(now)
    assert feed(sizer, now, threads=30)[1] >= 30


def test_a_few_failures_are_nothing_unusual() -> None:
    sizer, now = known(40)
    assert feed(sizer, now, threads=40, failing=250)[1] >= 40


def test_after_failures_it_does_not_grow_for_10_seconds() -> None:
    sizer, now = known(40)
    failed_at, size = feed(sizer, now, threads=40, failing=3)
    now = failed_at
    while now < failed_at + 9:
        now, size = feed(sizer, now, threads=size)
        assert size <= 32
    while now < failed_at + 16:
        now, size = feed(sizer, now, threads=size)
    assert size > 32


@pytest.mark.parametrize("seed", range(5))
def test_errors_that_are_usual_make_no_difference(seed: int) -> None:
    simulation = Simulation(4, failing=0.2, seed=seed)
    simulation.run(20)
    assert_near(simulation.sizes_since(5), 32)


def test_a_service_that_fails_for_good_is_not_starved() -> None:
    simulation = settled()
    simulation.failing = 1.0
    simulation.run(120)
    assert 8 <= simulation.threads <= 16


def test_a_service_that_has_recovered_gets_its_threads_back() -> None:
    simulation = settled()
    simulation.failing = 1.0
    simulation.run(30)
    simulation.failing = 0.0
    simulation.run(30)
    assert_near(simulation.sizes_since(65), 32)


def test_errors_that_stay_become_usual() -> None:
    simulation = settled()
    simulation.failing = 0.3
    simulation.run(30)
    assert min(simulation.sizes_since(20)) < 26
    simulation.run(10)
    assert_near(simulation.sizes_since(50), 32)


def test_it_does_not_grow_while_most_calls_fail() -> None:
    simulation = Simulation(16, failing=0.6)
    simulation.run(30)
    assert max(simulation.sizes_since(0)) == 16


def test_quick_refusals_are_not_taken_for_a_fast_service() -> None:
    sizer, now = known(40)
    for number in range(400):  # every other call fails, after no time
        for seconds, is_failure in ((0.02, False), (0.0, True)):
            sizer.ended(now + number / 1000, seconds, busy=30, threads=40, is_failure=is_failure)
    now, size = feed(sizer, now + 30, threads=40, seconds=0.02)
    assert size >= 30  # a base of 10 ms would make a queue of 20 of them


def test_calls_that_fail_from_the_first_on_say_nothing() -> None:
    sizer = Sizer(8, minimum=1, maximum=256)
    assert feed(sizer, 0.0, threads=8, failing=1)[1] == 8


# Operators, bounds, pauses.


@pytest.mark.parametrize("threads", [8, 100])
def test_it_goes_on_from_what_an_operator_sets(threads: int) -> None:
    simulation = settled()
    simulation.threads = threads
    simulation.run(0.2)
    assert simulation.sizer.threads == threads
    simulation.run(20)
    assert_near(simulation.sizes_since(30), 32)


def test_an_operator_may_set_threads_before_anything_is_known() -> None:
    simulation = Simulation(4)
    simulation.run(0.1)
    simulation.threads = 100
    simulation.run(20)
    assert_near(simulation.sizes_since(10), 32)


def test_a_pause_changes_nothing() -> None:
    simulation = settled()
    size, simulation.threads = simulation.threads, 0
    simulation.run(10)
    assert not simulation.sizes_since(20.0)
    simulation.threads = size
    simulation.run(10)
    assert_near(simulation.sizes_since(30), 32)


@pytest.mark.parametrize(("minimum", "maximum", "expected"), [(1, 16, 16), (48, 256, 48), (8, 8, 8)])
def test_it_stays_within_its_bounds(minimum: int, maximum: int, expected: int) -> None:
    simulation = Simulation(min(max(20, minimum), maximum), minimum=minimum, maximum=maximum)
    simulation.run(30)
    sizes = simulation.sizes_since(0)
    assert minimum <= min(sizes) <= max(sizes) <= maximum
    assert abs(simulation.sizer.threads - expected) <= 8 * (maximum > 16)


def test_threads_out_of_bounds_are_brought_back() -> None:
    sizer, now = known(4, maximum=8)
    assert feed(sizer, now, threads=50)[1] == 8


# A pool that only observes.


def test_observed_below_the_knee_it_says_more() -> None:
    simulation = Simulation(16, is_followed=False, rate=200)
    simulation.run(10)
    simulation.rate = OVERLOAD
    simulation.run(120)
    assert set(simulation.sizes_since(15)) == {19}
    assert simulation.sizer.threads == 19


def test_observed_above_the_knee_it_says_the_knee_and_stays_there() -> None:
    simulation = Simulation(64, is_followed=False, rate=500)
    simulation.run(10)
    simulation.rate = OVERLOAD
    simulation.run(120)
    assert_near(simulation.sizes_since(15), 37, within=0.1)


def test_observed_it_keeps_what_it_said_while_there_is_little_to_do() -> None:
    simulation = Simulation(64, is_followed=False, rate=500)
    simulation.run(10)
    simulation.rate = OVERLOAD
    simulation.run(20)
    simulation.rate = 100
    said = simulation.sizer.threads
    simulation.run(60)
    assert simulation.sizer.threads == said


def test_observed_in_overload_from_the_first_call_on_it_does_not_creep_up() -> None:
    simulation = Simulation(64, is_followed=False)
    simulation.run(120)
    assert max(simulation.sizes_since(5)) <= 64 + spare(64)


def test_observed_failures_do_not_add_up() -> None:
    simulation = Simulation(64, is_followed=False, rate=500)
    simulation.run(10)
    simulation.rate, simulation.failing = OVERLOAD, 1.0
    simulation.run(20)
    assert min(simulation.sizes_since(10)) >= 50


def test_a_pool_that_follows_again_is_led_again() -> None:
    simulation = Simulation(64, is_followed=False, rate=500)
    simulation.run(10)
    simulation.rate = OVERLOAD
    simulation.run(10)
    simulation.is_followed = True
    simulation.run(20)
    simulation.knee = 16
    simulation.run(20)
    assert_near(simulation.sizes_since(50), 16)


def test_a_probe_is_not_what_it_would_choose() -> None:
    simulation = settled()
    shown = []
    for _ in range(3000):
        simulation.run(0.01)
        shown.append(simulation.sizer.threads)
    assert min(simulation.sizes_since(20)) < 32 <= min(shown)


# Odd clocks.


def test_calls_that_take_no_time_say_nothing_of_later_ones() -> None:
    sizer = Sizer(8, minimum=1, maximum=256)
    now, size = 0.0, 8
    while now < 5:
        now, size = feed(sizer, now, threads=size, seconds=0.0)
    for _ in range(30):
        now, size = feed(sizer, now, threads=size, seconds=0.02)
    assert size > 8
