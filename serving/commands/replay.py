"""``model_server replay``: sends logged calls to a server and compares its answers."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

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
_TLS_FILES = {
    "--ssl_ca_file": "PEM file of the authorities of servers; makes the calls use TLS",
    "--ssl_key_file": "PEM file of a private key, for servers that ask clients for a certificate",
    "--ssl_certificate_file": "PEM file of the key's certificate",
}
_NO_LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def parser() -> ArgumentParser:
    """What the command takes."""
    made = parser_of("replay", "Send the calls of a request log, and compare the answers.")
    made.add_argument(
        "--server", required=True, metavar="HOST:PORT", help="the gRPC port of a server"
    )
    for option, what in _TLS_FILES.items():
        made.add_argument(option, default="", metavar="FILE", help=what)
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
        "--concurrency", type=positive, default=1, help="have so many calls under way at once"
    )
    made.add_argument(
        "--max_reported", type=positive, default=20, help="describe so many calls at most"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the exit status: 0 where every call was answered as before, 1
    where one was not, 2 where calls could not be sent.
    """
    made = parser()
    options = made.parse_args(arguments)
    if bool(options.ssl_key_file) != bool(options.ssl_certificate_file):
        made.error("--ssl_key_file and --ssl_certificate_file belong together")
    if options.ssl_key_file and not options.ssl_ca_file:
        made.error("--ssl_key_file needs --ssl_ca_file")
    return told("replay", lambda: _replay(options))


_Call = Any
"""A future of gRPC, which is a call: their common type has no public name."""


class _Outcome(NamedTuple):
    """How a call was answered, in a word that is counted, and in which ways that is wrong."""

    word: str
    problems: Sequence[str] = ()


_SAME, _DIFFERS, _FAILED, _NEW = "the same", "different", "failed", "with nothing to compare"


def _replay(options: Namespace) -> int:
    counts: Counter[str] = Counter()
    reported = 0
    with _channel(options) as channel:
        is_there = _connected(channel, options.timeout_seconds)
        for number, exchange, call in _sent(channel, options):
            outcome = _outcome(exchange, call, options, server_is_there=is_there)
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


def _channel(options: Namespace) -> grpc.Channel:
    """Raises OSError for a file that can not be read."""
    if not options.ssl_ca_file:
        return grpc.insecure_channel(options.server, options=_NO_LIMITS)
    files = (options.ssl_ca_file, options.ssl_key_file, options.ssl_certificate_file)
    credentials = grpc.ssl_channel_credentials(
        *(Path(file).read_bytes() if file else None for file in files)
    )
    return grpc.secure_channel(options.server, credentials, options=_NO_LIMITS)


def _connected(channel: grpc.Channel, timeout_seconds: int) -> bool:
    """Whether there is a server. What a call fails with does not tell: a server that has more to do
    than it takes answers UNAVAILABLE, too.
    """
    states: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()
    decided = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
    channel.subscribe(states.put, try_to_connect=True)
    try:
        while (state := states.get(timeout=timeout_seconds)) not in decided:
            pass
    except Empty:
        return False
    finally:
        channel.unsubscribe(states.put)
    return state is grpc.ChannelConnectivity.READY


def _sent(channel: grpc.Channel, options: Namespace) -> Iterator[tuple[int, LoggedExchange, _Call]]:
    """The exchanges in their order, each with its call, up to ``concurrency`` of which are under
    way at once.
    """
    under_way: deque[tuple[int, LoggedExchange, _Call]] = deque()
    for number, exchange in _exchanges(options.request_log):
        redirect(exchange.request, options.model_name, options.version)
        under_way.append((number, exchange, _begun(channel, exchange, options.timeout_seconds)))
        if len(under_way) == options.concurrency:
            yield under_way.popleft()
    yield from under_way


def _begun(channel: grpc.Channel, exchange: LoggedExchange, timeout_seconds: int) -> _Call:
    service = PREDICTION_SERVICE_FILE.services_by_name["PredictionService"].full_name
    method = channel.unary_unary(
        f"/{service}/{exchange.method}",
        request_serializer=type(exchange.request).SerializeToString,
        response_deserializer=type(exchange.response).FromString,
    )
    return method.future(exchange.request, timeout=timeout_seconds)


def _outcome(
    exchange: LoggedExchange, call: _Call, options: Namespace, *, server_is_there: bool
) -> _Outcome:
    """Raises Unavailable where there is no server."""
    try:
        answer = call.result()
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE and not server_is_there:
            raise Unavailable(f"{options.server} does not answer: {error.details()}") from None
        return _Outcome(_FAILED, [f"{error.code().name}: {error.details()}"])
    if not exchange.response.ByteSize():
        return _Outcome(_NEW)
    tolerance = Tolerance(options.relative_tolerance, options.absolute_tolerance)
    problems = differences(exchange.response, answer, tolerance)
    return _Outcome(_DIFFERS, problems) if problems else _Outcome(_SAME)
