"""The one background thread of a manager: it cuts silent connections, probes routes and keeps house."""

from __future__ import annotations

import logging
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.database.route import Route
    from app.database.router import Router

logger = logging.getLogger(__name__)

_TICK = 0.05
_HOUSEKEEPING = 1.0


class Monitor:
    """Look at the routes many times a second, until stopped."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-monitor", daemon=True)
        self._housekeeping_at = 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for the tick under way."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(_TICK):
            try:
                self.tick(time.monotonic())
            except Exception:
                logger.exception("the database monitor failed once, and goes on")

    def tick(self, now: float) -> None:
        """Do once what the thread does again and again."""
        router, limits = self._router, self._router.limits
        router.guard.sweep(now)
        for route in router.routes:
            for pool in route.pools:
                oldest = pool.silent_since()
                if oldest is not None and now - oldest > limits.silence and now >= route.next_probe:
                    route.suspect()
            route.probe_in_background(partial(self._due, route, now))
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + min(_HOUSEKEEPING, limits.leak / 2)
            for route in router.routes:
                for pool in route.pools:
                    pool.housekeep(now, limits.leak)
                    if route is not router.current and not route.replica:
                        # What was on loan when the route was left came back since.
                        pool.close_idle(unused_since=now - _HOUSEKEEPING)

    def _due(self, route: Route, now: float) -> bool:
        """Tell whether a route is to be probed now, and take note of it."""
        router, limits = self._router, self._router.limits
        if not (route.breaker.begin_probe() or (now >= route.next_probe and router.wants_probe(route, now))):
            return False
        pause = limits.failback / max(1, limits.failback_probes) if route.cause is None else limits.silence
        route.next_probe = now + pause * (0.75 + random.random() / 4)  # noqa: S311 - jitter, not a secret
        return True
