"""The security rules of the linter that are set aside: few, each with its reason in the line, and no others."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SET_ASIDE = re.compile(r"# noqa: (?P<rules>(?:[A-Z]+\d+, )*S\d{3}(?:, [A-Z]+\d+)*)(?P<reason> - \S.*)?")


def test_a_security_rule_is_set_aside_in_a_line_that_says_why():
    found = set()
    for path in sorted((ROOT / "llmlab").rglob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := _SET_ASIDE.search(line):
                assert match["reason"], f"{path}: {line.strip()}"
                found |= {(path.parent.name, rule) for rule in re.findall(r"S\d{3}", match["rules"])}
    assert {rule for _, rule in found} == {"S101", "S104", "S301", "S603"}
    assert {folder for folder, rule in found if rule in {"S301", "S603"}} == {"cli", "running"}, "our own processes"
    assert {folder for folder, rule in found if rule == "S104"} == {"backends", "server"}


def test_no_security_rule_is_set_aside_for_a_whole_file_of_the_package():
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not [rule for rule in lint["ignore"] if re.fullmatch(r"S\d*", rule)]
    kept = {files: rules for files, rules in lint["per-file-ignores"].items() if files.startswith("llmlab/")}
    assert not [rule for rules in kept.values() for rule in rules if re.fullmatch(r"S\d*", rule)]
