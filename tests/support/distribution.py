"""What is published of datarun, and environments that have it and no more than an extra brings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
_NOT_OURS = shutil.ignore_patterns(
    *(".git", ".venv", ".datarun", "__pycache__", ".*_cache", ".hypothesis"),
    *("*.egg-info", "build", "dist"),
)


@dataclass(frozen=True)
class Published:
    """A source distribution, unpacked too, and the wheel that was built from what it unpacks to."""

    sdist: Path
    source: Path
    wheel: Path

    @property
    def metadata_file(self) -> bytes:
        """The wheel's METADATA."""
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return archive.read(name)

    @property
    def metadata(self) -> Message:
        """Its fields."""
        return BytesParser().parsebytes(self.metadata_file)

    def files(self) -> set[str]:
        """The names in the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """As a release is made, and without asking any registry."""
    folder = tmp_path_factory.mktemp("published")
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=_NOT_OURS)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    _quietly([sys.executable, "-W", "ignore", "-c", build], tree)
    (sdist,) = folder.glob("*.tar.gz")
    _quietly(["tar", "-xzf", str(sdist)], folder)
    source = folder / sdist.name.removesuffix(".tar.gz")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    wheel = [sys.executable, "-m", "pip", "wheel", *offline, "-w", str(folder), str(source)]
    _quietly(wheel, folder)
    (built,) = folder.glob("*.whl")
    return Published(sdist, source, built)


class Installation:
    """A virtual environment with the wheel, and what it requires with one of the extras."""

    def __init__(self, published: Published, folder: Path, extra: str = "") -> None:
        self.folder = folder
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        for name in required(published.metadata, extra):
            link(name, self.site)
        install = ("install", "--no-deps", "--no-index", "--no-compile", str(published.wheel))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python"]
        _quietly([*pip, str(self.python), *install], folder)

    def run(
        self, *command: str, program: str = "datarun", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A program of the environment, in a folder where nothing of ours lies."""
        return subprocess.run(
            [str(self.folder / "bin" / program), *command],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def evaluate(self, code: str, *arguments: str) -> str:
        """What a few lines of Python print there."""
        done = self.run("-W", "error", "-c", code, *arguments, program="python")
        assert done.returncode == 0, done.stderr
        return done.stdout


def link(name: str, site: Path) -> None:
    """Show there what is installed here already: nothing is downloaded, or copied."""
    for file in distribution(name).files or ():
        top = file.parts[0]
        place = site / top
        if top not in ("..", "__pycache__") and not place.is_symlink():
            place.symlink_to(Path(str(distribution(name).locate_file(top))))


def required(metadata: Message, extra: str) -> set[str]:
    """All that an installation with this extra brings, by name; of what is installed here."""
    found: set[str] = set()
    _follow(metadata.get_all("Requires-Dist", []), metadata, {"", extra}, found)
    return found


def _follow(lines: list[str], ours: Message, extras: set[str], found: set[str]) -> None:
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name == "datarun":
            own = ours.get_all("Requires-Dist", [])
            for further in requirement.extras - extras:
                _follow(own, ours, extras | {further}, found)
            continue
        is_new = name not in found
        found.add(name)
        if is_new or requirement.extras:
            _follow(distribution(name).requires or [], ours, {"", *requirement.extras}, found)


def _quietly(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
