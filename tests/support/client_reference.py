"""docs/client.md: the public names of `import datarun`, from their signatures and docstrings.

scripts/docs writes it anew. What is above MARK is written by hand, and stays.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import datarun
from datarun import errors
from tests.support.command import ROOT

PAGE = ROOT / "docs" / "client.md"

RUN_BY = "<!-- run by: tests/unit/test_client_page.py -->"
MARK = "<!-- From here on written by scripts/docs; a test fails while it is stale. -->"

SECTIONS = {
    "What is published": ("HoldOut", "Custom", "Limits", "FoldMessage", "File"),
    "What comes back": ("Dataset", "Submission", "Result", "Report", "Verdict"),
    "States": ("FoldState", "DatasetState", "Priority"),
}

ALSO = {
    "producer.report": ("Spread",),
    "schemas.requests": ("DatasetRecord", "FoldSummary", "StatusReply"),
    "broker.blocking": ("QueueDepth",),
    "schemas.states": ("Phase", "FailureKind", "Culprit"),
}
"""What public functions return, and what these have; not imported from `datarun`."""


PLAIN = {
    "Duration": "float",
    "FileName": "str",
    "Files": "dict[str, File]",
    "HOUR": "3600",
    "Id": "int",
    "Indices": "ArrayLike",
    "Instant": "datetime",
    "PoolName": "str",
    "Progress": "Callable[[int, int], None]",
    "Scores": "dict[str, float | None]",
    "Split": "HoldOut | Custom",
    "SubmissionName": "str",
    "Text": "str",
    "AnyArray": "Array",
}
"""Our names of types and numbers, as a reader knows them."""


def reference() -> str:
    """The whole page."""
    written = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    parts = [written + MARK, *_class(datarun.Client, "Client")]
    for title, names in SECTIONS.items():
        parts += [f"\n## {title}\n", *(line for name in names for line in _named(name))]
    parts.append("\n## Also returned\n\nNot imported by callers, but read by them.\n")
    for module, names in ALSO.items():
        for name in names:
            parts += _class(getattr(importlib.import_module(module), name), f"#{name}")
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip("\n")
    parts += [
        "\n## Errors\n",
        f"In `datarun.errors`; {_and(_exceptions())} can be imported from `datarun` itself.\n",
        f"{RUN_BY}\n```\n{tree.partition(chr(10) * 2)[0]}\n```\n",
        f"{tree.partition(chr(10) * 2)[2]}\n",
        "\n## post_api\n",
        "`datarun.post_api` has the functions of 2016, which speak to a gateway over HTTP:",
        "[From 2016](from-2016.md#functions-of-post_api).\n",
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def missing() -> set[str]:
    """Public names that no section has."""
    shown = {name for names in SECTIONS.values() for name in names}
    return set(datarun.__all__) - shown - {"Client", "errors", "post_api", *_exceptions()}


def _exceptions() -> list[str]:
    return [
        name
        for name in datarun.__all__
        if inspect.isclass(value := getattr(datarun, name)) and issubclass(value, Exception)
    ]


def _and(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _named(name: str) -> Iterator[str]:
    return _class(getattr(datarun, name), f"#{name}")


def _class(documented: type[Any], title: str) -> Iterator[str]:
    """A heading, the docstring, attributes, methods; without what is private."""
    level = "###" if title.startswith("#") else "##"
    name = title.removeprefix("#")
    yield f"\n{level} {name}\n"
    body = _body(documented)
    made = next((node for node in body if _is_function(node, "__init__")), None)
    yield _text(inspect.getdoc(documented) or "")
    if made is not None and documented is datarun.Client:
        yield _signature(made, name)
        yield _text(ast.get_docstring(made) or "")
    attributes = list(_attributes(body))
    if attributes:
        yield "\n| attribute | |\n|---|---|"
        for attribute, meaning in attributes:
            yield f"| `{attribute}` | {meaning} |"
        yield ""
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            if _has_decorator(node, "property"):
                continue
            yield f"\n{level}# {node.name}\n"
            yield _signature(node, node.name)
            yield _text(ast.get_docstring(node) or "")


def _body(documented: type[Any]) -> list[ast.stmt]:
    """Statements of the class and of those of ours that it inherits from, those first."""
    statements: list[ast.stmt] = []
    for one in reversed(documented.__mro__):
        # Frozen and Message are how models are made; what they hold is not for readers.
        if one.__module__.split(".")[0] in {
            "schemas",
            "producer",
            "broker",
        } and one.__name__ not in {
            "Frozen",
            "Message",
        }:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
            assert isinstance(tree, ast.ClassDef)
            statements += tree.body[1:] if ast.get_docstring(tree) else tree.body
    return statements


def _attributes(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Fields, members of an enumeration, properties: each with its meaning."""
    for node, following in zip(body, [*body[1:], None], strict=True):
        meaning = _string(following)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            kind = _plain(node.annotation)
            if not node.target.id.startswith("_") and not kind.startswith("ClassVar"):
                default = "" if node.value is None else f" = {ast.unparse(node.value)}"
                yield f"{node.target.id}: {kind}{default}".replace("|", "\\|"), meaning
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id.isupper():
                yield node.targets[0].id, meaning
        elif isinstance(node, ast.FunctionDef) and _has_decorator(node, "property"):
            returns = "Any" if node.returns is None else _plain(node.returns)
            documented = " ".join((ast.get_docstring(node) or "").split())
            yield f"{node.name}: {returns}".replace("|", "\\|"), documented


class _Plain(ast.NodeTransformer):
    """Types as a reader knows them: `int` for `Annotated[int, ...]`, and for our names of it."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if ast.unparse(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple):
            return self.visit(node.slice.elts[0])
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(PLAIN.get(node.id, node.id))


def _plain(node: ast.expr) -> str:
    return ast.unparse(_Plain().visit(copy.deepcopy(node)))


def _signature(node: ast.FunctionDef, name: str) -> str:
    """As one writes it: on one line where it fits into 100 characters, else a line an argument."""
    given = [
        *zip(
            node.args.args,
            [None] * (len(node.args.args) - len(node.args.defaults)) + node.args.defaults,
            strict=True,
        )
    ]
    shown = [_argument(one, default) for one, default in given if one.arg not in {"self", "cls"}]
    if node.args.kwonlyargs:
        named = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        shown += ["*", *(_argument(one, default) for one, default in named)]
    returns = "" if node.returns is None or name == "Client" else f" -> {_plain(node.returns)}"
    line = f"{name}({', '.join(shown)}){returns}"
    if len(line) > 100:
        line = "\n".join([f"{name}(", *(f"    {one}," for one in shown), f"){returns}"])
    return f"{RUN_BY}\n```\n{line}\n```\n"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = "" if argument.annotation is None else f": {_plain(argument.annotation)}"
    return f"{argument.arg}{kind}" + ("" if default is None else f" = {_plain(default)}")


def _text(docstring: str) -> str:
    """Paragraphs as they are; lines that begin with `name:` become a list."""
    lines = []
    listed = False
    for line in docstring.splitlines():
        argument = re.match(r"((?:[a-z_]+, )*[a-z_]+): (.*)", line)
        if argument:
            if not listed:
                lines.append("")
            lines.append(f"- `{argument[1]}`: {argument[2]}")
            listed = True
        elif listed and re.match(r"(Raises|Returns) ", line):
            lines += ["", line]
            listed = False
        else:
            listed = listed and bool(line)
            lines.append(f"  {line}" if listed else line)
    return "\n".join(lines) + "\n"


def _string(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


def _is_function(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


def _has_decorator(node: ast.FunctionDef, name: str) -> bool:
    return any(name in ast.unparse(decorator) for decorator in node.decorator_list)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
