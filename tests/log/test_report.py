"""A finding is read in a fixed order; what is for copying must be complete."""

from hand_made import RACE, step

from mshv_async.log import Finding, report

FINDING = Finding(
    "lost-unlock",
    "lost-unlock: region_interval_invalidate (region.mutex)",
    story=("madvise took region@0x200.mutex", "the hypercall failed", "madvise left with it"),
    waits=("vp0 waits for region@0x200.mutex, held by madvise",),
    stacks={"madvise": ("region_interval_invalidate", "madvise"), "vp0": ("mutex_lock",)},
)


def test_title_command_story_waits_columns_stacks_in_this_order():
    text = report(FINDING, RACE, command="mshv-async replay x.repro.json")
    parts = [
        "lost-unlock: region_interval_invalidate (region.mutex)\n",
        "mshv-async replay x.repro.json",
        "the hypercall failed",
        "vp0 waits for region@0x200.mutex",
        "mutex.trylock region@0x200.mutex",
        "madvise:\n  region_interval_invalidate\n  madvise",
        "vp0:\n  mutex_lock",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert places[0] == 0


def test_a_title_says_its_verdict_once():
    assert report(FINDING, []).startswith("lost-unlock: region")
    bare = Finding("oops", "region_range_fault (range)")
    assert report(bare, []).splitlines()[0] == "oops: region_range_fault (range)"
    assert report(Finding("deadlock", "deadlock"), []).splitlines()[0] == "deadlock"


def test_a_long_command_is_not_cut():
    command = "mshv-async replay " + "deep/" * 40 + "1-oops.repro.json"
    assert command in report(FINDING, RACE, command=command)


def test_without_steps_there_are_no_columns():
    assert "---" not in report(FINDING, [])
    assert "(no steps)" not in report(FINDING, [])


def test_threads_of_the_stacks_have_a_column_even_among_many():
    crowd = [*RACE, *(step(n, f"vp{2 + n % 6}", "mutex.lock", "m") for n in range(10, 60))]
    header = next(line for line in report(FINDING, crowd).splitlines() if "madvise  " in line)
    assert "vp0" in header


def test_a_thread_without_a_stack_has_no_empty_heading():
    assert "vmm:" not in report(Finding("oops", "oops: f", stacks={"vmm": ()}), RACE)


def test_what_repeats_for_ever_is_shown_once_and_the_steps_after_it_are_not():
    turn = [
        step(1, "vp0", "guest.write", "slat1"),
        step(2, "vp0", "hmm.walk", "mm0"),
        step(3, "madvise", "notifier.start", "mm0"),
        step(4, "vp0", "cond_resched"),
        step(5, "vp0", "hmm.walk", "mm0"),
        step(6, "madvise", "notifier.start", "mm0"),
        step(7, "vp0", "cond_resched"),
    ]
    finding = Finding("livelock", "livelock: f", threads=("vp0",), step=7, loop=(2, 5))
    lines = report(finding, turn, width=100).splitlines()
    assert [n for n in range(1, 8) if any(line.lstrip().startswith(f"{n} ") for line in lines)] == [
        *range(1, 5)
    ]
    ever = next(n for n, line in enumerate(lines) if "the 3 steps above repeat for ever" in line)
    assert "cond_resched" in lines[ever - 1]
    assert "!! livelock" in lines[ever + 1]
