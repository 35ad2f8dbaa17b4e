"""guest-killed: which accesses are owed to the guest, and which are not."""

from __future__ import annotations

import pytest
from oracle_playing import REGION, failing_map, finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.driver import EFAULT, current

OTHER = '\n[[process]]\nname = "other"\n'
ELSEWHERE = OTHER + '\n[[vp]]\nprocess = "other"\nprogram = ["write 0x200", "read 0x201"]\n'
RUN = vps("write 0x200", "read 0x201")
MAP = thread("vmm", "map 0x200 8KiB")
LATE = vps("yield", "write 0x200", "read 0x200")


class GivesUpOnce(Sound):
    """The first fault of each thread fails for no reason."""

    async def region_handle_gfn_fault(self, region, gfn):
        if region.pages.get(gfn - region.start_gfn) is None and not region.large_pages:
            region.large_pages = True  # nobody else uses it in this version
            return False
        return await super().region_handle_gfn_fault(region, gfn)


class TriesTwice(Sound):
    """A fault that fails is served in a second handling: the intercept comes again."""

    async def region_handle_gfn_fault(self, region, gfn):
        await super().region_handle_gfn_fault(region, gfn)
        return True


class FailsAfterTheSecond(TriesTwice):
    """The same, and what comes after an injected failure is given up."""

    async def region_handle_gfn_fault(self, region, gfn):
        if current().rt.injector.fired:
            return False
        return await super().region_handle_gfn_fault(region, gfn)


def test_a_fault_that_is_given_up_is_found():
    finding = finding_of(REGION + RUN, GivesUpOnce, "guest-killed")
    assert finding.title == "guest-killed: vp_ioctl_run_vp"
    assert finding.story[0] == "vp0: a legal write of gfn 0x200 left the kernel unhandled"


ONE_FAILURE = REGION + RUN + '\n[[inject]]\nat = "fault"\nerrno = "ENOMEM"\nforce = true\n'


def test_a_failure_excuses_the_handling_that_it_hit_and_no_other():
    silent(ONE_FAILURE, TriesTwice)
    finding_of(ONE_FAILURE, FailsAfterTheSecond, "guest-killed")


def test_a_region_whose_map_fails_was_never_the_guests():
    """The entries come before the ioctl fails, and with them the guest's first touch."""
    scenario = '[[region]]\ngfn = 0x1000\nsize = "4KiB"\n' + vps("yield", "write 0x200")
    failing = scenario + thread("vmm", "map 0x200 4MiB") + failing_map("map_user_memory", rep=1)
    silent(failing, Sound)


def test_a_region_that_is_being_mapped_is_the_guests_once_the_map_succeeds():
    """bugs.md D05: the entries are there before the list knows the region."""
    finding = finding_of(LATE + MAP, "fix1", "guest-killed")
    assert "has succeeded since" in finding.story[-1]
    silent(LATE + MAP, Sound)


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_processor_that_outlives_the_memory_is_owed_nothing(end):
    silent(REGION + ELSEWHERE + thread("vmm", end), Sound)


class FailsAlways(Sound):
    async def region_range_fault(self, region, page_offset, page_count):
        return -EFAULT


def test_as_long_as_the_memory_lives_another_process_is_owed_it():
    finding_of(REGION + ELSEWHERE + thread("vmm", "yield"), FailsAlways, "guest-killed")


def test_an_access_whose_region_is_being_unmapped_is_not_owed():
    scenario = REGION + RUN + thread("vmm", "unmap 0x200")
    silent(scenario, Sound)


def test_signals_that_do_not_kill_excuse_nothing():
    scenario = REGION + RUN + thread("vmm", "signal vp0", "signal vp0")
    silent(scenario, Sound)
    finding_of(scenario, GivesUpOnce, "guest-killed")
