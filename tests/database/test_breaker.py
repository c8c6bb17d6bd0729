"""The breaker's state machine, by example and by every sequence that hypothesis can think of."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.database.breaker import Breaker, State
from app.database.failover import Standing, choose, order


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


class FailoverMachine(RuleBasedStateMachine):
    """Routes come and go; time passes; the active route follows."""

    COUNT = 3
    STEADY = 5.0

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.good_since: list[float | None] = [0.0] * self.COUNT
        self.active = 0
        self.moves: list[tuple[float, int]] = []

    def decide(self) -> None:
        found = [
            Standing(
                fit=since is not None,
                allowed=True,
                steady=since is not None and self.now - since >= self.STEADY,
            )
            for since in self.good_since
        ]
        chosen = choose(self.active, found)
        if chosen != self.active:
            better = chosen < self.active and found[self.active].fit
            assert not better or found[chosen].steady
            self.active = chosen

    @rule(route=st.integers(0, COUNT - 1))
    def break_route(self, route: int) -> None:
        self.good_since[route] = None
        self.decide()

    @rule(route=st.integers(0, COUNT - 1))
    def mend_route(self, route: int) -> None:
        if self.good_since[route] is None:
            self.good_since[route] = self.now
        self.decide()

    @rule(seconds=st.floats(0.1, 10))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.decide()

    @invariant()
    def serves_when_it_can(self) -> None:
        if any(since is not None for since in self.good_since):
            assert self.good_since[self.active] is not None

    @invariant()
    def comes_home_in_the_end(self) -> None:
        first = self.good_since[0]
        if first is not None and self.now - first >= self.STEADY:
            assert self.active == 0


TestFailoverMachine = FailoverMachine.TestCase
TestFailoverMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
