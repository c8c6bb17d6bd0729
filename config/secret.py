"""A value that must not be seen: it shows itself only when asked by name."""

from typing import NoReturn, final

MASK = "********"


class Unpicklable:
    """What holds secrets in plain text refuses to leave the process."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled: read it again there")


@final
class Secret:
    """Hold a secret so that printing, formatting, logging and pickling never show it.

    `reveal` is the one way to the text, which makes every use of it easy to find and review.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text of the secret."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, specification: str) -> str:
        return format(MASK, specification)

    def __len__(self) -> int:
        return len(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        from hmac import compare_digest

        one, two = (each._text.encode("utf-8", "surrogatepass") for each in (self, other))
        return compare_digest(one, two)

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled: pass the name of its variable and read it again there")
