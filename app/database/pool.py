"""A bounded pool of open connections to one route.

Connections are opened by threads of their own, so a caller waits exactly as long as its budget says even
while the network does not answer. Waiters are served first come, first served; beyond `max_waiting` they are
turned away at once. A connection stays wrapped in its SQLAlchemy `Connection` for life, which is what makes
lending cheap: a lock, a pop, and two comparisons.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from app.database.adapters.contract import discard
from app.database.errors import NO_MORE, DatabaseError, NotSent, PoolTimeout, QueueFull, RouteDown, again
from app.database.guard import Guard, cut
from app.database.lease import Lease
from app.database.statistics import PoolCounts
from app.database.turn import Waiter, pools_lock

if TYPE_CHECKING:
    from types import CodeType

    from app.database.adapters.contract import Adapter, Facts
    from app.database.transactions import Transaction

logger = logging.getLogger(__name__)


_FULL_PAUSE: Final = 0.5
"""Seconds until a server that gave no more connections is asked for one again."""

_inherited: list[Lease] = []
"""Connections of a parent process. They are kept, for closing SQLite's would touch the parent's file."""


class Pool:
    """Lend the connections of one adapter, at most `size` at a time."""

    def __init__(
        self,
        adapter: Adapter,
        *,
        size: int,
        max_waiting: int,
        connect_timeout: float,
        silence: float,
        fresh: float,
        max_lifetime: float,
        guard: Guard,
        admit: Callable[[Facts], None],
        on_open_failure: Callable[[DatabaseError, float], None],
        on_dead: Callable[[], None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.adapter = adapter
        self.limit = size
        self._max_waiting = max_waiting
        self._connect_timeout = connect_timeout
        self._silence = silence
        self._fresh = fresh
        self._max_lifetime = max_lifetime
        self._guard = guard
        self._admit = admit
        self._on_open_failure = on_open_failure
        self._on_dead = on_dead
        self._jitter = jitter
        self._lock = pools_lock()
        self._idle: deque[Lease] = deque()
        self._returned: deque[tuple[Callable[[Lease], None], Lease]] = deque()
        self._ended: deque[Lease] = deque()
        self._in_use: set[Lease] = set()
        self._unclaimed: dict[Lease, float] = {}
        self._waiters: deque[Waiter] = deque()
        self._opening: set[threading.Thread] = set()
        self._trusted_since = 0.0
        self._full_until = 0.0
        self._closed = False
        self._last_cause: Exception | None = None
        self._opened = self._closed_count = self._lent = self._timeouts = 0
        self._turned_away = self._open_failures = self._leaks = 0
        self.committed = 0
        self.rolled_back = 0

    def acquire(self, transaction: Transaction, deadline: float, owner: tuple[CodeType, int] | None) -> Lease:
        """Lend `transaction` a connection that works, before the monotonic time `deadline`.

        Raise PoolTimeout when none comes free in time, QueueFull when too many wait, RouteDown or another
        NotSent when a new connection cannot be opened.
        """
        while True:
            if self._returned:
                self._settle()
            with self._lock:
                if self._idle and not self._waiters:
                    lease = transaction.lease = self._idle.pop()
                    lease.claimed = True
                    self._in_use.add(lease)
                    self._lent += 1
            lease = transaction.lease or self._wait(transaction, deadline)
            now = time.monotonic()
            if (
                lease.used >= now - self._fresh and lease.used >= self._trusted_since and now < lease.expires
            ) or self._works(transaction, lease, now, deadline):
                lease.since = now
                lease.label = transaction.label
                lease.owner = owner
                lease.thread = threading.get_ident()
                return lease

    def release(self, transaction: Transaction, lease: Lease) -> None:
        """Take back a connection that is outside any transaction."""
        lease.busy = 0.0
        lease.reported = False
        lease.used = time.monotonic()
        self._give(transaction, lease, self._take_back)

    def drop(self, transaction: Transaction, lease: Lease) -> None:
        """Close a lent connection for good and make room for another."""
        self._give(transaction, lease, self._take_out)

    def _give(self, transaction: Transaction, lease: Lease, take: Callable[[Lease], None]) -> None:
        given, append = (take, lease), self._returned.append
        transaction.lease = None
        lease.claimed = False
        append(given)  # CPython looks for interrupts after a call: none comes since the connection was taken
        self._settle()

    def distrust(self) -> None:
        """Check every connection that is idle now before it is lent again."""
        self._trusted_since = time.monotonic()

    def fail_waiters(self, error: DatabaseError) -> None:
        """Turn away everyone who waits, for they would wait for a route that is down."""
        with self._lock:
            self._turn_away(error)

    def close_idle(self, *, unused_since: float = math.inf) -> None:
        """Close the connections that nobody has used since that monotonic time."""
        with self._lock:
            leases = [lease for lease in self._idle if lease.used < unused_since]
            for lease in leases:
                self._idle.remove(lease)
            self._closed_count += len(leases)
        for lease in leases:
            discard(lease.connection)

    def close(self) -> None:
        """Lend no more; close idle connections now and lent ones when they come back."""
        with self._lock:
            self._closed = True
        self.fail_waiters(NotSent("The connection pool was closed."))
        self.close_idle()

    def housekeep(self, now: float, leak: float) -> None:
        """Replace connections past their lifetime and report transactions that are held too long."""
        with self._lock:
            old = [lease for lease in self._idle if now >= lease.expires]
            for lease in old:
                self._idle.remove(lease)
            self._closed_count += len(old)
            leaked = [lease for lease in self._in_use if lease.since and now - lease.since > leak]
            leaked = [lease for lease in leaked if not lease.reported]
            for lease in leaked:
                lease.reported = True
            self._leaks += len(leaked)
            self._find_lost(now - leak)
            self._refill()
        for lease in old:
            discard(lease.connection)
        for lease in leaked:
            logger.warning(
                "connection of route %s held for %.1f s by %s",
                self.adapter.name,
                now - lease.since,
                lease.holder(),
            )

    def _find_lost(self, before: float) -> None:
        """Close what an interrupt made nobody's, first seen before that monotonic time; the lock is held.

        A waiter that was given a connection claims it when he gets the processor, which may take a while.
        """
        queued = {lease for _, lease in self._returned}
        now = time.monotonic()
        seen = {
            lease: self._unclaimed.get(lease, now)
            for lease in self._in_use
            if not lease.claimed and lease not in queued
        }
        for lease in [lease for lease, since in seen.items() if since < before]:
            del seen[lease]
            self._take_out(lease)
        self._unclaimed = seen
        self._opening = {thread for thread in self._opening if thread.is_alive()}

    def silent_since(self) -> float | None:
        """Return when the oldest statement that still waits for its answer was sent."""
        self._settle()
        with self._lock:
            return min((lease.busy for lease in self._in_use if lease.busy), default=None)

    def cut_silent(self, before: float) -> int:
        """Break every connection whose statement was sent before `before` and is unanswered."""
        with self._lock:
            silent = [lease for lease in self._in_use if 0 < lease.busy < before]
            for lease in silent:
                cut(lease.raw)
        return len(silent)

    def after_fork(self) -> None:
        """Forget every connection without a word on the wire; only for a process that was just forked."""
        self._lock = pools_lock()
        for lease in (*self._idle, *self._in_use):
            # A connection belongs to the parent. Detached, its SQLAlchemy wrapper says no goodbye, and
            # psycopg2 closes nothing in a process that did not open it.
            lease.connection.detach()
            lease.foreign = True
            _inherited.append(lease)
        self._idle.clear()
        self._in_use.clear()
        self._waiters.clear()
        self._returned.clear()
        self._ended.clear()
        self._opening.clear()

    def counts(self) -> PoolCounts:
        """Return this moment's figures."""
        self._settle()
        with self._lock:
            return PoolCounts(
                size=len(self._idle) + len(self._in_use) + len(self._opening),
                limit=self.limit,
                idle=len(self._idle),
                in_use=len(self._in_use),
                opening=len(self._opening),
                waiting=len(self._waiters),
                opened=self._opened,
                closed=self._closed_count,
                lent=self._lent,
                timeouts=self._timeouts,
                turned_away=self._turned_away,
                open_failures=self._open_failures,
                leaks=self._leaks,
                committed=self.committed,
                rolled_back=self.rolled_back,
            )

    @property
    def live(self) -> bool:
        """Tell whether any connection is open."""
        return bool(self._in_use or self._idle)

    def describe(self) -> str:
        """Say who holds what, for the text of an error."""
        now = time.monotonic()
        with self._lock:
            used, waiting, opening = len(self._in_use), len(self._waiters), len(self._opening)
            oldest = min((x for x in self._in_use if x.since), key=lambda x: x.since, default=None)
        text = f"{used} of {self.limit} in use, {opening} opening, {waiting} waiting"
        if oldest is not None:
            text += f"; oldest held {now - oldest.since:.1f} s by {oldest.holder()}"
        if self._last_cause is not None:
            what = getattr(self._last_cause, "what", self._last_cause)
            text += f"; last cause: {' '.join(str(what).split())}"
        return text

    def _enqueue(self, waiter: Waiter) -> None:
        if self._closed:
            raise NotSent("The connection pool was closed.", where=f"route {self.adapter.name}")
        room = len(self._in_use) + len(self._idle) + len(self._opening) < self.limit
        if not room and len(self._waiters) - len(self._opening) >= self._max_waiting:
            self._turned_away += 1
            raise QueueFull(
                f"{len(self._waiters)} callers already wait for a connection of route {self.adapter.name}.",
                where=f"{len(self._in_use)} of {self.limit} in use",
                next_step="Try again later, raise DB_POOL_SIZE, or shorten the transactions.",
            )
        self._waiters.append(waiter)
        if self._idle:
            self._serve()
        self._refill()

    def _refill(self) -> None:
        """Open connections for those who wait, as far as there is room; the lock is held."""
        live = len(self._in_use) + len(self._idle)
        if live and time.monotonic() < self._full_until:
            return
        while not self._closed and len(self._opening) < min(len(self._waiters), self.limit - live):
            opener = threading.Thread(target=self._open, name=f"open-{self.adapter.name}", daemon=True)
            self._opening.add(opener)
            try:
                opener.start()
            except RuntimeError as error:  # this process may have no more threads
                self._opening.discard(opener)
                if not live and not self._opening:
                    self._turn_away(NotSent(f"No connection can be opened: {error}."))
                return

    def _turn_away(self, error: DatabaseError) -> None:
        """Tell everyone who waits that it is in vain; the lock is held."""
        while self._waiters:
            self._waiters.popleft().tell(error=error)

    def _settle(self) -> None:
        """Take in what came back, unless the garbage collector ended it while this thread holds the lock.

        Then the next to ask takes it in, the monitor within a tick.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]  # as threading.Condition asks
            return
        with self._lock:
            while self._returned:
                take, lease = self._returned.popleft()
                take(lease)
        while self._ended:
            with suppress(IndexError):  # another thread closes it
                discard(self._ended.popleft().connection)

    def _take_back(self, lease: Lease) -> None:
        """Lend a returned connection to the next, or put it by; the lock is held."""
        if self._closed or lease not in self._in_use:
            self._take_out(lease)
        else:
            self._hand_over(lease)

    def _take_out(self, lease: Lease) -> None:
        """Forget a connection that is to be closed; the lock is held."""
        if lease in self._in_use:
            self._in_use.discard(lease)
            self._closed_count += 1
        self._ended.append(lease)
        self._refill()

    def _open(self) -> None:
        began = time.monotonic()
        lease: Lease | None = None
        error: DatabaseError | None = None
        try:
            connection, raw, facts = self.adapter.connect(self._connect_timeout, self._guard)
            try:
                self._admit(facts)
            except Exception:
                discard(connection)
                raise
            # Up to a tenth is taken off, so that connections opened together do not expire together.
            expires = time.monotonic() + self._max_lifetime * (1 - self._jitter() / 10)
            lease = Lease(self, self.adapter, connection, raw, facts, expires)
        except DatabaseError as refused:
            error = refused
        except Exception as unexpected:  # noqa: BLE001 - reaches the waiter with its cause
            error = RouteDown(f"The route {self.adapter.name} failed to open: {unexpected}")
            error.__cause__ = unexpected
        if error is not None:
            self._on_open_failure(error, time.monotonic() - began)
        late = False
        with self._lock:
            self._opening.discard(threading.current_thread())
            if lease is not None:
                self._opened += 1
                late = self._closed
                if not late:
                    self._in_use.add(lease)
                    self._hand_over(lease)
            else:
                self._open_failures += 1
                self._last_cause = error
                if isinstance(error, NO_MORE) and self.live:
                    self._full_until = time.monotonic() + _FULL_PAUSE  # who waits gets one that comes back
                elif self._waiters:
                    self._waiters.popleft().tell(error=error)
                self._refill()
        if late and lease is not None:
            discard(lease.connection)

    def _hand_over(self, lease: Lease) -> None:
        """Give `lease`, which counts as in use, to the first waiter or put it by; the lock is held."""
        lease.claimed = False
        if self._waiters:
            self._waiters.popleft().tell(lease=lease)
        else:
            self._in_use.discard(lease)
            self._idle.append(lease)

    def _serve(self) -> None:
        lease = self._idle.pop()
        self._in_use.add(lease)
        self._hand_over(lease)

    def _wait(self, transaction: Transaction, deadline: float) -> Lease:
        waiter = Waiter()
        # A route none of whose connections is alive gets as long as one attempt to connect, and a little more
        # for a name server that does not answer; then another route has its turn.
        try:
            with self._lock:
                self._enqueue(waiter)
            patience = min(deadline, time.monotonic() + self._connect_timeout * 1.25)
            if not waiter.wait(patience - time.monotonic()):
                with self._lock:
                    alive = self.live
                if alive:
                    waiter.wait(deadline - time.monotonic())
            with self._lock:
                lease = waiter.lease
                if lease in self._in_use:
                    self._lent += 1
                    transaction.lease = lease
                    lease.claimed = True
                    return lease
                if waiter.error is None:
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)
                    self._timeouts += 1
                    alive = self.live
        except BaseException:  # turned away, or an interrupt: nobody is left to take what it would be given
            if transaction.lease is None:
                self._withdraw(waiter)
            raise
        if waiter.error is not None:
            raise again(waiter.error) from waiter.error
        if not alive:
            raise RouteDown(
                f"The route {self.adapter.name} did not answer in time.",
                where=f"{self.adapter.describe()}: {self.describe()}",
            )
        raise PoolTimeout(
            f"No connection of route {self.adapter.name} came free in time.",
            where=self.describe(),
            next_step="Shorten the transactions, raise DB_POOL_SIZE, or give a larger budget.",
        )

    def _withdraw(self, waiter: Waiter) -> None:
        with self._lock:
            if waiter.lease in self._in_use:
                self._hand_over(waiter.lease)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)

    def _works(self, transaction: Transaction, lease: Lease, now: float, deadline: float) -> bool:
        """Check a connection that was idle for long; drop it when it is dead or too old.

        Of a route that is silent to one connection no other is asked: each would cost as much time again.
        """
        if now >= lease.expires:
            self.drop(transaction, lease)
            return False
        raw = lease.raw
        silence = min(self._silence, max(0.05, deadline - now))
        self._guard.watch(raw, silence)
        try:
            self.adapter.alive(raw)
        except BaseException as error:
            self._guard.release(raw)
            self.distrust()
            self.drop(transaction, lease)
            if not isinstance(error, Exception):  # an interrupt says nothing of the connection
                raise
            self._last_cause = error
            if time.monotonic() - now >= 0.9 * silence:
                self.close_idle()
            self._on_dead()
            return False
        self._guard.release(raw)
        return True
