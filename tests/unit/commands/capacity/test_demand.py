"""Demands: what a profile and a trace say hour by hour, and which files are none."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from harness.commands.capacity.plan import constant, profile, trace
from harness.system.errors import UserError


def written(tmp_path, text):
    path = tmp_path / "day.csv"
    path.write_text(text)
    return path


def test_a_constant_demand_is_its_own_mean_and_peak():
    found = constant(2e6)
    assert (found.peak_per_s, found.mean_per_s, found.images) == (2e6, 2e6, 7.2e9)


def test_a_profile_holds_each_rate_until_the_next_row(tmp_path):
    found = profile(written(tmp_path, "hour,rate_per_s\n0,10\n8,100\n8.5,200\n20,10\n"))
    rates = [(hour.mean_per_s, hour.peak_per_s) for hour in found.hours]
    assert rates == [(10, 10)] * 8 + [(150, 200)] + [(200, 200)] * 11 + [(10, 10)] * 4
    assert found.duration_s == 86400
    assert found.images == pytest.approx(3600 * (12 * 10 + 150 + 11 * 200))


def test_a_trace_gives_all_its_images_and_the_peak_of_its_busiest_minute(tmp_path):
    quiet = np.arange(0, 7200, 1.0)
    rush = 3600 + 60 * np.arange(600) / 600  # ten a second more in the first minute of the second hour
    times = np.append(quiet, rush)
    np.random.default_rng(0).shuffle(times)
    found = trace(written(tmp_path, "arrival_s\n" + "\n".join(map(str, times + 1e6))))
    assert found.images == pytest.approx(7800)
    assert len(found.hours) == 2
    assert found.hours[0].peak_per_s == pytest.approx(1)
    assert found.hours[1].peak_per_s == pytest.approx(11)
    assert found.busiest_s.size == pytest.approx(660, abs=1)
    assert 0 <= found.busiest_s.min() <= found.busiest_s.max() <= 60


def test_a_short_trace_is_one_window_and_a_request_may_bring_several_images(tmp_path):
    found = trace(written(tmp_path, "arrival_s,images\n0,1\n1,3\n4,4\n"))
    assert (found.images, found.duration_s, found.peak_per_s) == (8, 4, 2)


def test_a_comma_at_the_end_of_each_row_shifts_nothing(tmp_path):
    assert trace(written(tmp_path, "arrival_s,images\n0,1,\n1,3,\n4,4,\n")).images == 8


@pytest.mark.parametrize(
    "header", ["Arrival_S,Images", "arrival_s , images ", '"arrival_s","images"', "\ufeffarrival_s,images"]
)
def test_a_column_goes_by_its_name_in_any_case_and_with_spaces(tmp_path, header):
    assert trace(written(tmp_path, f"{header}\r\n0,1\r\n1,3\r\n4,4\r\n")).images == 8


def test_hours_of_a_long_trace_are_each_their_own_and_a_year_takes_a_second(tmp_path):
    days = np.arange(0, 365 * 24, 3.0)  # an arrival each third hour, more of them in the last
    times = np.append(days * 3600, 365 * 86400 - np.arange(1, 51))
    found = trace(written(tmp_path, "arrival_s\n" + "\n".join(map(str, times))))
    assert len(found.hours) == 365 * 24
    assert found.images == times.size
    assert found.hours[3].mean_per_s == pytest.approx(1 / 3600)
    assert found.hours[4].mean_per_s == 0
    assert found.hours[-1].peak_per_s == pytest.approx(50 / 119, rel=0.03)  # the rest joins the last window


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (profile, "hour\n0\n", "no column rate_per_s; it has hour"),
        (profile, "hour,rate_per_s\n", "no rows"),
        (profile, "hour,rate_per_s\n0,fast\n", "row 1: rate_per_s is 'fast'"),
        (profile, "hour,rate_per_s\n1,5\n", "rise from 0 to below 24"),
        (profile, "hour,rate_per_s\n0,5\n24,5\n", "rise from 0 to below 24"),
        (profile, "hour,rate_per_s\n0,-5\n", "zero or more"),
        (profile, "hour,rate_per_s\n0,0\n", "not all zero"),
        (profile, "", "can't read"),
        (trace, "time\n1\n", "no column arrival_s"),
        (trace, "arrival_s\n1\n1\n", "at one moment"),
        (trace, "arrival_s\n1\nnan\n", "row 2: arrival_s is 'nan'"),
        (trace, "arrival_s,images\n1,0\n2,1\n", "whole numbers from 1"),
        (trace, "arrival_s\n0,125\n0,250\n", "more fields than its header names: a decimal comma"),
        (trace, "arrival_s\n0.5\n0,250\n", "Expected 1 fields in line 3, saw 2"),
        (profile, "hour,rate_per_s\n0,0,5\n8,1,5\n", "more fields than its header names"),
        (trace, "arrival_s,images\n0,1000000000000\n1,1\n", "1e\\+12 images within 1 s are more than can be simulated"),
        (
            trace,
            "arrival_s\n0\n1764410000\n1764410001\n",
            "gap of .* before its arrival at 1764410000: is arrival_s in",
        ),
        (trace, "arrival_s\n17644100000\n17734100000\n", "covers 1,042 days"),
        (trace, "arrival_s\n1764410000000\n1764410060000\n", "the year 5138 or later: milliseconds, or finer"),
        (trace, "arrival_s,images,images\n0,1,2\n1,1,2\n", "2 columns are called images; keep one"),
        (profile, "hour,rate_per_s,Rate_per_s\n0,1,2\n", "2 columns are called rate_per_s; keep one"),
        (trace, "arrival_s\nTrue\nFalse\n", "row 1: arrival_s is 'True', not a finite number"),
        (trace, "arrival_s;images\n0.5;1\n", "it has arrival_s;images: its columns are separated by ';'"),
    ],
)
def test_a_file_that_is_no_demand_is_refused_in_one_line(tmp_path, read, text, told):
    with pytest.raises(UserError, match=told) as raised:
        read(written(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".gz", gzip.compress(b"arrival_s\n" + b"1\n2\n" * 99, mtime=0)[:-9]),
        (".xz", b"arrival_s\n1\n2\n"),
        (".zip", b"arrival_s\n1\n2\n"),
        (".tar", b"arrival_s\n1\n2\n"),
    ],
)
def test_an_archive_that_is_cut_off_or_none_is_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"day.csv{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"can't read .*day\.csv") as raised:
        trace(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"can't read .*none\.csv"):
        profile(tmp_path / "none.csv")
