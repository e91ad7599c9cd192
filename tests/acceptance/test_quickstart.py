"""README.md and docs/quickstart.md, followed literally, from the installation on."""

from __future__ import annotations

import re

import pytest

from tests.support.command import ROOT, Folder, given
from tests.support.pages import Reader, installed_with, run_by
from tests.support.rabbitmq import Vhost


@pytest.mark.slow
def test_quickstart_followed_literally_works(folder: Folder) -> None:
    # Given somebody with a clone, who is at home in an empty folder
    [install] = run_by(__file__, "docs/quickstart.md")
    stranger = Reader(folder.path, PYTHON=installed_with(), HOME=str(folder.path))

    # When he does what the page says
    stranger.install(install)
    assert stranger.place == folder.path / "quickstart"
    said = stranger.follow(ROOT / "docs/quickstart.md")

    # Then each step does what the text says
    assert "wine@" in said
    assert "is ready" in said
    assert re.search(r"forest +wine +10 tested ", said)
    assert "10 acknowledged" in said
    assert "Nothing is new." in said
    assert "name 'LogisticRegression' is not defined" in said
    assert "ERROR(train)" in said
    assert "valid_accuracy" in said
    assert folder.processes() == {}


@pytest.mark.slow
def test_readme_followed_literally_works(folder: Folder, vhost: Vhost) -> None:
    # Given somebody with a clone, whose stack keeps its files elsewhere, and is given a RabbitMQ
    [install] = run_by(__file__, "README.md")
    settings = {"DATARUN_HOME": str(folder.home), **given(vhost, folder.path)}
    stranger = Reader(folder.path, PYTHON=installed_with(), **settings)

    # When he does what the page says, then the stack is up, and the submission is tested
    stranger.install(install)
    said = stranger.follow(ROOT / "README.md")
    assert re.search(r"my_submission +flowers +5 tested ", said)
    assert "valid_accuracy" in said
    folder.succeed("down", **settings)
    assert folder.processes() == {}
