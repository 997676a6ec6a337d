"""What the entry point names, so that the plugin itself has one name however it is loaded.

`-p pytest_sockets.plugin`, or the same in a `pytest_plugins`, may then stand beside it.
"""

pytest_plugins = ("pytest_sockets.plugin",)
