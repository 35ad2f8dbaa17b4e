"""kick: the signal that wakes a processor's thread is sent once and counted once (spec.md 4.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mshv_async.driver import MshvVp
from mshv_async.hyperv import SchedulerType
from mshv_async.oracle.invariant import Invariant
from mshv_async.oracle.observed import Observed
from mshv_async.oracle.watching import watches
from mshv_async.sim import SharedDict

if TYPE_CHECKING:
    from mshv_async.hyperv import SignalMessage, VirtualProcessor


class Kick(Invariant):
    """Compares what the hypervisor sent for a processor with what the driver counted.

    A processor that stopped sends nothing more until it was run again, so at most one signal is
    under way. The driver's handler counts each for the processor that it names, if there is one.
    Destruction drains: when a processor's object is freed, both counts agree (root scheduler).
    """

    __slots__ = ("handled",)
    invariant = "kick"
    summary = "one kick outstanding at most, none lost, counts equal after the drain"

    def __init__(self, world: Observed) -> None:
        super().__init__(world)
        # By index: kicks that the handler was called for.
        self.handled: SharedDict[int, int] = SharedDict("oracle.kicks", listed=False)

    def _known(self, index: int) -> MshvVp | None:
        for vp in self.world.vps:
            if vp.vp_index == index:
                return vp
        return None

    @watches("kick.sent")
    def on_sent(self, vp: VirtualProcessor) -> None:
        """See to it that no earlier signal is still under way."""
        known = self._known(vp.index)
        if known is None or vp is not known.vp_intercept_msg_page:
            return
        under_way = vp.signal_count - known.vp_signaled_count
        if under_way > 1:
            self._violated(
                vp.index,
                ("vp_ioctl_run_vp",),
                f"{under_way} kicks are under way for vp{vp.index}",
                "it was run again before the last one was taken",
            )

    @watches("kick.handled")
    def on_handled(self, message: SignalMessage) -> None:
        """See to it that the driver took the signal that its handler was called for."""
        index = message.vp_index
        vp = self._known(index)
        if vp is None or message.sender != self.world.hv_partition.id:
            return
        if not vp.vp_partition.pt_ref_count.count:
            return  # it is being destroyed, and nobody sleeps for the kick any more
        kicks = (self.handled.get(index) or 0) + 1
        self.handled[index] = kicks
        if vp.vp_signaled_count < kicks:
            self._violated(
                index,
                (self._handler(),),
                f"kick {kicks} of vp{index} is lost: the driver counts {vp.vp_signaled_count}",
                "the handler returned without having found the processor",
                "whoever sleeps for it is not woken",
            )
        elif vp.vp_signaled_count > kicks:
            self._violated(
                index,
                (self._handler(),),
                f"kick {kicks} of vp{index} is doubled: the driver counts {vp.vp_signaled_count}",
                "teardown will wait for a count that the hypervisor's never equals",
            )

    def _handler(self) -> str:
        handler = self.world.hv_partition.hv.interrupts.handler
        return getattr(handler, "__name__", "handler")

    @watches("object.free")
    def on_free(self, obj: Any) -> None:
        """Compare the counts when the processor goes."""
        if not isinstance(obj, MshvVp) or obj.vp_partition is not self.world.partition:
            return
        page = obj.vp_intercept_msg_page
        by_root = self.world.hv_partition.hv.scheduler is SchedulerType.ROOT
        if by_root and page.signal_count != obj.vp_signaled_count:
            self._violated(
                obj.vp_index,
                (),
                f"vp{obj.vp_index} is freed: the hypervisor sent {page.signal_count} kicks",
                f"the driver counted {obj.vp_signaled_count}, so one is still under way",
            )

    def _violated(self, index: int, functions: tuple[str, ...], *story: str) -> None:
        self.world.violated(self.name, story, functions=functions, objects=(f"vp{index}",))
