"""The breaker's state machine, by example and by every sequence that hypothesis can think of."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.database import Limits, RouteDown
from app.database.adapters.contract import PRIMARY, Facts
from app.database.adapters.local import Local
from app.database.breaker import Breaker, State
from app.database.failover import Standing, choose, order
from app.database.guard import Guard
from app.database.router import Router


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker(clock: Clock, **options: float) -> Breaker:
    return Breaker(clock=clock, jitter=lambda: 1.0, **options)  # type: ignore[arg-type]


def test_only_consecutive_failures_open_it() -> None:
    tested = breaker(Clock(), threshold=3)
    for _ in range(5):
        tested.failure()
        tested.failure()
        tested.success()
    assert tested.state is State.CLOSED
    for _ in range(3):
        tested.failure()
    assert tested.state is State.OPEN


def test_one_severe_failure_opens_it() -> None:
    tested = breaker(Clock(), threshold=3)
    tested.failure(severe=True)
    assert not tested.allows()


def test_exactly_one_of_many_threads_gets_the_probe() -> None:
    clock = Clock()
    tested = breaker(clock, threshold=1)
    tested.failure()
    assert not tested.begin_probe()
    clock.now = tested.retry_at
    start = threading.Barrier(8)
    got: list[bool] = []

    def ask() -> None:
        start.wait()
        got.append(tested.begin_probe())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got.count(True) == 1


def test_the_cool_down_doubles_up_to_its_limit_and_starts_again_after_success() -> None:
    clock = Clock()
    tested = breaker(clock, threshold=1, cooldown=1.0, cooldown_limit=4.0)
    pauses = []
    tested.failure()
    for _ in range(4):
        pauses.append(tested.retry_at - clock.now)
        clock.now = tested.retry_at
        assert tested.begin_probe()
        tested.failure()
    assert pauses == [1.0, 2.0, 4.0, 4.0]
    clock.now = tested.retry_at
    assert tested.begin_probe()
    tested.success()
    tested.failure()
    assert tested.retry_at - clock.now == 1.0


def test_a_late_success_does_not_close_an_open_breaker() -> None:
    tested = breaker(Clock(), threshold=1)
    tested.failure()
    tested.success()
    assert tested.state is State.OPEN


def test_reset_closes_by_hand_and_listeners_hear_each_change() -> None:
    tested = breaker(Clock(), threshold=1)
    heard: list[tuple[State, State]] = []
    tested.listen(lambda old, new: heard.append((old, new)))
    tested.failure()
    tested.failure()
    tested.reset()
    tested.reset()
    assert heard == [(State.CLOSED, State.OPEN), (State.OPEN, State.CLOSED)]
    assert tested.failures == 0


def test_a_forked_child_takes_its_own_probe_while_its_parents_is_under_way() -> None:
    clock = Clock()
    tested = breaker(clock, threshold=1)
    tested.failure()
    clock.now = tested.retry_at
    assert tested.begin_probe()
    tested.after_fork()
    assert not tested.allows()
    assert tested.begin_probe()
    tested.success()
    assert tested.allows()


@pytest.mark.parametrize("options", [{"threshold": 0}, {"cooldown": 0.0}, {"cooldown": 9.0}])
def test_limits_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Breaker(**options)  # type: ignore[arg-type]


class BreakerMachine(RuleBasedStateMachine):
    """Compare the breaker with a model that is written differently: a list of what happened."""

    @initialize(threshold=st.integers(1, 4))
    def begin(self, threshold: int) -> None:
        self.clock = Clock()
        self.threshold = threshold
        self.breaker = breaker(self.clock, threshold=threshold, cooldown=1.0, cooldown_limit=8.0)
        self.since_success = 0
        self.model = State.CLOSED
        self.heard: list[tuple[State, State]] = []
        self.breaker.listen(lambda old, new: self.heard.append((old, new)))

    @rule(severe=st.booleans())
    def fail(self, severe: bool) -> None:
        self.since_success += 1
        if self.model is State.HALF_OPEN or severe or self.since_success >= self.threshold:
            self.model = State.OPEN
        self.breaker.failure(severe=severe)

    @rule()
    def succeed(self) -> None:
        if self.model is not State.OPEN:
            self.model = State.CLOSED
            self.since_success = 0
        self.breaker.success()

    @rule(seconds=st.floats(0, 10))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def probe(self) -> None:
        due = self.model is State.OPEN and self.clock.now >= self.breaker.retry_at
        assert self.breaker.begin_probe() is due
        if due:
            self.model = State.HALF_OPEN
            assert not self.breaker.begin_probe()

    @rule()
    def reset(self) -> None:
        self.model = State.CLOSED
        self.since_success = 0
        self.breaker.reset()

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.state is self.model
        assert self.breaker.allows() is (self.model is State.CLOSED)

    @invariant()
    def changes_form_a_chain(self) -> None:
        for (_, new), (old, _) in zip(self.heard, self.heard[1:], strict=False):
            assert new is old


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


standings = st.lists(
    st.builds(
        lambda fit, doubt, steady: Standing(fit=fit, allowed=fit or doubt, steady=steady),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@given(standings, st.data())
def test_the_choice_is_fit_when_any_route_is(found: list[Standing], data: st.DataObject) -> None:
    active = data.draw(st.integers(0, len(found) - 1))
    chosen = choose(active, found)
    assert found[chosen].fit or not any(standing.fit for standing in found)


@given(standings, st.data())
def test_a_fit_route_is_left_only_for_a_steady_one_that_is_preferred(
    found: list[Standing], data: st.DataObject
) -> None:
    active = data.draw(st.integers(0, len(found) - 1))
    chosen = choose(active, found)
    if found[active].fit and chosen != active:
        assert chosen < active
        assert found[chosen].steady


@given(standings, st.data())
def test_the_choice_is_settled_at_once(found: list[Standing], data: st.DataObject) -> None:
    chosen = choose(data.draw(st.integers(0, len(found) - 1)), found)
    assert choose(chosen, found) == chosen


@given(standings, st.data())
def test_every_allowed_route_is_tried_once_and_fit_ones_first(
    found: list[Standing], data: st.DataObject
) -> None:
    active = data.draw(st.integers(0, len(found) - 1))
    tried = order(active, found)
    assert sorted(tried) == [i for i, standing in enumerate(found) if standing.fit or standing.allowed]
    fits = [found[i].fit for i in tried]
    assert fits == sorted(fits, reverse=True)
    if found[active].fit:
        assert tried[0] == active


class Fake(Local):
    """A route that is well, read-only or down, as it is told; the machine below has no network."""

    state = "well"

    def connect(self, timeout: float, guard: Guard | None = None) -> tuple[Any, Any, Facts]:
        if self.state == "down":
            raise RouteDown("down for the test")
        return None, None, Facts(identity="one", role=PRIMARY, writable=self.state == "well")


class FailoverMachine(RuleBasedStateMachine):
    """Routes fail, refuse writes and come back; a router is told, and a model says which route it uses.

    The model keeps only the times of the good probes of each route since its last bad one.
    """

    COUNT = 2

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.limits = Limits(failback=5.0, failback_probes=2)
        self.patches = [
            mock.patch(f"app.database.{module}.time", mock.Mock(monotonic=self.clock))
            for module in ("route", "router")
        ]
        for patch in self.patches:
            patch.start()
        names = [f"route{number}" for number in range(self.COUNT)]
        self.fakes = [
            Fake(name=name, host="localhost", port=1, database="x", user="slipway") for name in names
        ]
        self.router = Router(self.fakes, (), self.limits, None)
        for route in self.router.routes:
            route.breaker._clock = self.clock
        self.good: list[list[float] | None] = [[] for _ in names]  # None while it is bad
        self.active = 0

    def teardown(self) -> None:
        for patch in getattr(self, "patches", ()):
            patch.stop()

    def steady(self, number: int) -> bool:
        probes = self.good[number] or []
        return (
            len(probes) >= self.limits.failback_probes and self.clock.now - probes[0] >= self.limits.failback
        )

    def told(self) -> None:
        """Follow in the model what the router does when it is told something."""
        fit = [number for number, good in enumerate(self.good) if good is not None]
        if self.active in fit:
            better = [number for number in fit if number < self.active and self.steady(number)]
            self.active = better[0] if better else self.active
        elif fit:
            self.active = fit[0]

    @rule(number=st.integers(0, COUNT - 1), state=st.sampled_from(["well", "read-only", "down"]))
    def become(self, number: int, state: str) -> None:
        self.fakes[number].state = state

    @rule(number=st.integers(0, COUNT - 1))
    def probe(self, number: int) -> None:
        route, state = self.router.routes[number], self.fakes[number].state
        if not (route.breaker.allows() or route.breaker.begin_probe()):
            return
        with suppress(RouteDown):
            route.probe()
        if state == "well":
            self.good[number] = [*(self.good[number] or []), self.clock.now]
        else:
            self.good[number] = None
        self.told()

    @rule(number=st.integers(0, COUNT - 1))
    def refuse_a_write(self, number: int) -> None:
        self.router.routes[number].refused_write()
        self.good[number] = None
        self.told()

    @rule(seconds=st.floats(0.1, 10))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def the_router_uses_the_route_of_the_model(self) -> None:
        assert self.router.current is self.router.routes[self.active]

    @invariant()
    def it_serves_when_any_route_can(self) -> None:
        standings = [route.standing(write=True, now=self.clock.now) for route in self.router.routes]
        assert [standing.fit for standing in standings] == [good is not None for good in self.good]
        assert standings[self.active].fit or not any(standing.fit for standing in standings)

    @invariant()
    def it_is_steady_when_the_model_is(self) -> None:
        for number, route in enumerate(self.router.routes):
            standing = route.standing(write=True, now=self.clock.now)
            assert (standing.fit and standing.steady) is self.steady(number)


TestFailoverMachine = FailoverMachine.TestCase
TestFailoverMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
