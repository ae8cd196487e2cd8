"""Models whose base path lies in an object store or on a web server, served as local ones are."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from remote_stores import WebServer

from serving.core.clock import SystemClock
from serving.core.model_config import ModelConfig
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState
from serving.loaders.platforms import Platforms
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions
from serving.sources.model_cache import ModelCacheOptions

ROW = b"key,value\n"


@contextmanager
def core(cache: Path, *configs: ModelConfig, **options: Any) -> Iterator[ServerCore]:
    lifecycle = LifecycleOptions(
        max_num_load_retries=0, model_cache=ModelCacheOptions(str(cache)), **options
    )
    made = ServerCore(lifecycle, Platforms({}), clock=SystemClock())
    try:
        made.start(configs)
        yield made
    finally:
        made.stop()


def reaches(served: ServerCore, servable_id: ServableId, state: ManagerState) -> bool:
    def reached() -> bool:
        return any(
            known.id == servable_id and known.state is state
            for known in served.versions(servable_id.name)
        )

    return served._monitor.wait_until(reached, 30)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_versions_in_a_bucket_come_and_go_like_directories(s3: Any, cache: Path) -> None:
    s3.bucket.put_object(Key="m/1/table.csv", Body=ROW)
    with core(cache, ModelConfig("m", s3.uri("m"), "hashmap")) as served:
        assert served.available() == [ServableId("m", 1)]
        s3.bucket.put_object(Key="m/2/table.csv", Body=ROW)
        assert reaches(served, ServableId("m", 2), ManagerState.AVAILABLE)
        assert reaches(served, ServableId("m", 1), ManagerState.END)
        s3.bucket.objects.filter(Prefix="m/2/").delete()
        assert reaches(served, ServableId("m", 1), ManagerState.AVAILABLE)


def test_a_broken_version_in_a_bucket_is_loaded_once_it_is_mended(s3: Any, cache: Path) -> None:
    s3.bucket.put_object(Key="m/1/table.csv", Body=ROW)
    with core(cache, ModelConfig("m", s3.uri("m"), "hashmap")) as served:
        s3.bucket.put_object(Key="m/2/table.csv", Body=b"three,columns,here\n")
        assert reaches(served, ServableId("m", 2), ManagerState.END)
        assert served.available() == [ServableId("m", 1)]
        s3.bucket.put_object(Key="m/2/table.csv", Body=ROW)
        assert reaches(served, ServableId("m", 2), ManagerState.AVAILABLE)


def test_a_version_being_uploaded_waits_for_its_marker(s3: Any, cache: Path) -> None:
    s3.bucket.put_object(Key="m/1/table.csv", Body=ROW)
    s3.bucket.put_object(Key="m/1/_DONE", Body=b"")
    s3.bucket.put_object(Key="m/2/table.csv", Body=ROW)
    config = ModelConfig("m", s3.uri("m"), "hashmap")
    with core(cache, config, version_marker_file="_DONE") as served:
        assert served.available() == [ServableId("m", 1)]
        s3.bucket.put_object(Key="m/2/_DONE", Body=b"")
        assert reaches(served, ServableId("m", 2), ManagerState.AVAILABLE)


def test_a_store_that_is_away_stops_no_other_model_and_unloads_nothing(
    s3: Any, cache: Path, tmp_path: Path
) -> None:
    local = tmp_path / "local"
    (local / "1").mkdir(parents=True)
    (local / "1" / "table.csv").write_bytes(ROW)
    s3.bucket.put_object(Key="m/1/table.csv", Body=ROW)
    configs = [
        ModelConfig("m", s3.uri("m"), "hashmap"),
        ModelConfig("local", str(local), "hashmap"),
        ModelConfig("lost", "s3://no-such-bucket/m", "hashmap"),
    ]
    with core(cache, *configs) as served:
        assert served.available() == [ServableId("local", 1), ServableId("m", 1)]
        s3.proxy.after_bytes, s3.proxy.cuts = 0, 10**6
        (local / "2").mkdir()
        (local / "2" / "table.csv").write_bytes(ROW)
        assert reaches(served, ServableId("local", 2), ManagerState.AVAILABLE)
        assert ServableId("m", 1) in served.available()


def test_an_archive_on_a_web_server_is_a_model(web: WebServer, cache: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("table.csv")
        entry.size = len(ROW)
        archive.addfile(entry, io.BytesIO(ROW))
    web.files["/m.tar.gz"] = packed.getvalue()
    with core(cache, ModelConfig("m", f"{web.url}/m.tar.gz", "hashmap")) as served:
        assert served.available() == [ServableId("m", 1)]


def test_local_models_leave_no_cache_behind(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "table.csv").write_bytes(ROW)
    with core(cache, ModelConfig("m", str(tmp_path / "m"), "hashmap")) as served:
        assert served.available() == [ServableId("m", 1)]
    assert not cache.exists()
