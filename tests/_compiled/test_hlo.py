"""Compiled programs as text, read into plain data."""

import pytest

from jaxswap._compiled.hlo import HloInstruction, Module, parse_arrays, parse_module

# As JAX 0.10 and newer print it: tables of stack frames, then computations.
TEXT = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[4,8]{1,0})->f32[]}

FileNames
1 "/home/me/my model.py"
2 "/home/me/train.py"

FunctionNames
1 "loss"

FileLocations
1 {file_name_id=2 function_name_id=1 line=7 end_line=7 column=1 end_column=9}
2 {file_name_id=1 function_name_id=1 line=41 end_line=43 column=1 end_column=9}

StackFrames
1 {file_location_id=2 parent_frame_id=1}
2 {file_location_id=1 parent_frame_id=1}


%fused_dot (p.0: f32[4,8]) -> f32[4,4] {
  %p.0 = f32[4,8]{1,0} parameter(0)
  ROOT %dot.1 = f32[4,4]{1,0} dot(%p.0, %p.0), lhs_contracting_dims={1}, \
rhs_contracting_dims={1}, metadata={op_name="jit(f)/dot_general" stack_frame_id=1}
}

%body (t.1: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  ROOT %t.1 = (s32[], f32[4,8]{1,0}) parameter(0)
}

%cond (t.2: (s32[], f32[4,8])) -> pred[] {
  %t.2 = (s32[], f32[4,8]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main.9 (x.1: f32[4,8]) -> f32[] {
  %x.1 = f32[4,8]{1,0:T(8,128)} parameter(0), metadata={op_name="x[\\'a\\']"}
  %start = (f32[4,8]{1,0:S(5)}, f32[4,8]{1,0}, u32[]) copy-start(%x.1)
  %fusion.3 = f32[4,4]{1,0} fusion(%x.1), kind=kCustom, calls=%fused_dot, \
metadata={op_name="jit(f)/dot_general" stack_frame_id=2}, backend_config={"a":"(1"}
  %done = f32[4,8]{1,0:S(5)} copy-done(%start)
  %zero = s32[] constant(0)
  %pair = (s32[], f32[4,8]{1,0}, /*index=2*/f32[4,4]{1,0}) tuple(%zero, %x.1, %fusion.3)
  %while.5 = (s32[], f32[4,8]{1,0}) while(%pair), condition=%cond, body=%body, \
backend_config={"known_trip_count":{"n":"24"}}
  %part = f32[4,8]{1,0} get-tuple-element(%while.5), index=1
  %gemm.2 = (f32[4,4]{1,0}, s8[0]{0}) custom-call(%part, %pair#1), \
custom_call_target="__cublas$gemm", metadata={op_name="a" source_file="b.py" \
source_line=12}
  ROOT %sum = f32[] reduce(%gemm.2#0, %zero), dimensions={0,1}, to_apply=%add
}
"""


@pytest.fixture(scope="module")
def module() -> Module:
    return parse_module(TEXT)


def instruction(module: Module, name: str) -> HloInstruction:
    return module.entry.by_name[name]


def test_computations_keep_their_order(module: Module) -> None:
    assert (module.name, module.is_scheduled) == ("jit_f", True)
    names = [computation.name for computation in module.computations]
    assert names == ["fused_dot", "body", "cond", "main.9"]
    assert module.entry.name == "main.9"


def test_instructions_keep_their_order(module: Module) -> None:
    opcodes = [one.opcode for one in module.entry.instructions]
    assert opcodes == [
        *("parameter", "copy-start", "fusion", "copy-done", "constant", "tuple"),
        *("while", "get-tuple-element", "custom-call", "reduce"),
    ]
    assert module.entry.root.name == "sum"
    assert module.by_name["body"].root.opcode == "parameter"


def test_operands_and_called_computations_are_told_apart(module: Module) -> None:
    assert instruction(module, "fusion.3").operands == ("x.1",)
    assert instruction(module, "fusion.3").called == ("fused_dot",)
    assert instruction(module, "while.5").called == ("cond", "body")
    assert instruction(module, "sum").called == ("add",)
    assert instruction(module, "zero").operands == ()


def test_elements_of_tuples_are_followed(module: Module) -> None:
    assert instruction(module, "part").tuple_index == 1
    assert instruction(module, "gemm.2").operands == ("part", "pair#1")
    producer = module.entry.producer("pair#1")
    assert producer is instruction(module, "pair")
    assert module.entry.producer("nowhere") is None


def test_memory_space_of_each_array_is_read(module: Module) -> None:
    start = instruction(module, "start")
    assert [array.is_on_host for array in start.arrays] == [True, False, False]
    assert [array.nbytes for array in start.arrays] == [128, 128, 4]
    assert start.device_bytes == 132
    assert instruction(module, "done").device_bytes == 0


def test_trip_count_of_a_loop_is_read(module: Module) -> None:
    assert instruction(module, "while.5").trip_count == 24
    assert instruction(module, "sum").trip_count == 1


def test_source_is_read_from_stack_frames_or_metadata(module: Module) -> None:
    assert instruction(module, "fusion.3").source == "/home/me/train.py:7"
    dot = module.by_name["fused_dot"].root
    assert dot.source == "/home/me/my model.py:41"
    assert instruction(module, "gemm.2").source == "b.py:12"
    assert instruction(module, "zero").source == ""


def test_names_are_read(module: Module) -> None:
    assert instruction(module, "x.1").op_name == "x['a']"
    assert instruction(module, "gemm.2").custom_call_target == "__cublas$gemm"


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ("f32[]", [4]),
        ("pred[3]{0}", [3]),
        ("bf16[2,3]{1,0}", [12]),
        ("f8e4m3fn[5]{0}", [5]),
        ("s4[3]{0}", [2]),
        ("c128[2]{0}", [32]),
        ("f32[0,7]{1,0}", [0]),
        ("token[]", [0]),
        ("((f32[2]{0}, s32[]), u32[])", [8, 4, 4]),
    ],
)
def test_bytes_of_shapes(shape: str, sizes: list[int]) -> None:
    assert [array.nbytes for array in parse_arrays(shape)] == sizes


def test_text_that_is_no_hlo_is_refused() -> None:
    with pytest.raises(ValueError, match="`text` is not HLO"):
        parse_module("module @jit_f {}")
