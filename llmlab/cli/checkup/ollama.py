"""Does an Ollama answer? llmlab works without one, so this is a note."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from llmlab.cli.checkup.finding import Finding
from llmlab.core.settings import SettingsError
from llmlab.llms import AsyncLocalLLM

if TYPE_CHECKING:
    from llmlab.backends.ollama_description import ServerDescription


def check_ollama(base_url: str | None = None, *, within: float = 3.0) -> Finding:
    """Does an Ollama answer where llmlab would look for it?

    Args:
        base_url: where; `None` means `OLLAMA_HOST`, else this machine.
        within: how long to wait for it, in seconds.
    """
    try:
        found = asyncio.run(_described(base_url, within))
    except SettingsError as error:
        return Finding("Ollama", "note", f"its address is wrong: {error}", "set OLLAMA_HOST to host:port, or unset it")
    except TimeoutError:
        said = f"no answer within {within:g} s"
        return Finding("Ollama", "note", said, "look at `ollama ps`; see whether OLLAMA_HOST names a server of yours")
    if not found.ok:
        return Finding("Ollama", "note", "; ".join(found.problems), "only LocalLLM needs one; simulations do not")
    told = f"{found.version or 'version unknown'} at {found.base_url}"
    if not found.models:
        return Finding("Ollama", "note", f"{told}, without a model", "`ollama pull llama3.2`, or any other")
    return Finding("Ollama", "ok", f"{told}, {len(found.models)} models, such as {found.models[0].name}")


async def _described(base_url: str | None, within: float) -> ServerDescription:
    async with AsyncLocalLLM(base_url=base_url) as llm:
        return await asyncio.wait_for(llm.describe(), within)
