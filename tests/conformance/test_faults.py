"""What befalls one version ends in a state that says so, and no other model notices.

Lookup tables stand in for most models: a real file of theirs can be broken in any way.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from exported_models import version_number
from odd_models import gated_load
from program import program
from stock_clients import Client, await_, client_of, publish, reload_request, spec, status_request

from serving.testing import running_server

AVAILABLE, END = ("AVAILABLE", "OK"), ("END", "OK")
FLAGS = ("--max_num_load_retries=0", "--version_settle_seconds=0", "--num_load_threads=2")


def table(version: Path) -> None:
    """Has each key for its own value, and its number for the key ``version``."""
    version.parent.mkdir(exist_ok=True)
    unfinished = version.with_name("unfinished")
    unfinished.mkdir()
    (unfinished / "table.csv").write_text(f"version,{version.name}\n")
    unfinished.rename(version)


def tables(base: Path) -> dict[str, str]:
    """The configuration of a model of lookup tables, called like its directory."""
    return {"name": base.name, "base_path": str(base), "model_platform": "hashmap"}


def serving_version(client: Client, name: str) -> int:
    """The version that answers, out of its own table."""
    (value,) = client.predict(spec(name), keys=[b"version"])["values"]
    return int(value)


def error_of(client: Client, name: str, version: int) -> str:
    status = client.call("GetModelStatus", status_request(spec(name, version=version)))
    return status.model_version_status[0].status.error_message


class Steady:
    """A model that somebody calls without a pause, while others break."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._call)
        self._thread.start()

    def never_noticed(self) -> None:
        """Ends the calls; fails if one of them did."""
        self._stop.set()
        self._thread.join()
        assert self._failures == []
        assert self._client.states("steady") == {1: AVAILABLE}

    def _call(self) -> None:
        while not self._stop.is_set():
            try:
                assert serving_version(self._client, "steady") == 1
            except BaseException as error:  # noqa: BLE001  # shown by the test's own thread
                self._failures.append(error)
                return


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    """A client of a server, and the place of the base paths of its models."""
    place = tmp_path_factory.mktemp("faults")
    table(place / "steady" / "1")
    models = [{"name": "steady", "base_path": str(place / "steady"), "platform": "hashmap"}]
    config = place / "models.json"
    config.write_text(json.dumps({"model_config_list": models}))
    with (
        running_server(f"--model_config_file={config}", *FLAGS) as running,
        client_of(running.grpc_port) as client,
    ):
        yield client, place


@contextmanager
def steady(client: Client) -> Iterator[None]:
    calls = Steady(client)
    yield
    calls.never_noticed()


def add_model(client: Client, base: Path, **policy: object) -> None:
    models = [tables(base.parent / "steady"), {**tables(base), **policy}]
    client.call("HandleReloadConfigRequest", reload_request(*models))


def circle_of_links(version: Path) -> None:
    version.symlink_to(version.name)


def table_in_a_circle(version: Path) -> None:
    version.mkdir()
    (version / "table.csv").symlink_to("table.csv")


def dangling_link(version: Path) -> None:
    version.symlink_to("nowhere")


def unreadable_table(version: Path) -> None:
    """Reading the memory of a process from its beginning fails, whoever does it."""
    version.mkdir()
    (version / "table.csv").symlink_to("/proc/self/mem")


def file_in_the_way(version: Path) -> None:
    """A link through a file, as if it were a directory."""
    version.symlink_to(version.parent / "1" / "table.csv" / "2")


BREAKAGES: dict[Callable[[Path], None], str] = {
    circle_of_links: "the table can not be read: Too many levels of symbolic links",
    table_in_a_circle: "the table can not be read: Too many levels of symbolic links",
    dangling_link: "the table can not be read: No such file or directory",
    unreadable_table: "can not be read: Input/output error",
    file_in_the_way: "the table can not be read: Not a directory",
}
"""What is wrong with version 2 → a part of what its state says."""


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_a_version_that_can_not_be_read_says_why_and_nobody_else_notices(
    server: tuple[Client, Path], breakage: Callable[[Path], None]
) -> None:
    client, place = server
    base = place / breakage.__name__
    with steady(client):
        table(base / "1")
        add_model(client, base)
        breakage(base / "2")
        client.await_states({2: ("END", "INVALID_ARGUMENT"), 1: AVAILABLE}, base.name)
        assert BREAKAGES[breakage] in error_of(client, base.name, 2)
        assert serving_version(client, base.name) == 1


def test_a_load_that_hangs_holds_up_no_other_model(server: tuple[Client, Path]) -> None:
    """Whoever opens a pipe to read waits until somebody opens it to write."""
    client, place = server
    hanging, other = place / "hanging", place / "other"
    with steady(client):
        for base in (hanging, other):
            table(base / "1")
        models = [tables(base) for base in (place / "steady", hanging, other)]
        client.call("HandleReloadConfigRequest", reload_request(*models))

        (hanging / "unfinished").mkdir()
        os.mkfifo(hanging / "unfinished" / "table.csv")
        (hanging / "unfinished").rename(hanging / "2")
        client.await_states({2: ("LOADING", "OK"), 1: AVAILABLE}, "hanging")
        table(other / "2")
        client.await_states({2: AVAILABLE, 1: END}, "other")
        assert serving_version(client, "hanging") == 1

        (hanging / "2" / "table.csv").write_text("version,2\n")
        client.await_states({2: AVAILABLE, 1: END}, "hanging")


@pytest.mark.parametrize(
    ("policy", "served"),
    [({"all": {}}, range(1, 201)), ({"latest": {}}, [200])],
    ids=["all", "latest"],
)
def test_two_hundred_versions_that_appear_at_once_are_served_as_the_policy_says(
    server: tuple[Client, Path], policy: dict[str, object], served: list[int]
) -> None:
    client, place = server
    base = place / f"many_{next(iter(policy))}"
    with steady(client):
        table(base / "0")
        add_model(client, base, model_version_policy=policy)
        for version in range(1, 201):
            table(place / "written" / str(version))
        aside = base.rename(place / "aside")
        for version in (place / "written").iterdir():
            version.rename(aside / version.name)
        aside.rename(base)
        (place / "written").rmdir()
        expected = dict.fromkeys(served, AVAILABLE)
        gone = {0: AVAILABLE if "all" in policy else END}
        client.await_states(expected | gone, base.name)
        assert serving_version(client, base.name) == 200


def test_a_version_that_comes_and_goes_faster_than_anybody_looks_ends_up_served(
    server: tuple[Client, Path],
) -> None:
    client, place = server
    base = place / "flicker"
    with steady(client):
        table(base / "1")
        add_model(client, base)
        table(base / "2")
        flickered = threading.Event()

        def flicker() -> None:
            for _ in range(300):
                (base / "2").rename(base / "away")
                (base / "away").rename(base / "2")
                flickered.wait(0.01)

        flickering = threading.Thread(target=flicker)
        flickering.start()
        while flickering.is_alive():
            assert serving_version(client, "flicker") in (1, 2)
        client.await_states({2: AVAILABLE, 1: END}, "flicker")


def test_a_version_that_was_bad_went_and_came_back_good_is_served(
    server: tuple[Client, Path],
) -> None:
    client, place = server
    base = place / "mended"
    with steady(client):
        table(base / "1")
        add_model(client, base)
        (base / "2").mkdir()
        client.await_states({2: ("END", "NOT_FOUND"), 1: AVAILABLE}, "mended")
        (base / "2").rmdir()
        table(base / "2")
        client.await_states({2: AVAILABLE, 1: END}, "mended")


def test_a_program_that_is_killed_while_it_loads_serves_once_it_is_started_again(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    base = publish(gated_load, tmp_path / "m", 1, gate=gate).parent
    flags = ("--model_name=m", f"--model_base_path={base}", *FLAGS)
    with program(*flags) as killed:
        killed.await_log("Loading servable version")
        killed.send(signal.SIGKILL)
        assert killed.end() == (-signal.SIGKILL, "")
    gate.touch()
    with program(*flags) as again, client_of(again.grpc_port) as client:
        assert client.states() == {1: AVAILABLE}
        assert client.predict(spec(), x=[0.0])["version"] == [1]


def test_a_signal_during_a_storm_of_versions_unloads_all_that_were_loaded(tmp_path: Path) -> None:
    """Loads, unloads, polls and calls are all under way when it comes."""
    base, stop = tmp_path / "m", threading.Event()
    config = tmp_path / "models.json"
    model = tables(base) | {"model_version_policy": {"all": {}}}
    config.write_text(json.dumps({"model_config_list": [model]}))
    table(base / "0")

    def storm() -> None:
        version = 0
        while not stop.wait(0.002):
            version += 1
            table(base / str(version))
            shutil.rmtree(base / str(version - 50), ignore_errors=True)

    storming = threading.Thread(target=storm)
    with program(f"--model_config_file={config}", *FLAGS) as running:
        with client_of(running.grpc_port) as client:
            storming.start()
            await_(lambda: serving_version(client, "m") > 0)
            running.await_log("Done unloading servable version")
            running.send(signal.SIGTERM)
        ended = running.end()
        stop.set()
        storming.join()
        assert ended == (0, "")
        assert "Traceback" not in running.log
        loaded = re.findall(r"Successfully loaded servable version (.*)", running.log)
        unloaded = re.findall(r"Done unloading servable version (.*)", running.log)
    assert len(loaded) > 1
    assert set(loaded) <= set(unloaded)


def test_a_base_path_that_does_not_answer_does_not_keep_the_program_from_ending(
    tmp_path: Path,
) -> None:
    """A port that takes connections and says nothing stands in for a store that hangs."""
    table(tmp_path / "m" / "1")
    config = tmp_path / "models.json"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}/n.tar.gz"
        models = [tables(tmp_path / "n") | {"base_path": uri}, tables(tmp_path / "m")]
        config.write_text(json.dumps({"model_config_list": models}))
        with program(f"--model_config_file={config}", *FLAGS) as running:
            running.await_log("Servable n can not be looked for: its base path does not answer")
            running.await_log(r"Successfully loaded servable version \{name: m version: 1\}")
            running.send(signal.SIGTERM)
            assert running.end() == (0, "")
            assert "Traceback" not in running.log


def test_a_load_that_hangs_does_not_keep_the_program_from_ending(tmp_path: Path) -> None:
    gate = tmp_path / "never"
    base = publish(version_number, tmp_path / "m", 1).parent
    flags = ("--model_name=m", f"--model_base_path={base}", "--shutdown_grace_seconds=0.2")
    with program(*flags, *FLAGS) as running, client_of(running.grpc_port) as client:
        publish(gated_load, base, 2, gate=gate)
        client.await_states({2: ("LOADING", "OK"), 1: AVAILABLE})
        running.send(signal.SIGTERM)
        assert running.end() == (0, "")
        assert "Traceback" not in running.log
