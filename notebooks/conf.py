"""The book: Sphinx reads the pages and notebooks of this folder, executes the notebooks, and writes HTML.

Build it with the command that the README gives. It asks no other machine for anything, neither while it is built nor
when it is read. Notebooks that hold outputs already are not executed again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, get_type_hints

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from pydantic import BaseModel
from sphinx.util.typing import stringify_annotation

import llmlab

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

# As quick as in the tests.
os.environ.setdefault("LLMLAB_NOTEBOOK_SIZE", "quick")

project = "llmlab"
author = "llmlab developers"
version = release = llmlab.__version__
html_title = f"llmlab {version}"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
pygments_style = "default"
pygments_dark_style = "github-dark"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["pictures", "**.ipynb_checkpoints"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

nb_execution_mode = "auto"  # only what holds no outputs yet
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # the default loads scripts from another machine
nb_merge_streams = True
# A widget needs a kernel to be one: its plain or HTML form is shown instead.
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

default_role = "code"  # docstrings are written with single backticks, as everything here
autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False


FIELDS = {"attribute", "data", "property"}
TOLD_OF_FIELDS: dict[str, str] = {}
"""What is said of each field, by its full name, from when Sphinx has read its class until it writes the field."""


def in_reading_order(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Write the tables of contents that follow from what is in this folder: its notebooks, as its README orders them,
    and its pages, of which `how_it_works` comes first.
    """
    if docname == "README":
        names = re.findall(r"^\d+\. \[\w+\.ipynb\]\((\w+)\.ipynb\)", source[0], re.MULTILINE)
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", *names, "```", ""])
    elif docname == "index":
        pages = {path.stem for path in Path(__file__).parent.glob("*.md")} - {"README", "index"}
        names = sorted(pages, key=lambda name: (name != "how_it_works", name))
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", ":caption: Inside", *names, "```", ""])


def without_pydantic(_app: Sphinx, _what: str, name: str, _obj: object, skip: bool, _options: object) -> bool | None:
    """Leave out what pydantic adds to every class of settings."""
    return True if name.startswith("model_") and not skip else None


def plain_signature(
    _app: Sphinx, _what: str, _name: str, obj: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Leave pydantic's bounds and validators out of the signature of a class of settings."""
    if not (isinstance(obj, type) and issubclass(obj, BaseModel)):
        return signature, returns
    # get_type_hints takes the bounds out, also of what is inside a union.
    hints = get_type_hints(
        SimpleNamespace(__annotations__={name: it.annotation for name, it in obj.model_fields.items()})
    )
    short = {name: re.sub(r"(?:\w+\.)+(?=\w)", "", stringify_annotation(hint)) for name, hint in hints.items()}
    defaults = {
        name: "" if field.is_required() else f" = {field.get_default(call_default_factory=True)!r}"
        for name, field in obj.model_fields.items()
    }
    return f"(*, {', '.join(f'{name}: {short[name]}{default}' for name, default in defaults.items())})", returns


def before_napoleon(_app: Sphinx, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Say of each field once, where it stands, what the class's docstring says of it; and mark code as code.

    Indented paragraphs are code in our docstrings; Sphinx would take them for quotations.
    """
    text = "\n".join([*lines, "", ""])
    told = re.search(r"^Attributes:\n((?: {4}.*\n|\n)+)", text, re.MULTILINE)
    if what in FIELDS:
        by_itself = "" if text.startswith("Alias for field number") else text  # a named tuple's words
        TOLD_OF_FIELDS.setdefault(name, by_itself)
    elif told:
        entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", told[1], re.MULTILINE)
        TOLD_OF_FIELDS.update({f"{name}.{field}": re.sub(r"\n +", " ", entry) for field, entry in entries})
        text = text.replace(told[0], "")
    lines[:] = re.sub(r"(?<=\n\n)(?= {4}\S)((?:(?: {4}.*)?\n)+)", r"::\n\n\1", text).splitlines()


def after_napoleon(_app: Sphinx, what: str, name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Give a field its own text: napoleon takes what stands before a colon in it for its type."""
    if what in FIELDS:
        lines[:] = [*TOLD_OF_FIELDS.pop(name).splitlines(), ""]


def formula(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw by themselves: no script, and none from another machine."""
    translator.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what this folder adds to Sphinx."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("source-read", in_reading_order)
    app.connect("autodoc-skip-member", without_pydantic)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
