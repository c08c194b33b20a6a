"""Limits that keep the source readable, and what no file of the project may say.

The limits are hard ones, well above what is aimed at (300 lines a module, 40 a function): they stop growth, they are no
target. The linter cannot count so: it has no limit on a module's length, and counts a function's statements.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "llmlab").rglob("*.py"))}

MODULE_LINES = 350
FUNCTION_LINES = 60

# Paths of one machine, and hosts that a mirror replaces: a file that names them works in one place only. Cut in two, so
# that this file does not contain what it forbids.
FORBIDDEN = [b"/wo" + b"rk/", b"/ro" + b"ot/", b"/ho" + b"me/", b"pypi." + b"org", b"pythonhosted." + b"org"]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    yield from (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Count the lines from `def` to the end, less the docstring: that one makes a function easier, however long."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    match function.body[0]:
        case ast.Expr(value=ast.Constant(value=str())) as docstring:
            return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)
    return total


def files_of_the_project() -> list[Path]:
    """What git tracks, or would at the next `git add`: found before it is committed rather than after."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module):
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    assert docstring, f"{module} needs a docstring: what it is, why it is here, where to look next"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_outgrows_a_reader(module):
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MODULE_LINES, f"{module} has {lines} lines: it has a second reason to change, which wants a module"


@pytest.mark.parametrize("module", MODULES)
def test_no_function_outgrows_a_screen(module):
    source = MODULES[module].read_text(encoding="utf-8")
    long = {function.name: length(function) for function in functions(source) if length(function) > FUNCTION_LINES}
    assert long == {}, f"in {module}"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git knows which files are the project's; here is no checkout")
def test_no_file_names_a_machine_or_a_package_registry():
    found = [
        f"{path.relative_to(ROOT)}: {word.decode()}"
        for path in files_of_the_project()
        for word in FORBIDDEN
        if word in path.read_bytes()
    ]
    assert found == []


def test_a_docstring_does_not_count_towards_a_functions_length():
    source = 'async def f(\n    a,\n):\n    """One.\n\n    Two.\n    """\n    return a\n'
    assert [length(function) for function in functions(source)] == [4]
