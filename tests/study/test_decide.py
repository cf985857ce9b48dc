"""The engine of a plan: simulated runs with known effects go through all of it; verdicts fall as designed and stay."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from unet.errors import ConfigError
from unet.study import decide
from unet.study.design import Arm, Study
from unet.study.plan import EndPoint, Look, Plan
from unet.study.power import power_of_difference

PROFILE = "smoke"
DATA = ("em", "phc", "hela")
STUDIES = 2500


@dataclass
class Run:
    """As much of a run's evidence as the engine reads."""

    score: float
    diverged: bool = False
    collapsed: bool = False
    precision: str = "bf16"
    path: Path = Path("run")
    environment: dict = field(init=False)
    values: dict = field(init=False)

    def __post_init__(self):
        self.environment = {"precision": self.precision}
        self.values = {"seg": self.score, "pixel_error": 1 - self.score}


def make_study(seeds=(20, 8, 8), score="seg", shares=(0, 0, 0), **plan):
    order = tuple(EndPoint("b", "a", d, score, PROFILE, 0.03, s) for d, s in zip(DATA, shares, strict=True))
    made = Plan(order, {PROFILE: dict(zip(DATA, seeds, strict=True))}, **plan)
    return Study("q", "Q", "?", (Arm("a", "a"), Arm("b", "b")), (), plan=made)


STUDY = make_study()


def runs_of(differences, base=0.5, **kinds):
    """Runs of arms a and b whose differences are these, by data set: b - a of seed 0, 1, ..."""
    found = {}
    for data, ds in differences.items():
        for seed, d in enumerate(ds):
            found["a", data, seed] = Run(base, path=Path(f"a-{data}-seed{seed}"))
            found["b", data, seed] = Run(base + d, path=Path(f"b-{data}-seed{seed}"), **kinds.get(f"{data}{seed}", {}))
    return {PROFILE: found}


def simulated(effects, rng, study=STUDY, std=0.02):
    """One study's runs: seeds differ by far more than the arms do, which pairing takes out."""
    found = {}
    for data, effect in zip(DATA, effects, strict=True):
        n = study.plan.seeds[PROFILE][data]
        level = 0.6 + rng.normal(0, 0.1, n)
        a, b = level + rng.normal(0, std / math.sqrt(2), n), level + effect + rng.normal(0, std / math.sqrt(2), n)
        for seed in range(n):
            found["a", data, seed], found["b", data, seed] = Run(a[seed]), Run(b[seed])
    return {PROFILE: found}


def verdicts(study, runs):
    return [d.verdict for d in decide.decisions(study, runs)]


def share(hits, level, sign):
    """Whether a share of simulated studies lies beyond a level by more than three binomial standard errors."""
    return sign * (hits / STUDIES - level) < 3 * math.sqrt(level * (1 - level) / STUDIES)


@pytest.mark.parametrize("shares", [(0, 0, 0), (0.5, 0.25, 0.25)])
def test_of_studies_without_any_difference_one_in_a_hundred_claims_one(shares):
    rng, study = np.random.default_rng(1), make_study(shares=shares)
    made = [verdicts(study, simulated((0, 0, 0), rng, study, 0.05)) for _ in range(STUDIES)]
    false = sum(bool({"better", "worse"} & set(found)) for found in made)
    assert share(false, 0.01, +1)
    assert share(false, 0.005, -1)  # and no fewer by far: the test has its level
    for place in (1, 2):
        if not any(shares):  # a fixed sequence: nothing later without what came first
            assert all(found[0] in ("better", "worse") for found in made if found[place] in ("better", "worse"))


def test_of_studies_at_the_margin_one_in_a_hundred_calls_it_equal():
    rng, study = np.random.default_rng(2), make_study((60, 60, 60))
    small = sum("equal" in verdicts(study, simulated((0.03, 0.03, 0.03), rng, study, 0.2)) for _ in range(200))
    assert small == 0  # far too few pairs for so large a spread
    fine = sum("equal" in verdicts(study, simulated((-0.03, 0.5, 0.5), rng, study, 0.05)) for _ in range(STUDIES))
    assert share(fine, 0.01, +1)


def test_the_power_is_that_of_the_two_looks():
    rng, effect, std = np.random.default_rng(3), 0.018, 0.02
    made = [decide.decisions(STUDY, simulated((effect, 0.2, -0.2), rng)) for _ in range(STUDIES)]
    found = sum(m[0].verdict == "better" for m in made)
    early = sum(m[0].verdict == "better" and m[0].look == 1 for m in made)
    final, half = power_of_difference(effect, std, 20, 0.0095), power_of_difference(effect, std, 10, 0.0005)
    assert 0.75 < final < 0.95
    assert share(early, half, +1)
    assert share(early, half, -1)
    assert share(found, final, -1)
    assert share(found, final + half * (1 - final), +1)
    passed = [m for m in made if m[0].verdict == "better"]
    assert all(m[1].verdict == "better" and m[2].verdict == "worse" for m in passed)  # these effects are ten deviations
    stopped = [m for m in made if m[0].verdict == "open"]
    assert all((m[1].verdict, m[1].reason) == ("not tested", "the order ended before it") for m in stopped)


def test_what_the_order_ended_before_is_not_tested_and_waits_for_no_runs():
    alone = runs_of({"em": [d - 0.1 for d in SURE]})  # equal; the other end points have no run
    assert verdicts(STUDY, alone) == ["equal", "not tested", "not tested"]
    assert verdicts(make_study(shares=(0.5, 0.25, 0.25)), alone) == ["equal", "waiting", "waiting"]
    assert verdicts(STUDY, runs_of({"em": SURE})) == ["better", "waiting", "waiting"]


def test_due_is_what_the_next_looks_wait_for():
    def due(study, runs):
        return decide.due(study, PROFILE, runs)

    def all_of(data, seeds):
        return {(arm, data, seed) for arm in ("a", "b") for seed in range(seeds)}

    shared = make_study(shares=(0.5, 0.25, 0.25))
    assert due(STUDY, {}) == all_of("em", 10)  # whether the others are tested is not known yet
    assert due(shared, {}) == all_of("em", 10) | all_of("phc", 4) | all_of("hela", 4)
    unsure = runs_of({"em": [0.04 + d for d in DOUBT]})
    assert verdicts(STUDY, unsure)[0] == "waiting"
    assert due(STUDY, unsure) == all_of("em", 20)
    better, equal = runs_of({"em": SURE}), runs_of({"em": [d - 0.1 for d in SURE]})
    assert due(STUDY, better) == all_of("phc", 4)
    assert due(STUDY, equal) == set()
    assert due(shared, equal) == all_of("phc", 4) | all_of("hela", 4)
    assert decide.due(shared, "quick", {}) == set()
    both = {PROFILE: better[PROFILE] | runs_of({"phc": SURE[:8]})[PROFILE] | runs_of({"hela": SURE[:8]})[PROFILE]}
    assert "waiting" not in verdicts(STUDY, both)
    assert due(STUDY, both) == set()


def test_true_equality_is_found_and_ends_a_fixed_sequence():
    rng = np.random.default_rng(4)
    made = [verdicts(STUDY, simulated((0.0, 0.3, 0.3), rng)) for _ in range(500)]
    assert sum(found[0] == "equal" for found in made) > 450
    assert all(found[1:] == ["not tested", "not tested"] for found in made if found[0] == "equal")
    shared = make_study(shares=(0.5, 0.25, 0.25))
    made = [verdicts(shared, simulated((0.0, 0.3, 0.3), rng, shared)) for _ in range(200)]
    assert sum(found[1:] == ["better", "better"] for found in made) > 195  # with shares of their own they are tested


SURE = [0.1, 0.11, 0.09, 0.105, 0.095, 0.1, 0.11, 0.09, 0.105, 0.095]  # ten pairs: p far below 0.0005
DOUBT = [0.1, -0.1, 0.05, -0.06, 0.02, -0.01, 0.03, -0.04, 0.08, -0.08]


def test_a_verdict_keeps_the_look_at_which_it_fell_whatever_comes_later():
    early = decide.decisions(STUDY, runs_of({"em": SURE}))[0]
    assert (early.verdict, early.look, len(early.differences)) == ("better", 1, 10)
    later = decide.decisions(STUDY, runs_of({"em": SURE + [-0.5] * 10}))[0]
    assert later == early
    more = decide.decisions(STUDY, runs_of({"em": SURE + DOUBT + [-0.9] * 50}))[0]  # seeds beyond the plan
    assert more == early


def test_equality_keeps_its_look_too():
    same = [d / 100 for d in DOUBT]  # ten pairs: 0 +- 0.0006 of a margin of 0.03
    for later in ([], [0.9] * 10):
        made = decide.decisions(STUDY, runs_of({"em": same + later}))[0]
        assert (made.verdict, made.look) == ("equal", 1)


def test_seeds_beyond_the_plan_and_looks_between_decide_nothing():
    nineteen = decide.decisions(STUDY, runs_of({"em": DOUBT + SURE[:9]}))[0]
    assert (nineteen.verdict, nineteen.look, nineteen.reason) == ("waiting", 1, "19 of the 20 pairs of look 2")
    final = decide.decisions(STUDY, runs_of({"em": DOUBT + DOUBT + [0.9] * 50}))[0]
    assert (final.verdict, final.look, len(final.differences)) == ("open", 2, 20)


def test_the_level_of_each_look_is_the_plans():
    d = np.array(SURE) - 0.1  # mean 0
    unit = d / np.std(d, ddof=1)
    from scipy import stats

    def at(p):
        return list(unit + stats.t.isf(p / 2, 9) / math.sqrt(10))  # ten differences with exactly this p

    assert decide.decisions(STUDY, runs_of({"em": at(0.0004)}))[0].verdict == "better"
    assert decide.decisions(STUDY, runs_of({"em": at(0.0006)}))[0].verdict == "waiting"
    twenty = make_study((10, 8, 8), looks=(Look(1.0, 0.01),))
    assert verdicts(twenty, runs_of({"em": at(0.0099)}))[0] == "better"
    assert verdicts(twenty, runs_of({"em": at(0.0101)}))[0] == "open"
    assert verdicts(make_study((10, 8, 8), score="pixel_error", looks=(Look(1.0, 0.01),)),
                    runs_of({"em": at(0.0099)}))[0] == "better"  # less of an error  # fmt: skip
    shared = make_study((10, 8, 8), looks=(Look(1.0, 0.01),), shares=(0.5, 0.25, 0.25))
    assert verdicts(shared, runs_of({"em": at(0.0049)}))[0] == "better"
    assert verdicts(shared, runs_of({"em": at(0.0051)}))[0] == "open"


def test_the_next_end_point_is_tested_from_the_look_at_which_the_one_before_was_found():
    em = DOUBT + [0.3] * 10  # found at the end only
    made = decide.decisions(STUDY, runs_of({"em": em, "phc": [*SURE[:4], 0.1, 0.2, 0.1, 0.15]}))
    assert [(m.verdict, m.look) for m in made[:2]] == [("better", 2), ("better", 2)]
    made = decide.decisions(STUDY, runs_of({"em": SURE, "phc": SURE[:4]}))
    assert [(m.verdict, m.look) for m in made[:2]] == [("better", 1), ("better", 1)]
    made = decide.decisions(STUDY, runs_of({"em": [-d for d in SURE], "phc": SURE[:4]}))  # a loss is a difference too
    assert [(m.verdict, m.look) for m in made[:2]] == [("worse", 1), ("better", 1)]


def test_a_difference_below_the_margin_is_said_to_be_one():
    made = decide.decisions(STUDY, runs_of({"em": [d / 10 for d in SURE]}))[0]
    assert (made.verdict, made.within) == ("better", True)
    assert not decide.decisions(STUDY, runs_of({"em": SURE}))[0].within
    near = decide.decisions(STUDY, runs_of({"em": [d - 0.072 for d in SURE]}))[0]  # 0.029 +- 0.007 of a margin of 0.03
    assert (near.verdict, near.within, near.mean < 0.03) == ("better", False, True)


@pytest.mark.parametrize("kind", ["collapsed", "diverged"])
def test_collapsed_runs_are_counted_and_many_stop_the_comparison(kind):
    two = runs_of({"em": SURE}, em3={kind: True}, em4={kind: True})
    made = decide.decisions(STUDY, two)[0]
    assert (made.verdict, made.failed, made.runs) == ("better", 2, 20)  # a tenth is not yet more than a tenth
    three = runs_of({"em": SURE}, em3={kind: True}, em4={kind: True}, em5={kind: True})
    made = decide.decisions(STUDY, three)[0]
    assert (made.verdict, made.failed) == ("stopped", 3)
    assert made.reason == "3 of 20 runs collapsed or diverged: fix the recipe"
    for seed in (6, 7, 8):
        setattr(two[PROFILE]["a", "em", seed], kind, True)  # and those of the reference with them
    made = decide.decisions(STUDY, two)[0]
    assert (made.verdict, made.failed) == ("stopped", 5)


def test_runs_of_two_precisions_stop_it():
    made = decide.decisions(STUDY, runs_of({"em": SURE}, em2={"precision": "fp32"}))[0]
    assert (made.verdict, made.reason[:22]) == ("stopped", "the runs of seed 2 wer")


def test_an_open_comparison_says_how_many_pairs_it_would_take():
    made = decide.decisions(STUDY, runs_of({"em": [0.04 + d for d in DOUBT] * 2}))[0]
    assert made.verdict == "open"
    n = made.needed(0.0095)
    assert n is not None
    assert n > 20
    enough, fewer = (power_of_difference(made.mean, made.std, pairs, 0.0095) for pairs in (n, n - 1))
    assert enough >= 0.8 > fewer
    assert power_of_difference(made.detectable(0.0095), made.std, 20, 0.0095) == pytest.approx(0.8, abs=1e-4)


def test_pairs_that_are_all_alike_are_no_evidence():
    made = decide.decisions(STUDY, runs_of({"em": [0.0] * 20}))[0]
    assert (made.verdict, made.reason[:28]) == ("open", "all pairs differ by the same")
    assert made.needed(0.0095) is None


@pytest.mark.parametrize("pair", [(0.1, 0.3 - 0.2), (0.1 + 1e-16, 0.1 + 4e-17)])
def test_pairs_that_are_alike_up_to_rounding_are_no_evidence(pair):
    """0.1 and 0.3 - 0.2 are two floats, whose spread of 3e-17 would make any difference sure."""
    study = make_study((2, 8, 8), looks=(Look(1.0, 0.01),))
    made = decide.decisions(study, runs_of({"em": pair}, base=0.0))[0]
    assert (made.verdict, made.reason[:28]) == ("open", "all pairs differ by the same")
    rounding = decide.decisions(STUDY, runs_of({"em": [1e-16 * d for d in SURE] * 2}, base=0.0))[0]
    assert rounding.verdict == "open"  # the same scores, but for the order of a sum
    assert (rounding.std, rounding.needed(0.0095)) == (0.0, None)  # which no number of pairs would settle


def test_a_verdict_that_more_alpha_could_change_waits_for_the_end_point_before_it():
    """Equal by its own share, and within the margin better by what the first end point passes on."""
    study = make_study(shares=(0.5, 0.25, 0.25))
    unit = np.array([1.0, -1.0, 0.5, -0.5, 0.8, -0.8, 0.2, -0.2])
    unit /= np.std(unit, ddof=1)
    small = list(0.006 + 0.006 * math.sqrt(8) / 4.2 * unit)  # t = 4.2, p = 0.004: above 0.0024, below 0.0071
    waiting = decide.decisions(study, runs_of({"em": DOUBT, "phc": small}))[1]
    assert (waiting.verdict, waiting.reason) == ("waiting", "the end point before it is not decided yet")
    passed = decide.decisions(study, runs_of({"em": DOUBT + [0.3] * 10, "phc": small}))
    assert [d.verdict for d in passed[:2]] == ["better", "better"]
    kept = decide.decisions(study, runs_of({"em": DOUBT * 2, "phc": small}))
    assert [d.verdict for d in kept[:2]] == ["open", "equal"]
    sure = decide.decisions(study, runs_of({"em": DOUBT, "phc": SURE[:8]}))[1]
    assert sure.verdict == "better"  # which more alpha leaves as it is


def test_a_score_that_is_no_number_is_named():
    with pytest.raises(ConfigError, match="b-em-seed3: its seg is nan"):
        decide.decisions(STUDY, runs_of({"em": [*SURE[:3], math.nan, *SURE[4:]]}))


def test_a_study_without_a_plan_decides_nothing():
    with pytest.raises(ConfigError, match="has no plan"):
        decide.decisions(replace(STUDY, plan=None), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.05}, "must add up to alpha"),
        ({"looks": (Look(0.5, 0.01),)}, "end with all seeds"),
        ({"looks": (Look(1.0, 0.005), Look(0.5, 0.005))}, "one after the other"),
        ({"shares": (0.5, 0.2, 0.2)}, "shares of a plan's end points must add up"),
        ({"seeds": (3, 8, 8)}, "fewer than two pairs"),
    ],
)
def test_plans_that_cannot_be_kept_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_study(**changes)
