"""The pages of the reasons on made-up records: what they say, and that each figure fits the column with text that can be read."""

import matplotlib.pyplot as plt
import pytest
from test_extra_claims import SEEDS, N, better, rivals, under

from replication import figures, networks, tables
from replication.chapters import better_use, break_our_networks, claimed_numbers, headline, other_architectures
from replication.claims import extra, protocol_quantities, use_quantities


@pytest.fixture
def drawn(monkeypatch):
    """Show figures and tables as a page does; the texts they come to."""
    said = []
    monkeypatch.setattr(figures, "display", lambda exhibit: said.append(repr(exhibit)))
    monkeypatch.setattr(tables, "display", lambda exhibit: said.append(repr(exhibit)))
    yield said
    plt.close("all")


def test_the_page_of_claimed_numbers_counts_who_reaches_them(tmp_path, drawn):
    rivals(tmp_path, kept=60)
    for seed in SEEDS:
        under(tmp_path, "gfa-first", seed, kept=N, clean=0.1, status="collapsed", distance=25.0)
        under(tmp_path, "gfa-deep", seed, kept=40, clean=0.55)
    there = protocol_quantities.read(tmp_path)
    assert "6 GFA networks with both rivals of their seed (3 collapsed, 0 half collapsed, 3 works)" in claimed_numbers.present(there)
    said = claimed_numbers.suspicions(there)
    assert "collapsed, APGD: 3 of 3 networks" in said and "works, APGD: 0 of 3 networks" in said
    ratios = claimed_numbers.ratio_words(there)
    assert "collapsed, DeepFool: 3 of 3 networks reach 20×, at most 25.00×" in ratios and "works, EADEN: 0 of 3" in ratios
    figures.show(claimed_numbers.gap_figure(there), alt=said, caption=said)
    figures.show(claimed_numbers.ratio_figure(there), alt=ratios, caption=ratios)
    table = claimed_numbers.networks_table(there)
    tables.show(table, caption="x", name="x")
    assert sorted(table["best gap, APGD (points)"]) == ["+50.0"] * 3 + ["−16.7"] * 3 and set(table["at eps (1/255), APGD"]) == {"8"}
    tables.show(claimed_numbers.mistakes_table(there), caption="x", name="x")
    assert len(drawn) == 4 and "ten steps of APGD" in drawn[3]
    assert claimed_numbers.networks_table([]).empty
    for none in (claimed_numbers.ratio_words([]), claimed_numbers.suspicions([])):
        assert none.count("no network with 30 common images") == 4 == len(none.splitlines())


def test_findings_of_our_own_are_sentences_with_their_mark(tmp_path):
    (one,) = headline.extra_sentences([extra.e1([])])
    assert one.startswith("? E1, a network that has learnt nothing reaches the claimed gaps: inconclusive. No run yet (0 of 4 ")
    better(tmp_path, robust=70)
    (two,) = headline.extra_sentences([extra.e3(use_quantities.read(tmp_path))])
    assert two.startswith("✓ E3, a better use of the idea beats GNR at equal clean accuracy: supported. ")


def test_the_page_of_better_uses_names_the_most_robust_of_each(tmp_path, drawn):
    better(tmp_path, robust=60)
    points = better_use.worst_case_points(use_quantities.read(tmp_path))
    said = better_use.points_words(points)
    assert "tangential GNR 50.0 at 65.0 clean" in said and "GNR 50.0 at 50.0 clean" in said
    figures.show(better_use.plane(points, "worst case (%)", "clean accuracy (%)"), alt=said, caption=said)
    assert len(drawn) == 1


def test_probes_and_survivors_are_counted_in_the_records():
    found = networks.probes(other_architectures.READS)
    table = other_architectures.probes_table(found)
    kept = [one.reports["linf"].robust().sum() if "linf" in one.reports else "–" for one in found]
    assert list(table["kept in the worst case (images)"]) == kept and len(kept) - kept.count("–") >= 5
    said = other_architectures.kept_words(found)
    (adversarial,) = [one for one in found if (one.pair, one.defence) == (("cifar10", "resnet18"), "pgd-at")]
    assert said[-1] == other_architectures.missing(found)
    assert f"PGD-7 training {adversarial.reports['linf'].robust().sum()} of 50" in said[0]
    weak = [one for one in found if one.clean < other_architectures.HARDLY]
    assert other_architectures.unlearnt(found) == said[-2:-1] and said[-2].count("%") == len(weak) + 1
    assert other_architectures.unlearnt([one for one in found if one not in weak]) == []
    assert other_architectures.kept_words([]) == [other_architectures.missing([])]
    first = [one for one in networks.headline() if one.seed == 1]
    listed = break_our_networks.survivors_table(first)
    assert all(len(row["indices"].split()) == row["survivors"] for _, row in listed.iterrows() if row["survivors"])
    for (_, row), (_, shown) in zip(listed.iterrows(), break_our_networks.cut(listed).iterrows(), strict=True):
        if not row["survivors"]:
            continue
        kept, _, more = shown["indices"].partition(" … and ")
        assert (
            row["indices"].startswith(kept) and len(kept.split()) + int(more.split()[0].replace(",", "") if more else 0) == row["survivors"]
        )
    assert f"{listed['survivors'].sum():,} images of {len(listed)} networks survive" in break_our_networks.survivors_words(first)
    assert "No network" in break_our_networks.survivors_words([]) and "No weights" in break_our_networks.published_words([])
