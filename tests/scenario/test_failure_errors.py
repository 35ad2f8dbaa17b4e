"""What is wrong with permitted failures, bounds, costs or expectations is told in one line."""

import pytest
from bad_scenarios import GOOD, expect, inject, told

CASES = {
    # text: (key, found, allowed); found and allowed are fragments of the message
    "site": (
        inject("at = 'notifier.inser'\nerrno = 'ENOMEM'"),
        "inject[0].at",
        'did you mean "notifier.insert"',
        "hypercall.<name>, alloc.<site>",
    ),
    "hypercall": (
        inject("at = 'hypercall.map_gap'\nstatus = 'TIMEOUT'"),
        "inject[0].at",
        'did you mean "map_gpa"',
        "unmap_gpa",
    ),
    "allocation": (inject("at = 'alloc.'"), "inject[0].at", '"alloc."', "alloc.<site>, "),
    "no status": (inject("at = 'hypercall.map_gpa'"), "inject[0].status", "nothing", "TIMEOUT"),
    "status": (
        inject("at = 'hypercall.map_gpa'\nstatus = 'TIMOUT'"),
        "inject[0].status",
        'did you mean "TIMEOUT"',
        "OPERATION_FAILED",
    ),
    "status or errno": (
        inject("at = 'hypercall.map_gpa'\nstatus = 'TIMEOUT'\nerrno = 'EIO'"),
        "inject[0].errno",
        '"EIO"',
        "status = … at a hypercall",
    ),
    "errno or status": (
        inject("at = 'alloc.region'\nstatus = 'TIMEOUT'"),
        "inject[0].status",
        '"TIMEOUT"',
        "errno (ENOMEM)",
    ),
    "errno": (
        inject("at = 'fault'\nerrno = 'EFALT'"),
        "inject[0].errno",
        '"EFALT"',
        "EFAULT, ENOMEM",
    ),
    "signal": (inject("at = 'signal'\nerrno = 'EIO'"), "inject[0].errno", '"EIO"', "EINTR"),
    "rep": (
        inject("at = 'hypercall.create_vp'\nstatus = 'TIMEOUT'\nrep = 1"),
        "inject[0].rep",
        "1, but create_vp has no list",
        "map_gpa",
    ),
    "rep sign": (
        inject("at = 'hypercall.map_gpa'\nstatus = 'TIMEOUT'\nrep = -1"),
        "inject[0].rep",
        "-1",
        "at least 0",
    ),
    "rep elsewhere": (inject("at = 'pin'\nrep = 1"), "inject[0].rep", "1", "no rep"),
    "times": (inject("at = 'pin'\ntimes = 0"), "inject[0].times", "0", "at least 1"),
    "within": (
        inject("at = 'pin'\nwithin = 'mshv_map_user_memory'"),
        "inject[0].within",
        '"mshv_map_user_memory"',
        "without its mshv_ prefix",
    ),
    "within misspelt": (
        inject("at = 'pin'\nwithin = 'region_interval_invalidte'"),
        "inject[0].within",
        'did you mean "region_interval_invalidate"',
        "a driver function",
    ),
    "within nothing": (inject("at = 'pin'\nwithin = 'a b'"), "inject[0].within", '"a b"', "driver"),
    "pin status": (
        inject("at = 'pin'\nstatus = 'LONG'"),
        "inject[0].status",
        '"LONG"',
        "status (SHORT) or errno (any",
    ),
    "bounds": (GOOD + "[bounds]\nprogress_steps = 0", "bounds.progress_steps", "0", "at least 1"),
    "bound": (GOOD + "[bounds]\nsteps = 1", "bounds.steps", "an unknown key", "progress_steps"),
    "time": (GOOD + "[time]\nhypercall.map = -1", 'time."hypercall.map"', "-1", "a whole number"),
    "time label": (GOOD + "[time]\n'A b' = 1", "time", '"A b"', "such as hypercall.map_gpa"),
    "bug": (f"bugs = ['a1']\n{GOOD}", "bugs[0]", '"a1"', '"A01"'),
    "driver": (expect('"v6+" = []'), 'expect."v6+"', '"v6+"', "a profile with patches"),
    "driver that is none": (
        expect("v1 = []"),
        'expect."v1"',
        '"v1" (unknown driver',
        "list drivers",
    ),
    "patch that is none": (
        expect('"v6+unlok-on-failure" = []'),
        'expect."',
        "unlok-on-failure",
        "list patches",
    ),
    "patch of another": (
        expect('"fix1+unlock-on-failure" = []'),
        'expect."',
        "is not for fix1",
        "list patches",
    ),
    "misspelt label": (
        GOOD + "[time]\nhypercal.map_gpa = 1",
        "time",
        'mean "hypercall"',
        "hypercall,",
    ),
    "misspelt call": (
        GOOD + "[time]\nhypercall.map_gpaa.rep = 1",
        "time",
        "hypercall.map_gpa",
        "unmap_gpa",
    ),
    "misspelt part": (
        GOOD + "[time]\nhypercall.map_gpa.rap = 1",
        "time",
        'map_gpa.rep"',
        "hypercall.map_gpa.rep",
    ),
    "driver patch": (expect('"v6+a+a" = []'), 'expect."v6+a+a"', '"v6+a+a"', "a profile"),
    "driver again": (
        expect(
            '"v6+check-access+unlock-on-failure" = []\n"v6+unlock-on-failure+check-access" = []'
        ),
        'expect."v6+unlock-on-failure+check-access"',
        'the driver of "v6+check-access+unlock-on-failure" again',
        "once",
    ),
    "verdict": (expect("v6 = ['opps']"), 'expect."v6"', 'did you mean "oops"', "livelock"),
    "invariant": (
        expect("v6 = ['stale-mapping']"),
        'expect."v6"',
        'did you mean "invariant:stale-mapping"',
        "invariant:coherence",
    ),
    "clean and not": (expect("v6 = ['clean', 'oops']"), 'expect."v6"', '"clean" beside', "alone"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_failure_or_expectation_is_told_in_one_line(case, tmp_path):
    told(*CASES[case], tmp_path)
