"""A policy as settings for one of `TARGETS`: code or TOML, and what that client does not do as the policy says.

    print(export_policy(recommendation.policy(base.policy), "openai"))

The names of other clients' arguments were checked against openai 3.57.0, anthropic 2.13.0, litellm 1.110.2 and tenacity
9.2.1; what these clients do by themselves stands with its source in `core/presets.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from llmlab.core.display import listing
from llmlab.core.policy import ClientPolicy
from llmlab.core.settings import SettingsError, nearest
from llmlab.exports import llmlab_code, sdks, tenacity_code
from llmlab.exports.wishes import why_not, wishes

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.exports.draft import Draft

Target = Literal["llmlab", "llmlab-toml", "openai", "anthropic", "litellm", "tenacity"]
"""What a policy can be exported for."""

TARGETS: tuple[Target, ...] = get_args(Target)

_EXPORTERS: dict[str, Callable[[ClientPolicy], Draft]] = {
    "llmlab": llmlab_code.python,
    "llmlab-toml": llmlab_code.toml,
    "openai": sdks.openai,
    "anthropic": sdks.anthropic,
    "litellm": sdks.litellm,
    "tenacity": tenacity_code.python,
}


class Export(NamedTuple):
    """A policy for another client.

    `code` is the text to paste; `left_out` says, a line each, what that client does not do or does otherwise. Printed,
    it is the code under these lines as comments.
    """

    target: Target
    code: str
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        """Return the code under what it leaves out."""
        if not self.left_out:
            return self.code
        lines = "\n".join(f"# - {line}" for line in self.left_out)
        return f"# Otherwise than in llmlab:\n{lines}\n\n{self.code}"

    def _repr_html_(self) -> str:
        return listing(str(self))


def export_policy(policy: ClientPolicy, target: Target) -> Export:
    """Return a policy as settings for another client, and what that client cannot express.

    Args:
        policy: any policy, such as `recommendation.policy(base.policy)`.
        target: one of `TARGETS`: `llmlab` (Python), `llmlab-toml` (a file that `Sweep.load` reads), `openai`,
            `anthropic`, `litellm` (its Router) or `tenacity`.

    Raises:
        SettingsError: there is no such target, or it is no policy.
    """
    if not isinstance(policy, ClientPolicy):
        raise SettingsError(
            f"policy must be a ClientPolicy, got a {type(policy).__name__}; a recommendation has the method policy()"
        )
    if target not in _EXPORTERS:
        raise SettingsError(f"there is no target {target!r}; {nearest(str(target), _EXPORTERS)}")
    draft = _EXPORTERS[target](policy)
    left_out = []
    for path, value in wishes(policy).items():
        difference = why_not(path) if path not in draft.kept else draft.kept[path]
        if difference:
            left_out.append(f"{path} ({value}): {difference}")
    return Export(target, draft.code, tuple(left_out))
