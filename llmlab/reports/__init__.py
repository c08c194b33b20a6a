"""A result as one file to send to somebody: HTML that needs no other file, no network and no script.

`document.py` writes it, `sections.py` says what stands in it, `markup.py` is HTML in which every text is escaped. The
charts are those that `llmlab.plots.report` puts on a page.
"""

from llmlab.reports.document import report

__all__ = ["report"]
