"""The command `llmlab`: its options, its help and its exit codes.

Exit codes: 0 done, 1 it could not be finished (or a check of `verify` missed, `judge` found a client guilty, or
`doctor` a problem), 2 wrong options or settings, 130 interrupted (Ctrl-C), 141 the reader of the output went away
(`| head`).

What the commands do stands in modules of their names, how they write in `console.py`. This module must stay light:
`--help` answers before anything heavy is loaded, so each command imports its own work.
"""

from __future__ import annotations

import sys
from pathlib import Path
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


@app.command()
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


@app.command()
def sweep(  # noqa: PLR0917 - typer takes options from parameters
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A sweep, as .toml or .json.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for what is written; made if missing."),
    ] = None,
    calls: Annotated[
        int | None,
        typer.Option(callback=at_least(1), help="Calls for each combination, without a FILE.  [default: 1000]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes all chance, without a FILE.  [default: 0]")] = None,
    workers: Annotated[
        int | None,
        typer.Option(callback=at_least(1), metavar="N", help="With a FILE: worker processes; by default as suits it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With a FILE: compute only what DIR does not have yet.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With a FILE: write JSON instead of a table.")] = False,
) -> None:
    """Try many settings: those of a FILE, or a built-in sweep.

    Without a FILE: how often do calls fail on the simulated server, by the
    probability that an attempt times out and by the number of retries? A table
    and a chart.

    A FILE names an experiment and what to change in it; `llmlab schema` has
    everything that may stand there. Nothing in it is executed:

    \b
      [base.backend]
      kind = "mock"
      overload_probability = 0.05
      [grid]
      policy.retry.max_retries = [0, 1, 2]
      backend.timeout_probability = [0.0, 0.2, 0.4]
      policy.attempt_timeout = { kind = "log", low = 1, high = 100, num = 5 }

    All points meet the same chance, so differences come from the settings.
    DIR/runs keeps every run; `llmlab show`, `plot` and `report` read it.
    summary.csv (and failure_rate.png without a FILE) in DIR replace earlier
    ones. Ctrl-C stops early and keeps what is finished. With a FILE, --resume
    goes on where a sweep was stopped, or adds what the FILE has more by now. Ends
    with 1 if a run fails; the others go on.

    \b
    Examples:
      llmlab sweep
      llmlab sweep --out results --calls 5000 --seed 3
      llmlab sweep retries.toml --out results --workers 4
      llmlab sweep retries.toml --out results --resume
      llmlab sweep retries.toml --json > retries.json
    """  # noqa: D301 - see above
    if file is None:
        from llmlab.cli.sweep import run  # noqa: PLC0415 - late: pandas and matplotlib take a second to load

        _only_with_file("--json", as_json or None)
        _only_with_file("--workers", workers)
        _only_with_file("--resume", resume or None)
        run(out=out or Path("llmlab-sweep"), calls=1000 if calls is None else calls, seed=seed or 0)
    else:
        from llmlab.cli.sweep_file import run as run_file  # noqa: PLC0415 - late, too

        for option, value, setting in (("--calls", calls, "base.workload.calls"), ("--seed", seed, "base.seed")):
            if value is not None:
                raise typer.BadParameter(f"{option} is for the built-in sweep; set {setting} in '{file}'")
        run_file(file, out=out, workers=workers, resume=resume, as_json=as_json)


def _only_with_file(option: str, value: object) -> None:
    if value is not None:
        raise typer.BadParameter(f"{option} needs a FILE")


@app.command()
def show(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The store of a sweep's results.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Show what a sweep has stored, finished or not.

    \b
    Examples:
      llmlab show results
      llmlab show results --json
    """  # noqa: D301 - see above
    from llmlab.cli.show import run  # noqa: PLC0415 - late: pandas takes a second to load

    run(store=store, as_json=as_json)


@app.command()
def plot(  # noqa: PLR0917 - typer takes options from parameters
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The store of a sweep's results.")],
    kind: Annotated[str, typer.Option(metavar="CHART", help="Which chart; see below.")] = "failure-rate",
    x: Annotated[str | None, typer.Option("--x", metavar="SETTING", help="The swept setting along the axis.")] = None,
    y: Annotated[str | None, typer.Option("--y", metavar="SETTING", help="The other axis of a heatmap.")] = None,
    hue: Annotated[str | None, typer.Option(metavar="SETTING", help="One line for each of its values.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A .png, .svg or .pdf.  [default: CHART.png]")
    ] = None,
) -> None:
    """Draw a chart of what a sweep has stored.

    A setting is named by its path or by the end of it: max_retries.

    \b
    Charts: failure-rate, heatmap, latency-ecdf, latency-histogram,
    latency-percentiles, outcomes, retry-amplification, time-spent.

    \b
    Examples:
      llmlab plot results --x timeout_probability --hue max_retries
      llmlab plot results --kind heatmap --x timeout_probability --y max_retries
    """  # noqa: D301 - see above
    from llmlab.cli.plot import run  # noqa: PLC0415 - late: pandas and matplotlib take a second to load

    run(store=store, kind=kind, out=out, x=x, y=y, hue=hue)


@app.command()
def schema() -> None:
    """Write the JSON schema of a sweep's FILE, for editors and programs.

    \b
    Example:
      llmlab schema > sweep.schema.json
    """  # noqa: D301 - see above
    from llmlab.cli.schema import run  # noqa: PLC0415 - late: pandas takes a second to load

    run()


@app.command()
def report(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The store of a sweep's results.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The HTML file to write; an earlier one is replaced.")
    ] = Path("llmlab-report.html"),
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What must be kept, for a recommendation; once for each condition."),
    ] = None,
    minimise: Annotated[str, typer.Option(metavar="NAME", help="What to have least of.")] = "p95_latency_s",
) -> None:
    """Report a sweep's results: one HTML file, with settings, tables, charts.

    The file needs nothing else: no script, no font, no network. It holds no
    prompts. With an SLO it begins with what to set, how sure that is, and why
    the other settings lost.

    \b
    Examples:
      llmlab report results --out results.html
      llmlab report results --slo success_rate=0.99 --slo p95_latency_s=5
    """  # noqa: D301 - see above
    from llmlab.cli.report import run  # noqa: PLC0415 - late: pandas and matplotlib take a second to load

    run(store=store, out=out, slo=slo or [], minimise=minimise)


@app.command()
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


app.command()(judge)
app.command()(calibrate)
app.command()(doctor)
app.command()(lab)
app.command()(dashboard)
app.command(context_settings=SERVE_SETTINGS)(serve)
