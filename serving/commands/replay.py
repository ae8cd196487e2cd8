"""``model_server replay``: sends logged calls to a server and compares its answers."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grpc

from serving.apis.tensorflow_serving.prediction_log import (
    LoggedExchange,
    logged_exchange,
    model_names,
    redirect,
)
from serving.apis.tensorflow_serving.tensorflow_messages import PREDICTION_SERVICE_FILE
from serving.commands.answer_comparison import Tolerance, differences
from serving.commands.arguments import not_negative, parser_of, positive, told
from serving.commands.log_files import LogFiles
from serving.core.errors import Unavailable

_DIFFERENT = 1
_NO_LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def parser() -> ArgumentParser:
    """What the command takes."""
    made = parser_of("replay", "Send the calls of a request log, and compare the answers.")
    made.add_argument(
        "--server", required=True, metavar="HOST:PORT", help="the gRPC port of a server"
    )
    made.add_argument("--model_name", default="", help="ask this model instead of the logged one")
    made.add_argument("--version", type=positive, help="ask this version instead of the logged")
    usual = Tolerance()
    made.add_argument(
        "--relative_tolerance",
        type=not_negative,
        default=usual.relative,
        help=f"how far numbers may be apart, for their size; {usual.relative:g} unless given",
    )
    made.add_argument(
        "--absolute_tolerance",
        type=not_negative,
        default=usual.absolute,
        help=f"how far numbers may be apart besides; {usual.absolute:g} unless given",
    )
    made.add_argument(
        "--timeout_seconds", type=positive, default=60, help="how long a call may take"
    )
    made.add_argument(
        "--max_reported", type=positive, default=20, help="describe so many calls at most"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the exit status: 0 where every call was answered as before, 1
    where one was not, 2 where calls could not be sent.
    """
    options = parser().parse_args(arguments)
    return told("replay", lambda: _replay(options))


class _Outcome(NamedTuple):
    """How a call was answered, in a word that is counted, and in which ways that is wrong."""

    word: str
    problems: Sequence[str] = ()


_SAME, _DIFFERS, _FAILED, _NEW = "the same", "different", "failed", "with nothing to compare"


def _replay(options: Namespace) -> int:
    counts: Counter[str] = Counter()
    reported = 0
    with grpc.insecure_channel(options.server, options=_NO_LIMITS) as channel:
        for number, exchange in _exchanges(options.request_log):
            outcome = _answered(channel, exchange, options)
            counts[outcome.word] += 1
            if outcome.problems and reported < options.max_reported:
                reported += 1
                names = ", ".join(sorted(model_names(exchange.request)))
                text = "; ".join(outcome.problems)
                sys.stdout.write(f"record {number} ({exchange.method} of {names}): {text}\n")
    words = ", ".join(f"{counts[word]} {word}" for word in (_SAME, _DIFFERS, _FAILED, _NEW))
    sys.stdout.write(f"{counts.total()} calls: {words}\n")
    return _DIFFERENT if counts[_DIFFERS] or counts[_FAILED] else 0


def _exchanges(path: str) -> Iterator[tuple[int, LoggedExchange]]:
    """The requests of PredictionService in a log, with the numbers of their records."""
    for number, log in enumerate(LogFiles(path).read(), start=1):
        if exchange := logged_exchange(log):
            yield number, exchange


def _answered(channel: grpc.Channel, exchange: LoggedExchange, options: Namespace) -> _Outcome:
    """Raises Unavailable where there is no server."""
    redirect(exchange.request, options.model_name, options.version)
    service = PREDICTION_SERVICE_FILE.services_by_name["PredictionService"].full_name
    call = channel.unary_unary(
        f"/{service}/{exchange.method}",
        request_serializer=type(exchange.request).SerializeToString,
        response_deserializer=type(exchange.response).FromString,
    )
    try:
        answer = call(exchange.request, timeout=options.timeout_seconds)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            raise Unavailable(f"{options.server} does not answer: {error.details()}") from None
        return _Outcome(_FAILED, [f"{error.code().name}: {error.details()}"])
    if not exchange.response.ByteSize():
        return _Outcome(_NEW)
    tolerance = Tolerance(options.relative_tolerance, options.absolute_tolerance)
    problems = differences(exchange.response, answer, tolerance)
    return _Outcome(_DIFFERS, problems) if problems else _Outcome(_SAME)
