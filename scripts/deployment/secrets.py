"""Secrets on the target: files in the container, named by a hash, in no text that anybody reads."""

from __future__ import annotations

import hashlib
import os
import secrets as randomness
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.deployment.swarm import STACK_LABEL, Swarm

if TYPE_CHECKING:
    from config.masking import Masker
    from config.secret import Secret
    from config.sources import Sources

GENERATED = ("SECRET_KEY", "LEDGER_TOKEN")
PREFIX_LENGTH = 12


def development_folder(root: Path) -> Path:
    """Return the folder of the secrets of `development` on this machine."""
    return root / ".slipway" / "secrets" / "development"


def generate(folder: Path, names: Iterable[str] = GENERATED) -> list[str]:
    """Write a strong value for every secret that the folder lacks; return the names of the new ones.

    Files are readable by their owner only. Two runs at once agree: the first to write a name wins.
    """
    made = []
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in names:
        path = folder / name
        if path.exists():
            continue
        scratch = folder / f".{name}.{os.getpid()}.{randomness.token_hex(4)}"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(randomness.token_urlsafe(48))
            os.link(scratch, path)
            made.append(name)
        except FileExistsError:
            continue
        finally:
            scratch.unlink()
    return made


def prepare(environment: str | None, sources: Sources) -> None:
    """Make up the secrets of `development` when that is the environment, by default the one that the sources
    choose; the others' are never made up.
    """
    from config.check import choose_environment
    from config.environments import DEFAULT, ENVIRONMENTS, Development

    if choose_environment(environment, sources, ENVIRONMENTS, DEFAULT, []) is Development:
        generate(development_folder(sources.root))


@lru_cache(maxsize=64)
def prefix(stack: str, name: str, value: str) -> str:
    """Return the part of a secret's name that stands for its value, of 48 bits.

    A name is public, so it comes from a slow key derivation (RFC 7914) salted with where the secret is
    used: the same value shows as another name elsewhere, and guessing costs.
    """
    salt = f"slipway:{stack}:{name}".encode()
    return hashlib.scrypt(value.encode(), salt=salt, n=2**13, r=8, p=1, dklen=PREFIX_LENGTH // 2).hex()


def names(stack: str, values: Mapping[str, Secret]) -> dict[str, str]:
    """Return the name on the swarm of each secret."""
    return {
        name: f"{stack}.{name}.{prefix(stack, name, value.reveal())}"
        for name, value in sorted(values.items())
    }


def create(swarm: Swarm, stack: str, values: Mapping[str, Secret]) -> list[str]:
    """Create the secrets that the swarm does not have yet; return their names."""
    known = {secret["Spec"]["Name"] for secret in swarm.secrets(stack)}
    made = []
    for name, on_swarm in names(stack, values).items():
        if on_swarm not in known and swarm.create_secret(
            on_swarm, values[name].reveal().encode(), {STACK_LABEL: stack, "dev.slipway.kind": "secret"}
        ):
            made.append(on_swarm)
    return made


def masker(values: Iterable[Secret]) -> Masker:
    """Return what takes these secrets out of a text."""
    from config.masking import Masker

    return Masker(value.reveal() for value in values)
