"""The command `llmlab`: options and exit codes in `commands.py`, what the commands do in modules of their own.

This package must stay light: `--help` answers before anything heavy is loaded.
"""

from llmlab.cli.commands import app, exit_code, main

__all__ = ["app", "exit_code", "main"]
