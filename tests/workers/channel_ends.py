"""The other end of a channel, in this process: what a test says and hears as that process would."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from waiting import WAIT_SECONDS, await_

from serving.metrics.families import Description, Family, Kind, Snapshot
from serving.workers.channel import Answer, Channel


def counted(value: int) -> Snapshot:
    """What a process holds that has counted so much."""
    return {"/c": Family(Description("/c", "", Kind.COUNTER), {(): value})}


def level(value: int) -> Snapshot:
    """What a process holds of which there is so much at the moment."""
    return {"/g": Family(Description("/g", "", Kind.GAUGE), {(): value})}


def runs(version: int, value: int) -> Snapshot:
    """What a process holds that has counted so much of a version of m."""
    description = Description("/r", "", Kind.COUNTER, ("model_name", "version"))
    return {"/r": Family(description, {("m", str(version)): value})}


class ChannelEnd:
    """Remembers what it hears; answers questions by their type, and others when told."""

    def __init__(self) -> None:
        theirs, self._connection = Pipe()
        self.other: Connection = theirs
        self.channel = Channel(self._connection, "the other")
        self.heard: list[object] = []
        self.answers: Mapping[type, object] = {}
        self.unanswered: list[tuple[object, Answer]] = []
        self.ended = threading.Event()
        self.channel.start(self._hear, self.ended.set)

    def ask(self, message: object) -> object:
        return self.channel.ask(message).result(WAIT_SECONDS)

    def await_heard(self, message: object) -> None:
        await_(lambda: message in self.heard)

    def end(self) -> None:
        """As if the process had been killed."""
        with socket.socket(fileno=os.dup(self._connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
        assert self.ended.wait(WAIT_SECONDS)

    def _hear(self, message: object, answer: Answer) -> None:
        self.heard.append(message)
        if type(message) in self.answers:
            answer(self.answers[type(message)])
        else:
            self.unanswered.append((message, answer))
