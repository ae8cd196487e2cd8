"""``model_server convert``: makes a model of another format, and shows that it answers the same."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from serving.commands.arguments import not_negative, positive, told
from serving.config.command_line import CommandLine, parse_command_line
from serving.conversion.routes import FORMATS, ROUTES
from serving.core.errors import InvalidArgument

_NOT_CONVERTED = 1
_DESCRIPTION = """\
Convert a model to a format with a living runtime, and compare the two on random inputs.

SOURCE is a version's directory, a directory of versions, of which the newest is converted, or one
model file. DESTINATION is the directory of the version to write, where its name is a number, else a
directory of versions, which gets the next one. It appears whole, or not at all.
"""
_EPILOG = """\
The server's own flags that say how models are loaded may be given as well
(--allow_pickle_models, --allow_keras_code, --custom_op_paths, --saved_model_tags ...).

Ends with 0 where the model is converted and answers the same, 1 where it can not be converted or
answers something else, 2 where SOURCE, DESTINATION or the arguments are wrong.
"""


def parser() -> ArgumentParser:
    """What the command takes beside the server's flags."""
    routes = "\n".join(f"  {route.source} to {route.to}" for route in ROUTES)
    made = ArgumentParser(
        prog="model_server convert",
        description=_DESCRIPTION,
        epilog=f"what can be converted:\n{routes}\n\n{_EPILOG}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("source", metavar="SOURCE", help="the model")
    made.add_argument("destination", metavar="DESTINATION", help="where the new version goes")
    made.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    made.add_argument(
        "--platform", default="", help="the source's platform, where its files do not tell"
    )
    made.add_argument("--force", action="store_true", help="replace what is at the destination")
    made.add_argument(
        "--relative_tolerance",
        type=not_negative,
        metavar="R",
        default=1e-4,
        help="how far numbers may be apart, for their size; 0.0001 unless given",
    )
    made.add_argument(
        "--absolute_tolerance",
        type=not_negative,
        metavar="A",
        default=1e-5,
        help="how far numbers may be apart besides; 0.00001 unless given",
    )
    made.add_argument("--timeout_seconds", type=positive, metavar="N", help="end what takes longer")
    return made


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the exit status, as the help has it."""
    made = parser()
    try:
        flags = parse_command_line(arguments)
    except InvalidArgument as error:
        made.error(error.message)
    options = made.parse_args(["--help"] if flags.help_wanted else flags.unknown)
    return told("convert", lambda: _convert(options, flags))


def _convert(options: Namespace, flags: CommandLine) -> int:
    # --help need not wait for numpy.
    from serving.conversion.converting import Conversion, convert  # noqa: PLC0415
    from serving.conversion.verification import Tolerance  # noqa: PLC0415

    converted = convert(
        Conversion(
            source=options.source,
            destination=options.destination,
            to=options.to,
            platform=options.platform,
            replaces=options.force,
            tolerance=Tolerance(options.relative_tolerance, options.absolute_tolerance),
            timeout_seconds=options.timeout_seconds,
            server_flags=flags.arguments(),
        )
    )
    if converted.error:
        text = str(converted.error).replace("\n", " ")
        sys.stderr.write(f"model_server convert: not converted: {text}\n")
        return _NOT_CONVERTED
    if converted.kept:
        sys.stderr.write(
            "model_server convert: what was there is replaced, but can not be removed: "
            f"{converted.kept}\n"
        )
    verified = converted.verified
    sys.stdout.write(
        f"{converted.path}: written as {converted.route.to}, for the platform "
        f"{converted.route.platform}\n"
        f"{verified.requests} random requests through {', '.join(verified.signatures)} were "
        f"answered alike; the largest difference of a number is {verified.largest_difference:.3g}\n"
    )
    for what, names in (
        ("not compared, as the source answers no random request", verified.not_compared),
        ("left out", verified.left_out),
    ):
        if names:
            sys.stdout.write(f"{what}: {', '.join(names)}\n")
    return 0
