"""The import arrows: a part of llmlab knows only the parts before it, and no two modules need each other.

The order below is the package's architecture in one line. It is read from the source with `ast`, so an import inside a
function or under TYPE_CHECKING counts like any other: both hide a cycle, neither removes it.
"""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "llmlab"

# A part may import from those before it. A new part gets its place here, and in the map that opens llmlab/__init__.py.
ORDER = (
    "core",
    "virtual_time",
    "sync",
    "observers",
    "notebook",
    "telemetry",
    "backends",
    "conduct",
    "llms",
    "arrow",
    "analysis",
    "wire",
    "experiments",
    "calibration",
    "exports",
    "plots",
    "reports",
    "widgets",
    "server",
    "cli",
    "__main__",
)

# What `import llmlab` must not load: together they cost more than a second.
HEAVY = {"ipywidgets", "matplotlib", "numpy", "pandas", "pyarrow", "scipy"}

# Import names whose distribution is called otherwise, or comes with another that pins it exactly.
DISTRIBUTION = {"nest_asyncio": "nest-asyncio", "pydantic_core": "pydantic"}

# What only these modules may import, although `pip install llmlab` does not bring it: nobody else loads them.
OPTIONAL = {
    "llmlab.cli.checkup.jupyter": {"jupyter_client", "jupyter_core"},
    "llmlab.experiments.tune": {"optuna"},
    "llmlab.server.pytest_plugin": {"pytest"},
    "llmlab.telemetry.observer": {"opentelemetry"},
    "llmlab.virtual_time.pytest_plugin": {"pytest"},
}

# Names that say nothing about what is inside, so that everything ends up inside.
EMPTY_WORDS = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(source: str, *, module: str, is_package: bool, modules: set[str]) -> Iterator[tuple[str, int]]:
    """Yield what a module imports from llmlab, with line numbers.

    `from llmlab.core import x` is an import of `llmlab.core.x` where that is a module, else of `llmlab.core`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                here = package[: len(package) - node.level + 1]
                base = ".".join([*here, *filter(None, [node.module])])
            members = [alias.name for alias in node.names]
            # The version is a constant of the root that every part may quote.
            members = [name for name in members if (base, name) != ("llmlab", "__version__")]
            found = [f"{base}.{name}" if f"{base}.{name}" in modules else base for name in members]
        else:
            continue
        yield from ((name, node.lineno) for name in found if name.split(".")[0] == "llmlab")


def arrows() -> Iterator[tuple[str, str, int]]:
    for module, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        is_package = path.name == "__init__.py"
        for imported, line in imported_modules(source, module=module, is_package=is_package, modules=set(MODULES)):
            yield module, imported, line


def part(module: str) -> str:
    """`llmlab.core.retry` belongs to `core`; the root itself to no part."""
    return ".".join(module.split(".")[1:2])


def test_every_part_of_the_package_has_its_place_in_the_order():
    unknown = {part(module) for module in MODULES} - {*ORDER, ""}
    assert not unknown, f"give {sorted(unknown)} a place in ORDER: after what they import, before what imports them"


def test_the_map_in_the_root_docstring_is_the_order():
    source = MODULES["llmlab"].read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    # A part's line is indented once: `    core/   what a call is` or `    sync.py   ...`.
    parts = re.findall(r"^ {4}(\w+)(?:/|\.py)\s", docstring or "", flags=re.MULTILINE)
    assert parts == [name for name in ORDER if name != "__main__"]


def test_a_part_imports_only_from_the_parts_before_it():
    place = {name: number for number, name in enumerate(ORDER)}
    # The root re-exports everything, so for everybody else it comes after all.
    place[""] = len(ORDER)
    wrong = [
        f"{module}:{line} imports {imported}"
        for module, imported, line in arrows()
        if module != "llmlab" and place[part(imported)] > place[part(module)]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, imported, _ in arrows():
        graph[module].add(imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def test_every_import_from_llmlab_names_a_module_that_exists():
    missing = [f"{module}:{line} imports {imported}" for module, imported, line in arrows() if imported not in MODULES]
    assert missing == []


def foreign_packages(source: str) -> Iterator[str]:
    """Yield the packages outside llmlab and the standard library that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases]
            case ast.ImportFrom(level=0, module=str(module)):
                names = [module]
            case _:
                continue
        yield from {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"llmlab"}


def test_what_a_module_imports_is_declared_in_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    undeclared = {
        f"{module} imports {name}"
        for module, path in MODULES.items()
        for name in foreign_packages(path.read_text(encoding="utf-8"))
        if DISTRIBUTION.get(name, name) not in declared | OPTIONAL.get(module, set())
    }
    assert undeclared == set()


def test_no_module_has_a_name_that_says_nothing():
    empty = [module for module in MODULES if EMPTY_WORDS & set(module.rsplit(".", maxsplit=1)[-1].split("_"))]
    assert empty == []


def test_importing_llmlab_loads_no_heavy_package():
    script = "import sys, llmlab; print(llmlab.__file__); print(*sys.modules)"
    # In the root, so that the tree's llmlab is meant even where none is installed.
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    file, loaded = run.stdout.splitlines()
    assert Path(file) == PACKAGE / "__init__.py"
    assert HEAVY & set(loaded.split()) == set()


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import llmlab.core.retry", "llmlab.core.retry"),
        ("from llmlab.core import retry", "llmlab.core.retry"),
        ("from llmlab.core import Backoff", "llmlab.core"),
        ("from .retry import Backoff", "llmlab.core.retry"),
        ("from . import retry", "llmlab.core.retry"),
        ("from ..backends import mock", "llmlab.backends.mock"),
        ("from llmlab import Client", "llmlab"),
        ("def later():\n    import llmlab.core.retry", "llmlab.core.retry"),
        ("if TYPE_CHECKING:\n    from .retry import Backoff", "llmlab.core.retry"),
    ],
)
def test_the_reader_of_imports_understands(source, imported):
    modules = {"llmlab", "llmlab.core", "llmlab.core.retry", "llmlab.backends", "llmlab.backends.mock"}
    found = imported_modules(source, module="llmlab.core.flow", is_package=False, modules=modules)
    assert [name for name, _ in found] == [imported]


@pytest.mark.parametrize("source", ["import json", "from llmlabels import x", "from llmlab import __version__"])
def test_the_reader_of_imports_leaves_alone(source):
    assert list(imported_modules(source, module="llmlab.cli", is_package=False, modules={"llmlab"})) == []
