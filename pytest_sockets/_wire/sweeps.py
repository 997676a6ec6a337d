"""Every place where a reply can be cut, as values for parametrised tests."""

from __future__ import annotations

from itertools import accumulate, pairwise

from pytest_sockets._wire.framing import positive
from pytest_sockets._wire.matching import as_bytes
from pytest_sockets._wire.rendering import show


class Split(tuple[bytes, bytes]):
    """A reply in two pieces."""

    __slots__ = ()

    @property
    def __name__(self) -> str:
        """What pytest takes for a parametrised test's id: two pieces of bytes make a long one."""
        return f"at-{len(self[0])}"


def cuts(reply: bytes, *, most: int | None = None) -> tuple[int, ...]:
    """Return how many bytes of a reply can have been sent when something happens.

    That is each number from 0 to one less than all of them, for `AfterSent`::

        @pytest.mark.parametrize("cut", cuts(REPLY))

    The numbers are the ids of the tests, and known when they are collected.

    Args:
        reply: what is sent; not empty.
        most: how many numbers at most, at least 2: then they are spread evenly, the first and the
            last among them. `None` is all.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    content = as_bytes(reply, name="reply")
    if not content:
        msg = "reply is b'': nothing of it can be cut off"
        raise ValueError(msg)
    return spread(len(content), most)


def splits(reply: bytes, *, most: int | None = None) -> tuple[tuple[bytes, bytes], ...]:
    """Return each way of cutting a reply into two pieces, neither of them empty.

    They are for `send_apart`, which makes the peer read them one after the other::

        @pytest.mark.parametrize("split", splits(REPLY))

    The id of a test says where the cut is, such as ``at-3``, and is known when it is collected.

    Args:
        reply: what is sent; at least two bytes.
        most: how many ways at most, at least 2: then the cuts are spread evenly, the first and the
            last among them. `None` is all.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """
    content = as_bytes(reply, name="reply")
    if len(content) < 2:
        msg = f"reply is {show(content)}: it takes two bytes to make two pieces"
        raise ValueError(msg)
    places = [place + 1 for place in spread(len(content) - 1, most)]
    return tuple(Split((content[:place], content[place:])) for place in places)


def spread(total: int, most: int | None) -> tuple[int, ...]:
    """Return numbers from 0 to `total - 1`; of too many, at most `most`, spread evenly."""
    if most is not None and check_most(most) < total:
        return tuple(step * (total - 1) // (most - 1) for step in range(most))
    return tuple(range(total))


def shares(sizes: list[int], most: int) -> list[int]:
    """Return how many of each group of some sizes are taken, so that they are `most` at most.

    Where there is no room for all, each group gets one, then a second, then those between.
    """
    taken = [0] * len(sizes)
    for each in (1, 2, max(sizes, default=0)):
        wanted = [min(size, each) - has for size, has in zip(sizes, taken, strict=True)]
        more = _dealt(wanted, most - sum(taken))
        taken = [has + some for has, some in zip(taken, more, strict=True)]
    return taken


def _dealt(wanted: list[int], room: int) -> list[int]:
    """Return as much of what each one wants as there is room for, in proportion, with no rest."""
    total = sum(wanted)
    if total <= room:
        return wanted
    ends = [so_far * room // total for so_far in accumulate(wanted, initial=0)]
    return [end - start for start, end in pairwise(ends)]


def check_most(most: object) -> int:
    """Return a limit of how many places are taken, or say what is wrong with it."""
    number = positive(most, name="most")
    if number < 2:
        msg = "most must be at least 2, not 1: the first and the last place are always taken"
        raise ValueError(msg)
    return number
