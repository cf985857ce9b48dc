"""Reading machine code, and what it shows of the loss: the same roundings on every device, few instructions."""

import csv
from collections import Counter

import pytest
import torch

from tests.loss.mutants import Mutant
from tests.loss.test_gpu import script
from tests.loss.trial import planted
from unet.loss.compile import architectures, compile_source, missing, version
from unet.loss.launch import PASSES
from unet.loss.plan import CHANNELS_LAST

sass, count = (script(name) for name in ("sass", "loss_instructions"))
needs_disassembler = pytest.mark.skipif(
    bool(missing()) or sass.disassembler() is None, reason=missing() or "nvdisasm is not installed"
)


def opcodes(turn):
    return Counter(instruction.opcode for instruction in turn.instructions)


TEXT = """
.text.first:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 BRA `(.L_x_3) ;
.L_x_1:
        /*0020*/                   LDG.E.128 R4, desc[UR6][R2.64] ;
        /*0030*/               @P1 BRA `(.L_x_2) ;
        /*0040*/                   MUFU.EX2 R4, R4 ;
        /*0050*/                   FFMA.SAT R4, -|R5|, R6, 0.5 ;
        /*0060*/                   FFMA R4, R5, R6, R7 ;
.L_x_2:
        /*0070*/                   BRA.DIV UR4, `(.L_x_3) ;
        /*0080*/              @!P2 BRA P3, `(.L_x_1) ;
.L_x_3:
        /*0090*/                   EXIT ;
.text.second:
        /*0000*/                   EXIT ;
.L_x_9:
        /*0010*/                   CALL.REL.NOINC `($__internal_1_$__cuda_sm20_div_s64) ;
        /*0020*/               @P2 CALL.REL.NOINC `(.L_x_9) ;
        /*0030*/                   BRA `(.L_x_9);
"""


def test_blocks_and_where_they_lead():
    found = sass.functions(TEXT)
    assert set(found) == {"first", "second"}
    assert [len(b.instructions) for b in found["first"]] == [2, 2, 3, 1, 1, 1]
    assert [b.next for b in found["first"]] == [[5, 1], [3, 2], [3], [4], [1, 5], []]
    assert [b.next for b in found["second"]] == [[], [], [1, 3], [1]]
    instruction = found["first"][2].instructions[1]
    assert (instruction.name, instruction.opcode, instruction.guard) == ("FFMA.SAT", "FFMA", "")
    assert found["first"][0].instructions[1].guard == "!P0"


def test_the_cheapest_turn_that_does_what_is_asked_for():
    first = sass.functions(TEXT)["first"]
    assert len(sass.cheapest_turn(first, {})) == 4
    turn = sass.cheapest_turn(first, {r"MUFU\.EX2": 1})
    assert len(turn) == 7
    assert opcodes(turn)["FFMA"] == 2
    assert sass.cheapest_turn(first, {r"MUFU\.EX2": 2}) is None
    assert sass.cheapest_turn(first, {}, without="LDG") is None
    assert len(sass.cheapest_turn(first, {}, without="MUFU")) == 4


KIND = torch.bfloat16, CHANNELS_LAST


def roundings(target):
    """Products, sums and fused products of a turn of each pass."""
    found, _ = count.counted(*KIND, target)
    return {name: tuple(opcodes(pack)[op] for op in count.ROUNDINGS) for name, (pack, _) in found.items()}


@needs_disassembler
def test_every_device_rounds_the_same_operations():
    """Where the compiler joined a product and a sum in one kernel and not in the other, or for one device alone, the
    two ways to a gradient, or two devices, would differ in their last bits. The tests on the CPU cannot see it: there
    nothing is joined."""
    wanted = roundings(90)
    # By hand, for each of four pixels: the exponential takes 4 fused operations, a product and a sum; the logarithm 8
    # and a product; the doubt of infinite scores 1; their distance a sum, the loss a sum and 1; the number of pixels a
    # sum.
    assert wanted["forward_pass"] == (4 * 14, 4 * 2, 4 * 4)
    for target in architectures():
        assert roundings(target) == wanted, target


TWICE = Mutant("loss rounded twice", "cross_entropy.cu", "fmaf(weighs, pixel_loss(s, label.target), tally.losses)",
               "weighs * pixel_loss(s, label.target) + tally.losses")  # fmt: skip


@needs_disassembler
def test_another_rounding_would_be_seen(monkeypatch, tmp_path):
    before = roundings(100)
    csrc = planted(TWICE, tmp_path)
    monkeypatch.setattr(count, "compile_source", lambda source, *rest: compile_source(csrc / source.name, *rest, csrc))
    after = roundings(100)
    assert after["backward_pass"] == before["backward_pass"]
    assert after["forward_pass"] == (before["forward_pass"][0] - 4, before["forward_pass"][1] + 4, 4 * 5)


@needs_disassembler
def test_few_instructions_per_pixel():
    """The goal: 90 for two classes of bfloat16, channels last, with everything that a large batch costs."""
    row = count.row("bfloat16, channels_last", 90)
    assert float(row["one_pass"]) <= 64
    assert float(row["large_one_pass"]) <= 90


@needs_disassembler
def test_the_table_is_that_of_these_sources():
    with (count.RESULTS / "loss-instructions.csv").open() as file:
        rows = list(csv.DictReader(file))
    known = {r["target"] for r in rows}
    assert known >= {f"sm_{a}" for a in (75, 80, 90, 100, 120)}
    if rows[-1]["versions"] != f"NVRTC {version()[0]}.{version()[1]}":
        pytest.skip("another compiler")
    for name, target in (("bfloat16, channels_last", 90), ("float32, contiguous", 120)):
        now = count.row(name, target)
        last = [r for r in rows if (r["case"], r["target"]) == (now["case"], now["target"])][-1]
        columns = (*PASSES, "large_one_pass", "registers")
        assert {column: str(now[column]) for column in columns} == {column: last[column] for column in columns}


def test_without_a_disassembler_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(count, "missing", lambda: "")
    monkeypatch.setattr(count, "disassembler", lambda: None)
    assert count.main([]) == 2
    assert "pip install nvidia-cuda-nvdisasm" in capsys.readouterr().err
