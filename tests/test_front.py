"""The front page: sentences, figure and cards follow from findings, whatever these are."""

import math
import re
from dataclasses import replace

import pytest

from replication.claims import bars, extra, extra_verdicts, figure, front, scoreboard, verdicts
from replication.estimates import Estimate

CLAIM = scoreboard.CLAIMS[0]
ROW = bars.Bar("APGD, ε = 8/255", bars.GAP, Estimate(-5.0, -7.0, -3.0, 3), (15.2, 15.2), ceiling=20.0)
FOUND = scoreboard.Finding(
    CLAIM, "by the paper", "strict", "not reproduced (reduced scale)", (ROW, replace(ROW, label="worst case, ε = 8/255"))
)


def results(*found):
    return scoreboard.Results(list(found), [], [], None)


def test_a_track_puts_values_where_they_are_and_keeps_others_at_its_edges():
    track = figure.Track(0.0, 10.0, 100.0, 200.0)
    assert [track.x(value) for value in (0, 5, 10, 99, -1)] == [100, 150, 200, 200, 100]
    times = figure.Track(1.0, 100.0, 0.0, 100.0, logarithmic=True)
    assert times.x(10.0) == pytest.approx(50)


@pytest.mark.parametrize("width", [figure.WIDE, figure.NARROW])
def test_every_row_is_drawn_with_claim_interval_and_ceiling(width):
    drawn = figure.draw([FOUND], width)
    assert drawn.count('<circle class="measured"') == 2 + 1 and drawn.count('class="most"') == 2 + 1  # and the legend
    assert drawn.count('class="claimed"') == 2 + 1 and drawn.count("−5.0 [−7.0, −3.0]") >= 2
    assert "C1, APGD, ε = 8/255: claimed: +15.2, measured: −5.0 [−7.0, −3.0], at most +20.0 could have been seen" in drawn
    inside = [float(x) for x in re.findall(r"[cx]x=\"([\d.]+)", drawn)]
    assert inside and max(inside) < width


def test_what_was_not_measured_or_has_no_end_is_drawn_all_the_same():
    endless = replace(ROW, measured=Estimate(math.inf, 3.0, math.inf, 3), scale=bars.DISTANCE, claimed=(20.0, 30.0), ceiling=None)
    words = replace(ROW, measured=None, scale=bars.PLAIN, claimed=(None, 0.5), in_words=True, ceiling=None)
    drawn = figure.draw([replace(FOUND, bars=(endless, words))])
    assert "∞ [3.00, ∞]" in drawn and "no usable run" in drawn and "nan" not in drawn and "inf" not in drawn
    assert figure.draw([replace(FOUND, bars=())]) == ""


def test_the_sentences_say_what_the_findings_say():
    first = front.verdict_sentence(results(FOUND, replace(FOUND, claim=scoreboard.CLAIMS[6], verdict="reproduced (CPU)")))
    assert first.startswith("At reduced scale, of the paper's 2 claims, 1 is reproduced (C7), 1 is not reproduced (C1)")
    assert (
        "(C1). For the CNN on CIFAR-10 up to +15.2 points" in first and "−5.0 points [−7.0, −3.0] (3 seeds) under APGD, ε = 8/255" in first
    )
    full = front.verdict_sentence(results(replace(FOUND, verdict="reproduced", bars=())))
    assert full.startswith("Of the paper's 1 claims, 1 is reproduced (C1)") and "not both been attacked yet" in full
    assert front.reason_sentence(results(FOUND)).startswith("What GFA does to a network has not been measured yet")


def own(number, verdict, named=(), measured="as measured"):
    return scoreboard.Finding(extra.EXTRA[number - 1], measured, "1 setting", verdict, named=named)


@pytest.mark.parametrize("found, said", [
    ([], ["is not known yet: the paper's protocol compares on", "E1 and E2 of the plan have no record yet."]),
    ([own(1, "inconclusive", measured=extra.NO_RUN)], ["is not known yet", "E1 and E2 of the plan have no record yet."]),
    ([own(1, "supported", ("FIRST: +28.7", "DEEP: +19.8"))],
     ["nothing reaches both claimed gaps (E1, supported: FIRST: +28.7; 1 more settings do so)", "E2 of the plan has no record"]),
    ([own(1, "not supported")], ["has learnt nothing does not reach the claimed gaps (E1, not supported)", "cannot know"]),
    ([own(1, "inconclusive"), own(2, "supported", ("weak adversarial training", "ten steps of APGD"))],
     ["claimed gaps is open (E1, inconclusive)", "does so alone (E2, supported: weak adversarial training, ten steps of APGD)"]),
    ([own(1, "partly supported", ("FIRST",)), own(2, "partly supported")], ["one of the two claimed gaps (E1", "all together do (E2"]),
    ([own(1, "supported"), own(2, "not supported")], ["no mistake of evaluation does so, alone or with the others (E2, not supported)"]),
])  # fmt: skip
def test_how_the_numbers_can_come_about_is_what_e1_and_e2_say(found, said):
    sentence = front.how_sentence(replace(results(FOUND), own=found))
    assert sentence.startswith("How the claimed numbers can come about") and all(part in sentence for part in said), sentence
    assert ("not known yet" in sentence) == (not found or found[0].paper_protocol == extra.NO_RUN)
    assert sentence in front.sentences(replace(results(FOUND), own=found), "limits")[1]


def test_every_word_of_e1_and_e2_has_its_sentence():
    words = {extra_verdicts.SUPPORTED, extra_verdicts.PARTLY_SUPPORTED, extra_verdicts.NOT_SUPPORTED, verdicts.INCONCLUSIVE}
    assert set(front.NOTHING_LEARNT) == set(front.BY_MISTAKE) == words


def test_a_card_of_our_own_shows_line_by_line_what_was_measured():
    shown = front.card(own(1, "supported", measured="CNN: +5 < 6<br>MLP: −5"), [])
    assert "<dd>CNN: +5 &lt; 6<br>MLP: −5</dd>" in shown and "The paper" not in shown and "extra_verdicts.py" in shown


def test_a_verdict_is_told_by_word_mark_and_shape():
    words = (verdicts.REPRODUCED, verdicts.PARTLY, verdicts.NOT, verdicts.INCONCLUSIVE)
    shown = [front.badge(f"{word} (reduced scale)") for word in words]
    assert len({re.search(r"verdict (\w+)", one)[1] for one in shown}) == len({re.search(r">(.)</span>", one)[1] for one in shown}) == 4
    assert all(f"</span>{word} (reduced scale)</span>" in one for word, one in zip(words, shown, strict=True))


def test_own_claims_stand_below_and_are_not_counted():
    own = replace(FOUND, claim=replace(CLAIM, id="E1"), verdict="supported")
    assert front.counted([FOUND, own]) == "1 is not reproduced (C1)" and "verdict yes" in front.badge("supported")


def test_the_readme_keeps_what_is_not_made():
    text = f"a\n{front.README_START}\nold\n{front.README_END}\nb\n"
    assert front.with_readme_part(text, "new") == "a\nnew\nb\n"
    with pytest.raises(ValueError, match="one of them is missing"):
        front.with_readme_part("a", "new")
