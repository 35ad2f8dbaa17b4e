"""A kernel developer finds each function by its name, in the module of its concern."""

from __future__ import annotations

import importlib
import inspect

import pytest

from mshv_async import driver
from mshv_async.driver import PROFILES, V6

WHERE = {
    "partition": ["partition_ioctl", "vp_ioctl", "partition_ioctl_initialize",
                  "partition_ioctl_create_vp", "anon_inode_getfd", "vp_release",
                  "partition_release", "destroy_partition"],
    "run_vp": ["vp_ioctl_run_vp", "vp_handle_intercept", "run_vp_with_root_scheduler",
               "run_vp_with_hyp_scheduler", "kick_vp"],
    "memory": ["partition_ioctl_set_memory", "map_user_memory", "prepare_pinned_region",
               "unmap_user_memory"],
    "fault": ["handle_gpa_intercept", "region_handle_gfn_fault", "region_range_fault",
              "region_hmm_fault_and_lock"],
    "region": ["partition_region_by_gfn", "partition_create_region",
               "partition_destroy_region"],
    "invalidate": ["region_movable_init", "region_movable_fini", "region_interval_invalidate"],
    "remap": ["region_remap_pages", "region_map", "region_unmap"],
    "hypercalls": ["hv_call_map_gpa_pages", "hv_call_unmap_gpa_pages", "hv_call_deposit_pages",
                   "hv_call_withdraw_memory"],
}  # fmt: skip


@pytest.mark.parametrize("module", WHERE)
def test_functions_stand_in_the_module_of_their_concern(module):
    home = importlib.import_module(f"mshv_async.driver.{module}").__name__
    for name in WHERE[module]:
        function = getattr(V6, name)
        assert function.__module__ == home
        assert inspect.iscoroutinefunction(function)
        assert function.__doc__


@pytest.mark.parametrize(("name", "parameters"), [
    ("region_hmm_fault_and_lock", ["region", "range"]),
    ("region_range_fault", ["region", "page_offset", "page_count"]),
    ("region_handle_gfn_fault", ["region", "gfn"]),
    ("handle_gpa_intercept", ["vp"]),
    ("region_interval_invalidate", ["mni", "range", "cur_seq"]),
    ("region_remap_pages", ["region", "map_flags", "page_offset", "page_count"]),
    ("map_user_memory", ["partition", "mem"]),
])  # fmt: skip
def test_parameters_are_those_of_c(name, parameters):
    for cls in PROFILES.values():
        assert list(inspect.signature(getattr(cls, name)).parameters) == ["self", *parameters]


def test_every_version_says_what_it_changed():
    for cls in PROFILES.values():
        assert len((cls.__doc__ or "").splitlines()) > 2


def test_what_is_exported_exists():
    assert sorted(driver.__all__) == sorted(set(driver.__all__))
    assert [n for n in driver.__all__ if not hasattr(driver, n)] == []
