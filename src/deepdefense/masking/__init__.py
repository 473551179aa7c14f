"""Is a robustness number real, or are the gradients masked? Nine checks of one model, each with a verdict.

    from deepdefense import masking
    found = masking.report(model, x, y, eps=8 / 255)
    for check in found.checks:
        print(check.number, check.title, check.verdict, check.reason)

A verdict is "pass", "fail", "not applicable", or "no power": nothing that the images might have done could have failed the
check, or there are fewer than 30 of them. `check.power` holds how many could have counted and how many would have failed it.

`replication.chapters.masking_checks.figure(check)` draws a check. Sources: Athalye et al. 2018, Carlini et al. 2019, Tramèr et
al. 2020, Pintor et al. 2022, Zimmermann et al. 2022.
"""

from .binarisation import binarisation_test
from .check import JSON_NAME, Check, MaskingReport
from .nine_checks import report
from .tested_model import PRESETS, Settings, preset

__all__ = ["JSON_NAME", "PRESETS", "Check", "MaskingReport", "Settings", "binarisation_test", "preset", "report"]
