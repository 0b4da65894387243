"""Collectives are read from the text of compiled programs."""

from jaxswap._collectives import Collective, find_collectives, summarize
from jaxswap._hlo import parse_module

TEXT = """HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

%scattered (p: f32[8]) -> f32[2] {
  %p = f32[8]{0} parameter(0)
  ROOT %r = f32[2]{0} reduce-scatter(%p), dimensions={0}, to_apply=%add
}

%unused (p.1: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} all-reduce(%p.1), to_apply=%add
}

%body (s: f32[8]) -> f32[8] {
  %s = f32[8]{0} parameter(0)
  ROOT %m = f32[8]{0} collective-permute(%s), source_target_pairs={{0,1},{1,0}}
}

%condition (t: f32[8]) -> pred[] {
  %t = f32[8]{0} parameter(0)
  ROOT %y = pred[] constant(true)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %w = f32[8]{0} while(%x), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %g = (f32[8]{0}, f32[32]{0}) all-gather-start(%w), dimensions={0}
  %gd = f32[32]{0} all-gather-done(%g)
  %k = (f32[8]{0}, f32[8]{0}) all-reduce-start(%w, %x), to_apply=%add
  %kd = (f32[8]{0}, f32[8]{0}) all-reduce-done(%k)
  %q = ((f32[8]{0}), f32[2]{0}) async-start(%x), calls=%scattered
  %qd = f32[2]{0} async-done(%q)
  ROOT %z = f32[8]{0} get-tuple-element(%kd), index=0
}
"""


def test_bytes_are_those_of_results_and_loops_count() -> None:
    found = find_collectives(parse_module(TEXT))
    assert found == (
        Collective("collective-permute", 32, 5, "m"),
        Collective("all-gather", 128, 1, "g"),
        Collective("all-reduce", 64, 1, "k"),
        Collective("reduce-scatter", 8, 1, "q"),
    )


def test_a_summary_counts_by_kind() -> None:
    found = summarize(find_collectives(parse_module(TEXT)))
    assert found["collective-permute"] == (5, 160)
    assert found["all-reduce"] == (1, 64)
    assert list(found) == sorted(found)
