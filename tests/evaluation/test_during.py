"""Challenge scores in the rows of a run in training."""

import numpy as np

from tests.training.test_wandb_panels import objects, predicted, random_prediction, stack_of
from unet.config import from_dict
from unet.data.stack import IGNORE
from unet.errors import DataError
from unet.evaluation.during import ChallengeScores, membrane_scores


def test_membranes_are_scored_as_at_the_end_of_a_run():
    from unet.evaluation.scoring import score

    predictions = [random_prediction((40, 44), seed, str(seed)) for seed in range(2)]
    found = membrane_scores(predictions)
    whole = score(predictions, stack_of(predictions), {}).values
    assert found == {name: whole[name] for name in ("pixel_error", "rand_error", "v_rand", "v_info")}
    odd = [random_prediction((40, 44)), random_prediction((41, 44), name="b")]
    assert membrane_scores(odd) == {}
    unknown = predicted(np.full((4, 4), IGNORE, np.uint8), np.zeros((4, 4)))
    assert membrane_scores([unknown]) == {}


def test_membranes_of_a_network_that_has_diverged_get_no_scores():
    """An evaluation may come between the update that ruins the weights and the check that finds it."""
    fine, ruined = random_prediction((8, 8)), random_prediction((8, 8), name="b")
    ruined.probabilities[:, 3, 4] = np.nan
    assert membrane_scores([fine, ruined]) == {}


def test_objects_get_seg_at_half(monkeypatch):
    """Two squares, one of them found."""
    predictions = [objects()]
    gold = {p.frame.name: p.frame.instances for p in predictions}
    read = []
    monkeypatch.setattr("unet.evaluation.during.references", lambda *_: read.append(1) or gold)
    scores = ChallengeScores(from_dict({}), stack_of(predictions, ("background", "cell")))
    assert scores(predictions) == {"seg_at_half": 0.5}
    assert scores([random_prediction((30, 30), name="without a reference")]) == {}
    assert read == [1]


def test_a_reference_that_has_gone_and_very_many_pixels_leave_the_scores_out(monkeypatch):
    predictions = [objects()]

    def gone(*_):
        raise DataError("labels/a.tif: not there")

    monkeypatch.setattr("unet.evaluation.during.references", gone)
    assert ChallengeScores(from_dict({}), stack_of(predictions, ("background", "cell")))(predictions) == {}
    membranes = [random_prediction((40, 44))]
    scores = ChallengeScores(from_dict({}), stack_of(membranes))
    assert scores(membranes) != {}
    monkeypatch.setattr("unet.evaluation.during.MOST_PIXELS", 40 * 44 - 1)
    assert scores(membranes) == {}
