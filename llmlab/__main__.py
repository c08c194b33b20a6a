"""`python -m llmlab`: the command `llmlab` where its script is not on the path. Look next at `llmlab.cli`."""

from llmlab.cli import main

if __name__ == "__main__":
    main()
