"""The paper's numbers that ours stand beside, and how ours are measured differently.

Ronneberger, Fischer, Brox, MICCAI 2015, arXiv 1505.04597: Table 1 (EM, 6 March 2015), Table 2 (SEG of the Cell Tracking
Challenge 2015). V_rand and V_info: the network's entry in the later leaderboard of the EM challenge.
"""

from __future__ import annotations

from unet.evaluation.published_scores import U_NET, U_NET_LATER
from unet.study.claims import Target

EM_PROTOCOL = "paper: the challenge's 30 test slices, 7 rotations averaged; ours: held-out blocks of 6 training slices"
CTC_PROTOCOL = "paper: the challenge's test sequences; ours: the training sequence left out, gold truth"
LATER = "a later entry of the leaderboard; otherwise as above"

TARGETS = (
    Target("phc", "seg", 0.9203, CTC_PROTOCOL),
    Target("hela", "seg", 0.7756, CTC_PROTOCOL),
    *(Target("em", score, value, EM_PROTOCOL) for score, value in U_NET.scores.items()),
    *(Target("em", score, value, LATER) for score, value in U_NET_LATER.scores.items()),
)
