"""What the package exports."""

from llmlab import virtual_time


def test_the_exported_names_are_sorted_exist_and_are_not_modules():
    names = virtual_time.__all__
    assert names == sorted(names)
    assert {name: type(getattr(virtual_time, name)).__name__ for name in names if name == "run"} == {"run": "function"}
    assert all(isinstance(getattr(virtual_time, name), type) for name in names if name != "run")
