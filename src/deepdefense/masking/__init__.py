"""Is a robustness number real, or are the gradients masked? Nine checks of one model, each with a verdict.

    from deepdefense import masking
    found = masking.report(model, x, y, eps=8 / 255)
    for check in found.checks:
        print(check.number, check.title, check.verdict, check.reason)

`replication.chapters.masking_checks.figure(check)` draws a check. Sources: Athalye et al. 2018, Carlini et al. 2019, Tramèr et
al. 2020, Pintor et al. 2022, Zimmermann et al. 2022.
"""

from .binarisation import binarisation_test
from .check import JSON_NAME, Check, MaskingReport
from .nine_checks import report
from .tested_model import PRESETS, Settings, preset

__all__ = ["JSON_NAME", "PRESETS", "Check", "MaskingReport", "Settings", "binarisation_test", "preset", "report"]
