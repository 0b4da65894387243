"""The lanes of a step are read from what the profiler recorded."""

import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from gpu_profile import CONVOLUTION, PROGRAM, gpu_profile

from jaxswap._compiled.hlo import parse_module
from jaxswap._device.record import record
from jaxswap._profiled.profile import Profile
from jaxswap._profiled.streams import MARK, marked, read_steps

MS = 1e-3


def steps() -> Profile:
    return Profile("H200", read_steps(gpu_profile(), parse_module(PROGRAM)))


def test_each_step_is_cut_out() -> None:
    first, second = steps().steps
    assert len(first.spans) == len(second.spans) == 5
    assert first.seconds == pytest.approx(9 * MS)
    assert second.seconds == pytest.approx(11 * MS)
    assert first.spans[0].start_seconds == second.spans[0].start_seconds == 0


def test_time_is_computing_stalling_or_idle() -> None:
    first, second = steps().steps
    assert first.compute_seconds == pytest.approx(9 * MS)
    assert first.stall_seconds == pytest.approx(0, abs=1e-12)
    assert second.stall_seconds == pytest.approx(2 * MS)
    assert second.idle_seconds == pytest.approx(0, abs=1e-12)


def test_copies_are_hidden_where_kernels_run() -> None:
    first, second = steps().steps
    assert (first.swap_out.count, first.swap_out.nbytes) == (1, 1024)
    assert first.swap_out.hidden_seconds == pytest.approx(3 * MS)
    assert first.swap_in.hidden_seconds == pytest.approx(2 * MS)
    assert second.swap_in.seconds == pytest.approx(2 * MS)
    assert second.swap_in.hidden_seconds == pytest.approx(0, abs=1e-12)


def test_kernels_are_named_after_the_source() -> None:
    profile = steps()
    found = {one.label: (one.source, one.count) for one in profile.by_label}
    assert found == {
        "Net/encoder0/conv": ("net.py:7", 1),
        "Net/tanh": ("net.py:9", 1),  # by its kernel's name
        "MemcpyD2D": ("", 1),
    }
    assert profile.by_kernel[0].label == CONVOLUTION
    copies = [span.label for span in profile.step.spans if span.nbytes]
    assert copies == ["encoder0/conv", "encoder0/conv"]


def test_a_copy_that_lost_its_name_is_named_after_what_it_copies() -> None:
    nameless = re.sub(r", metadata=.op_name=.[^}]*swap_[^}]*}", "", PROGRAM)
    assert nameless != PROGRAM
    (step, _) = read_steps(gpu_profile(), parse_module(nameless))
    copies = {(span.label, span.source) for span in step.spans if span.nbytes}
    assert copies == {("Net/encoder0/conv", "net.py:7")}


def test_the_steps_of_a_real_profile_are_found() -> None:
    step = jax.jit(lambda x: jnp.tanh(x @ x)).lower(jnp.ones((64, 64))).compile()
    planes = list(record(step, (jnp.ones((64, 64)),), repeats=3))
    windows = marked(planes)
    assert len(windows) == 3
    assert all(end > start for start, end in windows)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(windows))
    ran = {
        str(value)
        for plane in planes
        for line in plane.lines
        for event in line.events
        for name, value in event.stats
        if name == "hlo_op"
    }
    program = parse_module(step.as_text() or "")
    assert ran
    assert ran <= {instruction.name for instruction in program.instructions()}


def test_donated_arguments_are_there_for_each_run() -> None:
    x = jnp.ones((64, 64))
    step = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert len(marked(record(step, (x,), repeats=2))) == 2
    assert not x.is_deleted()


def test_a_profile_without_a_gpu_is_refused() -> None:
    program = parse_module(PROGRAM)
    with pytest.raises(ValueError, match=f"nothing is marked '{MARK}'"):
        read_steps([], program)
    host = [p for p in gpu_profile() if "GPU" not in p.name]
    with pytest.raises(ValueError, match="no kernel of a GPU within the 2 steps"):
        read_steps(host, program)
