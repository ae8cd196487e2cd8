"""Which directories are versions, which of them a policy wants, and what a poll emits."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from waiting import WAIT_SECONDS

from serving.core.clock import Clock, SystemClock
from serving.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    SpecificVersions,
    VersionPolicy,
)
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.sources import lister
from serving.sources.file_system_source import (
    FileSystemStoragePathSource,
    MonitoredServable,
)
from serving.sources.local_storage import LocalStorage
from serving.sources.version_contents import VersionContents
from serving.sources.version_selection import versions_among
from serving.testing import FakeClock


class Watched:
    """A source with what it emitted: (name, [(version, name of the directory)])."""

    def __init__(
        self,
        *servables: MonitoredServable,
        contents: VersionContents | None = None,
        clock: Clock | None = None,
        on_polled: Callable[[], None] = lambda: None,
    ) -> None:
        self.emitted: list[tuple[str, list[tuple[int, str]]]] = []
        self.revisions: dict[int, int] = {}
        self.source = FileSystemStoragePathSource(1, clock or FakeClock(), contents, on_polled)
        self.source.connect(self._take)
        self.source.update(servables)

    def poll(self) -> list[tuple[str, list[tuple[int, str]]]]:
        self.emitted.clear()
        self.problems = self.source.poll_once()
        return list(self.emitted)

    def _take(self, name: str, versions: Sequence[ServableData[str]]) -> None:
        rows = [(data.id.version, Path(str(data.payload)).name) for data in versions]
        self.emitted.append((name, rows))
        self.revisions = {data.id.version: data.revision for data in versions}


def model(base: Path, policy: VersionPolicy | None = None, name: str = "m") -> MonitoredServable:
    return MonitoredServable(name, str(base), policy or LatestVersions())


def directories(base: Path, *names: str) -> None:
    for name in names:
        (base / name).mkdir(parents=True)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("0", 0),
        ("001", 1),
        (" 7 ", 7),
        ("-5", -5),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("99999999999999999999999999", None),
        ("1.0", None),
        ("v1", None),
        ("1a", None),
        ("", None),
        (".1", None),
        ("1_0", None),
        ("\u0661", None),
        ("-", None),
    ],
)
def test_a_version_is_a_name_that_is_a_whole_64_bit_integer(name: str, version: int | None) -> None:
    assert versions_among({name: "path"}) == ([] if version is None else [(version, "path")])


def test_a_version_that_does_not_fit_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directories(tmp_path, "9223372036854775808")
    with caplog.at_level(logging.WARNING):
        assert Watched(model(tmp_path)).poll() == [("m", [])]
    assert "9223372036854775808 is no version, as it does not fit 64 bits" in caplog.text


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (LatestVersions(), [(10, "10")]),
        (LatestVersions(2), [(2, "2"), (10, "10")]),
        (LatestVersions(9), [(1, "1"), (2, "2"), (10, "10")]),
        (AllVersions(), [(1, "001"), (1, "1"), (2, "2"), (10, "10")]),
        (SpecificVersions(frozenset({1, 7})), [(1, "1")]),
        (SpecificVersions(frozenset()), []),
    ],
)
def test_a_policy_selects_among_what_is_there(
    tmp_path: Path, policy: VersionPolicy, expected: list[tuple[int, str]]
) -> None:
    directories(tmp_path, "001", "1", "10", "2", "not_a_version")
    assert Watched(model(tmp_path, policy)).poll() == [("m", expected)]


def test_a_policy_of_no_latest_versions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        LatestVersions(0)


def test_the_path_emitted_is_that_of_the_real_directory(tmp_path: Path) -> None:
    directories(tmp_path, "0042")
    emitted: list[object] = []
    source = FileSystemStoragePathSource(1, FakeClock())
    source.connect(lambda name, versions: emitted.extend(data.payload for data in versions))
    source.update([model(tmp_path)])
    source.poll_once()
    assert emitted == [f"{tmp_path}/0042"]


def test_every_poll_emits_everything_and_follows_what_changes(tmp_path: Path) -> None:
    directories(tmp_path, "1")
    watched = Watched(model(tmp_path))
    assert watched.poll() == watched.poll() == [("m", [(1, "1")])]
    directories(tmp_path, "2")
    assert watched.poll() == [("m", [(2, "2")])]
    (tmp_path / "2").rmdir()
    assert watched.poll() == [("m", [(1, "1")])]


def test_a_base_path_without_versions_emits_none_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(model(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert watched.poll() == watched.poll() == [("m", [])]
    assert watched.problems["m"].message == (
        f"No versions of servable m found under base path {tmp_path}."
        " Did you forget to name your leaf directory as a number (eg. '/1/')?"
    )
    assert caplog.text.count("No versions of servable m") == 1


def test_a_missing_base_path_emits_nothing_for_its_servable_and_stops_no_other(
    tmp_path: Path,
) -> None:
    missing, present = tmp_path / "missing", tmp_path / "present"
    directories(present, "3")
    watched = Watched(model(missing, name="gone"), model(present, name="here"))
    assert watched.poll() == [("here", [(3, "3")])]
    assert watched.problems["gone"].message == (
        f"Could not find base path {missing} for servable gone (No such file or directory)"
    )
    directories(missing, "1")
    assert ("gone", [(1, "1")]) in watched.poll()
    assert watched.problems == {}


def test_a_base_path_that_is_a_file_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    watched = Watched(model(path))
    assert watched.poll() == []
    assert "Not a directory" in watched.problems["m"].message


def test_what_is_dropped_is_un_aspired_at_once_and_what_is_new_is_polled(tmp_path: Path) -> None:
    directories(tmp_path, "a/1", "b/1")
    watched = Watched(model(tmp_path / "a", name="a"))
    watched.poll()
    watched.emitted.clear()
    watched.source.update([model(tmp_path / "b", name="b")])
    assert watched.emitted == [("a", [])]
    assert watched.poll() == [("b", [(1, "1")])]


def test_polling_before_there_is_a_target_is_refused(tmp_path: Path) -> None:
    directories(tmp_path, "1")
    source = FileSystemStoragePathSource(1, FakeClock())
    source.update([model(tmp_path)])
    with pytest.raises(FailedPrecondition):
        source.poll_once()


def test_a_negative_or_zero_interval_starts_no_thread(tmp_path: Path) -> None:
    for interval in (0, -1):
        source = FileSystemStoragePathSource(interval, FakeClock())
        source.connect(lambda name, versions: None)
        source.start()
        source.stop()


def test_the_thread_polls_at_every_interval(tmp_path: Path) -> None:
    clock = FakeClock()
    emitted: list[list[int]] = []
    polled = threading.Semaphore(0)
    source = FileSystemStoragePathSource(3, clock, on_polled=polled.release)
    source.connect(lambda name, versions: emitted.append([data.id.version for data in versions]))
    source.update([model(tmp_path)])
    source.start()
    assert polled.acquire(timeout=WAIT_SECONDS)
    clock.await_waiters()
    directories(tmp_path, "1")
    clock.advance(3)
    assert polled.acquire(timeout=WAIT_SECONDS)
    assert emitted == [[], [1]]
    source.stop()


MARKED = {"settle_seconds": 0.0, "marker": "_DONE"}


def test_a_version_that_is_not_complete_leaves_the_one_before_it_in_place(tmp_path: Path) -> None:
    directories(tmp_path, "1", "2")
    (tmp_path / "1" / "_DONE").touch()
    watched = Watched(model(tmp_path), contents=VersionContents(FakeClock(), **MARKED))
    assert watched.poll() == [("m", [(1, "1")])]
    (tmp_path / "2" / "_DONE").touch()
    assert watched.poll() == [("m", [(2, "2")])]


def test_while_no_version_is_complete_nothing_is_emitted(tmp_path: Path) -> None:
    directories(tmp_path, "1")
    watched = Watched(model(tmp_path), contents=VersionContents(FakeClock(), **MARKED))
    assert watched.poll() == []
    assert isinstance(watched.problems["m"], Unavailable)
    assert watched.problems["m"].message == (
        f"No version of servable m under base path {tmp_path} is complete yet"
    )


def test_specific_versions_of_which_none_is_complete_leave_what_serves_in_place(
    tmp_path: Path,
) -> None:
    directories(tmp_path, "1", "2")
    (tmp_path / "1" / "_DONE").touch()
    contents = VersionContents(FakeClock(), **MARKED)
    watched = Watched(model(tmp_path, SpecificVersions(frozenset({1}))), contents=contents)
    assert watched.poll() == [("m", [(1, "1")])]
    watched.source.update([model(tmp_path, SpecificVersions(frozenset({2})))])
    assert watched.poll() == []
    assert isinstance(watched.problems["m"], Unavailable)
    (tmp_path / "2" / "_DONE").touch()
    assert watched.poll() == [("m", [(2, "2")])]


@pytest.mark.parametrize(
    ("policy", "looked_into"),
    [
        (LatestVersions(), {"9", "8"}),
        (LatestVersions(2), {"9", "8", "7"}),
        (SpecificVersions(frozenset({2, 5})), {"2", "5"}),
    ],
)
def test_no_more_versions_are_looked_into_than_the_policy_may_want(
    tmp_path: Path, policy: VersionPolicy, looked_into: set[str]
) -> None:
    directories(tmp_path, *"123456789")
    seen: set[str] = set()

    class Contents(VersionContents):
        def is_complete(self, path: str) -> bool:
            seen.add(Path(path).name)
            return not path.endswith("9")

    Watched(model(tmp_path, policy), contents=Contents(FakeClock())).poll()
    assert seen == looked_into


def test_where_servables_share_a_base_path_each_gets_the_versions_it_wants(tmp_path: Path) -> None:
    directories(tmp_path, "1", "2", "3")
    old = model(tmp_path, SpecificVersions(frozenset({1})), name="old")
    assert Watched(old, model(tmp_path, name="new")).poll() == [
        ("old", [(1, "1")]),
        ("new", [(3, "3")]),
    ]


def test_a_failed_version_is_emitted_with_a_higher_revision_once_its_files_change(
    tmp_path: Path,
) -> None:
    directories(tmp_path, "1")
    watched = Watched(model(tmp_path))
    watched.poll()
    (tmp_path / "1" / "file").write_text("a change before anything failed")
    watched.poll()
    assert watched.revisions == {1: 0}
    watched.source.report_failure(ServableId("m", 1))
    watched.poll()
    assert watched.revisions == {1: 1}
    watched.poll()
    assert watched.revisions == {1: 1}
    (tmp_path / "1" / "other").write_text("mended")
    watched.poll()
    assert watched.revisions == {1: 2}


def test_failed_versions_are_emitted_anew_on_request_and_others_are_not(tmp_path: Path) -> None:
    directories(tmp_path, "1", "2")
    watched = Watched(model(tmp_path, AllVersions()))
    watched.poll()
    watched.source.report_failure(ServableId("m", 2))
    before = watched.revisions
    watched.source.retry_failed()
    watched.poll()
    assert watched.revisions[1] == before[1]
    assert watched.revisions[2] > before[2]


def watching_one_version(base: Path) -> Watched:
    directories(base, "1")
    watched = Watched(model(base))
    watched.poll()
    return watched


def assert_it_comes_back_as_no_failure(watched: Watched, base: Path) -> None:
    """What is tried again on request is what has failed, and nothing else."""
    directories(base, "1")
    watched.poll()
    anew = watched.revisions
    watched.source.retry_failed()
    watched.poll()
    assert watched.revisions == anew


def test_a_load_that_is_given_up_because_its_version_is_gone_is_no_failure(tmp_path: Path) -> None:
    """Its end is told only after the version went."""
    watched = watching_one_version(tmp_path)
    (tmp_path / "1").rmdir()
    watched.poll()
    watched.source.report_failure(ServableId("m", 1))
    assert_it_comes_back_as_no_failure(watched, tmp_path)


def test_a_failure_is_forgotten_with_the_version_s_files(tmp_path: Path) -> None:
    watched = watching_one_version(tmp_path)
    watched.source.report_failure(ServableId("m", 1))
    (tmp_path / "1").rmdir()
    watched.poll()
    assert_it_comes_back_as_no_failure(watched, tmp_path)


def test_a_version_that_went_and_came_back_has_a_higher_revision(tmp_path: Path) -> None:
    """So that one that failed is loaded even where nobody noticed that it was gone meanwhile."""
    directories(tmp_path, "1")
    watched = Watched(model(tmp_path))
    watched.poll()
    before = watched.revisions[1]
    (tmp_path / "1").rmdir()
    watched.poll()
    directories(tmp_path, "1")
    watched.poll()
    assert watched.revisions[1] > before


def test_the_versions_under_another_base_path_have_higher_revisions(tmp_path: Path) -> None:
    directories(tmp_path, "old/1", "new/1")
    watched = Watched(model(tmp_path / "old"))
    watched.poll()
    before = watched.revisions[1]
    watched.source.update([model(tmp_path / "new")])
    assert watched.poll() == [("m", [(1, "1")])]
    assert watched.revisions[1] > before


def test_what_others_serve_from_a_base_path_stays_complete_when_one_leaves_it(
    tmp_path: Path,
) -> None:
    """Though it would have to stand still anew, as its files' times lie ahead of the clock."""
    clock = FakeClock()
    directories(tmp_path, "1", "2")
    os.utime(tmp_path / "1", (0, 0))
    os.utime(tmp_path / "2", (clock.time() + 3600,) * 2)
    leaves, stays = model(tmp_path), model(tmp_path, name="stays")
    watched = Watched(leaves, stays, contents=VersionContents(clock, 10), clock=clock)
    watched.poll()
    clock.advance(10)
    assert watched.poll() == [("m", [(2, "2")]), ("stays", [(2, "2")])]
    watched.source.update([stays])
    assert watched.poll() == [("stays", [(2, "2")])]
    (tmp_path / "2").rmdir()
    assert watched.poll() == [("stays", [(1, "1")])]
    directories(tmp_path, "2")
    os.utime(tmp_path / "2", (clock.time() + 3600,) * 2)
    assert watched.poll() == [("stays", [(1, "1")])]


def test_a_version_that_comes_and_goes_between_two_polls_is_never_emitted(tmp_path: Path) -> None:
    directories(tmp_path, "1")
    watched = Watched(model(tmp_path))
    first = watched.poll(), watched.revisions
    directories(tmp_path, "2")
    (tmp_path / "2").rmdir()
    (tmp_path / "1").rename(tmp_path / "away")
    (tmp_path / "away").rename(tmp_path / "1")
    assert (watched.poll(), watched.revisions) == first


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(AllVersions(), list(range(1, 201))), (LatestVersions(), [200])],
    ids=["all", "latest"],
)
def test_two_hundred_versions_at_once(
    tmp_path: Path, policy: VersionPolicy, expected: list[int]
) -> None:
    directories(tmp_path, *(str(version) for version in range(1, 201)))
    assert Watched(model(tmp_path, policy)).poll() == [("m", [(n, str(n)) for n in expected])]


def test_a_base_path_that_is_a_circle_of_links_is_a_problem_of_its_servable_only(
    tmp_path: Path,
) -> None:
    (tmp_path / "circle").symlink_to("circle")
    directories(tmp_path, "here/1")
    watched = Watched(model(tmp_path / "circle"), model(tmp_path / "here", name="here"))
    assert watched.poll() == [("here", [(1, "1")])]
    assert watched.problems["m"].message == (
        f"Could not find base path {tmp_path}/circle for servable m "
        "(Too many levels of symbolic links)"
    )


def test_a_base_path_that_no_file_can_have_is_a_problem_of_its_servable_only(
    tmp_path: Path,
) -> None:
    directories(tmp_path, "here/1")
    impossible = MonitoredServable("m", "/a\0b", LatestVersions())
    watched = Watched(impossible, model(tmp_path / "here", name="here"))
    assert watched.poll() == [("here", [(1, "1")])]
    assert isinstance(watched.problems["m"], InvalidArgument)
    assert "embedded null byte" in watched.problems["m"].message


def test_a_target_that_raises_for_one_servable_is_a_problem_of_that_one_only(
    tmp_path: Path,
) -> None:
    directories(tmp_path, "a/1", "b/1")
    emitted: list[str] = []

    def take(name: str, versions: Sequence[ServableData[str]]) -> None:
        if name == "a":
            raise RuntimeError("/secret")
        emitted.append(name)

    source = FileSystemStoragePathSource(1, FakeClock())
    source.connect(take)
    source.update([model(tmp_path / name, name=name) for name in "ab"])
    problems = source.poll_once()
    assert emitted == ["b"]
    assert str(problems["a"]) == "INTERNAL: polling servable a failed: RuntimeError"


class Dead:
    """A base path whose listing hangs until it is back."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_asked = threading.Event()
        self.is_back = threading.Event()
        self.heard = threading.Event()
        children = LocalStorage.children

        def hang(storage: LocalStorage, base_path: str) -> Mapping[str, str]:
            if base_path == str(base):
                self.is_asked.set()
                assert self.is_back.wait(30)
            return children(storage, base_path)

        monkeypatch.setattr(LocalStorage, "children", hang)
        monkeypatch.setattr(lister, "SECONDS_TO_ANSWER", 0.5)

    def answer(self) -> None:
        """Come back, and return when that has been taken."""
        self.is_back.set()
        assert self.heard.wait(WAIT_SECONDS)


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dead]:
    directories(tmp_path, "dead/1", "here/1")
    made = Dead(tmp_path / "dead", monkeypatch)
    yield made
    made.is_back.set()


def test_a_base_path_that_does_not_answer_is_the_problem_of_its_servables_only(
    tmp_path: Path, dead: Dead, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(
        model(tmp_path / "dead", name="dead"),
        model(tmp_path / "dead", name="same"),
        model(tmp_path / "here", name="here"),
        clock=SystemClock(),
        on_polled=dead.heard.set,
    )
    for _ in range(2):
        assert watched.poll() == [("here", [(1, "1")])]
    assert str(watched.problems["same"]) == (
        "DEADLINE_EXCEEDED: Servable same can not be looked for: its base path does not answer "
        f"({tmp_path}/dead)"
    )
    assert caplog.text.count("its base path does not answer") == 2
    watched.emitted.clear()
    dead.answer()
    assert watched.emitted == [("dead", [(1, "1")]), ("same", [(1, "1")])]
    assert watched.source.problems == {}
    assert caplog.text.count("answers again") == 1
    watched.source.update([])


def test_who_watches_a_base_path_by_the_time_it_answers_hears_of_it(
    tmp_path: Path, dead: Dead
) -> None:
    watched = Watched(
        model(tmp_path / "dead", name="old"), clock=SystemClock(), on_polled=dead.heard.set
    )
    watched.poll()
    watched.source.update([model(tmp_path / "dead", name="new")])
    assert watched.emitted == [("old", [])]
    assert watched.poll() == []
    assert list(watched.problems) == ["new"]
    dead.answer()
    assert watched.emitted == [("new", [(1, "1")])]


def test_an_update_waits_for_no_listing(tmp_path: Path, dead: Dead) -> None:
    watched = Watched(model(tmp_path / "here", name="here"), clock=FakeClock())
    watched.poll()
    watched.source.update([model(tmp_path / "dead", name="dead")])
    watched.emitted.clear()
    polling = threading.Thread(target=watched.source.poll_once)
    polling.start()
    assert dead.is_asked.wait(WAIT_SECONDS)
    watched.source.update([])
    watched.source.retry_failed()
    assert watched.emitted == [("dead", [])]
    assert polling.is_alive()
    dead.is_back.set()
    polling.join(WAIT_SECONDS)
    assert watched.emitted == [("dead", [])]


def test_what_answers_after_the_stop_is_not_emitted(tmp_path: Path, dead: Dead) -> None:
    watched = Watched(model(tmp_path / "dead"), clock=SystemClock(), on_polled=dead.heard.set)
    watched.poll()
    watched.source.stop()
    dead.is_back.set()
    for thread in threading.enumerate():
        if thread.name == "lister":
            thread.join(WAIT_SECONDS)
    assert watched.emitted == []
    assert not dead.heard.is_set()


def test_a_version_that_loaded_after_all_is_not_tried_again_on_request(tmp_path: Path) -> None:
    directories(tmp_path, "1")
    watched = Watched(model(tmp_path))
    watched.poll()
    before = watched.revisions
    watched.source.report_failure(ServableId("m", 1))
    watched.source.report_success(ServableId("m", 1))
    watched.source.retry_failed()
    watched.poll()
    assert watched.revisions == before


@pytest.mark.parametrize("policy", [AllVersions(), LatestVersions()], ids=["all", "latest"])
def test_two_names_for_one_version_are_named_in_the_log_once(
    tmp_path: Path, policy: VersionPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    directories(tmp_path, "1", "001", "01", "2")
    watched = Watched(model(tmp_path, policy))
    watched.poll()
    watched.poll()
    assert caplog.text.count("001, 01 and 1 stand for version 1; 1 is taken") == 1
