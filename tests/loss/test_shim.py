"""The program that runs CUDA source on the CPU: its barriers, warp operations, schedules, and what it must notice."""

import ctypes

import numpy as np
import pytest

from tests.loss.shim.host import BACKWARD, FORWARD, RANDOM, WATCHED, BuildError, Fault, Program, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")

KERNELS = """
struct Arguments { int* data; int count; };
typedef Arguments P;

__global__ void indices(const P p) { p.data[blockIdx.x * blockDim.x + threadIdx.x] = blockIdx.x * 1000 + threadIdx.x; }
__global__ void order(const P p) { p.data[atomicAdd(&p.data[64], 1)] = threadIdx.x; }
__global__ void block_order(const P p) { p.data[atomicAdd(&p.data[64], 1)] = blockIdx.x; }
__global__ void rotate(const P p) {
    __shared__ int values[64];
    values[threadIdx.x] = threadIdx.x;
    __syncthreads();
    p.data[threadIdx.x] = values[(threadIdx.x + 1) % 64];
}
__global__ void rotate_without_barrier(const P p) {
    __shared__ int values[64];
    values[threadIdx.x] = threadIdx.x;
    p.data[threadIdx.x] = values[(threadIdx.x + 33) % 64];
}
__global__ void shuffles(const P p) {
    const int lane = threadIdx.x % 32;
    p.data[threadIdx.x] = __shfl_xor_sync(0xffffffffu, lane, 5) + 100 * __shfl_down_sync(0xffffffffu, lane, 3)
                        + 10000 * __shfl_sync(0xffffffffu, lane, 7);
}
__global__ void half_a_warp(const P p) {
    const int lane = threadIdx.x % 32;
    p.data[threadIdx.x] = lane < 16 ? __shfl_xor_sync(0x0000ffffu, lane, 1) : -1;
}
__global__ void votes(const P p) { p.data[threadIdx.x] = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0); }
__global__ void divergent_barrier(const P p) {
    if (threadIdx.x < 40) __syncthreads();
    else __syncwarp();
    p.data[0] = 1;
}
__global__ void lanes_disagree(const P p) {
    if (threadIdx.x % 32 < 8) __shfl_xor_sync(0xffffffffu, 1, 1);
    else __shfl_down_sync(0xffffffffu, 1, 1);
}
__global__ void some_leave_early(const P p) {
    if (threadIdx.x >= 32) return;
    __syncthreads();
    p.data[threadIdx.x] = 5;
}
__global__ void shared_garbage(const P p) {
    __shared__ int value;
    p.data[blockIdx.x] = value;
    value = 0;
}
__global__ void one_too_far(const P p) { if (threadIdx.x == 3) p.data[0] = p.data[p.count]; }
__global__ void writes_what_is_read_only(const P p) { if (threadIdx.x == 3) p.data[2] = 0; }
__global__ void misaligned(const P p) { *reinterpret_cast<int*>(reinterpret_cast<char*>(p.data) + 2) = 1; }
__global__ void same_cell(const P p) {
    __shared__ int cell;
    cell = threadIdx.x;
    __syncthreads();
    p.data[0] = cell;
}
__global__ void atomic_cell(const P p) {
    __shared__ int cell;
    if (threadIdx.x == 0) cell = 0;
    __syncthreads();
    atomicAdd(&cell, 1);
    __syncthreads();
    p.data[0] = cell;
}
__global__ void atomic_without_barrier(const P p) {
    __shared__ int cell;
    if (threadIdx.x == 0) cell = 0;
    atomicAdd(&cell, 1);
    __syncthreads();
    p.data[0] = cell;
}
"""


class Arguments(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("count", ctypes.c_int))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "kernels.cu"
    source.write_text(KERNELS)
    names = [line.split("(")[0].split()[-1] for line in KERNELS.splitlines() if line.startswith("__global__")]
    portable = ("-DSHIM_UCONTEXT",)
    return {
        "plain": Program(source, names),
        "portable": Program(source, names, shim_flags=portable),
        "watched": Program(source, names, flags=WATCHED),
    }


def run(program, kernel, grid=1, threads=64, size=65, **schedule):
    data = np.zeros(size, np.int32)
    program.run(kernel, Arguments(data.ctypes.data, size), grid, threads=threads, **schedule)
    return data


@pytest.fixture(params=["plain", "portable", "watched"])
def program(request, programs):
    return programs[request.param]


@pytest.fixture(params=[(FORWARD, 0), (BACKWARD, 0), (RANDOM, 1), (RANDOM, 7)], ids=str)
def schedule(request):
    return {"schedule": request.param[0], "seed": request.param[1]}


def test_indices(program, schedule):
    data = run(program, "indices", grid=3, threads=20, size=60, **schedule)
    np.testing.assert_array_equal(data, [b * 1000 + t for b in range(3) for t in range(20)])


def test_a_part_of_the_grid(program):
    data = run(program, "indices", grid=3, threads=20, size=60, blocks=(1, 2))
    assert data[20:40].all()
    assert not data[:20].any()
    assert not data[40:].any()


def test_barrier(program, schedule):
    np.testing.assert_array_equal(run(program, "rotate", **schedule)[:64], (np.arange(64) + 1) % 64)


def test_a_missing_barrier_shows_under_some_schedule(program):
    if program.watched:
        with pytest.raises(Fault, match="races"):
            run(program, "rotate_without_barrier")
        return
    seen = [run(program, "rotate_without_barrier", schedule=s)[:64] for s in (FORWARD, BACKWARD)]
    assert any((data != (np.arange(64) + 33) % 64).any() for data in seen)


def test_warp_operations(program, schedule):
    data = run(program, "shuffles", **schedule)[:64]
    lane = np.arange(64) % 32
    np.testing.assert_array_equal(data, (lane ^ 5) + 100 * np.where(lane + 3 < 32, lane + 3, lane) + 10000 * 7)
    half = run(program, "half_a_warp", **schedule)[:64]
    np.testing.assert_array_equal(half, np.where(lane < 16, lane ^ 1, -1))
    votes = run(program, "votes", **schedule)[:64].astype(np.uint32)
    for warp in (0, 1):
        assert (votes[warp * 32 : warp * 32 + 32] == sum(1 << b for b in range(32) if (warp * 32 + b) % 3 == 0)).all()


def test_schedules_differ(programs):
    orders = {
        name: tuple(run(programs["plain"], "order", schedule=s, seed=seed)[:64])
        for name, s, seed in (
            ("forward", FORWARD, 0),
            ("backward", BACKWARD, 0),
            ("one", RANDOM, 1),
            ("two", RANDOM, 2),
        )
    }
    assert orders["forward"] == tuple(range(64))
    assert orders["backward"] == tuple(reversed(range(64)))
    assert len(set(orders.values())) == 4
    assert all(sorted(order) == list(range(64)) for order in orders.values())
    assert tuple(run(programs["plain"], "order", schedule=RANDOM, seed=1)[:64]) == orders["one"]


def test_blocks_are_scheduled_too(programs):
    orders = [
        run(programs["plain"], "block_order", grid=5, threads=1, schedule=s, seed=1)[:5].tolist()
        for s in (FORWARD, BACKWARD, RANDOM)
    ]
    assert orders[:2] == [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]
    assert sorted(orders[2]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kernel", ["divergent_barrier", "lanes_disagree"])
def test_threads_that_wait_for_one_another_are_a_fault(program, kernel, schedule):
    with pytest.raises(Fault, match="wait for one another"):
        run(program, kernel, **schedule)


def test_threads_that_have_ended_are_not_waited_for(program, schedule):
    assert (run(program, "some_leave_early", **schedule)[:32] == 5).all()


def test_shared_memory_is_garbage_at_first(program):
    assert run(program, "shared_garbage", grid=3, threads=1)[:3].tolist() == [-1, -1, -1]


def test_the_program_can_be_used_again_after_a_fault(program):
    with pytest.raises(Fault):
        run(program, "divergent_barrier")
    test_barrier(program, {})


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("same_cell", "two threads write"),
        ("atomic_without_barrier", "atomic"),
        ("misaligned", "misaligned"),
    ],
)
def test_what_is_watched(programs, kernel, message):
    with pytest.raises(Fault, match=message):
        run(programs["watched"], kernel)
    run(programs["plain"], kernel)


def test_atomics_do_not_race(programs):
    assert run(programs["watched"], "atomic_cell")[0] == 64


@pytest.mark.parametrize(
    ("kernel", "message"), [("one_too_far", "read outside"), ("writes_what_is_read_only", "write")]
)
def test_accesses_outside_an_array_are_found(programs, kernel, message):
    program = programs["watched"]
    data, allowed = np.zeros(8, np.int32), np.zeros(8 * 4, np.uint8)
    allowed[:16] = 1
    allowed[:4] = 3
    program.library.watch_array(data.ctypes.data, data.nbytes, allowed.ctypes.data)
    try:
        with pytest.raises(Fault, match=message):
            program.run(kernel, Arguments(data.ctypes.data, 4), 1, threads=32)
    finally:
        program.library.watch_nothing()
    program.run(kernel, Arguments(data.ctypes.data, 4), 1, threads=32)


def test_source_that_does_not_compile(tmp_path):
    source = tmp_path / "broken.cu"
    source.write_text("struct P {}; __global__ void broken(P p) { undefined(); }")
    with pytest.raises(BuildError, match="undefined"):
        Program(source, ["broken"])


def test_a_structure_of_another_size_is_refused(programs):
    class Longer(ctypes.Structure):
        _fields_ = (*Arguments._fields_, ("more", ctypes.c_int64))

    with pytest.raises(Fault, match="another size"):
        programs["plain"].run("indices", Longer(), 1)
