"""``model_server inspect``: tells what a model is, whether it loads, and how to ask it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from serving.commands.arguments import FAILURE, positive, told
from serving.config.command_line import CommandLine, parse_command_line
from serving.core.errors import InvalidArgument

_DOES_NOT_LOAD = 1
_DESCRIPTION = """\
Tell a model's platform, signatures, size and devices, whether it loads, and how to ask it.

PATH is a version's directory, a directory of versions, of which the newest is looked at, or one
model file. The model is loaded in a process of its own, and asked what the sample request asks.
"""
_EPILOG = """\
The server's own flags may be given as well: those that say how models are loaded
(--allow_pickle_models, --custom_op_paths, --platform_config_file, --saved_model_tags ...), and
--model_name, --port and --rest_api_port for the sample request.

Ends with 0 where the model loads, 1 where it does not, 2 where PATH or the arguments are wrong.
"""
_REST_PORT = 8501


def parser() -> ArgumentParser:
    """What the command takes beside the server's flags."""
    made = ArgumentParser(
        prog="model_server inspect",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("path", metavar="PATH", help="where the model is")
    made.add_argument(
        "--platform", default="", help="the model's platform, where its files do not tell"
    )
    made.add_argument("--json", action="store_true", help="print one JSON document")
    made.add_argument("--no-load", action="store_true", help="tell only what the files do")
    made.add_argument(
        "--signature_name", default="", help="make the sample request for this signature"
    )
    made.add_argument(
        "--timeout_seconds",
        type=positive,
        metavar="N",
        help="end a load that takes longer; without it, one may take any time",
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the exit status: 0 where the model loads, or was not to, 1 where
    it does not load, 2 where there is none to look at.
    """
    made = parser()
    try:
        flags = parse_command_line(arguments)
    except InvalidArgument as error:
        made.error(error.message)
    options = made.parse_args(["--help"] if flags.help_wanted else flags.unknown)
    return told("inspect", lambda: _inspect(options, flags))


def _inspect(options: Namespace, flags: CommandLine) -> int:
    # Neither --help nor a mistyped argument needs to wait for numpy.
    from serving.inspection.examination import Examination, examine  # noqa: PLC0415
    from serving.inspection.text import text_of  # noqa: PLC0415

    how = Examination(
        platform=options.platform,
        name=flags["model_name"] if "model_name" in flags.given else "",
        signature_name=options.signature_name,
        loads=not options.no_load,
        timeout_seconds=options.timeout_seconds,
        server_flags=flags.arguments(),
        grpc_port=flags["port"],
        rest_port=flags["rest_api_port"] or _REST_PORT,
    )
    document = examine(options.path, how)
    if options.json:
        json.dump(document, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(text_of(document))
    if document["platform"] is None:
        return FAILURE
    names = [signature["name"] for signature in document["signatures"]]
    if options.signature_name and names and options.signature_name not in names:
        raise InvalidArgument(
            f"there is no signature {options.signature_name!r}; there are: {', '.join(names)}"
        )
    return _DOES_NOT_LOAD if document["load"]["loads"] is False else 0
