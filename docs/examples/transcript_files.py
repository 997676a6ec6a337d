"""A pytest plugin that keeps what happened on the wire in files, one for each test.

Put it beside your tests and name it in their conftest.py: `pytest_plugins = ["transcript_files"]`.
Then `pytest --transcripts=DIR` writes into that folder.
"""

import dataclasses
import json
import re
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--transcripts",
        metavar="DIR",
        type=Path,
        help="write the transcript of each test into this folder, an event a line, as JSON",
    )


@pytest.hookimpl(optionalhook=True)  # without pytest-sockets nobody calls it
def pytest_sockets_transcripts_complete(item, endpoints):
    folder = item.config.getoption("--transcripts")
    if folder is None or not endpoints:
        return
    events = [event for endpoint in endpoints for event in endpoint.transcript]
    events.sort(key=lambda event: event.time)
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "_", item.nodeid)
    (folder / f"{name}.jsonl").write_text("".join(map(as_line, events)))


def as_line(event):
    values = dataclasses.asdict(event)
    values["data"] = event.data.hex(" ")
    return json.dumps(values) + "\n"
