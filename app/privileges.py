"""What a process of the app may never gain."""

from __future__ import annotations

import os
import sys


def give_up_new_privileges() -> None:
    """Let no program that this process starts gain privileges, by a set-uid bit or the like; Linux only.

    `docker stack deploy` ignores `security_opt`, so the process does it itself. Raises OSError when the
    kernel refuses. Source: prctl(2), PR_SET_NO_NEW_PRIVS.
    """
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_PR_SET_NO_NEW_PRIVS = 38
