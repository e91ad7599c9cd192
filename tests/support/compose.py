"""docker-compose.yml as an engine reads it: merged, interpolated; and the Dockerfile's settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def compose_file(**environment: str) -> dict[str, Any]:
    """With the variables of `.env`; AssertionError for one that has neither value nor default."""

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        assert name in environment or default is not None, f"{name} has no value"
        return environment.get(name) or default

    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(value, text))
    return document


@dataclass(frozen=True)
class Instruction:
    """One line of a Dockerfile, put together where it was broken."""

    name: str
    words: tuple[str, ...]
    text: str
    stage: int

    @property
    def flags(self) -> dict[str, str]:
        """`--from=builder`"""
        pairs = (word[2:].partition("=") for word in self.words if word.startswith("--"))
        return {name: value for name, _, value in pairs}

    @property
    def arguments(self) -> list[str]:
        """Without flags."""
        return [word for word in self.words if not word.startswith("--")]


def dockerfile() -> list[Instruction]:
    """The Dockerfile's instructions. https://docs.docker.com/reference/dockerfile/"""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    written = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found = []
    stage = -1
    for line in written.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, _, text = line.strip().partition(" ")
        stage += name == "FROM"
        found.append(Instruction(name, tuple(shlex.split(text)), text, stage))
    return found


def image_environment() -> Mapping[str, str]:
    """What ENV sets in the last stage."""
    last = dockerfile()[-1].stage
    return {
        name: value
        for instruction in dockerfile()
        if instruction.name == "ENV" and instruction.stage == last
        for name, _, value in (word.partition("=") for word in instruction.words)
    }
