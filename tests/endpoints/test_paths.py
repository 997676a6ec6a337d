import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_sockets import Sockets, UnixDatagramPeer, UnixServer
from stream_ends import plain_client

OPENERS: list[Callable[..., Any]] = [UnixServer, UnixDatagramPeer]

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.parametrize("opener", OPENERS, ids=["stream", "datagram"]),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path, which may be longer than AF_UNIX takes.
    with tempfile.TemporaryDirectory(prefix="paths-", dir="/tmp") as folder:
        yield Path(folder)


def reach(endpoint: Any) -> None:
    """Send a byte with the standard library."""
    if isinstance(endpoint, UnixServer):
        with plain_client(endpoint.address) as client:
            client.sendall(b"x")
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", endpoint.address)
    endpoint.assert_received(b"x")


def test_a_chosen_path_is_short_however_long_tmpdir_is(
    opener: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert tempfile.gettempdir() == str(long)
    with opener() as endpoint:
        assert len(os.fsencode(endpoint.path)) <= 100
        reach(endpoint)
    assert list(long.iterdir()) == []


def test_a_chosen_path_is_in_tmpdir_when_that_is_short_enough(
    opener: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 100 - len(os.fsencode(folder)) - len("/ps-12345678/s") - 1
    inside = folder / ("x" * room)
    inside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(inside))
    with opener() as endpoint:
        assert len(os.fsencode(endpoint.path)) == 100
        assert endpoint.path.startswith(f"{inside}/")
        reach(endpoint)
    assert list(inside.iterdir()) == []


def test_a_chosen_path_is_nobody_elses_and_gone_afterwards(opener: Callable[..., Any]) -> None:
    with opener() as first, opener() as second:
        assert first.path != second.path
        parent = Path(first.path).parent
        assert parent.stat().st_mode & 0o777 == 0o700
    assert not parent.exists()


@pytest.mark.parametrize("form", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
def test_a_given_path_is_used_and_removed(
    opener: Callable[..., Any], folder: Path, form: Callable[[Path], Any]
) -> None:
    with opener(form(folder / "s")) as endpoint:
        assert endpoint.path == endpoint.address == str(folder / "s")
        reach(endpoint)
    assert list(folder.iterdir()) == []


def test_a_path_that_is_no_text_reaches_the_endpoint(
    opener: Callable[..., Any], folder: Path
) -> None:
    with opener(os.fsencode(folder) + b"/\xff") as endpoint:
        assert os.fsencode(endpoint.path).endswith(b"/\xff")
        reach(endpoint)
    assert list(folder.iterdir()) == []


def test_a_relative_path_is_removed_from_where_it_was(
    opener: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with opener("s") as endpoint:
        assert endpoint.path == "s"
        reach(endpoint)
        monkeypatch.chdir("/")
    assert list(folder.iterdir()) == []


def test_the_longest_path_that_the_kernel_takes_is_taken(
    opener: Callable[..., Any], folder: Path
) -> None:
    path = f"{folder}/".ljust(107, "x")
    with opener(path) as endpoint:
        reach(endpoint)
    with pytest.raises(ValueError, match=r"path is 108 bytes long and AF_UNIX takes at most 107"):
        opener(path + "x")
    assert list(folder.iterdir()) == []


def test_a_path_that_somebody_replaced_is_not_removed(
    opener: Callable[..., Any], folder: Path
) -> None:
    path = folder / "s"
    with opener(path):
        path.unlink()
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    path.unlink()
    with opener(path):
        path.unlink()
        with opener(path) as successor:
            reach(successor)
            assert path.exists()
    assert not path.exists()


def test_a_path_that_is_gone_already_is_no_error(opener: Callable[..., Any], folder: Path) -> None:
    with opener(folder / "s"):
        (folder / "s").unlink()
    with opener(folder / "s"):
        (folder / "s").rename(folder / "elsewhere")
    assert [entry.name for entry in folder.iterdir()] == ["elsewhere"]


def test_a_path_that_exists_is_left_alone(opener: Callable[..., Any], folder: Path) -> None:
    (folder / "s").write_text("theirs")
    with pytest.raises(OSError, match=rf"in use: {folder}/s exists already; remove it first"):
        opener(folder / "s")
    assert (folder / "s").read_text() == "theirs"


def test_an_abstract_name_is_on_no_disk(
    opener: Callable[..., Any], sockets: Sockets, folder: Path
) -> None:
    with opener(abstract=True) as first, opener(abstract=True) as second:
        assert first.address[0] == "\0"
        assert first.address != second.address
        reach(first)
        name = f"\0{folder}"
        with opener(name) as given:
            assert given.path == name
            assert f" @{folder}" in repr(given)
            reach(given)
            with pytest.raises(OSError, match=f"already in use: @{folder}"):
                opener(name)
        with opener(name):  # free again
            pass
    with pytest.raises(ValueError, match="abstract=True chooses a name; to give one, write"):
        opener("name", abstract=True)
