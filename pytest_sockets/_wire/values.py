"""What effects and moments have in common: values that print as they are written."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal, TypeAlias

Carrier: TypeAlias = Literal["stream", "datagram"]

STREAM: frozenset[Carrier] = frozenset({"stream"})
DATAGRAM: frozenset[Carrier] = frozenset({"datagram"})


class Value:
    """A value that prints as it is written."""

    __slots__ = ()

    def __repr__(self) -> str:
        given = [
            (field.name, value)
            for field in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
            if (value := getattr(self, field.name)) != field.default
        ]
        # The first argument has one obvious meaning; further ones are told by name.
        texts = [
            repr(value) if at == 0 else f"{name}={value!r}"
            for at, (name, value) in enumerate(given)
        ]
        return f"{type(self).__name__}({', '.join(texts)})"

    @property
    def __name__(self) -> str:
        """What pytest takes for a parametrised test's id."""
        return repr(self)
