"""The paper's tables: means of runs by hand, ensembles, what is reached; nothing is picked from several runs."""

import json
from dataclasses import replace

from unet.config import from_dict, profile, to_yaml
from unet.study import registry, tables

STUDY = registry.study_of(registry.find("paper"))
ENVIRONMENT = {"device": "cpu", "processor": "EPYC", "packages": {"torch": "2"}, "threads": 1, "parameters": 1925058,
               "precision": "bf16", "commit": "0123456789"}  # fmt: skip
SCORES = {"pixel_error": 0.06, "rand_error": 0.05, "warping_error": 0.0004, "v_rand": 0.97, "v_info": 0.98}


def store(results, size, arm, data, seed, scores, seconds=600.0, fold=0, **more):
    folder = results / "paper" / size / f"{arm}-{data}-seed{seed}"
    folder.mkdir(parents=True)
    config = from_dict({"data": {"name": data, "fold": fold}}, profile(size))
    (folder / "config.yaml").write_text(to_yaml(replace(config, train=replace(config.train, seed=seed))))
    record = {
        "study": "paper",
        "profile": size,
        "arm": arm,
        "data": data,
        "seed": seed,
        "seconds": seconds,
        "command": "",
    }
    for name, content in (
        ("environment", ENVIRONMENT),
        ("record", record),
        ("scores", {"scores": scores, "notes": [], "by_frame": {}, "thresholds": {}, "frames": []} | more),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    left_out = [f"{seed % 2 + 1:02}/t000"] if data != "em" else []
    (folder / "split.json").write_text(json.dumps({"train": [], "held_out": left_out}))
    (folder / "metrics.jsonl").write_text('{"update": 1, "part": "train", "loss": 1.0, "loss_max": 1.0}\n')


def line(page, *words):
    found = [row for row in page.splitlines() if all(word in row for word in words)]
    assert len(found) == 1, found
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_rows_are_means_over_seeds_beside_the_papers(tmp_path):
    archive = {"protocols": {"archive": {"scores": SCORES}}, "labels": {"note": "recovered copy"}}
    for seed, shift in enumerate((0.0, 0.002)):
        found = {f"test_{name}": value + shift for name, value in SCORES.items()}
        store(tmp_path, "membranes", "whole", "em", seed, found, 600 + 600 * seed, test=archive)
    for seed, (fold, v_rand) in enumerate(((0, 0.95), (1, 0.98), (0, 0.96))):
        store(tmp_path, "membranes", "folds", "em", seed, SCORES | {"v_rand": v_rand}, fold=fold)
    objects = {"objects_found": 90, "objects_missed": 2, "objects_merged": 1, "objects_split": 4, "objects_spurious": 3}
    store(tmp_path, "cells", "gold", "hela", 0, {"seg": 0.76, "seg_components": 0.6, **objects})
    store(tmp_path, "cells", "gold", "hela", 1, {"seg": 0.80, "seg_components": 0.5, **objects})
    store(tmp_path, "cells", "gold", "hela", 2, {"seg": 0.78, "seg_components": 0.6, **objects | {"objects_found": 94}})
    store(tmp_path, "cells", "silver", "hela", 0, {"seg": 0.85, "seg_components": 0.8, **objects})
    ensemble = tmp_path / "paper" / "ensembles" / "five networks"
    ensemble.mkdir(parents=True)
    kept = {"protocols": {"paper": {"scores": SCORES | {"v_rand": 0.9735}}}, "runs": ["a", "b"]}
    (ensemble / "test-scores.json").write_text(json.dumps(kept))
    page = STUDY.front(STUDY, tmp_path)
    assert line(page, "ours, one network")[1:] == [
        "0.0610 ± 0.0014", "0.0510 ± 0.0014", "0.001400 ± 0.001414", "0.9710 ± 0.0014", "0.9810 ± 0.0014",
        "2", "1.9 M", "15 on 1 core",
    ]  # fmt: skip
    assert line(page, "archive's own script")[4] == "0.9700 ± 0.0000"
    assert line(page, "ours, 2 networks as one")[4] == "0.9735"
    assert line(page, "part 1 ")[4:7] == ["0.9550 ± 0.0071", "0.9800 ± 0.0000", "2"]
    assert line(page, "part 2 ")[4:7] == ["0.9800", "0.9800", "1"]
    assert line(page, "**all**")[4] == "0.9633 ± 0.0153"
    assert line(page, "ours", "DIC-HeLa", "gold")[2:12] == [  # both sequences count alike, though one has two runs
        "0.7850", "0.7700 ± 0.0141", "0.8000", "0.5500", "91", "2", "1", "4", "3", "3",
    ]  # fmt: skip
    assert line(page, "ours", "DIC-HeLa", "silver")[2:12] == ["-", "0.8500", *"-------", "1"]
    assert line(page, "u-net (Table 2", "PhC-U373")[2] == "0.9203"
    assert (
        "- DIC-HeLa, SEG 0.7756: reached, 0.7850 (gold masks of the other sequence, mean of both sequences, 3 runs)."
        in page
    )
    assert "- PhC-U373, SEG 0.9203: not run yet (gold)." in page
    assert (
        "- EM, V_rand 0.97276: not run yet (five-border); the best of all other rows: reached, 0.9735 "
        "(ensemble five networks)." in page
    )
    kept["protocols"]["paper"]["scores"] = SCORES  # the row that was named stands, though another is better
    (tmp_path / "paper" / "ensembles" / "five-border").mkdir()
    (tmp_path / "paper" / "ensembles" / "five-border" / "test-scores.json").write_text(json.dumps(kept))
    page = STUDY.front(STUDY, tmp_path)
    assert (
        "- EM, V_rand 0.97276: not reached, 0.9700 (ensemble five-border); the best of all other rows: reached, 0.9735 "
        "(ensemble five networks)." in page
    )
    assert (
        "- EM, Rand error 0.0382: not reached, 0.0500 (ensemble five-border); the best of all other rows: not reached, "
        "0.0500 (ensemble five networks)." in page
    )
    assert "recovered copy" in page
    assert ".jpg" not in page
    (tmp_path / "paper" / "hela.jpg").write_bytes(b"")
    assert "DIC-HeLa, seed 0:\n\n![best and worst frame](hela.jpg)" in STUDY.front(STUDY, tmp_path)


def test_ensembles_on_cells_stand_where_both_sequences_have_one(tmp_path):
    objects = dict.fromkeys(("objects_missed", "objects_merged", "objects_split", "objects_spurious"), 0.0)
    for sequence, seg, found in (("01", 0.9, 99), ("02", 0.8, 90)):
        assert "as one" not in STUDY.front(STUDY, tmp_path)
        folder = tmp_path / "paper" / "ensembles" / f"gold-phc-{sequence}"
        folder.mkdir(parents=True)
        scores = {"seg": seg, "seg_components": 0.7, "objects_found": found, **objects}
        (folder / "scores.json").write_text(json.dumps({"members": [{}] * 5, "scores": scores}))
    page = STUDY.front(STUDY, tmp_path)
    assert line(page, "ours, 5 networks as one", "PhC-U373")[2:7] == ["0.8500", "0.9000", "0.8000", "0.7000", "94"]
    other = "not reached, 0.8500 (gold masks of the other sequence, ensembles)"
    assert f"- PhC-U373, SEG 0.9203: not run yet (gold); the best of all other rows: {other}." in page


def test_the_page_is_written_with_the_report_and_stands_without_runs(tmp_path):
    assert "DIC-HeLa, SEG 0.7756: not run yet (gold)." in STUDY.front(STUDY, tmp_path)
    store(tmp_path, "cells", "gold", "hela", 0, {"seg": 0.7, "mean_iou": 0.5})
    store(tmp_path, "cells", "gold", "hela", 1, {"seg": 0.6, "mean_iou": 0.5})
    registry.write_report(STUDY, "cells", tmp_path, tmp_path / "plan.yaml")
    assert "not reached, 0.6500" in (tmp_path / "paper" / "README.md").read_text()


def test_an_ensemble_beside_the_profiles_is_no_run(tmp_path):
    """The scores of an ensemble on cells lie in results/paper/ensembles/NAME and have no record."""
    folder = tmp_path / "paper" / "ensembles" / "gold-hela-01"
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text("{}")
    (tmp_path / "paper" / "cells").mkdir()
    assert tables.profiles_of(registry.study_of(registry.find("paper")), tmp_path) == ["cells"]
