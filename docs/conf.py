"""How Sphinx builds the manual."""

import logging
import sys
from importlib.metadata import version as metadata_version

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

autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_numpy_docstring = False

# No intersphinx: the manual builds without a network. Names that are others' cannot be looked up.
_others = "|".join((*sorted(sys.stdlib_module_names), "pluggy", "_pytest", "pytest"))
nitpick_ignore_regex = [(r"py:.*", rf"({_others})(\..*)?")]

html_theme = "furo"
html_title = f"pytest-sockets {release}"
