"""The C structure `Result`: what a draft takes, and where its copies are."""

import ctypes

from jaxswap._schedule.instructions import Return, Swap
from jaxswap._schedule.order import Order

_INTS = ctypes.POINTER(ctypes.c_int)


class Result(ctypes.Structure):
    """The C structure. Its vectors are those of the last draft."""

    _fields_ = [
        ("device_bytes", ctypes.c_int64),
        ("host_bytes", ctypes.c_int64),
        ("fragmented_bytes", ctypes.c_int64),
        ("seconds", ctypes.c_double),
        ("crowd", ctypes.c_double),
        ("steps", ctypes.c_int),
        ("bytes_at", ctypes.POINTER(ctypes.c_int64)),
        ("entries", ctypes.c_int),
        ("template_of", ctypes.POINTER(ctypes.c_int)),
        ("entry_bytes", ctypes.POINTER(ctypes.c_int64)),
        *((name, ctypes.c_int) for name in ("swaps", "in_place")),
        *((name, _INTS) for name in ("swapped", "free_at", "start")),
        *((name, _INTS) for name in ("gate", "use", "done_at")),
    ]

    def copies(self, order: Order) -> tuple[Swap, ...]:
        """Return the swaps of the draft, which has this order of entries."""

        def known(number: int) -> int | None:
            return None if number < 0 else number

        def back(g: int) -> Return:
            return Return(known(self.gate[g]), self.use[g], known(self.done_at[g]))

        return tuple(
            Swap(
                self.swapped[k],
                order.made[self.swapped[k]],
                known(self.free_at[k]),
                tuple(map(back, range(self.start[k], self.start[k + 1]))),
            )
            for k in range(self.swaps)
        )
