"""scripts/bench/pack_gpu_results.py: one file with what was measured on a GPU."""

import json
import zipfile

from tests.loss.test_gpu import script

pack = script("pack_gpu_results")


def test_everything_that_was_measured_is_packed(tmp_path, capsys):
    (tmp_path / "gpu_check.json").write_text(json.dumps({"environment": {"device": "Card 9"}, "results": []}))
    (tmp_path / "loss.csv").write_text("device,cuda,p50_us\nAMD,,9\nCard 9,13.0,1\n")
    (tmp_path / "train.csv").write_text("device,versions\nAMD,x\n")
    (tmp_path / "reduction_ladder.md").write_text("table")
    (tmp_path / "other.csv").write_text("device,cuda\nCard 9,13.0\n")
    to = tmp_path / "out.zip"
    assert pack.main(["--folder", str(tmp_path), "--to", str(to)]) == 0
    with zipfile.ZipFile(to) as archive:
        names = {"README.txt", "gpu_check.json", "loss.csv", "train.csv", "reduction_ladder.md"}
        assert set(archive.namelist()) == names
        assert archive.read("README.txt").decode() == "gpu_check.json: Card 9\nloss.csv: Card 9\n"
        assert archive.read("loss.csv") == (tmp_path / "loss.csv").read_bytes()
    assert "out.zip" in capsys.readouterr().out


def test_rows_of_a_processor_are_no_results_of_a_gpu(tmp_path, capsys):
    (tmp_path / "loss.csv").write_text("device,cuda\nAMD,\n")
    (tmp_path / "gpu_check.json").write_text(json.dumps({"environment": {"device": "cpu"}}))
    assert pack.main(["--folder", str(tmp_path), "--to", str(tmp_path / "out.zip")]) == 1
    assert "docs/nvidia.md" in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()
