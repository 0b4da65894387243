"""XLA's reports of its memory, and the peak in them."""

import itertools
import pathlib
import random

from jaxswap._compiled.buffers import (
    AssignedValue,
    Report,
    describe_buffers,
    find_peak,
    parse_temporaries,
    read_report,
)
from jaxswap._compiled.hlo import parse_module

ASSIGNMENT = """\
BufferAssignment:
allocation 0: size 64, page 0, parameter 0, shape |f32[16]| at ShapeIndex {}:
 value: <1 x.1 @0> (size=64,offset=0): f32[16]{0}
allocation 1: size 64, page 0, maybe-live-out:
 value: <2 y.1 @0> (size=64,offset=0): f32[16]{0}
allocation 2: size 256, color 5, page 0, preallocated-temp:
 value: <3 start.1{0} @5> (size=64,offset=0): f32[16]{0:S(5)}
allocation 3: size 192, page 0, preallocated-temp:
 value: <4 fusion.1 @0> (size=64,offset=0): f32[16]{0}
 value: <5 t.1{1} (phi) @0> (size=64,offset=0): f32[16]{0}
 value: <6 inner.1 @0> (size=64,offset=64): f32[1,16]{1,0}
 value: <7 start.2{} @0> (size=24,offset=128): ((f32[16]{0}), f32[16]{0}, u32[])
 value: <8 start.2{2} @0> (size=4,offset=152): u32[]
 value: <9 gone.1 @0> (size=64,offset=0): f32[16]{0}

Total bytes used: 0 (0B)
"""
LIVE_RANGE = """\
HloLiveRange (max 9):
  InstructionSequence:
    0:x.1
    1:fusion.1
    2:t.1
    3:inner.1
    4:start.2
    5:y.1
  BufferLiveRange:
    x.1{}:0-9
    fusion.1{}:1-2
    t.1{1}:2-5
    inner.1{}:3-5
    start.2{}:4-5
    start.2{2}:4-5
    start.1{0}:1-5
    y.1{}:5-9
  Live ranges at 4 (peak):
    start.1{0}: 64 bytes (cumulative: 64 bytes)
"""
MODULE = """HloModule jit_f, is_scheduled=true

ENTRY %main (x.1: f32[16]) -> f32[16] {
  %x.1 = f32[16]{0} parameter(0)
  %fusion.1 = f32[16]{0} fusion(%x.1), metadata={op_name="jit(f)/tanh" \
source_file="m.py" source_line=4}
  %t.1 = (s32[], f32[16]{0}) while(%fusion.1)
  %start.2 = ((f32[16]{0}), f32[1,16]{1,0}, u32[]) fusion-start(%t.1)
  ROOT %y.1 = f32[16]{0} fusion-done(%start.2)
}
"""
KNOWN = {"x.1", "fusion.1", "t.1", "start.2", "y.1"}


def test_only_arrays_in_device_temporaries_are_read() -> None:
    values = parse_temporaries(ASSIGNMENT, LIVE_RANGE, KNOWN)
    assert [(value.name, value.first, value.last) for value in values] == [
        ("fusion.1", 1, 2),
        ("t.1", 2, 5),
        ("start.2", 3, 5),  # made by `inner.1`, which the program text omits
        ("start.2", 4, 5),
    ]
    assert values[0].slot == values[1].slot == ("3", 0)
    assert values[2].array == "f32[1,16]"


def test_what_a_loop_carries_is_described_by_what_made_it() -> None:
    values = parse_temporaries(ASSIGNMENT, LIVE_RANGE, KNOWN)
    module = parse_module(MODULE)
    buffers = describe_buffers(find_peak(values), values, module, {"start.2": "h"})
    carried, swapped, _ = buffers
    assert (carried.label, carried.source, carried.opcode) == (
        "jit(f)/tanh",
        "m.py:4",
        "fusion",
    )
    assert (swapped.label, swapped.nbytes) == ("h", 64)


def test_reports_are_found_by_the_name_of_the_module(tmp_path: pathlib.Path) -> None:
    stem = "module_0007.jit_f.sm_9.0_gpu_after_optimizations"
    (tmp_path / f"{stem}-buffer-assignment.txt").write_text(ASSIGNMENT)
    (tmp_path / f"{stem}-live-range.txt").write_text(LIVE_RANGE)
    module = parse_module(MODULE)
    report = read_report(tmp_path, module)
    assert len(report.temporaries) == 4
    assert report.steps["fusion.1"] == 1
    other = parse_module(MODULE.replace("jit_f", "jit_g"))
    assert read_report(tmp_path, other) == Report()


def value(name: str, offset: int, nbytes: int, first: int, last: int) -> AssignedValue:
    return AssignedValue(name, f"u8[{nbytes}]", ("0", offset), nbytes, first, last)


def test_values_in_one_slot_count_once() -> None:
    values = [value("a", 0, 10, 0, 4), value("b", 0, 10, 2, 6), value("c", 10, 5, 3, 3)]
    assert [one.name for one in find_peak(values)] == ["b", "c"]


def test_a_live_range_includes_its_last_step() -> None:
    values = [value("a", 0, 10, 0, 2), value("b", 10, 10, 2, 3)]
    assert len(find_peak(values)) == 2
    values = [value("a", 0, 10, 0, 2), value("b", 10, 10, 3, 3)]
    assert len(find_peak(values)) == 1


def test_nothing_is_alive_in_an_empty_program() -> None:
    assert find_peak([]) == ()


def test_peak_is_the_fullest_step() -> None:
    choose = random.Random(0)
    for _ in range(200):
        values = []
        for index in range(choose.randrange(1, 12)):
            first = choose.randrange(10)
            last = first + choose.randrange(5)
            slot, nbytes = choose.randrange(4) * 100, choose.randrange(1, 100)
            values.append(value(str(index), slot, nbytes, first, last))
        fullest = max(
            sum(
                max(one.nbytes for one in sharing)
                for _, sharing in itertools.groupby(
                    sorted(
                        (one for one in values if one.first <= step <= one.last),
                        key=lambda one: one.slot,
                    ),
                    key=lambda one: one.slot,
                )
            )
            for step in range(16)
        )
        assert sum(one.nbytes for one in find_peak(values)) == fullest
