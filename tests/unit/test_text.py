"""Ages, sizes and columns as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtrace.text import age, clean, clip, clip_start, counted, exact, fitted, iso, percent, size, table


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (-0.3, "0.0s"),
        (0, "0.0s"),
        (0.44, "0.4s"),
        (9.94, "9.9s"),
        (9.99, "10s"),
        (12.9, "12s"),
        (59.999, "59s"),
        (60, "1m00s"),
        (192, "3m12s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (7500, "2h05m"),
        (86399, "23h59m"),
        (86400 * 4 + 7 * 3600, "4d07h"),
        (86400 * 400, "400d00h"),
    ],
)
def test_age(seconds, shown):
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "-"),
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0K"),
        (4608, "4.5K"),
        (10188, "9.9K"),
        (10189, "10K"),
        (1023 * 1024, "1.0M"),
        (41 << 20, "41M"),
        (int(1.2 * (1 << 30)), "1.2G"),
        (1 << 60, "1024P"),
    ],
)
def test_size(number, shown):
    assert size(number) == shown


@given(st.integers(0, 10 << 50))
def test_a_size_is_never_wider_than_four_characters(number):
    assert len(size(number)) <= 4


@given(st.floats(0, 86400 * 99))
def test_an_age_is_never_wider_than_six_characters(seconds):
    assert len(age(seconds)) <= 6


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0.0, "0.0"), (9.66, "9.7"), (99.96, "100"), (412.4, "412")])
def test_percent(value, shown):
    assert percent(value) == shown


def test_iso_is_utc_with_milliseconds():
    assert iso(0.25) == "1970-01-01T00:00:00.250Z"


def test_clean_takes_the_terminal_s_commands_out_of_a_title():
    assert clean("gunicorn\x1b[31m\n[x]\x9b") == "gunicorn?[31m?[x]?"


def test_clip():
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcde…"


def test_table_aligns_columns_and_has_no_trailing_blanks():
    rows = [["PID", "ROLE", "MEMORY"], ["7", "master", "41M"], ["12345", "worker", ""]]
    assert list(table(rows, "><<")) == ["  PID  ROLE    MEMORY", "    7  master  41M", "12345  worker"]


def test_a_table_without_rows_has_no_lines():
    assert list(table([], "<>")) == []


@pytest.mark.parametrize(("width", "shown"), [(9, "app.locks"), (8, "…p.locks"), (2, "…s"), (1, "…")])
def test_the_end_of_a_text_that_is_too_long(width, shown):
    assert clip_start("app.locks", width) == shown


@pytest.mark.parametrize(
    ("count", "words", "shown"),
    [
        (1, ("worker",), "1 worker"),
        (0, ("worker",), "0 workers"),
        (2, ("process",), "2 processes"),
        (2, ("thread waits", "threads wait"), "2 threads wait"),
    ],
)
def test_counted(count, words, shown):
    assert counted(count, *words) == shown


def test_only_overlong_prose_is_wrapped_and_never_a_command() -> None:
    command = "  semtrace release 4710 myapp.lock --yes --audit /var/log/semtrace"
    lines = ["short", "  it was locked in 40 readings over 1.0 s", command, "-" * 50]
    assert list(fitted(lines, 30)) == [
        "short",
        "  it was locked in 40 readings",
        "    over 1.0 s",
        command,
        "-" * 50,
    ]


def test_no_time_at_all_is_given_in_seconds():
    assert [exact(each) for each in (0.0, -1.0, 1e-9)] == ["0s", "0s", "1ns"]
