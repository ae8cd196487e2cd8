"""What a remote version goes through from its download to its end, and what waits for it.

The lookup-table platform stands in for all: its versions load in no time, from real files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
from remote_stores import WebServer, put, tar
from state_events import state_reached
from waiting import WAIT_SECONDS

from serving.core.clock import SystemClock
from serving.core.errors import ServingError, Unknown
from serving.core.model_config import ModelConfig
from serving.core.models import ModelSpec, lease_and_wait
from serving.core.servable import RunOptions
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState
from serving.loaders.platforms import Platforms
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions
from serving.sources.model_cache import ModelCacheOptions


@contextmanager
def core(cache: Path, *configs: ModelConfig, **options: Any) -> Iterator[ServerCore]:
    """A server that looks for versions when it starts and when it is told to."""
    settings = {"file_system_poll_wait_seconds": 0, "max_num_load_retries": 0} | options
    lifecycle = LifecycleOptions(model_cache=ModelCacheOptions(str(cache)), **settings)
    made = ServerCore(lifecycle, Platforms({}), clock=SystemClock())
    try:
        made.start(configs)
        yield made
    finally:
        made.stop()


def answer(served: ServerCore, name: str = "m") -> tuple[int, bytes]:
    """The version that answers, and what it has under ``key``."""
    results: list[Any] = []
    with lease_and_wait(served, ModelSpec(name)) as handle:
        feeds = {"keys": np.array([b"key"], object)}
        handle.servable.run(feeds, ["values"], RunOptions(), results.append)
        return handle.id.version, results[0][0][0]


def table(uri: str, name: str = "m") -> ModelConfig:
    return ModelConfig(name, uri, "hashmap")


def test_versions_in_a_bucket_appear_are_replaced_and_disappear(s3: Any, tmp_path: Path):
    put(s3.bucket, "m", {"1/table.csv": b"key,one\n"})
    with core(tmp_path, table(s3.uri("m"))) as served:
        assert answer(served) == (1, b"one")
        put(s3.bucket, "m", {"2/table.csv": b"key,two\n"})
        with state_reached(served, ServableId("m", 1), ManagerState.END):
            served._source.poll_once()
        assert answer(served) == (2, b"two")
        s3.bucket.Object("m/2/table.csv").delete()
        with state_reached(served, ServableId("m", 2), ManagerState.END):
            served._source.poll_once()
        assert answer(served) == (1, b"one")


def test_the_download_shows_as_loading_and_its_failure_as_the_end_with_the_reason(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    put(s3.bucket, "m", {"1/table.csv": b"key,one\n"})
    with core(tmp_path, table(s3.uri("m"))) as served:
        put(s3.bucket, "m", {"2/table.csv": b"key,value\n" * 100_000})
        s3.proxy.after_bytes, s3.proxy.cuts = 200_000, 1000
        with state_reached(served, ServableId("m", 2), ManagerState.END) as heard:
            served._source.poll_once()
        states = [event.state for event in heard if event.id.version == 2]
        assert states == [ManagerState.START, ManagerState.LOADING, ManagerState.END]
        assert "m/2/table.csv failed 4 times" in str(heard[-1].error)
        assert answer(served) == (1, b"one")


def test_a_slow_download_holds_up_neither_polls_nor_other_models(web: WebServer, tmp_path: Path):
    stalled, go_on = threading.Event(), threading.Event()
    web.files["/slow.tar.gz"] = tar({"table.csv": b"key,slow\n"})
    base = tmp_path / "local"
    (base / "1").mkdir(parents=True)
    (base / "1" / "table.csv").write_text("key,one\n")
    threads = {"num_load_threads": 2}
    with core(tmp_path / "cache", table(str(base), "l"), **threads) as served:
        # As a new configuration: a start would wait for the download.
        web.before_end = lambda: (stalled.set(), go_on.wait(WAIT_SECONDS))
        web.cuts = [10]
        slow = ServableId("m", 1)
        with state_reached(served, slow, ManagerState.AVAILABLE):
            thread = threading.Thread(
                target=served.reload,
                args=([table(str(base), "l"), table(f"{web.url}/slow.tar.gz")],),
            )
            thread.start()
            assert stalled.wait(WAIT_SECONDS)
            (base / "unfinished").mkdir()
            (base / "unfinished" / "table.csv").write_text("key,two\n")
            (base / "unfinished").rename(base / "2")
            with state_reached(served, ServableId("l", 2), ManagerState.AVAILABLE):
                served._source.poll_once()
            assert answer(served, "l") == (2, b"two")
            go_on.set()
        thread.join(WAIT_SECONDS)
        assert answer(served) == (1, b"slow")


def test_stopping_does_not_wait_for_a_download(web: WebServer, tmp_path: Path):
    web.files["/m.tar.gz"] = tar({"table.csv": b"key,value\n"})
    stalled, go_on = threading.Event(), threading.Event()
    web.before_end = lambda: (stalled.set(), go_on.wait(WAIT_SECONDS))
    web.cuts = [10] * 9
    with core(tmp_path, max_num_load_retries=5) as served:

        def reload() -> None:
            with pytest.raises(Unknown):
                served.reload([table(f"{web.url}/m.tar.gz")])

        thread = threading.Thread(target=reload, daemon=True)
        thread.start()
        assert stalled.wait(WAIT_SECONDS)
        go_on.set()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert list(tmp_path.iterdir()) == []


def test_an_archive_under_another_number_replaces_the_version_by_reloading(
    web: WebServer, tmp_path: Path
):
    for number, value in (("7", b"seven"), ("8", b"eight")):
        web.files[f"/m/{number}.tar.gz"] = tar({"table.csv": b"key," + value + b"\n"})
    with core(tmp_path, table(f"{web.url}/m/7.tar.gz")) as served:
        assert answer(served) == (7, b"seven")
        with state_reached(served, ServableId("m", 7), ManagerState.END):
            served.reload([table(f"{web.url}/m/8.tar.gz")])
            served._source.poll_once()
        assert answer(served) == (8, b"eight")


def test_the_memory_limit_counts_a_version_before_it_is_downloaded(s3: Any, tmp_path: Path):
    put(s3.bucket, "m", {"1/table.csv": b"key,one\n" * 1000})
    limited = core(tmp_path, table(s3.uri("m")), total_model_memory_limit_bytes=1000)
    with pytest.raises(ServingError, match="Insufficient resources"), limited:
        pass
    assert list(tmp_path.iterdir()) == []
