"""Settings as code: a policy for other clients, with what they cannot express, and experiments as Python.

`export.py` has the list of targets, `as_code.py` Python that builds policies, experiments and sweeps. Look next at
`sdks.py` (openai, anthropic, litellm), `tenacity_code.py` and `llmlab_code.py`.
"""

from llmlab.exports.as_code import as_code
from llmlab.exports.export import TARGETS, Export, Target, export_policy

__all__ = ["Export", "TARGETS", "Target", "as_code", "export_policy"]
