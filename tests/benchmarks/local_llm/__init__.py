"""What a call through `LocalLLM` costs on loopback; by hand: `python -m tests.benchmarks.local_llm`."""
