"""Which runs a study has, and that seeds pair them."""

from dataclasses import replace

import pytest

from tests.study.helpers import GRID, STUDY
from unet.config import Config, from_dict, profile
from unet.errors import ConfigError
from unet.study.design import (
    TUNING,
    TUNING_SHARE,
    Arm,
    Comparison,
    Study,
    difference,
    folds,
    identity,
    jobs,
    make_job,
    resolve,
)
from unet.study.plan import EndPoint, Plan
from unet.study.settings import (
    batch_of_same_input,
    half_tile,
    input_pixels,
    loss_pixels,
    misaligned,
)


def test_a_seed_means_the_same_weights_split_and_tiles_in_every_arm():
    for seed in range(7):
        a, b = (resolve(STUDY, "reduced", arm, "em", seed) for arm in ("a", "b"))
        assert difference(a, b) == ["optim.lr"]
        assert a.train.seed == seed
        assert a.data.fold == seed % 5


def test_parts_are_held_out_in_turn():
    assert [resolve(STUDY, "reduced", "a", "hela", s).data.fold for s in range(4)] == [0, 1, 0, 1]
    random = replace(STUDY, base={"data": {"split": "random"}})
    assert [resolve(random, "reduced", "a", "hela", s).data.fold for s in range(6)] == [0, 1, 2, 3, 4, 0]
    assert folds(from_dict({"data": {"name": "em", "folds": 3}})) == 3


def test_the_order_of_changes_is_profile_base_arm():
    study = replace(STUDY, base={"optim": {"lr": 7e-3}, "model": {"dropout": 0.25}})
    assert resolve(study, "reduced", "a", "em", 0).optim.lr == 7e-3
    assert resolve(study, "reduced", "b", "em", 0).optim.lr == 2e-3
    assert resolve(study, "reduced", "b", "em", 0).model.dropout == 0.25
    assert resolve(study, "reduced", "b", "em", 0).model.base_channels == profile("reduced").model.base_channels


def test_a_data_set_may_have_settings_of_its_own_at_a_size_below_the_arms():
    study = replace(STUDY, by_data={"reduced": {"hela": {"optim": {"lr": 7e-3}, "train": {"updates": 77}}}})
    found = {
        (data, size): resolve(study, size, "a", data, 0) for data in ("em", "hela") for size in ("reduced", "full")
    }
    long = found.pop(("hela", "reduced"))
    assert (long.train.updates, long.optim.lr) == (77, 7e-3)
    assert resolve(study, "reduced", "b", "hela", 0).optim.lr == 2e-3  # an arm has the last word
    assert resolve(study, "reduced", "a", "hela", TUNING).train.updates == 77 // TUNING_SHARE
    assert all(config == resolve(STUDY, size, "a", data, 0) for (data, size), config in found.items())


def test_smoke_runs_on_synthetic_images_and_others_never():
    assert resolve(STUDY, "smoke", "a", "hela", 0).data.name == "synthetic-hela"
    assert resolve(STUDY, "full", "a", "hela", 0).data.name == "hela"


def test_the_dashboard_groups_runs_by_study_and_arm():
    assert resolve(STUDY, "full", "b", "em", 3).wandb.group == "small-study/b"


def test_jobs_come_seed_by_seed_and_grids_once_per_part():
    assert [job.name for job in jobs(STUDY, "full", 1)] == ["a-em-seed0", "b-em-seed0", "a-hela-seed0", "b-hela-seed0"]
    made = list(jobs(GRID, "full", 3))
    tuning = [f"{arm}-hela-seed{s}" for arm in ("named", "low", "high") for s in (90, 91)]
    assert sorted(job.name for job in made) == sorted([*tuning, *(f"named-hela-seed{s}" for s in range(3))])
    assert [job.name for job in made[:6]] == tuning  # first, because the others wait for them


def test_tuning_runs_have_a_quarter_of_the_updates_and_hold_each_part_out_once():
    made = [make_job(GRID, "full", "low", "hela", seed).config for seed in (90, 91, 2)]
    assert [config.train.updates for config in made] == [1000, 1000, 4000]
    assert [config.data.fold for config in made] == [0, 1, 0]
    assert [config.train.seed for config in made] == [90, 91, 2]


def test_a_plan_says_how_many_seeds_there_are():
    plan = Plan((EndPoint("b", "a", "em", "mean_iou", "full", 0.01),), {"full": {"em": 4}})
    study = replace(STUDY, plan=plan)
    assert {(job.data, job.seed) for job in jobs(study, "full", 99)} == {("em", seed) for seed in range(4)}
    assert {(job.data, job.seed) for job in jobs(study, "full", 2)} == {("em", 0), ("em", 1)}
    assert len(list(jobs(study, "smoke", 3))) == 12  # a size that is not planned


def test_arms_for_some_data_sets_only():
    study = replace(STUDY, arms=(*STUDY.arms, Arm("c", "cells only", data=("hela",))))
    assert {job.data for job in jobs(study, "full", 1) if job.arm == "c"} == {"hela"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": (Arm("a", ""), Arm("a", ""))}, "two arms"),
        ({"arms": (Arm("a", ""), Arm("b/c", ""))}, "made of a-z"),
        ({"comparisons": (Comparison("b", "aa"),)}, "no arm 'aa'; did you mean 'a'"),
        ({"arms": (Arm("a", "", best_of=("x",)), Arm("b", ""))}, "no arm 'x'"),
        ({"noise": ("c",)}, "no arm 'c'"),
    ],
)
def test_studies_that_name_what_is_not_there_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        replace(STUDY, **changes)


def test_unknown_keys_and_arms_are_refused():
    study = Study("s", "s", "?", (Arm("a", "", {"optim": {"rate": 1}}),), ())
    with pytest.raises(ConfigError, match=r"optim\.rate"):
        resolve(study, "full", "a", "em", 0)
    with pytest.raises(ConfigError, match="no arm 'z'"):
        resolve(STUDY, "full", "z", "em", 0)


def test_the_identity_of_a_run_leaves_out_the_machine_and_the_dashboard_and_nothing_else():
    base = Config()
    same = from_dict({"train": {"device": "cpu", "workers": 3, "threads": 2}, "wandb": {"group": "x"}})
    assert identity(base) == identity(same)
    assert difference(base, same) == []
    for other in ({"train": {"seed": 1}}, {"optim": {"lr": 1e-4}}, {"predict": {"symmetries": 8}},
                  {"train": {"precision": "fp32"}}):  # fmt: skip
        assert identity(base) != identity(from_dict(other))
        assert len(difference(base, from_dict(other))) == 1


def test_equal_arms_of_different_studies_are_the_same_run():
    other = replace(STUDY, name="other", arms=(Arm("x", ""),), comparisons=())
    mine, theirs = make_job(STUDY, "full", "a", "em", 1), make_job(other, "full", "x", "em", 1)
    assert mine.config != theirs.config
    assert identity(mine.config) == identity(theirs.config)


def test_sizes_of_the_paper_and_of_the_reduced_profile():
    full, reduced = profile("full"), profile("reduced")
    assert (half_tile(full), misaligned(508, 5), misaligned(252, 5)) == (252, 512, 256)
    assert batch_of_same_input(full) == 16
    assert batch_of_same_input(reduced) == 4
    assert (loss_pixels(full), input_pixels(full)) == (4 * 324**2, 4 * 508**2)
