"""Pytest's doorway: fixtures, and the hooks that make a problem fail its test."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar, cast

import pluggy
import pytest

from pytest_sockets import (
    BlackholeAddress,
    Connection,
    EchoServer,
    Endpoint,
    RefusedAddress,
    ReservedPort,
    Settings,
    SilentServer,
    SocketPair,
    Sockets,
    Sweep,
    TCPProxy,
    TCPServer,
    UDPEchoServer,
    UDPPeer,
    UDPProxy,
    UnixDatagramPeer,
    UnixServer,
    UnsupportedError,
    _settings,
    _sweeping,
)
from pytest_sockets._endpoints import handlers, registry
from pytest_sockets._endpoints.addresses import HeldAddress
from pytest_sockets._endpoints.attempt import Attempt
from pytest_sockets._endpoints.problems import raise_problems
from pytest_sockets._engine.clock import CLOCK
from pytest_sockets._report import failure, frames, section

E = TypeVar("E", bound=Endpoint | HeldAddress)
Phase: TypeAlias = "Generator[None, pluggy.Result[object], None]"
LOOPBACKS = ["127.0.0.1", "::1"]

ATTEMPT = pytest.StashKey[Attempt]()
SETTINGS = pytest.StashKey[Settings]()


class SocketsPlugin:
    """The hooks, with what they keep between them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._item: pytest.Item | None = None

    # -- the run

    def pytest_configure(self) -> None:
        """Listen to endpoints being opened."""
        registry.observers.append(self._on_opened)
        # A handler that raises one of these has failed its test, which must not be skipped for it.
        handlers.not_failures |= {
            pytest.skip.Exception,
            pytest.xfail.Exception,
            pytest.exit.Exception,
        }

    def pytest_unconfigure(self) -> None:
        """Stop listening."""
        registry.observers.remove(self._on_opened)

    def _on_opened(self, endpoint: Endpoint) -> bool:
        if self._item is not None:
            self._item.stash[ATTEMPT].opened.append(endpoint)
        self._config.hook.pytest_sockets_endpoint_opened(item=self._item, endpoint=endpoint)
        return True

    # -- one attempt at one test

    # Wrappers of the old kind: an error that passes through one of the new kind gets a frame of
    # ours. It is hidden, and pytest 8.4.0 ends the run with an INTERNALERROR where a group of
    # errors, such as those of two fixtures, has no frame that is shown.

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Phase:
        """Begin an attempt, before any fixture is set up."""
        CLOCK.resume()
        attempt = item.stash[ATTEMPT] = Attempt()
        self._item = item
        _allow_loopback(item)
        outcome = yield
        _explain(attempt, outcome.exception, at_the_end=True)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Phase:
        """Raise what went wrong on an endpoint's side, in the call phase."""
        __tracebackhide__ = True
        attempt = item.stash[ATTEMPT]
        outcome = yield
        # unittest keeps a test's own failure aside, and reports it in place of what is raised here.
        aside = [kept.value for kept in getattr(item, "_excinfo", None) or ()]
        for error in [outcome.exception, *aside]:
            _explain(attempt, error, at_the_end=True)
        if outcome.exception is None and (problems := attempt.problems(judge=not aside)):
            try:
                raise_problems(problems)
            except BaseException as error:
                outcome.force_exception(error)

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Phase:
        """End an attempt, after the last fixture was torn down."""
        CLOCK.resume()
        outcome = yield
        self._item = None
        attempt = item.stash.get(ATTEMPT, None)
        if attempt is not None:
            _explain(attempt, outcome.exception, at_the_end=False)
            self._config.hook.pytest_sockets_transcripts_complete(
                item=item, endpoints=attempt.endpoints()
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Put the wire into the report of a failed test."""
        report = yield
        attempt = item.stash.get(ATTEMPT, None)
        if failure.drop_hint(report) and frames.is_hidden(call.excinfo):
            failure.locate(report, item)
        if report.failed and attempt is not None:
            error = None if call.excinfo is None else call.excinfo.value
            cause = attempt.cause_of(error)
            # An assertion of the test's own says enough, and may have failed before.
            if cause is not None and not isinstance(error, AssertionError):
                failure.sum_up(report, cause)
            self._show_wire(item, report, attempt.shown_with(error).endpoints())
        if call.when == "teardown" and attempt is not None:
            del item.stash[ATTEMPT]  # items live as long as the session; records must not
        return report

    def _show_wire(
        self, item: pytest.Item, report: pytest.TestReport, endpoints: Sequence[Endpoint]
    ) -> None:
        style = _settings.report_style(self._config)
        if endpoints and style != "off":
            title = f"sockets: {item.name} (seed {_settings.seed_of(item)})"
            failure.add_section(report, title, section.text(endpoints, with_bytes=style == "full"))

    # -- a debugger

    def pytest_enter_pdb(self, pdb: Any) -> None:
        """Let no deadline pass while somebody looks around.

        pytest tells of the end only where they continue. Who quits is seen here, and who steps out
        of what has failed, as with `next`, has left by the next phase.
        """
        set_quit = pdb.set_quit

        def resume_and_quit() -> None:
            CLOCK.resume()
            set_quit()

        pdb.set_quit = resume_and_quit
        CLOCK.pause()

    def pytest_leave_pdb(self) -> None:
        """Let deadlines run again."""
        CLOCK.resume()


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare settings and hooks where no entry point did it, as with plugin autoload off."""
    if not pluginmanager.has_plugin(_settings.__name__):
        pluginmanager.register(_settings, _settings.__name__)


def pytest_configure(config: pytest.Config) -> None:
    """Check the settings and start listening to endpoints."""
    try:
        config.stash[SETTINGS] = _settings.settings_of(config)
        _settings.report_style(config)
    except ValueError as error:
        raise pytest.UsageError(f"pytest-sockets: {error}") from None
    frames.hide()
    config.pluginmanager.register(SocketsPlugin(config), "sockets-hooks")
    config.pluginmanager.register(_sweeping.Summary(), "sockets-sweeps")


def _explain(attempt: Attempt, error: BaseException | None, *, at_the_end: bool) -> None:
    """Show with a failure what has gone wrong on our side."""
    if error is not None and _is_failure(error):
        attempt.explain(error, at_the_end=at_the_end)


def _is_failure(error: BaseException) -> bool:
    """Whether what raises this has failed; all else skips it, or ends more than a test."""
    return not isinstance(error, (KeyboardInterrupt, pytest.exit.Exception, pytest.skip.Exception))


# -- pytest-socket


def _allow_loopback(item: pytest.Item) -> None:
    """Let pytest-socket pass what a test sends to our endpoints, which is all on loopback.

    Its `allow_hosts` marker replaces its option, so what was allowed is repeated.
    """
    fixtures: list[str] = getattr(item, "fixturenames", [])
    loaded = map(item.config.pluginmanager.hasplugin, ("socket", "pytest_socket"))
    if not any(loaded) or "_sockets" not in fixtures:
        return
    mark = item.get_closest_marker("allow_hosts")
    allowed = mark.args[0] if mark is not None and mark.args else None
    allowed = allowed or item.config.getoption("--allow-hosts", None)
    if allowed is None and not item.config.getoption("--disable-socket", False):
        return
    hosts = allowed.split(",") if isinstance(allowed, str) else list(allowed or [])
    if not set(LOOPBACKS) <= set(hosts):
        item.add_marker(pytest.mark.allow_hosts([*hosts, *LOOPBACKS]), append=False)


# -- fixtures: each is one call of the factory, and rests on nothing that a user could override


@pytest.fixture
def _sockets(request: pytest.FixtureRequest) -> Generator[Sockets, None, None]:
    item = cast("pytest.Item", cast("Any", request).node)
    settings = request.config.stash[SETTINGS]
    try:
        marked = _settings.marked(item)
        if marked.get("timeout") is not None:
            settings = replace(settings, timeout=marked["timeout"])
        strict = marked.get("strict", settings.strict)
        settings = replace(settings, strict=strict, seed=_settings.seed_of(item))
        sockets = Sockets(settings, family=marked.get("family"))
    except (TypeError, ValueError) as error:
        raise _bad_marker(error) from None
    sockets._skip = pytest.skip
    with closing(sockets):
        yield sockets


def _open(method: Callable[[], E]) -> E:
    try:
        return method()
    except UnsupportedError as error:
        pytest.skip(str(error))
    except ValueError as error:  # nothing but the marker gives arguments here
        raise _bad_marker(error) from None


def _bad_marker(error: Exception) -> BaseException:
    return pytest.fail.Exception(f"@pytest.mark.sockets: {error}", pytrace=False)


@pytest.fixture
def sockets(_sockets: Sockets) -> Sockets:
    """The factory behind every fixture: more endpoints of any kind, with options."""
    return _sockets


@pytest.fixture
def tcp_server(_sockets: Sockets) -> TCPServer:
    """A listening TCP server that records, and answers only what the test tells it."""
    return _open(_sockets.tcp_server)


@pytest.fixture
def echo_server(_sockets: Sockets) -> EchoServer:
    """A listening server that sends everything back (RFC 862)."""
    return _open(_sockets.echo_server)


@pytest.fixture
def silent_server(_sockets: Sockets) -> SilentServer:
    """A listening server that accepts and never answers, for testing timeouts."""
    return _open(_sockets.silent_server)


@pytest.fixture
def unix_server(_sockets: Sockets) -> UnixServer:
    """A listening AF_UNIX stream server that records, and answers only what the test tells it."""
    return _open(_sockets.unix_server)


@pytest.fixture
def udp_peer(_sockets: Sockets) -> UDPPeer:
    """A UDP socket that records datagrams, and sends what the test tells it."""
    return _open(_sockets.udp_peer)


@pytest.fixture
def udp_echo_server(_sockets: Sockets) -> UDPEchoServer:
    """A UDP socket that sends each datagram back to its source (RFC 862)."""
    return _open(_sockets.udp_echo_server)


@pytest.fixture
def unix_datagram_peer(_sockets: Sockets) -> UnixDatagramPeer:
    """An AF_UNIX datagram socket that records, and sends what the test tells it."""
    return _open(_sockets.unix_datagram_peer)


@pytest.fixture
def unix_socket_pair(_sockets: Sockets) -> SocketPair:
    """A connected AF_UNIX pair: a plain socket for the code under test, a peer for the test."""
    return _open(_sockets.unix_socket_pair)


@pytest.fixture
def tcp_socket_pair(_sockets: Sockets) -> SocketPair:
    """A connected TCP pair: a plain socket for the code under test, a peer for the test."""
    return _open(_sockets.tcp_socket_pair)


@pytest.fixture
def refused_address(_sockets: Sockets) -> RefusedAddress:
    """An address that refuses connections: nobody listens there, and nobody else can."""
    return _open(_sockets.refused_address)


@pytest.fixture
def blackhole_address(_sockets: Sockets) -> BlackholeAddress:
    """An address that does not answer, so that `connect` hangs until the client gives up."""
    return _open(_sockets.blackhole_address)


@pytest.fixture
def reserved_port(_sockets: Sockets) -> ReservedPort:
    """A port that is held for a server under test, until that server binds it."""
    return _open(_sockets.reserved_port)


@pytest.fixture
def raw_client(_sockets: Sockets) -> Callable[..., Connection]:
    """A function that connects to an address and returns the `Connection`, for testing servers."""
    return _sockets.connect


@pytest.fixture
def udp_proxy(_sockets: Sockets) -> Callable[..., UDPProxy]:
    """A function that puts a UDP proxy before a real server and returns it; both sides recorded."""
    return _sockets.udp_proxy


@pytest.fixture
def sweep(request: pytest.FixtureRequest, _sockets: Sockets) -> Sweep:
    """A function that runs a conversation once for each byte that something can go wrong at."""
    item = cast("pytest.Item", cast("Any", request).node)
    try:
        subtests = request.getfixturevalue("subtests")
    except pytest.FixtureLookupError:  # pytest 8 has none of its own
        subtests = None
    return _sweeping.ToldSweep(item, _sockets, item.stash[ATTEMPT], subtests, _is_failure)


@pytest.fixture
def tcp_proxy(_sockets: Sockets) -> Callable[..., TCPProxy]:
    """A function that puts a TCP proxy before a real server and returns it; both sides recorded."""
    return _sockets.tcp_proxy
