"""What is published installs, is complete, and needs no more than the extra that was asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from datarun.cli.entry import BROUGHT_BY
from schemas.permissions import BrokerUser
from tests.support.distribution import (
    ROOT,
    Installation,
    Published,
    link,
    published,
    required,
)
from tests.support.pages import BASH, run_by
from tests.support.rabbitmq import Vhost

__all__ = ["published"]

PACKAGES = {"schemas", "broker", "producer", "consumer", "storage", "gateway", "datarun"}
HEAVY = ["sqlalchemy", "sklearn", "pandas", "fastapi", "aio_pika", "psutil", "typer", "rich"]

Install = Callable[[str], Installation]


@pytest.fixture(scope="session")
def installed(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """An environment for each extra; `""` is the base install."""
    made: dict[str, Installation] = {}

    def install(extra: str) -> Installation:
        if extra not in made:
            folder = tmp_path_factory.mktemp(f"with-{extra or 'nothing'}")
            made[extra] = Installation(published, folder, extra)
        return made[extra]

    return install


# --- what is in them -----------------------------------------------------------------------------


def test_the_wheel_has_our_packages_typed_with_their_data_and_nothing_else(published: Published):
    files = published.files()

    info = f"datarun-{published.metadata['Version']}.dist-info"
    assert {name.partition("/")[0] for name in files} == PACKAGES | {info}
    assert {f"{package}/py.typed" for package in PACKAGES} <= files
    assert f"{info}/licenses/LICENSE" in files
    # Migrations are found as files, submissions of the demo and of the attack are no modules.
    for pattern in ("storage/migrations/versions/*.py", "*/submissions/**/*.py", "*/*.mako"):
        of_tree = {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)}
        assert {name for name in of_tree if name.partition("/")[0] in PACKAGES} <= files
    assert len([name for name in files if "/versions/0" in name]) >= 4


def test_the_source_distribution_has_tests_documents_and_all_that_they_need(published: Published):
    with tarfile.open(published.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "requirements.lock"} <= names
    assert {"Dockerfile", "docker-compose.yml", "scripts/test", ".ci/run"} <= names
    for folder in ("tests", "docs", "examples", "benchmarks", "scripts", "containers"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert str(path.relative_to(ROOT)) in names
    assert not [name for name in names if name.endswith(".pyc") or ".venv" in name]


def test_the_metadata_are_what_a_registry_takes(published: Published):
    # Raises where a field is wrong, unknown or too new for the metadata's version
    metadata = Metadata.from_email(published.metadata_file, validate=True)

    assert metadata.license_expression == "BSD-3-Clause"
    assert metadata.license_files == ["LICENSE"]
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert metadata.summary
    assert metadata.author
    assert metadata.keywords
    assert set(metadata.provides_extra) == {
        "worker",
        "server",
        "s3",
        "cli",
        "all",
        "bench",
        "dev",
    }
    assert "Typing :: Typed" in metadata.classifiers
    # A licence expression makes such classifiers wrong (PEP 639).
    assert not [line for line in metadata.classifiers if line.startswith("License")]


def test_every_requirement_is_pinned_and_the_pin_is_what_was_asked_for(published: Published):
    pins = {
        canonicalize_name(name): Version(version)
        for name, _, version in (
            line.partition("==") for line in (ROOT / "requirements.lock").read_text().split()
        )
    }

    assert required(published.metadata, "dev") <= set(pins)
    for line in published.metadata.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if requirement.name != "datarun":
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier


# --- the base install ----------------------------------------------------------------------------

CLIENT = """
import importlib.util, sys
import datarun
from datarun import Client, Custom, HoldOut, post_api

heavy = sys.argv[2].split()
assert not [name for name in heavy if importlib.util.find_spec(name)], "not a base install"
for name in datarun.__all__:
    getattr(datarun, name)
with Client(sys.argv[1], timeout=10) as client:
    print(client.queue_depths(["datarun.data"]))
print(HoldOut(0.5, random_state=42), Custom("specific.py"), post_api.post_data.__name__)
assert not set(heavy) & set(sys.modules)
"""


def test_the_base_install_is_the_client_and_it_works(installed: Install, vhost: Vhost):
    out = installed("").evaluate(CLIENT, vhost.logins.of(BrokerUser.PRODUCER), " ".join(HEAVY))

    assert "{'datarun.data': None}" in out
    assert "HoldOut(held_out_test=0.5, random_state=42)" in out


@pytest.mark.parametrize(
    ("extra", "command", "wanted"),
    [
        ("", [], "cli"),
        ("", ["status"], "cli"),
        ("", ["worker", "--role", "folds"], "worker"),
        ("", ["up"], "all"),
        ("cli", ["worker", "--broker", "amqp://nowhere/"], "worker"),
        (
            "cli",
            ["collector", "--broker", "amqp://nowhere/", "--database", "sqlite:///x"],
            "server",
        ),
        ("cli", ["gateway"], "server"),
        ("cli", ["users", "list", "--database", "sqlite:///x"], "server"),
        ("cli", ["broker", "setup", "--broker", "amqp://nowhere/"], "worker"),
        ("worker", ["gateway"], "server"),
    ],
)
def test_a_command_says_which_extra_it_lacks(
    installed: Install, extra: str, command: list[str], wanted: str
):
    # When a command is run where what it needs is not installed
    ended = installed(extra).run(*command)

    # Then it says what to install, in one sentence
    assert ended.returncode == 1
    assert f"pip install 'datarun[{wanted}]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    told = installed(extra).run(*command, "--json")
    assert f"datarun[{wanted}]" in json.loads(told.stdout)["error"]


def test_what_can_be_missing_is_what_the_extras_bring(published: Published):
    # Given the modules that each distribution has
    brought = {extra: required(published.metadata, extra) for extra in ("cli", "worker", "server")}
    homes = packages_distributions()

    # Then the command's own list of them is right
    for module, extras in BROUGHT_BY.items():
        (name,) = map(canonicalize_name, set(homes[module]))
        assert set(extras) == {extra for extra, names in brought.items() if name in names}, module
        assert name not in required(published.metadata, "")


# --- the extras ----------------------------------------------------------------------------------

IMPORT_ALL = """
import importlib, pkgutil, sys
for root in sys.argv[1].split():
    for module in pkgutil.walk_packages([importlib.import_module(root).__path__[0]], f"{root}."):
        if not module.name.endswith((".env", "__main__")):
            importlib.import_module(module.name)
"""


@pytest.mark.parametrize(
    ("extra", "packages"),
    [
        ("", "schemas producer"),
        ("cli", "schemas producer datarun.cli"),
        ("worker", "schemas broker consumer datarun.cli datarun.doctor"),
        ("server", "schemas broker producer storage gateway datarun.cli"),
        ("all", "datarun.up datarun.demo datarun.attack"),
    ],
)
def test_an_extra_brings_what_its_packages_import(installed: Install, extra: str, packages: str):
    installed(extra).evaluate(IMPORT_ALL, packages)


def test_all_of_it_is_in_the_wheel_when_everything_is_installed(
    installed: Install, published: Published, tmp_path: Path
):
    installation = installed("all")

    # The version is that of the wheel
    version = installation.run("--version")
    assert version.stdout == f"datarun {published.metadata['Version']}\n"

    # Migrations make the tables
    database = f"sqlite:///{tmp_path}/datarun.sqlite"
    added = installation.run("users", "add", "olga", "--database", database, "--json")
    assert json.loads(added.stdout)["username"] == "olga", added.stderr

    # And the demo finds its submissions
    where = "from datarun.demo import contents; print(contents.__file__)"
    demo = Path(installation.evaluate(where).strip()).parent
    assert demo.is_relative_to(installation.site)
    assert (demo / "submissions/random_forest/classifier.py").is_file()


def test_an_environment_made_as_the_page_says_has_the_command(published: Published, tmp_path: Path):
    # Given somebody's home, and an index that has our wheel and nothing else
    (block,) = run_by(__file__, "docs/installing.md")
    make, install = block.code.splitlines()
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python3").chmod(0o755)
    home = {
        "HOME": str(tmp_path),
        "PATH": f"{programs}:/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(published.wheel.parent),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }

    # When both lines are typed; what datarun requires is there already, not downloaded
    subprocess.run([*BASH, make], env=home, check=True, timeout=120)
    (site,) = (tmp_path / "datarun").glob("lib/python*/site-packages")
    for name in required(published.metadata, "all"):
        link(name, site)
    subprocess.run([*BASH, install], env=home, check=True, timeout=120, stdout=subprocess.PIPE)

    # Then the command is there
    done = subprocess.run(
        [tmp_path / "datarun/bin/datarun", "--version"],
        env=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"datarun {published.metadata['Version']}\n", done.stderr


# --- completion ----------------------------------------------------------------------------------


def test_bash_is_shown_a_completion_and_it_completes(installed: Install):
    installation = installed("cli")

    # Given what --show-completion prints in a bash
    shown = subprocess.run(
        ["bash", "-c", "datarun --show-completion; exit $?"],
        env={"PATH": f"{installation.folder}/bin:/usr/bin:/bin", "HOME": str(installation.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"^complete .*\bdatarun$", shown.stdout, re.MULTILINE)

    # When that bash completes `datarun work`
    function = re.search(r"^(\w+)\(\)", shown.stdout, re.MULTILINE)
    assert function is not None
    words = (
        f"COMP_WORDS=(datarun work); COMP_CWORD=1; {function[1]} datarun; echo ${{COMPREPLY[@]}}"
    )
    completed = subprocess.run(
        ["bash", "-c", f"{shown.stdout}\n{words}"],
        env={"PATH": f"{installation.folder}/bin:/usr/bin:/bin", "HOME": str(installation.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # Then it is the command
    assert completed.stdout.split() == ["worker"], completed.stderr
