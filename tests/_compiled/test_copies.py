"""Copies between device and host, and the work in their windows."""

import pytest

from jaxswap._compiled.copies import Copy, find_copies, swap_label
from jaxswap._compiled.hlo import parse_module

HEAD = """HloModule jit_f, is_scheduled=true

%fused_dot (p.0: f32[8,8]) -> f32[8,8] {
  %p.0 = f32[8,8]{1,0} parameter(0)
  ROOT %dot.1 = f32[8,8]{1,0} dot(%p.0, %p.0)
}

%fused_tanh (p.1: f32[8,8]) -> f32[8,8] {
  %p.1 = f32[8,8]{1,0} parameter(0)
  ROOT %tanh.1 = f32[8,8]{1,0} tanh(%p.1)
}

%store (p.2: f32[6,8,8], p.3: f32[1,8,8], p.4: s32[]) -> f32[6,8,8] {
  %p.2 = f32[6,8,8]{2,1,0:S(5)} parameter(0)
  %p.3 = f32[1,8,8]{2,1,0} parameter(1)
  %p.4 = s32[] parameter(2)
  ROOT %update.1 = f32[6,8,8]{2,1,0:S(5)} dynamic-update-slice(%p.2, %p.3, %p.4)
}

%load (p.5: f32[6,8,8], p.6: s32[]) -> f32[1,8,8] {
  %p.5 = f32[6,8,8]{2,1,0:S(5)} parameter(0)
  %p.6 = s32[] parameter(1)
  ROOT %slice.1 = f32[1,8,8]{2,1,0} dynamic-slice(%p.5, %p.6)
}

%store_wrapped (p.9: f32[6,8,8], p.10: f32[1,8,8], p.11: s32[]) -> f32[6,8,8] {
  %p.9 = f32[6,8,8]{2,1,0:S(5)} parameter(0)
  %p.10 = f32[1,8,8]{2,1,0} parameter(1)
  %p.11 = s32[] parameter(2)
  ROOT %stored = f32[6,8,8]{2,1,0:S(5)} fusion(%p.9, %p.10, %p.11), calls=%store
}

"""
OUT = "(f32[8,8]{1,0:S(5)}, f32[8,8]{1,0}, u32[])"
IN = "(f32[8,8]{1,0}, f32[8,8]{1,0:S(5)}, u32[])"
DOT = "fusion(%x), kind=kCustom, calls=%fused_dot"
TANH = "fusion(%x), kind=kLoop, calls=%fused_tanh"


def copies_of(*lines: str, before: str = "") -> tuple[Copy, ...]:
    """Copies of a program whose entry has `x` on the device and then these lines."""
    body = "".join(f"  %{line}\n" for line in lines)
    text = (
        f"{HEAD}{before}ENTRY %main (x: f32[8,8]) -> f32[8,8] {{\n"
        f'  %x = f32[8,8]{{1,0}} parameter(0), metadata={{op_name="x"}}\n{body}}}\n'
    )
    return find_copies(parse_module(text))


def round_trip(*window: str) -> tuple[Copy, ...]:
    return copies_of(
        f"s1 = {OUT} copy-start(%x)",
        *window,
        "d1 = f32[8,8]{1,0:S(5)} copy-done(%s1)",
        f"s2 = {IN} copy-start(%d1)",
        "d2 = f32[8,8]{1,0} copy-done(%s2)",
        f"after = f32[8,8]{{1,0}} {DOT}",
    )


def test_copy_hides_behind_the_heavy_operations_of_its_window() -> None:
    out, back = round_trip(
        f"a = f32[8,8]{{1,0}} {DOT}",
        f"b = f32[8,8]{{1,0}} {TANH}",
        "c = f32[8,8]{1,0} convolution(%x, %x)",
        'e = f32[8,8]{1,0} custom-call(%x), custom_call_target="__cudnn$fmhaSoftmax"',
        'f = f32[8,8]{1,0} custom-call(%x), custom_call_target="Sharding"',
    )
    assert out.heavy == ("a", "c", "e")
    assert (out.direction, out.nbytes, out.is_exposed) == ("to_host", 256, False)
    assert (back.direction, back.nbytes, back.is_exposed) == ("to_device", 256, True)


def test_copy_hides_behind_large_sorts_and_transforms() -> None:
    out, _ = round_trip(
        "a = c64[512,512]{1,0} fft(%x), fft_type=RFFT, fft_length={512}",
        "b = c64[8,5]{1,0} fft(%x), fft_type=RFFT, fft_length={8}",
        'c = (f32[8,8]{1,0}, u8[9]) custom-call(%x), custom_call_target="__cub$Sort"',
    )
    assert out.heavy == ("a", "c")


def test_copy_that_overlaps_light_work_only_is_exposed() -> None:
    out, _ = round_trip(f"b = f32[8,8]{{1,0}} {TANH}")
    assert out.heavy == ()
    assert out.is_exposed


def test_synchronous_copy_is_exposed() -> None:
    out, back = copies_of(
        "h = f32[8,8]{1,0:S(5)} copy(%x)",
        f"a = f32[8,8]{{1,0}} {DOT}",
        "y = f32[8,8]{1,0} copy(%h)",
    )
    assert (out.direction, back.direction) == ("to_host", "to_device")
    assert out.is_exposed
    assert back.is_exposed


def test_copies_within_the_device_or_the_host_do_not_count() -> None:
    assert not copies_of("y = f32[8,8]{1,0} copy(%x)")
    assert not copies_of(
        "s = (f32[8,8]{1,0}, f32[8,8]{1,0}, u32[]) copy-start(%x)",
        "d = f32[8,8]{1,0} copy-done(%s)",
    )
    assert len(copies_of("h = f32[8,8]{1,0:S(5)} copy(%x)", f"y = {OUT} copy(%h)")) == 1


LOOP = """%body (t: (s32[], f32[6,8,8], f32[8,8])) -> (s32[], f32[6,8,8], f32[8,8]) {
  %t = (s32[], f32[6,8,8]{2,1,0:S(5)}, f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%t), index=0
  %all = f32[6,8,8]{2,1,0:S(5)} get-tuple-element(%t), index=1
  %carry = f32[8,8]{1,0} get-tuple-element(%t), index=2
  %one = f32[1,8,8]{2,1,0} bitcast(%carry)
  %put = ((f32[6,8,8]{2,1,0:S(5)}, f32[1,8,8]{2,1,0}, s32[]), \
f32[6,8,8]{2,1,0:S(5)}, u32[]) async-start(%all, %one, %i), calls=%store_wrapped
  %a = f32[8,8]{1,0} fusion(%carry), kind=kCustom, calls=%fused_dot
  %all.2 = f32[6,8,8]{2,1,0:S(5)} async-done(%put)
  %get = ((f32[6,8,8]{2,1,0:S(5)}, s32[]), f32[1,8,8]{2,1,0}, u32[]) \
fusion-start(%all.2, %i), kind=kLoop, calls=%load
  %got = f32[1,8,8]{2,1,0} fusion-done(%get)
  %sync = f32[1,8,8]{2,1,0} fusion(%all.2, %i), kind=kLoop, calls=%load
  ROOT %r = (s32[], f32[6,8,8]{2,1,0:S(5)}, f32[8,8]{1,0}) tuple(%i, %all.2, %a)
}

%cond (t.9: (s32[], f32[6,8,8], f32[8,8])) -> pred[] {
  %t.9 = (s32[], f32[6,8,8]{2,1,0:S(5)}, f32[8,8]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

"""
RUN = (
    "w = (s32[], f32[6,8,8]{2,1,0:S(5)}, f32[8,8]{1,0}) while(%x), condition=%cond, "
    'body=%body, backend_config={"known_trip_count":{"n":"6"}}'
)


def test_slices_of_host_arrays_in_loops_are_copies() -> None:
    put, get, sync = copies_of(RUN, before=LOOP)
    assert (put.direction, put.nbytes, put.heavy) == ("to_host", 256, ("a",))
    assert (get.direction, get.nbytes, get.heavy) == ("to_device", 256, ())
    assert (sync.direction, sync.nbytes, sync.heavy) == ("to_device", 256, ())
    assert all(copy.in_loop and copy.computation == "body" for copy in (put, get))
    assert (put.repeats, put.total_bytes) == (6, 6 * 256)


def test_a_loop_of_heavy_work_hides_a_copy() -> None:
    *_, out = copies_of(
        f"s1 = {OUT} copy-start(%x)",
        RUN,
        "d1 = f32[8,8]{1,0:S(5)} copy-done(%s1)",
        before=LOOP,
    )
    assert out.heavy == ("w",)
    assert not out.in_loop
    assert out.repeats == 1


@pytest.mark.parametrize(
    ("op_name", "label"),
    [
        ("jit(f)/jvp(swap_out(h0))/device_put", "h0"),
        ("swap_in(encoder/conv(3)/out)/device_put", "encoder/conv(3)/out"),
        ("jit(f)/transpose(jvp(swap_in(a b.py:3 (f))))/device_put", "a b.py:3 (f)"),
        ("jit(f)/dot_general", ""),
        ("jit(f)/swap_out(unfinished", ""),
    ],
)
def test_labels_are_read_from_names(op_name: str, label: str) -> None:
    assert swap_label(op_name) == label


NAMED = ', metadata={op_name="jit(f)/tanh" source_file="model.py" source_line=3}'


@pytest.mark.parametrize(
    ("start", "done", "label"),
    [
        (', metadata={op_name="swap_out(h)/device_put"}', "", "h"),
        ("", ', metadata={op_name="swap_out(h)/optimization_barrier"}', "h"),
        ("", ', metadata={source_file="jax.py" source_line=1}', "model.py:3"),
        ("", "", "model.py:3"),
    ],
)
def test_label_comes_from_the_swap_else_from_what_made_the_value(
    start: str, done: str, label: str
) -> None:
    (copy,) = copies_of(
        f"y = f32[8,8]{{1,0}} {TANH}{NAMED}",
        "pair = (f32[8,8]{1,0}, f32[8,8]{1,0}) tuple(%x, %y)",
        "part = f32[8,8]{1,0} get-tuple-element(%pair), index=1",
        f"s1 = {OUT} copy-start(%part){start}",
        f"d1 = f32[8,8]{{1,0:S(5)}} copy-done(%s1){done}",
    )
    assert copy.label == label


def test_a_value_without_source_is_labelled_by_its_name() -> None:
    out, back = round_trip()
    assert (out.label, back.label) == ("x", "x")


def test_given_labels_come_first() -> None:
    text = f"{HEAD}ENTRY %main (x: f32[8,8]) -> f32[8,8] {{\n" + (
        f"  %x = f32[8,8]{{1,0}} parameter(0)\n  %s1 = {OUT} copy-start(%x){NAMED}\n"
        "  ROOT %d1 = f32[8,8]{1,0:S(5)} copy-done(%s1)\n}\n"
    )
    (copy,) = find_copies(parse_module(text), {"s1": "given"})
    assert copy.label == "given"


def test_of_a_program_that_is_not_scheduled_nothing_is_claimed() -> None:
    module = parse_module(HEAD.replace(", is_scheduled=true", ""))
    with pytest.raises(ValueError, match="`jit_f` is not scheduled"):
        find_copies(module)
