"""Snapshots as metrics: which series there are, what they say, and that they stay few."""

from __future__ import annotations

import gc
import os
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from support import snapshots

from semtrace.errors import SemtraceError, UsageError
from semtrace.metrics import access, textfile
from semtrace.metrics.answering import Site
from semtrace.metrics.deaths import Cause, Deaths
from semtrace.metrics.families import VERDICTS
from semtrace.metrics.grouping import MOST_SERIES, Key, grouped
from semtrace.metrics.labels import OTHER, UNNAMED, lock_label, server_labels
from semtrace.metrics.page import Pages
from semtrace.metrics.reading import Counting, Reading
from semtrace.metrics.traced import BOUNDS, Traced, counts_of
from semtrace.metrics.watch import Pace
from semtrace.model import Death, DeathCause, Durations, Lock, Problem, ProcessId, Snapshot, Statistics
from semtrace.rules import with_findings

APP_LOCK = Key("app.lock", "Lock")


def counting(lives: bool = False) -> Counting:
    return Counting(Deaths(lambda process: lives))


def read(snapshot: Snapshot) -> Reading:
    return counting().read(with_findings(snapshot))


def samples(*readings: Reading) -> dict[str, float]:
    """Return the plain page as `name{labels}` and value, the labels in alphabetical order."""
    page = Pages().plain({f"s{number}": reading for number, reading in enumerate(readings)}).decode()
    found = {}
    for family in parse_plain(page):
        for each in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(each.labels.items()))
            found[f"{each.name}{{{labels}}}"] = each.value
    return found


# -- labels


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("app.lock", "app.lock"),
        ("app.LOCKS['accounts'].inner", "app.LOCKS['accounts'].inner"),
        ("app.LOCKS[3]", "app.LOCKS[3]"),
        ("app.LOCKS['alice@example.com']", "app.LOCKS[*]"),
        ("app.LOCKS['eyJhbGciOiJIUzI1NiJ9'].x", "app.LOCKS[*].x"),
        ("app.LOCKS[('a', 7)]", "app.LOCKS[*]"),
        ("app.LOCKS['a]b'][2]", "app.LOCKS[*][2]"),
        ("app.LOCKS['cut off…", "app.LOCKS[*]"),
        ("app.LOCKS[b'k']", "app.LOCKS[*]"),
        ("/var/lib/app2/[x].lock", "/var/lib/app2/[x].lock"),
        ("/run/app/worker-4711.lock", "/run/app/worker-*.lock"),
        ("/tmp/tmpab3d_x9z/cache.lock", "/tmp/*/cache.lock"),
        ("/srv/123e4567-e89b-12d3-a456-426614174000.lock", "/srv/*.lock"),
        ('/srv/odd\n"name', '/srv/odd?"name'),
        (None, UNNAMED),
    ],
)
def test_lock_label_hides_keys_that_may_be_data(name: str | None, label: str) -> None:
    assert lock_label(snapshots.lock(name)) == label


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"application": "shop:app", "bind": ("0.0.0.0:80", "unix:/x")}, "shop:app@0.0.0.0:80"),
        ({"application": "shop:make(key='s3cret')"}, "shop:make"),
        ({"application": None, "title": "gunicorn --password s3cret"}, "gunicorn"),
        ({"kind": "python", "title": "worker.py --password s3cret"}, "worker.py"),
        ({"kind": "python", "title": "python3 -m jobs --password s3cret"}, "jobs"),
        ({"kind": "python", "title": "python3 -c print('s3cret')"}, "python"),
        ({"kind": "python", "title": "postgres://user:s3cret@db"}, "python"),
    ],
)
def test_server_label_has_no_arguments(changes: dict[str, object], label: str) -> None:
    server = replace(snapshots.SERVER, **changes)
    assert server_labels([server]) == {server.id: label}


def test_servers_of_one_name_get_numbers_by_age() -> None:
    old, new = snapshots.SERVER, replace(snapshots.SERVER, id=ProcessId(99, 2000))
    assert list(server_labels([new, old]).values()) == ["app:app", "app:app (2)"]


def test_locks_beyond_the_bound_share_one_series() -> None:
    locks = [snapshots.lock(f"app.locks.x{number:04}", number) for number in range(2 * MOST_SERIES)]
    groups = grouped(locks)
    assert len(groups) == MOST_SERIES + 1
    assert len(groups[Key(OTHER, OTHER)]) == MOST_SERIES


# -- one snapshot


def test_page_says_what_the_snapshot_shows() -> None:
    held = snapshots.lock(
        holders=(snapshots.holder(11, asleep_s=7.0),), waiters=(snapshots.waiter(12, 6.0), snapshots.waiter(13, 4.0))
    )
    said = samples(read(snapshots.snapshot(held, snapshots.lock("app.ready", 2, signal=True))))
    labels = "{kind=Lock,lock=app.lock,server=s0}"
    assert {name: said[f"semtrace_lock_{name}{labels}"] for name in ("waiters", "holders", "orphaned", "unknown")} == {
        "waiters": 2,
        "holders": 1,
        "orphaned": 0,
        "unknown": 0,
    }
    assert said[f"semtrace_lock_longest_wait_seconds{labels}"] == 6.0
    assert said[f"semtrace_lock_held_seconds{labels}"] == 5.0
    assert said["semtrace_workers{server=s0,state=waiting}"] == 2
    assert said["semtrace_waiting_threads{kind=shared-lock,server=s0}"] == 2
    assert said["semtrace_last_sample_timestamp_seconds{server=s0}"] == snapshots.BOOT + 100
    assert not any("app.ready" in name for name in said), "nobody holds a signal"
    assert not any(re.search(r"\b1[0-3]\b", name) for name in said), "a PID"


def test_lock_of_a_file_has_no_value_and_a_path() -> None:
    """Of a path that differs from worker to worker there is one series."""
    claims = (snapshots.holder(11, asleep_s=7.0),)
    files = [
        replace(snapshots.lock(f"/run/{pid}.lock", pid, holders=claims), kind="file", value=None, maximum=None)
        for pid in (4711, 4712)
    ]
    said = samples(read(snapshots.snapshot(*files)))
    assert said["semtrace_lock_holders{kind=file,lock=/run/*.lock,server=s0}"] == 2
    assert said["semtrace_lock_held_seconds{kind=file,lock=/run/*.lock,server=s0}"] == 5.0


def test_worker_that_cannot_be_read_is_not_called_busy() -> None:
    blind = Problem("read", "refused", "sudo", snapshots.pid(11))
    workers = read(snapshots.snapshot(problems=(blind,))).workers
    assert (workers["unknown"], sum(workers.values())) == (1, 3)


def test_page_shows_stuck_workers_and_the_finding() -> None:
    locks = (replace(each, mapped_by=(snapshots.pid(11), snapshots.pid(12))) for each in snapshots.embrace())
    said = samples(read(snapshots.snapshot(*locks)))
    assert said["semtrace_findings{code=deadlock,server=s0,severity=error}"] == 1
    assert said["semtrace_workers{server=s0,state=stuck}"] == said["semtrace_stuck_threads{server=s0}"] == 2
    verdicts = {verdict: said[f"semtrace_verdict{{server=s0,verdict={verdict}}}"] for verdict in VERDICTS}
    assert {verdict for verdict, value in verdicts.items() if value} == {"deadlock"}


def test_hot_lock_of_one_worker_is_not_long_held() -> None:
    """That its thread was seen with the lock at each look may be one hold or a thousand."""
    hot = snapshots.lock(holders=(snapshots.holder(11, since_s=3600.0, asleep_s=None),))
    assert read(snapshots.snapshot(hot)).locks[APP_LOCK].held_s == 0.0


def test_both_formats_are_valid_and_equal() -> None:
    reading = read(snapshots.snapshot(traced(5), *snapshots.embrace()))
    page = Pages().render({'odd "name"\\ with\nlines': reading})
    plain = {(s.name, *sorted(s.labels.items())): s.value for f in parse_plain(page.plain.decode()) for s in f.samples}
    other = {
        (s.name, *sorted(s.labels.items())): s.value
        for f in parse_openmetrics(page.openmetrics.decode())
        for s in f.samples
    }
    assert plain == other
    assert page.openmetrics.endswith(b"# EOF\n")
    units = re.findall(rb"# UNIT (\S+) seconds", page.openmetrics)
    assert units
    assert all(name.endswith(b"_seconds") for name in units)


# -- counters


def traced(acquired: int, number: int = 1, sites: int = 1, **changes: object) -> Lock:
    times = Durations(acquired, acquired * 0.5, spread=((3e-5, acquired),))
    site = Statistics(acquired, 0, 0, times, times)
    counted = Statistics(acquired, 0, 0, times, times, tuple((f"app.py:{n}", site) for n in range(sites)))
    return snapshots.lock("app.lock", number, statistics=counted, **changes)


def test_buckets_are_those_of_the_traced_lock() -> None:
    times = Durations(9, 4.5, spread=((1e-6, 1), (3e-5, 2), (1e-4, 1), (100.0, 1), (1e6, 4)))
    hold = counts_of(Statistics(9, 0, 0, Durations(), times, (("app.py:1", Statistics(9, 0, 0, times, times)),))).hold
    by_bound = dict(zip((*BOUNDS, None), hold.buckets, strict=True))
    assert {bound: count for bound, count in by_bound.items() if count} == {
        1e-5: 1,
        3e-5: 2,
        1e-4: 1,
        100.0: 1,
        None: 4,
    }
    assert hold.total_s == 4.5
    assert counts_of(traced(1, sites=20).statistics).hold.total_s is None, "more lines may be left out"  # type: ignore[arg-type]


def test_counters_never_fall_while_semaphores_come_and_go() -> None:
    counters = Traced()
    seen = []
    for locks in ([traced(5)], [traced(7)], [traced(3, 2)], [traced(1)], [traced(4), traced(9, 2)], [traced(2)]):
        seen.append(counters.add({APP_LOCK: locks})[APP_LOCK].acquired)
    assert seen == [5, 7, 10, 11, 23, 25]
    assert counters.add({}) == {}, "no lock of that name any more"


def test_orphaned_lock_counts_one_death_of_a_holder() -> None:
    orphan = snapshots.lock(state="orphaned", value=0)
    proving = snapshots.lock(state="unknown", value=0, orphaned_s=3.0)
    counter = counting()
    counts = [
        counter.read(snapshots.snapshot(lock)).locks[APP_LOCK].holder_deaths
        for lock in (snapshots.lock(), orphan, proving, orphan, snapshots.lock(), orphan)
    ]
    assert counts == [0, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("how", "code", "expected"),
    [
        (DeathCause.EXIT, 0, Cause.EXITED),
        (DeathCause.EXIT, 3, Cause.FAILED),
        (DeathCause.SIGNAL, -9, Cause.SIGNAL),
        (DeathCause.TIMEOUT, 0, Cause.TIMEOUT),
        (DeathCause.MEMORY, -9, Cause.MEMORY),
        (DeathCause.UNKNOWN, -9, Cause.UNKNOWN),
    ],
)
def test_deaths_are_counted_by_their_certificates(how: DeathCause, code: int, expected: Cause) -> None:
    counter = counting(lives=True)
    counter.read(snapshots.snapshot())
    gone = Death(snapshots.pid(13), "worker", how, code, 0.5)
    for _ in range(2):
        after = counter.read(replace(snapshots.snapshot(processes=snapshots.processes(2)), deaths=(gone,)))
    assert {cause: count for cause, count in after.deaths.items() if count} == {expected: 1}, "once"


def test_death_is_counted_when_its_cause_is_known_or_unknowable() -> None:
    early = Death(snapshots.pid(13), "worker", DeathCause.UNKNOWN, None, 0.5)
    for later, expected in (
        (replace(early, cause=DeathCause.TIMEOUT, exit_code=0), Cause.TIMEOUT),
        (replace(early, ended_s=60.0), Cause.UNKNOWN),
    ):
        counter = counting()
        counter.read(snapshots.snapshot())
        counts = [
            dict(counter.read(replace(snapshots.snapshot(processes=snapshots.processes(2)), deaths=(death,))).deaths)
            for death in (early, later)
        ]
        assert [sum(each.values()) for each in counts] == [0, 1]
        assert counts[1][expected] == 1


def test_worker_that_left_the_server_alive_did_not_die() -> None:
    for lives, deaths in ((True, 0), (False, 1)):
        counter = counting(lives)
        counter.read(snapshots.snapshot())
        after = counter.read(snapshots.snapshot(processes=snapshots.processes(2)))
        assert sum(after.deaths.values()) == deaths


def test_thousands_of_workers_leave_series_and_memory_flat() -> None:
    counter, pages = counting(), Pages()

    def live(generations: range) -> tuple[int, int]:
        for number in generations:
            born = tuple(snapshots.worker(250 * number + each) for each in range(250, 500))
            own = [snapshots.lock(None, 1000 + 20 * number + each) for each in range(20)]
            kept = [traced(number), traced(3, 9000 + number, state="orphaned")]
            snapshot = snapshots.snapshot(*own, *kept, processes=(snapshots.processes(0)[0], *born))
            page = pages.plain({"app": counter.read(snapshot)})
        del snapshot, born, own, kept
        gc.collect()
        return page.count(b"\n"), tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early, late = live(range(2)), live(range(2, 10))
    finally:
        tracemalloc.stop()
    assert late[0] == early[0]
    assert late[1] - early[1] < 50_000


# -- sampling, listening


def test_samples_follow_sooner_only_while_something_is_undecided() -> None:
    pace = Pace(2.0)
    assert pace.pause_s(0.0, 0.5, undecided=False) == 1.5
    assert pace.pause_s(2.0, 0.01, undecided=True) == 0.1
    assert pace.pause_s(3.0, 0.1, undecided=True) == pytest.approx(0.5), "a fifth of a processor"
    assert pace.pause_s(30.0, 0.01, undecided=True) == pytest.approx(1.99), "for long enough"
    assert pace.pause_s(31.0, 0.01, undecided=False) == pytest.approx(1.99)
    assert pace.pause_s(32.0, 0.01, undecided=True) == 0.1


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1:9877", ("127.0.0.1", 9877)),
        ("[::1]:80", ("::1", 80)),
        (":9877", ("", 9877)),
        ("web1:0", ("web1", 0)),
    ],
)
def test_address_is_host_and_port(address: str, found: tuple[str, int]) -> None:
    assert access.parse(address) == found


@pytest.mark.parametrize("address", ["9877", "::1:80", "host:", "host:65536", "host:-1", "host:٣"])
def test_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        access.parse(address)


def test_error_of_a_certificate_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    for name, why in (("missing.pem", "No such file or directory"), ("text.pem", "no such certificate or key in it")):
        with pytest.raises(SemtraceError, match=f"cannot use .*{name}: {why}"):
            access.tls_context(str(tmp_path / name), None, None)


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [(b"gzip", True), (b"deflate, GZIP;q=0.5", True), (b"gzip;q=0", False), (b"gzip; q=0.000", False), (b"br", False)],
)
def test_answer_is_packed_only_for_who_takes_that(accepted: bytes, packed: bool) -> None:
    site = Site(access.Access(), 30.0, lambda: None)
    site.put(b"x 1\n", None)
    status, fields, _ = site.answer(b"GET /metrics HTTP/1.1\r\nAccept-Encoding: " + accepted)
    assert (status, "Content-Encoding" in fields) == (200, packed)


def test_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "auth"
    path.write_text("prometheus:s3cret\n")
    path.chmod(0o640)
    with pytest.raises(SemtraceError, match="others can read"):
        access.authorization(str(path))
    path.chmod(0o600)
    assert access.authorization(str(path)) == b"Basic cHJvbWV0aGV1czpzM2NyZXQ="


def test_textfile_appears_in_one_step_and_everybody_reads_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        textfile.check(tmp_path / "semtrace.txt")
    textfile.write(tmp_path / "semtrace.prom", b"x 1\n")
    assert (tmp_path / "semtrace.prom").stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["semtrace.prom"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another user")
def test_textfile_in_another_users_directory_is_allowed_without_links(tmp_path: Path) -> None:
    """As /var/lib/prometheus/node-exporter does on Debian."""
    theirs, elsewhere = tmp_path / "prometheus", tmp_path / "elsewhere"
    for each in (theirs, theirs / "node-exporter", elsewhere):
        each.mkdir()
    os.chown(theirs, 65534, 65534)
    textfile.write(theirs / "node-exporter/semtrace.prom", b"x 1\n")
    link = theirs / "link"
    link.symlink_to(elsewhere)
    os.lchown(link, 65534, 65534)
    with pytest.raises(SemtraceError, match="lead elsewhere"):
        textfile.write(link / "semtrace.prom", b"x 1\n")
    (theirs / "semtrace.prom").symlink_to(elsewhere / "target")
    textfile.write(theirs / "semtrace.prom", b"x 2\n")
    assert (theirs / "semtrace.prom").read_bytes() == b"x 2\n"
    assert list(elsewhere.iterdir()) == []
    textfile.remove(theirs / "semtrace.prom")
    assert not (theirs / "semtrace.prom").exists()


def test_textfile_that_becomes_unwritable_stays_and_is_reported_once(tmp_path: Path) -> None:
    """A file that is removed, or a command that ends, takes its series along: then no alert fires."""
    said: list[str] = []
    folder = tmp_path / "folder"
    writer = textfile.Writer(folder / "semtrace.prom", said.append)
    with pytest.raises(SemtraceError, match="No such file") as missing:
        writer.write(b"x 1\n")
    assert missing.value.remedy == "make that directory first"
    folder.mkdir()
    writer.write(b"x 1\n")
    folder.rename(tmp_path / "away")
    for _ in range(3):
        writer.write(b"x 2\n")
    (tmp_path / "away").rename(folder)
    assert (folder / "semtrace.prom").read_bytes() == b"x 1\n"
    writer.write(b"x 3\n")
    path = folder / "semtrace.prom"
    assert said == [f"metrics are in {path}", f"cannot write {path}: No such file or directory; trying again"]
    assert path.read_bytes() == b"x 3\n"


def test_metrics_without_the_extra_say_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from semtrace import cli
    from semtrace.commands import metrics

    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    assert cli.main(["metrics"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "semtrace: metrics needs the package prometheus-client",
        "  pip install 'semtrace[metrics]'",
    ]
