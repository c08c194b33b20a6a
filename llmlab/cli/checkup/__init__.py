"""What `llmlab doctor` looks at: packages, what llmlab does with this machine, Jupyter, Ollama.

Each check says what it found as `Finding`s. What it asks (installed versions, folders, a server) comes in as arguments,
so that every wrong state can be tried.
"""
