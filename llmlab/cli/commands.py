"""The command `llmlab`: its options, its help and its exit codes.

Exit codes: 0 done, 1 it could not be finished (or a check of `verify` missed, `judge` found a client guilty, or
`doctor` a problem), 2 wrong options or settings, 130 interrupted (Ctrl-C), 141 the reader of the output went away
(`| head`).

What the commands do stands in modules of their names, how they write in `console.py`. This module must stay light:
`--help` answers before anything heavy is loaded, so each command imports its own work.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmlab import __version__
from llmlab.cli.calibrate_command import calibrate
from llmlab.cli.doctor_command import doctor
from llmlab.cli.judge_command import judge
from llmlab.cli.jupyter_commands import dashboard, lab
from llmlab.cli.options import at_least, probability
from llmlab.cli.serve_command import SETTINGS as SERVE_SETTINGS
from llmlab.cli.serve_command import serve
from llmlab.cli.sweep_commands import plot, report, schema, show, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence

# Plain help, without boxes: it reads the same in every terminal, pager and log, and answers twice as fast.
app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; `None` takes the arguments of the process."""
    sys.exit(exit_code(arguments))


def exit_code(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what is wrong with the arguments is said in one line on stderr."""
    try:
        code: Any = app(args=arguments, prog_name="llmlab", standalone_mode=False)
    except typer.Abort:  # how older releases of typer say Ctrl-C
        return 130
    except Exception as error:
        wrong = _what_is_wrong(error)
        if wrong is None:
            raise
        typer.echo(wrong, err=True)
        return 2
    return code if isinstance(code, int) else 0


def _what_is_wrong(error: Exception) -> str | None:
    """Return typer's complaint about the arguments as one line, or `None` if the error is something else.

    Told by its method: the class is click's, and newer releases of typer carry a click of their own.
    """
    describe = getattr(error, "format_message", None)
    if describe is None:
        return None
    context = getattr(error, "ctx", None)
    command = "llmlab" if context is None else context.command_path
    return f"{command}: {' '.join(describe().split()).rstrip('.')}; see '{command} --help'"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmlab {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def llmlab(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find out how an LLM client behaves when the model server misbehaves.

    All but `serve` and `doctor` run under virtual time: nothing is sent anywhere,
    and the same seed gives the same output.

    \b
    Examples:
      llmlab demo                     watch calls fail, and retries help
      llmlab demo --async             the same calls, all at once
      llmlab sweep --out results      many settings; a table and a chart
      llmlab sweep retries.toml       the sweep that a file describes
      llmlab serve                    a misbehaving server, for any client
      llmlab report results           stored results as an HTML file
      llmlab calibrate events.jsonl   a simulated server like a real one
      llmlab verify --quick           the simulation against known theory
      llmlab doctor                   is all there, and does it work here?
      llmlab lab                      the notebooks, in JupyterLab
      llmlab dashboard                controls and charts, as a page
    """  # noqa: D301 - \b keeps typer from joining the lines that follow
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def demo(
    calls: Annotated[int, typer.Option(callback=at_least(1), help="How many calls to make.")] = 12,
    timeout_probability: Annotated[
        float, typer.Option(callback=probability, help="How probable it is that an attempt is never answered.")
    ] = 0.2,
    max_retries: Annotated[
        int, typer.Option(callback=at_least(0), help="Retries after the first attempt of a call.")
    ] = 2,
    seed: Annotated[int, typer.Option(help="Fixes all chance.")] = 1,
    concurrent: Annotated[bool, typer.Option("--async", help="Make all calls at once, with the async client.")] = False,
) -> None:
    """Make some calls to a misbehaving server, and show every attempt.

    The server also refuses connections, answers 429, 500 and 503 (some with
    Retry-After), and sends empty, cut or malformed JSON.

    \b
    Examples:
      llmlab demo
      llmlab demo --async
      llmlab demo --max-retries 0     the same weather, without retries
      llmlab demo --calls 100 --timeout-probability 0.5 --seed 7
    """  # noqa: D301 - see above
    from llmlab.cli.demo import run  # noqa: PLC0415 - late, so that --help answers at once

    run(calls=calls, timeout_probability=timeout_probability, max_retries=max_retries, seed=seed, concurrent=concurrent)


def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer calls, so wider tolerances: seconds.")] = False,
    case: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this case; may be given more than once.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the checks as JSON instead.")] = False,
) -> None:
    """Check the simulation against known theory: expected and measured.

    Queueing theory, published work and real clients' source say what must come
    out; every case runs the very client that an application runs. Tolerances
    come from the sampling error over independent replicates; "exact" means
    rounding. In full it takes about two minutes.

    Ends with 1 if a check misses.

    \b
    Examples:
      llmlab verify
      llmlab verify --quick
      llmlab verify --case M/M/c --case retry-storms
    """  # noqa: D301 - see above
    from llmlab.cli.verify import run  # noqa: PLC0415 - late: pandas and scipy take a second to load

    run(quick=quick, cases=case or [], as_json=as_json)


for command in (demo, sweep, show, plot, schema, report, verify, judge, calibrate, doctor, lab, dashboard):
    app.command()(command)
app.command(context_settings=SERVE_SETTINGS)(serve)
