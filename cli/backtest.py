"""`streamgauge backtest`: a pipeline over recorded readings, with the engine of the live hosts."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from .interrupt import Interrupt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..consumers.archive_input import ArchiveInput
    from ..consumers.inputs import Input
    from ..consumers.results import Results
    from ..consumers.totals import Totals
    from ..engine.batch import Record, UserRecords
    from ..engine.records import Opened
    from ..rules.plan import Pipeline

FOUND_PROBLEMS = 1
INTERRUPTED = 130


class Format(StrEnum):
    """What the lines of an input are."""

    NDJSON = "ndjson"
    CSV = "csv"
    KINESIS = "kinesis"
    ARCHIVE = "archive"


def command(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE.toml", help="The pipeline file.")],
    source: Annotated[
        str,
        typer.Option("--input", metavar="FILE|-|LOCATION", help="What to read; .gz is unpacked."),
    ],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Guessed from name or first line where not given."),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of every message."),
    ] = None,
    arrival: Annotated[
        str | None, typer.Option(metavar="PATH", help="The field that holds the arrival time.")
    ] = None,
    thresholds: Annotated[
        str | None, typer.Option(metavar="FILE", help="Thresholds, one NDJSON line each.")
    ] = None,
    alerts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where alerts go instead of stdout.")
    ] = None,
    rejected: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where rejected records go.")
    ] = None,
    statistics: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where the statistic of each sample goes.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object on stdout.")
    ] = False,
) -> None:
    """Run a pipeline over recorded readings: same code, same answers as on the stream.

    Alerts go to stdout as NDJSON and a summary to stderr. The lines of an input are user records
    (ndjson), rows under a line of field names (csv) or Kinesis records as GetRecords gives them
    (kinesis). A directory or S3 prefix is an archive as `run` writes it. VALUE of --set is JSON or
    else text; the option may be given several times. A result file is called FILE.partial until it
    is whole.

    Example: streamgauge backtest thermostats.toml --input readings.ndjson.gz --alerts alerts.ndjson
    """
    outputs = Outputs(alerts, rejected, statistics, as_json)
    _refuse_overwriting(outputs, [pipeline, source, thresholds])
    constants = _constants(fields or [])
    from ..rules.plan import Pipeline  # here, so that help and usage errors come at once

    for option, path in (("--arrival", arrival), *(("--set", field) for field in constants)):
        if path is not None and not all(path.split(".")):
            raise typer.BadParameter(f"expected a path, found {path!a}", param_hint=option)
    loaded = Pipeline.load(pipeline, thresholds=thresholds, constants=constants, arrival=arrival)
    for problem in loaded.warnings:
        _say(str(problem))
    if thresholds is None and loaded.spec.thresholds.table is not None:
        _say(
            "note: the table of limits is not read here: every device has its rule's own threshold"
        )
    raise typer.Exit(_backtest(loaded, source, form, outputs))


class Outputs(NamedTuple):
    """The files to write, and whether the counts are wanted on stdout instead of the alerts."""

    alerts: str | None
    rejected: str | None
    statistics: str | None
    as_json: bool


def _constants(settings: list[str]) -> dict[str, Any]:
    """Fields to set, by path; a value that is JSON is that value, any other text is text."""
    constants: dict[str, Any] = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not field or not equals:
            raise typer.BadParameter(f"expected FIELD=VALUE, found {setting!a}", param_hint="--set")
        try:
            constants[field] = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            constants[field] = text
        except UnicodeError:
            raise typer.BadParameter(f"no UTF-8: {setting!a}", param_hint="--set") from None
    return constants


def _refuse_overwriting(outputs: Outputs, read: list[str | None]) -> None:
    """A result may take the place of no file that is read, nor of another result."""
    taken = {os.path.realpath(path) for path in read if path not in (None, "-")}
    for path in (outputs.alerts, outputs.rejected, outputs.statistics):
        if path is None:
            continue
        if path == "-":
            raise typer.BadParameter("expected the name of a file for results, found '-'")
        real = os.path.realpath(path)
        if real in taken and (os.path.isfile(real) or not os.path.exists(real)):
            raise typer.BadParameter(f"{path} is named twice: it would be overwritten")
        taken.add(real)


def _backtest(pipeline: Pipeline, path: str, form: str | None, outputs: Outputs) -> int:
    """Run the pipeline over one input and print what became of it; the exit status."""
    from ..consumers.results import Results
    from ..consumers.totals import Totals
    from ..engine.counts import Counts

    totals = Totals(Counts(rule.name for rule in pipeline.rules))
    started = time.monotonic()
    with Interrupt() as interrupt, closing(_input(pipeline, path, form, interrupt)) as source:
        form, records = _records(source, form)
        stdout = None if outputs.alerts or outputs.as_json else sys.stdout.buffer
        results = Results(outputs.alerts, outputs.rejected, outputs.statistics, stdout)
        whole = _run(pipeline, source, records, results, totals, interrupt)
    seconds = time.monotonic() - started
    status = _report(totals, f"{source.name} as {form}", seconds, outputs.as_json)
    if whole:
        return status
    _say(f"interrupted: this is the answer for the first {totals.counts.records:,} records")
    return INTERRUPTED


def _input(
    pipeline: Pipeline, path: str, form: str | None, interrupt: Interrupt
) -> Input | ArchiveInput:
    """The file, pipe or archive that is named; InputError if it cannot be read."""
    from ..consumers.archive_input import ArchiveInput, is_location
    from ..consumers.inputs import Input
    from .archive_place import patient

    if form == Format.ARCHIVE or (form is None and is_location(path)):
        return ArchiveInput(path, patient(path), pipeline.spec.pipeline.name)
    return Input(path, interrupt.waiting)


def _records(
    source: Input | ArchiveInput, form: str | None
) -> tuple[str, Iterable[Record | UserRecords | Opened]]:
    """The format of an input, guessed where not given, and its records."""
    from ..consumers.archive_input import ArchiveInput
    from ..consumers.backtest import batches, guess_format

    if isinstance(source, ArchiveInput):
        return Format.ARCHIVE, source.read()
    form = form or guess_format(source)
    return form, batches(source, form)


def _run(
    pipeline: Pipeline,
    source: Input | ArchiveInput,
    records: Iterable[Record | UserRecords | Opened],
    results: Results,
    totals: Totals,
    interrupt: Interrupt,
) -> bool:
    """Drive the run to its end, to an error or to Ctrl-C; whether the whole input was read."""
    from ..consumers.backtest import run
    from .progress import ProgressBar

    whole = False
    quiet = results.stdout is not None and sys.stdout.isatty()  # no bar in the midst of alerts
    try:
        with ProgressBar(source.total, shown=not quiet) as bar:
            for outcome in run(pipeline, records):
                results.write(outcome)
                totals.add(outcome)
                bar.advance(source.bytes_read, totals.counts.records)
                if interrupt.asked:
                    break
        whole = not interrupt.asked
    except KeyboardInterrupt:
        pass
    finally:
        if partial := results.close(whole):
            _say(f"the input was not read to its end: what there is stands in {', '.join(partial)}")
    return whole


def _report(totals: Totals, origin: str, seconds: float, as_json: bool) -> int:
    """Print what became of the records; the exit status."""
    from .summary import accounting_faults, summary, warnings

    if as_json:
        counts = {**totals.counts.as_dict(), "seconds": round(seconds, 3)}
        typer.echo(msgspec.json.encode(counts))
    else:
        _say(summary(totals, origin, seconds), end="")
    for warning in warnings(totals):
        _say(f"warning: {warning}")
    faults = accounting_faults(totals)
    for fault in faults:
        _say(f"error: the accounting is broken, please report this: {fault}")
    return FOUND_PROBLEMS if faults else 0


def _say(text: str, end: str = "\n") -> None:
    """Talk goes to standard error."""
    typer.echo(text + end, err=True, nl=False)
