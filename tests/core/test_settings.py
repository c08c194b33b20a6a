from llmlab import Backoff, ClientPolicy, RetryPolicy
from llmlab.core.settings import changed_settings


def test_only_what_differs_from_its_default_is_changed():
    assert changed_settings(ClientPolicy()) == {}
    assert changed_settings(Backoff(maximum=8, base=2)) == {"base": 2.0}
    retry = RetryPolicy(max_retries=5)
    assert changed_settings(ClientPolicy(total_timeout=None, retry=retry)) == {"retry": retry, "total_timeout": None}
