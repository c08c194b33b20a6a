"""A package's `__all__` is its public names, sorted, and each of them is there.

"Public" is what an `__init__.py` defines itself or imports from llmlab, also under TYPE_CHECKING: the lazy root tells
type checkers that way what it loads on first use. Imports of other packages are tools, not exports.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    ".".join(path.parent.relative_to(ROOT).parts): path for path in sorted((ROOT / "llmlab").rglob("__init__.py"))
}


def bound_names(statements: list[ast.stmt]) -> Iterator[str]:
    """Yield the names that top-level statements bind, leaving out what they import from other packages."""
    for statement in statements:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.ImportFrom(level=level, module=module, names=aliases):
                if level or str(module).split(".")[0] == "llmlab":
                    yield from (alias.asname or alias.name for alias in aliases)
            case ast.If(body=body, orelse=orelse):
                yield from bound_names(body)
                yield from bound_names(orelse)


def public_names(source: str) -> set[str]:
    return {name for name in bound_names(ast.parse(source).body) if not name.startswith("_")}


def declared_names(source: str) -> list[str]:
    """`__all__` as written; an `__init__.py` without one exports nothing."""
    for statement in ast.parse(source).body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                return list(ast.literal_eval(value))
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted_and_is_the_public_names(package):
    source = PACKAGES[package].read_text(encoding="utf-8")
    declared = declared_names(source)
    assert declared == sorted(set(declared))
    # A dunder such as __version__ is no public name to this test, but may be exported.
    assert {name for name in declared if not name.startswith("__")} == public_names(source)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_can_be_loaded(package):
    module = importlib.import_module(package)
    missing = [name for name in getattr(module, "__all__", []) if not hasattr(module, name)]
    assert missing == []


def test_a_public_name_is_one_defined_here_or_taken_from_llmlab():
    source = """
from typing import TYPE_CHECKING
import json
from llmlab.core.retry import Backoff, RetryPolicy as Policy, _secret
from .client import Client
if TYPE_CHECKING:
    from llmlab.plots import heat_map
LIMIT = 3
width: float = 1.0
def run(): ...
class Sweep: ...
"""
    assert public_names(source) == {"Backoff", "Policy", "Client", "heat_map", "LIMIT", "width", "run", "Sweep"}


@pytest.mark.parametrize("name", ["llmlab", "llmlab.analysis", "llmlab.plots"])
def test_completion_offers_the_public_names_and_no_tools(name):
    package = importlib.import_module(name)
    shown = {entry for entry in dir(package) if not entry.startswith("__")}
    parts = {"analysis", "notebook", "plots", "virtual_time", "widgets"} if name == "llmlab" else set()
    assert shown == {entry for entry in package.__all__ if not entry.startswith("__")} | parts


def test_parts_are_there_without_an_import_of_their_own():
    root = importlib.import_module("llmlab")
    for name in ("plots", "virtual_time"):  # asked as Python asks where none has been imported yet
        assert root.__getattr__(name) is importlib.import_module(f"llmlab.{name}")
