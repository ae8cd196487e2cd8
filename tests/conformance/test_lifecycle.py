"""Versions come and go on disk while clients call: real models, real directories, real polls."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from exported_models import half_plus_two, version_number
from odd_models import awaiting, gated, gated_load
from stock_clients import (
    WAIT_SECONDS,
    Client,
    await_,
    client_of,
    predict_request,
    publish,
    reload_request,
    spec,
    status_request,
    write_config,
)

from serving.testing import running_server

AT_ONCE = "--version_settle_seconds=0"  # versions are whole when they are moved in
AVAILABLE, END = ("AVAILABLE", "OK"), ("END", "OK")
NONE_AVAILABLE = ("NOT_FOUND", "Servable not found for request: Latest(m)")
NONE_SEEN = ("NOT_FOUND", "Could not find any versions of model m")


@contextmanager
def served(base: Path, *flags: str) -> Iterator[Client]:
    """A client of a server with the one model ``m``, which looks for versions every second."""
    own = ("--model_name=m", f"--model_base_path={base}", "--max_num_load_retries=0", AT_ONCE)
    with running_server(*own, *flags) as server, client_of(server.grpc_port) as client:
        yield client


def answering_version(client: Client, version: int | None = None) -> int:
    """The version that answers, out of its own graph."""
    (answer,) = client.predict(spec(version=version), x=[0.0])["version"]
    return int(answer)


class Hammer:
    """Clients that call without a pause, in threads, and remember every answer."""

    def __init__(self, asks: list[Callable[[], Iterator[int]]]) -> None:
        self.answers: list[list[int]] = [[] for _ in asks]
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(len(asks))
        self._threads = [
            self._pool.submit(self._ask, ask, answers)
            for ask, answers in zip(asks, self.answers, strict=True)
        ]

    def await_more(self) -> None:
        """Return once every thread has answers that it did not have before."""
        before = [len(answers) for answers in self.answers]
        await_(
            lambda: (
                any(thread.done() for thread in self._threads)
                or all(
                    len(answers) > count + 5
                    for answers, count in zip(self.answers, before, strict=True)
                )
            )
        )

    def finish(self) -> None:
        """Stop calling; raises the first failure there was."""
        self._stop.set()
        self._pool.shutdown()
        for thread in self._threads:
            thread.result()

    def _ask(self, ask: Callable[[], Iterator[int]], answers: list[int]) -> None:
        for answer in ask():
            answers.append(answer)
            if self._stop.is_set():
                return


def ask_over_grpc(port: int) -> Iterator[int]:
    with client_of(port) as client:
        while True:
            yield answering_version(client)


def ask_over_rest(port: int) -> Iterator[int]:
    """Over one connection, kept alive."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    with closing(connection):
        while True:
            connection.request("POST", "/v1/models/m:predict", '{"instances": [0.0]}')
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            yield json.loads(body)["predictions"][0]


def test_no_call_fails_while_versions_replace_each_other(tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(version_number, base, 1)
    flags = ("--model_name=m", f"--model_base_path={base}", AT_ONCE)
    with running_server(*flags) as server, client_of(server.grpc_port) as client:
        hammer = Hammer(
            [lambda: ask_over_grpc(server.grpc_port)] * 3
            + [lambda: ask_over_rest(server.rest_port)] * 2
        )
        hammer.await_more()
        for version in range(2, 8):
            publish(version_number, base, version)
            older = dict.fromkeys(range(version - 1, 0, -1), END)
            client.await_states({version: AVAILABLE, **older})
            hammer.await_more()
        hammer.finish()

    for answers in hammer.answers:
        assert answers == sorted(answers), "an older version answered after a newer one"
        assert set(answers) == set(range(1, 8))


def test_the_newest_version_replaces_the_one_before(tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(version_number, base, 3)
    with served(base) as client:
        assert client.states() == {3: AVAILABLE}
        publish(version_number, base, 12)
        client.await_states({12: AVAILABLE, 3: END})
        assert answering_version(client) == 12
        assert client.failure("Predict", predict_request(spec(version=3), x=[0.0])) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(m, 3)",
        )
        # Neither older than the newest nor no number at all.
        publish(version_number, base, 11)
        (base / "unfinished").mkdir()
        shutil.rmtree(base / "12")
        client.await_states({12: END, 11: AVAILABLE, 3: END})
        assert answering_version(client) == 11


def test_a_version_that_is_removed_is_unloaded_and_may_come_back(tmp_path: Path) -> None:
    base = tmp_path / "m"
    version = publish(version_number, base, 1)
    with served(base) as client:
        version.rename(tmp_path / "1")
        client.await_states({1: END})
        assert client.failure("Predict", predict_request(spec(), x=[0.0])) == NONE_AVAILABLE

        (tmp_path / "1").rename(version)
        client.await_states({1: AVAILABLE})
        assert answering_version(client) == 1


def test_a_base_path_that_vanishes_keeps_serving(tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(version_number, base, 1)
    with served(base) as client:
        base.rename(tmp_path / "outage")
        # Another model that appears proves that polls went on meanwhile.
        publish(version_number, tmp_path / "n", 1)
        both = [{"name": name, "base_path": str(tmp_path / name)} for name in "mn"]
        client.call("HandleReloadConfigRequest", reload_request(*both))
        publish(version_number, tmp_path / "n", 2)
        client.await_states({2: AVAILABLE, 1: END}, "n")
        assert answering_version(client) == 1


def empty_file(version: Path) -> None:
    (version / "saved_model.pb").write_bytes(b"")


def garbage(version: Path) -> None:
    (version / "saved_model.pb").write_bytes(b"this is no protocol buffer")


def directory_instead(version: Path) -> None:
    (version / "saved_model.pb").unlink()
    (version / "saved_model.pb").mkdir()


def dangling_link(version: Path) -> None:
    (version / "saved_model.pb").unlink()
    (version / "saved_model.pb").symlink_to("nowhere")


def no_variables(version: Path) -> None:
    shutil.rmtree(version / "variables")


def cut_variables(version: Path) -> None:
    (data,) = (version / "variables").glob("variables.data*")
    data.write_bytes(b"")


def no_directory(version: Path) -> None:
    shutil.rmtree(version)
    version.write_text("a file is found where a directory should be")


BREAKAGES = {
    empty_file: ("NOT_FOUND", "Could not find meta graph def matching supplied tags"),
    garbage: ("DATA_LOSS", "Can't parse {path}/saved_model.pb as binary proto"),
    directory_instead: ("FAILED_PRECONDITION", "{path}/saved_model.pb; Is a directory"),
    dangling_link: ("NOT_FOUND", "{path}/saved_model.pb; No such file or directory"),
    no_variables: ("INVALID_ARGUMENT", "{path}/variables/variables"),
    cut_variables: ("OUT_OF_RANGE", ""),
    no_directory: ("NOT_FOUND", "Specified file path: {path}"),
}
"""What befalls version 2 → the code and a part of the text that its state shows."""


@pytest.fixture(scope="module")
def breaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, int, Path]]:
    """A client and the REST port of a server with a model for each breakage, and their place.

    The second version of each is broken.
    """
    place = tmp_path_factory.mktemp("breaking")
    original = publish(half_plus_two, place / "original", 1)
    bases = {breakage.__name__: place / breakage.__name__ for breakage in BREAKAGES}
    for base in bases.values():
        shutil.copytree(original, base / "1")
    config = write_config(place / "models.config", bases)
    flags = (f"--model_config_file={config}", "--max_num_load_retries=0", AT_ONCE)
    with running_server(*flags) as server, client_of(server.grpc_port) as client:
        for breakage in BREAKAGES:
            shutil.copytree(original, place / "unfinished")
            breakage(place / "unfinished")
            (place / "unfinished").rename(bases[breakage.__name__] / "2")
        yield client, server.rest_port, place


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_a_broken_version_ends_with_its_error_while_the_old_one_serves(
    breaking: tuple[Client, int, Path], breakage: Callable[[Path], None]
) -> None:
    client, rest_port, place = breaking
    name = breakage.__name__
    code, text = BREAKAGES[breakage]
    client.await_states({2: ("END", code), 1: AVAILABLE}, name)

    newest = client.call("GetModelStatus", status_request(spec(name, version=2)))
    (version,) = newest.model_version_status
    assert text.format(path=place / name / "2") in version.status.error_message
    assert "Traceback" not in version.status.error_message
    assert client.predict(spec(name), x=[[2.0]])["y"] == 3

    url = f"http://127.0.0.1:{rest_port}/v1/models/{name}"
    with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
        over_rest = json.load(answer)["model_version_status"][0]
    assert over_rest == {
        "version": "2",
        "state": "END",
        "status": {"error_code": code, "error_message": version.status.error_message},
    }


def test_a_good_version_after_a_broken_one_takes_over(tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(version_number, base, 1)
    with served(base) as client:
        (base / "2").mkdir()
        client.await_states({2: ("END", "NOT_FOUND"), 1: AVAILABLE})
        publish(version_number, base, 3)
        client.await_states({3: AVAILABLE, 2: ("END", "NOT_FOUND"), 1: END})
        assert answering_version(client) == 3


def test_the_old_version_answers_while_the_new_one_loads(tmp_path: Path) -> None:
    base, gate = tmp_path / "m", tmp_path / "gate"
    publish(version_number, base, 1)
    with served(base) as client:
        publish(gated_load, base, 2, gate=gate)
        client.await_states({2: ("LOADING", "OK"), 1: AVAILABLE})
        assert answering_version(client) == 1
        assert client.failure("Predict", predict_request(spec(version=2), x=[0.0])) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(m, 2)",
        )

        gate.touch()
        client.await_states({2: AVAILABLE, 1: END})
        assert answering_version(client) == 2


@contextmanager
def second_model_loading(place: Path) -> Iterator[tuple[Client, Path, Any]]:
    """A server of ``m`` that loads ``n`` for a reload until there is a gate; all three."""
    gate = place / "gate"
    publish(version_number, place / "m", 1)
    publish(gated_load, place / "n", 1, gate=gate)
    models = [{"name": name, "base_path": str(place / name)} for name in "mn"]
    with served(place / "m") as client:
        reload = client.future("HandleReloadConfigRequest", reload_request(*models))
        client.await_states({1: ("LOADING", "OK")}, "n")
        yield client, gate, reload


def test_while_its_first_version_loads_a_model_is_not_found(tmp_path: Path) -> None:
    with second_model_loading(tmp_path) as (client, gate, reload):
        for asked, shown in ((spec("n"), "Latest(n)"), (spec("n", version=1), "Specific(n, 1)")):
            assert client.failure("Predict", predict_request(asked, x=[0.0])) == (
                "NOT_FOUND",
                f"Servable not found for request: {shown}",
            )
        gate.touch()
        assert reload.result().status.error_code == 0
        assert client.predict(spec("n"), x=[0.0])["version"] == [1]


def test_a_load_whose_version_is_removed_meanwhile_is_given_up(tmp_path: Path) -> None:
    base, gate = tmp_path / "m", tmp_path / "gate"
    publish(version_number, base, 1)
    with served(base) as client:
        second = publish(gated_load, base, 2, gate=gate)
        await_(awaiting(gate).exists)
        client.await_states({2: ("LOADING", "OK"), 1: AVAILABLE})
        second.rename(tmp_path / "withdrawn")
        publish(version_number, base, 3)
        # Its turn to load comes after version 2, which is not wanted any more by then.
        client.await_states({3: ("START", "OK"), 2: ("LOADING", "OK"), 1: AVAILABLE})
        gate.touch()
        client.await_states({3: AVAILABLE, 2: ("END", "CANCELLED"), 1: END})


def test_a_call_holds_its_version_while_the_next_one_takes_over(tmp_path: Path) -> None:
    base, gate = tmp_path / "m", tmp_path / "gate"
    publish(gated, base, 1)
    with served(base) as client:
        slow = client.future("Predict", predict_request(spec(), gate=str(gate)))
        publish(gated, base, 2)
        client.await_states({2: AVAILABLE, 1: ("UNLOADING", "OK")})
        assert client.predict(spec(), gate=str(base))["version"] == 2
        assert client.failure("Predict", predict_request(spec(version=1), gate=str(base))) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(m, 1)",
        )

        gate.touch()
        answer = slow.result()
        assert list(answer.outputs["version"].int64_val) == [1]
        assert answer.model_spec.version.value == 1
        client.await_states({2: AVAILABLE, 1: END})


def test_one_model_that_loads_for_long_does_not_hold_up_what_is_served(tmp_path: Path) -> None:
    with second_model_loading(tmp_path) as (client, gate, reload):
        assert answering_version(client) == 1
        assert not reload.done()
        gate.touch()
        assert reload.result().status.error_code == 0
        assert client.states("n") == {1: AVAILABLE}


@pytest.mark.parametrize("beside", ["9223372036854775808", "99999999999999999999", "1e3", "1.5"])
def test_a_name_that_is_no_64_bit_number_is_no_version(tmp_path: Path, beside: str) -> None:
    base = tmp_path / "m"
    publish(version_number, base, 1)
    shutil.copytree(base / "1", base / beside)
    with served(base) as client:
        assert client.states() == {1: AVAILABLE}
        assert answering_version(client) == 1


def test_the_highest_64_bit_number_is_a_version(tmp_path: Path) -> None:
    highest = 2**63 - 1
    publish(version_number, tmp_path / "m", highest)
    with served(tmp_path / "m") as client:
        assert client.states() == {highest: AVAILABLE}
        assert answering_version(client, highest) == highest


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_a_model_without_versions_is_served_once_there_is_one(tmp_path: Path, exists: bool) -> None:
    base = tmp_path / "m"
    if exists:
        base.mkdir()
    with served(base) as client:
        code, text = client.failure("GetModelStatus", status_request(spec()))
        why = "No versions of" if exists else "Could not find base path"
        assert (code, text.startswith(f"{NONE_SEEN[1]}: {why}")) == (NONE_SEEN[0], True)
        assert client.failure("Predict", predict_request(spec(), x=[0.0])) == NONE_AVAILABLE
        publish(version_number, base, 1)
        client.await_states({1: AVAILABLE})
        assert answering_version(client) == 1


def test_a_reload_does_not_wait_for_a_version_that_was_removed_half_copied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = publish(version_number, tmp_path / "n", 1)
    with served(tmp_path / "m", "--version_settle_seconds=600") as client:
        model = {"name": "n", "base_path": str(tmp_path / "n")}
        reload = client.future("HandleReloadConfigRequest", reload_request(model))
        await_(lambda: "is complete yet" in caplog.text)
        shutil.rmtree(copied)
        assert reload.code().name == "UNKNOWN"
        assert "No versions of servable n found" in reload.details()


def test_a_reload_does_not_wait_for_a_version_that_is_not_there(tmp_path: Path) -> None:
    publish(version_number, tmp_path / "n", 1)
    with served(tmp_path / "m") as client:
        model = {"name": "n", "base_path": str(tmp_path / "n")}
        policy = {"model_version_policy": {"specific": {"versions": [5]}}}
        assert client.failure("HandleReloadConfigRequest", reload_request(model | policy)) == (
            "UNKNOWN",
            "1 model(s) did not become available: {{{name: n} due to error: NOT_FOUND: None of "
            f"the versions asked for of servable n is under base path {tmp_path}/n}}, }}",
        )
        publish(version_number, tmp_path / "n", 5)
        client.await_states({5: AVAILABLE}, "n")


def test_one_missing_base_path_holds_up_no_other_model(tmp_path: Path) -> None:
    publish(version_number, tmp_path / "m", 1)
    bases = {"m": tmp_path / "m", "missing": tmp_path / "missing"}
    config = write_config(tmp_path / "models.config", bases)
    flags = (f"--model_config_file={config}", AT_ONCE)
    with running_server(*flags) as server, client_of(server.grpc_port) as client:
        assert answering_version(client) == 1
        publish(version_number, tmp_path / "m", 2)
        client.await_states({2: AVAILABLE, 1: END})


def test_a_reload_adds_and_drops_models(tmp_path: Path) -> None:
    for name in "mno":
        publish(version_number, tmp_path / name, 1)
    model = {name: {"name": name, "base_path": str(tmp_path / name)} for name in "mno"}
    with served(tmp_path / "m") as client:
        client.call("HandleReloadConfigRequest", reload_request(model["m"], model["n"]))
        assert client.predict(spec("n"), x=[0.0])["version"] == [1]

        client.call("HandleReloadConfigRequest", reload_request(model["n"], model["o"]))
        client.await_states({1: END}, "m")
        assert client.failure("Predict", predict_request(spec(), x=[0.0])) == NONE_AVAILABLE
        assert client.predict(spec("o"), x=[0.0])["version"] == [1]

        client.call("HandleReloadConfigRequest", reload_request())
        for name in "no":
            client.await_states({1: END}, name)
        client.call("HandleReloadConfigRequest", reload_request(model["m"]))
        assert answering_version(client) == 1


def test_a_reload_moves_between_versions_by_policy_and_label(tmp_path: Path) -> None:
    base = tmp_path / "m"
    for version in (1, 2, 3):
        publish(version_number, base, version)

    def reload(client: Client, policy: object, labels: dict[str, int] | None = None) -> None:
        model = {"name": "m", "base_path": str(base), "model_version_policy": policy}
        request = reload_request(model | {"version_labels": labels or {}})
        client.call("HandleReloadConfigRequest", request)

    with served(base) as client:
        assert client.states() == {3: AVAILABLE}
        reload(client, {"specific": {"versions": [1, 3]}})
        client.await_states({3: AVAILABLE, 1: AVAILABLE})
        reload(client, {"specific": {"versions": [1, 3]}}, {"stable": 1, "canary": 3})
        assert client.predict(spec(label="stable"), x=[0.0])["version"] == [1]
        assert client.predict(spec(label="canary"), x=[0.0])["version"] == [3]

        reload(client, {"latest": {"num_versions": 2}})
        client.await_states({3: AVAILABLE, 2: AVAILABLE, 1: END})
        assert client.failure("Predict", predict_request(spec(label="stable"), x=[0.0])) == (
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: stable",
        )

        reload(client, {"specific": {"versions": [1]}})
        client.await_states({3: END, 2: END, 1: AVAILABLE})
        assert answering_version(client) == 1


def test_a_label_may_point_ahead_where_the_flag_allows_it(tmp_path: Path) -> None:
    base = tmp_path / "m"
    publish(version_number, base, 1)
    model = {
        "name": "m",
        "base_path": str(base),
        "model_version_policy": {"all": {}},
        "version_labels": {"next": 2},
    }
    with served(base, "--allow_version_labels_for_unavailable_models") as client:
        client.call("HandleReloadConfigRequest", reload_request(model))
        assert client.failure("Predict", predict_request(spec(label="next"), x=[0.0])) == (
            "NOT_FOUND",
            "Servable not found for request: Specific(m, 2)",
        )
        publish(version_number, base, 2)
        client.await_states({2: AVAILABLE, 1: AVAILABLE})
        assert client.predict(spec(label="next"), x=[0.0])["version"] == [2]


def test_a_reload_that_waits_leaves_the_call_threads_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(version_number, tmp_path / "m", 1)
    copied = publish(version_number, tmp_path / "n", 1)
    (tmp_path / "m" / "1" / "_DONE").touch()
    marked = ("--version_marker_file=_DONE", "--grpc_max_threads=1")
    with served(tmp_path / "m", *marked) as client:
        models = ({"name": name, "base_path": str(tmp_path / name)} for name in ("m", "n"))
        reload = client.future("HandleReloadConfigRequest", reload_request(*models))
        await_(lambda: "is complete yet" in caplog.text)
        assert answering_version(client) == 1
        (copied / "_DONE").touch()
        assert reload.result().status.error_code == 0
