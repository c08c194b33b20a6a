"""environment.yml and pyproject.toml say the same thing to two package managers.

conda cannot read pyproject's extras and pip cannot read environment.yml, so the list stands twice; nothing but this
test would notice when one copy is forgotten.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

# conda-forge's name, where it is not the one that pip knows. Add a line when a dependency needs one.
CONDA_NAMES = {"duckdb": "python-duckdb", "ollama": "ollama-python", "playwright": "playwright-python"}

CHOSEN = {"httpx", "ipywidgets", "matplotlib", "nbmake", "nest-asyncio", "pandas", "pydantic", "pytest"}


def pip_requirements() -> dict[str, SpecifierSet]:
    """What pip installs for running and testing, by conda's names."""
    lines = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    requirements = [Requirement(line) for line in lines]
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    return {CONDA_NAMES.get(name, name): each.specifier for name, each in zip(names, requirements, strict=True)}


def conda_requirements() -> dict[str, SpecifierSet]:
    requirements = [Requirement(line) for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}


def test_conda_and_pip_install_the_same_packages_in_the_same_versions():
    conda = conda_requirements()
    del conda["python"], conda["pip"]
    assert conda == pip_requirements()


def test_conda_and_pip_ask_for_the_same_python():
    assert conda_requirements()["python"] == SpecifierSet(PROJECT["requires-python"])


def test_conda_forge_is_the_only_channel():
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]


def test_the_conda_environment_holds_llmlab_itself_and_leaves_all_else_to_conda():
    nested = [line for line in ENVIRONMENT["dependencies"] if not isinstance(line, str)]
    assert nested == [{"pip": ["-e ."]}]


def test_the_packages_that_llmlab_was_asked_to_build_on_are_declared():
    assert pip_requirements().keys() >= CHOSEN


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_requirement_has_a_lower_bound_and_no_upper_bound(extra):
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    bounds = {each.name: [one.operator for one in each.specifier] for each in requirements if each.name != "llmlab"}
    assert {name: operators for name, operators in bounds.items() if operators != [">="]} == {}
