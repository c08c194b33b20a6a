"""The commands about sweeps and their results, `llmlab sweep`, `show`, `plot`, `report` and `schema`: options and help.

Their work stands in modules of their names, `sweep_file.py` for a sweep that a file describes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmlab.cli.options import at_least


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
    """  # noqa: D301 - \b keeps typer from joining the lines that follow
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


def report(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="The store of a sweep's results.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The HTML file to write; an earlier one is replaced.")
    ] = Path("llmlab-report.html"),
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What must be kept, for a recommendation; once for each condition."),
    ] = None,
    minimise: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to have least of where the SLO is kept.", show_default="p95_latency_s"),
    ] = None,
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


def schema() -> None:
    """Write the JSON schema of a sweep's FILE, for editors and programs.

    \b
    Example:
      llmlab schema > sweep.schema.json
    """  # noqa: D301 - see above
    from llmlab.cli.schema import run  # noqa: PLC0415 - late: pandas takes a second to load

    run()
