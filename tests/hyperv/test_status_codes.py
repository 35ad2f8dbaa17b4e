import errno

import pytest

from mshv_async.hyperv import HvStatus, status_to_errno, status_to_errno_2024

PLAIN = {
    "SUCCESS": 0,
    "INVALID_HYPERCALL_CODE": errno.EINVAL,
    "INVALID_HYPERCALL_INPUT": errno.EINVAL,
    "INVALID_PARAMETER": errno.EINVAL,
    "INVALID_PARTITION_ID": errno.EINVAL,
    "INVALID_VP_INDEX": errno.EINVAL,
    "INSUFFICIENT_MEMORY": errno.ENOMEM,
}
SINCE_2025 = {
    "INVALID_ALIGNMENT": errno.EINVAL,
    "INVALID_PARTITION_STATE": errno.EINVAL,
    "INVALID_VP_STATE": errno.EINVAL,
    "ACCESS_DENIED": errno.EACCES,
    "OPERATION_DENIED": errno.EACCES,
    "PROPERTY_OUT_OF_RANGE": errno.ERANGE,
    "INSUFFICIENT_BUFFERS": errno.ENOBUFS,
    "NOT_ACKNOWLEDGED": errno.EBUSY,
    "VTL_ALREADY_ENABLED": errno.EBUSY,
    "TIMEOUT": errno.ETIMEDOUT,
}
ALWAYS_EIO = ("OPERATION_FAILED", "NO_RESOURCES", "UNKNOWN_PROPERTY", "NOT_FOUND", "CALL_PENDING")


@pytest.mark.parametrize(("name", "code"), [*PLAIN.items(), *SINCE_2025.items()])
def test_an_ioctl_returns_the_errno_that_linux_makes_of_a_status(name, code):
    assert status_to_errno(HvStatus[name]) == -code


@pytest.mark.parametrize("name", ALWAYS_EIO)
def test_statuses_without_an_errno_of_their_own_are_eio(name):
    assert status_to_errno(HvStatus[name]) == -errno.EIO
    assert status_to_errno_2024(HvStatus[name]) == -errno.EIO


@pytest.mark.parametrize("name", SINCE_2025)
def test_the_older_table_knows_the_finer_statuses_only_as_eio(name):
    assert status_to_errno_2024(HvStatus[name]) == -errno.EIO


@pytest.mark.parametrize(("name", "code"), PLAIN.items())
def test_both_tables_agree_on_the_plain_statuses(name, code):
    assert status_to_errno_2024(HvStatus[name]) == -code


def test_every_status_has_a_number_of_the_published_list():
    assert HvStatus(0x71) is HvStatus.OPERATION_FAILED
    assert HvStatus(0x0B) is HvStatus.INSUFFICIENT_MEMORY
    assert len({int(s) for s in HvStatus}) == len(HvStatus) == 30
