"""Naming a driver: what is allowed, and the one line that says what is wrong."""

from __future__ import annotations

import inspect

import pytest

from mshv_async.driver import V6, DriverError, Fix1, list_drivers, list_patches, resolve_driver
from mshv_async.driver.profiles import PROFILES
from mshv_async.driver.select import functions_of

OWN = '''
from mshv_async.driver import V6, EBUSY, mmu_interval_set_seq, step

class SetSeqLate(V6):
    """What if the sequence is set last?"""
    async def region_interval_invalidate(self, mni, range, cur_seq):
        await step("late")
        return await super().region_interval_invalidate(mni, range, cur_seq)

class NoDriver:
    pass
'''


def test_profiles_build_on_one_another():
    assert [(name, base) for name, _, base in list_drivers()] == [
        ("v6", None), ("v7", "v6"), ("v9", "v7"), ("fix1", "v9"),
    ]  # fmt: skip
    assert all(summary for _, summary, _ in list_drivers())


def test_a_profile_and_a_stack():
    assert resolve_driver("v6").cls is V6
    spec = resolve_driver("v6+unlock-on-failure+check-access")
    assert (spec.name, spec.base) == ("v6+unlock-on-failure+check-access", "v6")
    assert spec.patches == ("unlock-on-failure", "check-access")
    assert spec.cls.handle_gpa_intercept is not V6.handle_gpa_intercept
    assert spec.cls.region_interval_invalidate is not V6.region_interval_invalidate
    assert spec.cls.region_range_fault is V6.region_range_fault
    assert resolve_driver("fix1").cls is Fix1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("v8", ["'v8'", "v6, v7, v9, fix1", "file.py:Class"]),
        ("", ["unknown driver"]),
        ("v6+nonsense", ["'nonsense'", "check-access"]),
        ("fix1+check-access", ["check-access", "fix1", "v6, v7, v9"]),
        ("v7+region-refcount", ["is for: v6"]),
        ("v6+check-access+check-access", ["twice"]),
        ("v6+check-access+region-refcount", ["both replace handle_gpa_intercept"]),
        ("v6+list-before-map+put-on-map-error", ["both replace map_user_memory"]),
        ("v6+retry-no-access+rollback-to-no-access", ["would undo", "put it first"]),
        ("v6+quiet-trylock-failure+unlock-on-failure", ["both replace", "range-before-lock only"]),
    ],
)
def test_what_is_refused_is_said_in_one_line(spec, words):
    with pytest.raises(DriverError) as caught:
        resolve_driver(spec)
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_a_users_file(tmp_path):
    file = tmp_path / "my_driver.py"
    file.write_text(OWN)
    spec = resolve_driver(f"{file}:SetSeqLate")
    assert issubclass(spec.cls, V6)
    assert (spec.base, spec.source) == ("v6", OWN)


def test_a_users_source_needs_no_file():
    assert resolve_driver("gone.py:SetSeqLate", OWN).cls.__name__ == "SetSeqLate"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("absent.py:X", None, "absent.py: no such file"),
        ("broken.py:X", "def", "does not import: SyntaxError"),
        ("raises.py:X", "raise RuntimeError('a\\nb')", "does not import: RuntimeError: a"),
        ("own.py:Other", OWN, "has no class Other; it has: SetSeqLate"),
        ("own.py:Other", "x = 1", "has no class Other; it has no class derived"),
        ("own.py:NoDriver", OWN, "is not a driver"),
    ],
)
def test_a_users_file_that_is_no_driver(tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name.partition(":")[0]).write_text(text)
    with pytest.raises(DriverError) as caught:
        resolve_driver(str(tmp_path / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_users_file(tmp_path):
    (tmp_path / "dir.py").mkdir()
    with pytest.raises(DriverError, match=r"dir\.py: cannot be read: IsADirectoryError"):
        resolve_driver(f"{tmp_path}/dir.py:X")


# -- patches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", list_patches(), ids=lambda p: p.name)
def test_each_patch_says_what_it_is_and_changes_something(patch):
    assert patch.summary
    assert patch.bugs
    assert set(patch.applies_to) <= set(PROFILES)
    for variant in patch.variants:
        changed = functions_of(variant)
        assert changed, f"{variant.cls.__name__} overrides no function of the driver"
        assert set(patch.extends) & changed <= changed


@pytest.mark.parametrize("patch", list_patches(), ids=lambda p: p.name)
def test_each_patch_takes_effect_on_each_of_its_profiles(patch):
    for base in patch.applies_to:
        fits = [v for v in patch.variants if base in v.on and not v.after]
        spec = f"{base}+{patch.name}"
        if not fits:
            continue
        cls = resolve_driver(spec).cls
        for function in functions_of(fits[0]):
            below = getattr(PROFILES[base], function, None)
            assert getattr(cls, function) is not below, (spec, function)


@pytest.mark.parametrize("patch", list_patches(), ids=lambda p: p.name)
def test_parameters_stay_those_of_the_function(patch):
    """A function keeps C's parameters in C's order, in every version."""
    for variant in patch.variants:
        for function in functions_of(variant):
            below = getattr(PROFILES[variant.on[0]], function, None)
            if below is None:
                continue
            ours = inspect.signature(getattr(variant.cls, function))
            assert list(ours.parameters) == list(inspect.signature(below).parameters), function
