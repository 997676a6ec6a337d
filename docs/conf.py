"""How Sphinx builds the manual."""

import functools
import logging
import sys
from importlib.metadata import version as metadata_version

from sphinx.pycode import ModuleAnalyzer

import pytest_sockets
from pytest_sockets import StreamEndpoint, TCPProxy
from pytest_sockets._endpoints.connection import AsyncConnectionFace, Connection
from pytest_sockets._endpoints.datagrams import AsyncDatagramFace, DatagramEndpoint
from pytest_sockets._endpoints.faces import Twin
from pytest_sockets._endpoints.fault import AsyncFaultFace, Fault
from pytest_sockets._endpoints.gate import AsyncGateFace, Gate
from pytest_sockets._endpoints.proxy import AsyncProxyFace
from pytest_sockets._endpoints.server import AsyncServerFace, StreamServer
from pytest_sockets._endpoints.sockets import AsyncSocketsFace, Sockets
from pytest_sockets._endpoints.streams import AsyncStreamFace
from pytest_sockets._endpoints.udp_proxy import AsyncUDPProxyFace, UDPProxy

project = "pytest-sockets"
author = "The pytest-sockets contributors"
copyright = f"2026, {author}"
release = version = metadata_version("pytest-sockets")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "changelog.d", "examples"]
# A section whose pages are still to come is not a mistake. (The warning has a subtype and no type,
# so `suppress_warnings` cannot name it.)
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
default_role = "literal"
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88

# No intersphinx: the manual builds without a network. Names that are others' cannot be looked up,
# and private bases of public classes have no entry of their own.
_others = "|".join((*sorted(sys.stdlib_module_names), "hypothesis", "pluggy", "_pytest", "pytest"))
_others += r"|pytest_sockets\._\w+"
nitpick_ignore_regex = [(r"py:.*", rf"({_others})(\..*)?")]

html_theme = "furo"
html_title = f"pytest-sockets {release}"


def _read_sources() -> None:
    """Let autodoc find what stands below an attribute, overloads, and the order of members.

    It looks into the module that a class names, and public classes name the public module. For
    overloads it looks where the method stands, by the name of the public class.
    """
    public = ModuleAnalyzer.for_module("pytest_sockets")
    public.analyze()
    classes = [getattr(pytest_sockets, name) for name in pytest_sockets.__all__]
    private = {}
    for name in [name for name in sys.modules if name.startswith("pytest_sockets._")]:
        private[name] = ModuleAnalyzer.for_module(name)
        private[name].analyze()
    for cls in classes:
        for depth, base in enumerate(getattr(cls, "__mro__", ())):
            for source in private.values():
                for member in vars(base):
                    there, here = f"{base.__name__}.{member}", f"{cls.__name__}.{member}"
                    if there in source.tagorder:
                        public.tagorder.setdefault(here, 10_000 * depth + source.tagorder[there])
                    if there in source.overloads:
                        source.overloads.setdefault(here, source.overloads[there])
                for (owner, member), lines in source.attr_docs.items():
                    if owner == base.__name__:
                        public.attr_docs.setdefault((cls.__name__, member), lines)
                        order = source.tagorder[f"{owner}.{member}"]
                        public.tagorder.setdefault(
                            f"{cls.__name__}.{member}", 10_000 * depth + order
                        )


def _show_twins() -> None:
    """Make the awaitable verbs look like the coroutine functions that they act as."""
    faces = {
        AsyncConnectionFace: Connection,
        AsyncDatagramFace: DatagramEndpoint,
        AsyncFaultFace: Fault,
        AsyncGateFace: Gate,
        AsyncProxyFace: TCPProxy,
        AsyncServerFace: StreamServer,
        AsyncSocketsFace: Sockets,
        AsyncStreamFace: StreamEndpoint,
        AsyncUDPProxyFace: UDPProxy,
    }
    for face, owner in faces.items():
        for name, twin in list(vars(face).items()):
            if isinstance(twin, Twin):

                @functools.wraps(getattr(owner, name))
                async def method() -> None:
                    pass

                method.__doc__ = twin.__doc__
                method.__qualname__ = f"{face.__qualname__}.{name}"
                method.__module__ = face.__module__
                setattr(face, name, method)


# Napoleon takes the words before a colon in the first line of a property for its type.
_whole = {}


def _save(app, what, name, obj, options, lines) -> None:
    if what in ("attribute", "property"):
        _whole[name] = list(lines)


def _restore(app, what, name, obj, options, lines) -> None:
    if what in ("attribute", "property"):
        lines[:] = _whole[name]


NOT_MADE_BY_USERS = {
    f"pytest_sockets.{name}"
    for name in ("AsyncConnection", "Connection", "Endpoint", "Fault", "Script", "StreamEndpoint")
}


def _sign(app, what, name, obj, options, signature, returns):
    """Show no constructor of what only the library makes, and no name for "not given"."""
    if what == "class" and (name in NOT_MADE_BY_USERS or name.endswith("Face")):
        return "", None
    return signature and signature.replace(" = MISSING", " = ..."), returns


def setup(app) -> None:
    """Connect the above."""
    _read_sources()
    _show_twins()
    app.connect("autodoc-process-docstring", _save, priority=400)
    app.connect("autodoc-process-docstring", _restore, priority=600)
    app.connect("autodoc-process-signature", _sign)
