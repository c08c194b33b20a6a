"""A policy as settings for other clients, and what each of them cannot express: the way back from `presets.py`.

`export.py` has the list of targets. Look next at `sdks.py` (openai, anthropic, litellm), `tenacity_code.py` and
`llmlab_code.py`.
"""

from llmlab.exports.export import TARGETS, Export, Target, export_policy

__all__ = ["Export", "TARGETS", "Target", "export_policy"]
