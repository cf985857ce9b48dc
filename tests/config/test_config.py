"""Configuration: round trips, and one clear line for every mistake."""

import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unet.config import (
    PROFILES,
    Config,
    DataConfig,
    OptimConfig,
    from_dict,
    keys,
    load_yaml,
    note_renamed,
    parse_yaml,
    profile,
    to_dict,
    to_yaml,
)
from unet.errors import ConfigError, UserError


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_survive_the_way_through_yaml(name, tmp_path):
    config = profile(name)
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert load_yaml(tmp_path / "c.yaml") == config


def test_a_file_changes_only_what_it_names(tmp_path):
    (tmp_path / "c.yaml").write_text("optim:\n  lr: 1e-4\ntrain:\n  updates: 7\n")
    loaded = load_yaml(tmp_path / "c.yaml", profile("quick"))
    expected = to_dict(profile("quick"))
    expected["optim"]["lr"] = 1e-4
    expected["train"]["updates"] = 7
    assert to_dict(loaded) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optim": {"lrr": 1}}, "unknown key 'optim.lrr'; did you mean 'lr'?"),
        ({"optm": {"lr": 1}}, "unknown key 'optm'; did you mean 'optim'?"),
        ({"lr": 1}, "unknown key 'lr'; did you mean 'optim.lr'?"),
        ({"optim": {"lr": "fast"}}, "optim.lr: 'fast' is not a finite number"),
        ({"optim": {"lr": float("nan")}}, "optim.lr: nan is not a finite number"),
        ({"optim": {"lr": -1}}, "optim.lr: -1.0 is not allowed"),
        ({"optim": {"name": "sdg"}}, "is not one of sgd, adam, adamw; did you mean 'sgd'?"),
        ({"optim": 3}, "optim: expected keys below it"),
        ({"train": {"updates": 2.5}}, "train.updates: 2.5 is not an integer"),
        ({"train": {"updates": 0}}, "train.updates: 0 is not allowed"),
        ({"train": {"channels_last": "yes"}}, "train.channels_last: 'yes' is not a true or false"),
        ({"train": {"batch": True}}, "train.batch: True is not an integer"),
        ({"optim": {"betas": [0.9]}}, "optim.betas: expected 2 values, got 1"),
        ({"augment": {"gray": "RandomGamma()"}}, "augment.gray: expected a list"),
        ({"tile": {"input_px": 512}}, "use 508 or 524"),
        ({"weight": {"classes": [0, 0]}}, "weight.classes: [0.0, 0.0] is not allowed; use a number of 0 or more per"),
        ({"augment": {"elastic_std_px": 1e9}}, "augment.elastic_std_px: 1000000000.0 is not allowed"),
        ({"augment": {"zoom": 400}}, "augment.zoom: 400.0 is not allowed; use a largest factor of 1"),
        ({"augment": {"rotation_deg": 1e4}}, "augment.rotation_deg: 10000.0 is not allowed"),
        ({"predict": {"symmetries": 7}}, "predict.symmetries: 7 is not one of 1, 4, 8"),
        ({"data": {"name": "folder"}}, "data.folder"),
        ({"data": {"split": "list"}}, "data.held_out"),
    ],
)
def test_mistakes_are_one_clear_line(values, message):
    with pytest.raises(UserError) as caught:
        from_dict(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[1, 2]", "found list"),
        ("optim: {lr: [", "not valid YAML"),
        ("optim:\n  lr: 1\n  ? 2\n", "unknown key"),
        ("train: {updates: 1:1:1}", "train.updates: '1:1:1' is not an integer"),  # 3661 in YAML 1.1
        ("optim: {lr: 1:30.5}", "optim.lr: '1:30.5' is not a finite number"),
        ("wandb: {project: 2024-99-99}\ntrain: {seed: 1:1}", "train.seed: '1:1' is not"),
        (f"train: {{updates: {'9' * 5000}}}", "not valid YAML"),
        (f"train: {{updates: 1{':1' * 60000}}}", r"^train.updates: '1:1:1.{100,200} is not an integer$"),
    ],
)
def test_hostile_or_broken_yaml(text, message, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_yaml(path)


def test_numbers_are_those_of_yaml_1_1_but_for_the_base_of_60():
    text = "[1, -2, 0x1F, 0b101, 017, 1_000, 1.5, .5, 1.e+3, .inf, 1e-3, 12:30, 2001-02-03, true]"
    assert parse_yaml(text) == [
        1, -2, 31, 5, 15, 1000, 1.5, 0.5, 1000.0, float("inf"), "1e-3", "12:30", "2001-02-03", True,
    ]  # fmt: skip
    for plain in text[1:-1].split(", "):
        if ":" not in plain and plain.count("-") < 2:
            assert parse_yaml(plain) == yaml.safe_load(plain)


def test_a_huge_or_missing_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(ConfigError, match="larger than"):
        load_yaml(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path / "absent.yaml")


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        profile("quik")


def test_configurations_are_frozen():
    with pytest.raises(AttributeError):
        OptimConfig().lr = 3  # type: ignore[misc]


def test_a_folder_of_ones_own_sets_the_name():
    assert DataConfig(folder="x").name == "folder"


def test_keys_are_all_leaves():
    flat = set()

    def walk(values, prefix):
        for key, value in values.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")
            else:
                flat.add(prefix + key)

    walk(to_dict(Config()), "")
    assert set(keys()) == flat


@given(st.floats(1e-9, 999), st.integers(1, 10**6), st.lists(st.text(max_size=5), max_size=3))
def test_any_values_survive_yaml(lr, updates, tags):
    config = from_dict({"optim": {"lr": lr}, "train": {"updates": updates}, "wandb": {"tags": tags}})
    read = {name: parse_yaml(to_yaml(getattr(config, name))) for name in ("optim", "train", "wandb")}
    assert from_dict(read) == config


def test_the_package_and_its_configuration_do_not_import_torch():
    code = "import sys, unet, unet.config, unet.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_keys_and_values_of_before_are_read_and_said_once(capsys):
    note_renamed.cache_clear()
    old = {"optim": {"kind": "adam"}, "data": {"separate_px": 3}, "predict": {"rotations": 8},
           "weight": {"balance": "normalised"}}  # fmt: skip
    new = {"optim": {"name": "adam"}, "data": {"ridge_px": 3}, "predict": {"symmetries": 8},
           "weight": {"balance": "inverse_frequency"}}  # fmt: skip
    assert from_dict(old) == from_dict(new) == from_dict(old)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "unet: optim.kind is now called optim.name",
        "unet: data.separate_px is now called data.ridge_px",
        "unet: predict.rotations is now called predict.symmetries",
        "unet: weight.balance normalised is now called weight.balance inverse_frequency",
    ]


def test_an_unhashable_value_is_no_renamed_one():
    with pytest.raises(ConfigError, match=r"weight.balance: \[1\]"):
        from_dict({"weight": {"balance": [1]}})
