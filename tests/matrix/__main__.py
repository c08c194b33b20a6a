"""`python -m tests.matrix`: the page `notebooks/fault_matrix.md`."""

from tests.matrix.expectations import page

print(page(), end="")
