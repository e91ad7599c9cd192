"""docs/asyncapi.yaml as it should be; run as a module, it writes the file (`scripts/asyncapi`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from schemas.asyncapi.document import asyncapi

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "asyncapi.yaml"


class Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks; nothing as a reference to something above."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.SequenceNode:
    plain = all(isinstance(value, int | float | str) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


Dumper.add_representer(str, _text)
Dumper.add_representer(list, _list)


def as_yaml() -> str:
    """The document, for people."""
    return yaml.dump(asyncapi(), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    FILE.write_text(as_yaml(), encoding="utf-8")
