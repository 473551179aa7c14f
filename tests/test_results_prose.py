"""What chapters 10 to 13 say in words of the networks that they show, as inequalities: records that contradict them fail here."""

import numpy as np
import pytest

from deepdefense.masking import Settings
from replication import networks as headline
from replication.chapters import geometry_figures, gradient_attacks, masking
from replication.claims import measured, quantities, scoreboard
from replication.scope import CNN, DEFENCE_NAMES, GFA_ROWS, MLP, PAIRS, ROWS, VARIANTS

PAGE = headline.of_page()
MLP_CIFAR = ("cifar10", "mlp")
every_pair = pytest.mark.parametrize("pair", PAGE.pairs, ids=PAIRS.get)


def shown(pair, rows=GFA_ROWS):
    """Those of `rows` that the pages show of `pair`: an aligned setting is not there for each."""
    return [row for row in rows if headline.of(PAGE.networks, pair, row)]


def mean(values):
    values = list(values)
    assert values
    return float(np.mean(values))


def left(pair, defence, quantity):
    return mean(quantity(network) for network in headline.of(PAGE.networks, pair, defence))


def worst_case(pair, defence):
    return left(pair, defence, lambda network: quantities.worst_case(network).mean())


def alone(pair, defence):
    """The networks that met every attack on its own, of full size those of seed 1."""
    return [network for network in headline.of(PAGE.networks, pair, defence) if network.singly is not None]


def under(pair, defence, attack):
    return mean(network.singly.robust(attack).mean() for network in alone(pair, defence))


def measured_distances(pair, defence):
    return [network for network in headline.of(PAGE.networks, pair, defence) if "l2" in network.reports]


def gap(pair, attack):
    return scoreboard.gap(headline.by_seed(PAGE.networks, pair), attack, scoreboard.CLAIMED[attack])


def curve(pair, defence, attack, level):
    """What is left of the images of the sweep's panel, the mean over seeds."""
    shares = []
    for networks in headline.by_seed(PAGE.networks, pair).values():
        swept = networks[defence].sweep
        shown = quantities.common(networks) if attack != "PGD-20 margin" else slice(None)
        shares.append(swept[f"{attack}/{level}"][shown].mean())
    return mean(shares)


# --- 10 -------------------------------------------------------------------------------------------------------------------


@every_pair
def test_first_keeps_more_than_plain_and_less_than_gnr_and_adversarial_training(pair):
    kept = {row: worst_case(pair, row) for row in shown(pair, ROWS)}
    most = max(kept[row] for row in shown(pair))
    assert kept["standard"] < kept["gfa-first"] and most < kept["gnr"]
    assert kept["pgd-at"] >= 2 * most if pair[0] == "cifar10" else kept["pgd-at"] > most, "at least twice as many on CIFAR-10"


@pytest.mark.parametrize("pair", [CNN, MLP_CIFAR], ids=PAIRS.get)
def test_on_cifar_first_keeps_more_than_plain_under_every_attack_of_the_table(pair):
    table = gradient_attacks.accuracy_table(PAGE.networks, pair)
    attacks = [name for name in table if name not in ("clean", "seeds") and not name.startswith("n, ")]
    assert len(attacks) == 7
    for name in attacks:
        plain, first = (float(table.loc[row, name].split(" ")[0]) for row in ("plain", "GFA-FIRST"))
        assert first > plain, name


@every_pair
@pytest.mark.parametrize("attack", scoreboard.CLAIMED)
def test_where_adversarial_training_was_trained_it_is_ahead_under_both_protocols(pair, attack):
    found = gap(pair, attack)
    assert found.fixed.level == 8 and found.fixed.estimate.high < 0
    if found.strict:
        assert found.strict[1].high < 0


def test_a_gain_far_beyond_is_the_attacks_and_not_the_networks():
    found = gap(MLP, "APGD-100")
    best, far = found.best, found.beyond
    assert best.level == far.level == 51 and best.variant == "gfa-first" == far.variant
    assert best.estimate.mean > 0 and best.estimate.low < -10 and far.estimate.high < 0
    left_over = {
        name: np.mean([network.beyond.robust().mean() for network in headline.of(PAGE.networks, MLP, name)])
        for name in ("gfa-first", "pgd-at")
    }
    assert left_over["gfa-first"] < left_over["pgd-at"] < 0.05, "next to nothing of either, and less of GFA"
    assert curve(MLP, "gfa-first", "APGD-100", 51) > 10 * left_over["gfa-first"], "the other attacks take nearly all"
    for attack in scoreboard.CLAIMED:
        assert max(reading.estimate.mean for pair in PAGE.pairs if pair != MLP for reading in [gap(pair, attack).best] if reading) < 0, (
            "in one place"
        )


@pytest.mark.parametrize("attack", ["FGSM", "APGD-100", "PGD-20 margin"])
@pytest.mark.parametrize("pair", [CNN, MLP_CIFAR], ids=PAIRS.get)
def test_the_order_of_the_curves_on_cifar(pair, attack):
    for level in (4, 8, 12, 16):
        plain, deep, first, gnr, trained = (curve(pair, d, attack, level) for d in ("standard", "gfa-deep", "gfa-first", "gnr", "pgd-at"))
        assert plain < first < gnr and max(first, deep) < trained
        assert plain < deep < first if pair == MLP_CIFAR else abs(deep - plain) < 0.05
    for level in (1, 2, 4, 8):
        assert abs(curve(pair, "gnr", attack, level) - curve(pair, "pgd-at", attack, level)) < 0.1, "within ten points"
    assert curve(pair, "pgd-at", attack, 8) / curve(pair, "gfa-first", attack, 8) > 1.8
    clean = {row: left(pair, row, lambda network: network.clean) for row in (*VARIANTS, "pgd-at")}
    assert min(clean[variant] for variant in VARIANTS) > clean["pgd-at"], "near 0 the chosen settings of GFA are ahead"


def test_the_order_on_fashion_mnist_and_where_first_crosses_all_others():
    order = ("standard", "gfa-deep", "gfa-first", "gnr", "trades", "pgd-at")
    for attack in ("FGSM", "APGD-100", "PGD-20 margin"):
        at_8 = [curve(MLP, defence, attack, 8) for defence in order]
        assert at_8 == sorted(at_8) and at_8[0] > 0.5
        for level in (26, 38, 51):
            others = max(curve(MLP, defence, attack, level) for defence in order if defence != "gfa-first")
            assert (curve(MLP, "gfa-first", attack, level) > others) == (level >= 38)


def test_deep_gains_hardly_anything_on_the_cnn():
    assert all(worst_case(CNN, row) < worst_case(CNN, "standard") + 0.01 for row in shown(CNN) if row.startswith("gfa-deep"))


def test_gfa_gains_on_fashion_mnist():
    points = {(pair, row): mean for pair, row, _, mean in masking.over_plain(PAGE.networks)}
    for variant in VARIANTS:
        assert points[MLP, variant].mean > 10 and points[MLP, variant].low > 5, points


@every_pair
def test_adaptive_attacks_find_nothing_on_gfas_networks_that_autoattack_misses_and_one_image_elsewhere(pair):
    for network in headline.of(PAGE.networks, pair):
        report = network.reports["linf"]
        auto = report.robust(*report.in_suite("standard"))
        assert (auto & ~quantities.worst_case(network)).sum() <= (0 if network.defence in VARIANTS else 1), network.name


# --- 11 -------------------------------------------------------------------------------------------------------------------


def median(pair, defence):
    return mean(np.median(quantities.strict_distances(network)) for network in measured_distances(pair, defence))


@pytest.mark.parametrize("pair", [CNN, MLP, MLP_CIFAR], ids=PAIRS.get)
def test_distances_grow_by_a_few_times_and_those_of_chosen_settings_stay_below_adversarial_training(pair):
    plain, first, deep = (median(pair, defence) for defence in ("standard", *VARIANTS))
    assert plain < first < min(median(pair, "pgd-at"), median(pair, "gnr")) and deep < first
    assert max(median(pair, row) for row in shown(pair)) < 6 * plain, "a few times"
    for network in headline.of(PAGE.networks, pair):
        if "l2" in network.reports:
            assert np.isfinite(quantities.strict_distances(network)).all(), "no median hides a failure"


def test_by_the_papers_means_deep_lies_behind_adversarial_training_on_fashion_mnist():
    seeds = headline.by_seed(PAGE.networks, MLP)
    first, deep = (quantities.paper_ratio_estimate(seeds, name, "paper/DeepFool", "pgd-at")[0].mean for name in VARIANTS)
    assert deep < 1 < first


def test_deepfool_alone_overrates_gfa_on_fashion_mnist():
    def by_deepfool(defence):
        reports = [network.reports["l2"] for network in measured_distances(MLP, defence)]
        return mean(np.median(report.outcomes["paper/DeepFool"].l2[report.clean]) for report in reports)

    others = ("standard", "gnr", "pgd-at", "trades")
    assert all(by_deepfool(gfa) > by_deepfool(other) for gfa in VARIANTS for other in others), "looks better than every other defence"
    assert min(by_deepfool(gfa) / median(MLP, gfa) for gfa in VARIANTS) > 5
    assert min(by_deepfool(defence) / median(MLP, defence) for defence in ("standard", "pgd-at")) > 3
    assert by_deepfool("trades") / median(MLP, "trades") < 1.25, "hardly more"
    behind = [median(MLP, defence) for defence in ("gfa-deep", "gfa-first", "trades", "gnr", "pgd-at")]
    assert behind == sorted(behind) and behind[0] < 0.9 * behind[1]
    seeds = [networks for networks in headline.by_seed(PAGE.networks, MLP).values() if all("l2" in n.reports for n in networks.values())]
    assert mean(quantities.paper_ratio(networks, "gfa-first", "paper/DeepFool") for networks in seeds) < 3


# --- 12 -------------------------------------------------------------------------------------------------------------------


def rise(pair, defence, loss="mse", within="tangential"):
    return mean(measured.rise_ratios(PAGE.measured(pair), defence, loss=loss, within=within).values())


@every_pair
@pytest.mark.parametrize("loss", ["mse", "margin"])
def test_first_lowers_the_tangential_rise_and_gnr_and_adversarial_training_lower_it_more(pair, loss):
    first, deep = rise(pair, "gfa-first", loss), rise(pair, "gfa-deep", loss)
    assert first < min(deep, 1), "DEEP lowers it less"
    assert rise(pair, "gfa-first", "mse", "radial") > (1 if pair == CNN else 3), "the radial rise grows, on both MLPs several times"
    for other in ("gnr", "pgd-at"):
        assert rise(pair, other, loss) < min(first, 0.11 if pair in (CNN, MLP_CIFAR) else 1), "on CIFAR-10 to about a tenth or less"
        radial = rise(pair, other, loss, "radial")
        assert 0.85 < radial < 1.1 if pair == MLP else radial < 0.75, "on Fashion-MNIST about as it was"


def geometry(pair, row, *path):
    return mean(geometry_figures.look_up(one, *path)["mean"] for one in PAGE.measured(pair) if measured.row(one) == row)


@every_pair
def test_with_first_the_gradient_gets_shorter_by_more_than_it_turns(pair):
    plain = [geometry(pair, "standard", "gradient", part) for part in ("length", "tangential")]
    for row in shown(pair, ("gfa-first", "gfa-first-aligned")):
        length, tangential = (geometry(pair, row, "gradient", part) for part in ("length", "tangential"))
        assert length / plain[0] < (tangential / length) / (plain[1] / plain[0]), row


@every_pair
def test_first_turns_the_training_residual_the_margin_by_less_and_the_other_classes_hardly(pair):
    plain = {name: geometry(pair, "standard", "directions", name, "alignment") for name in ("training residual", "margin", "other classes")}
    for row in shown(pair, ("gfa-first", "gfa-first-aligned")):
        turned = {name: geometry(pair, row, "directions", name, "alignment") - before for name, before in plain.items()}
        assert turned["training residual"] > 0.02 and turned["margin"] < turned["training residual"] / 2, row
        assert max(turned["margin"], turned["other classes"]) < -0.2 if pair == MLP else abs(turned["other classes"]) < 0.05, row
        lengths = [geometry(pair, name, "directions", "training residual", "tangential length") for name in ("gnr", "pgd-at", "standard")]
        mine = geometry(pair, "gfa-first", "directions", "training residual", "tangential length")
        assert pair == MLP or max(lengths[:2]) < mine / 2 < lengths[2], "a factor that is small beside theirs"


def test_c8_adversarial_training_aligns_on_fashion_mnist_only():
    def change(pair, defence="pgd-at", kind=measured.ALIGNMENTS[0]):
        return mean(measured.alignment_changes(PAGE.measured(pair), defence, kind=kind).values())

    signed, magnitude, layers, _ = measured.ALIGNMENTS
    assert 0.2 < change(MLP) / change(MLP, "gfa-first") < 0.3 and abs(change(MLP, "gnr")) < 0.02, "a quarter; where it was"
    for pair in (CNN, MLP_CIFAR):
        assert change(pair) < 0 and change(pair, kind=layers) < 0 < change(pair, kind=magnitude)
    assert all(change(pair, "gnr") < 0 for pair in (CNN, MLP_CIFAR))


# --- 13 -------------------------------------------------------------------------------------------------------------------


@every_pair
def test_attacks_orthogonal_to_the_gradient_are_no_stronger_than_the_free_one_on_the_margin(pair):
    for defence in ("standard", "gnr", "pgd-at", *VARIANTS):
        free = under(pair, defence, "adaptive/PGD margin")
        assert min(under(pair, defence, f"adaptive/orthogonal PGD, {which}") for which in ("clean", "iterate")) >= free, defence


def test_the_attack_on_the_training_loss_is_weak_where_the_loss_is():
    table = masking.other_losses_table(PAGE.networks)

    def points(pair, name):
        return float(table.loc[PAIRS[pair], name].split(" ")[0].replace("−", "-"))

    for pair in PAGE.pairs:
        found = {row: points(pair, DEFENCE_NAMES[row]) for row in shown(pair)}
        assert all(value >= 0 for value in found.values()) and points(pair, "plain") > 0
        assert all(value < points(pair, "plain") + 2 for value in found.values() if value > 5), "about as weak on plain training"


@every_pair
def test_gnr_keeps_more_than_either_variant_and_is_nowhere_aligned(pair):
    assert worst_case(pair, "gnr") > max(worst_case(pair, variant) for variant in VARIANTS)
    aligned = [next(iter(n.record["metrics"]["last"]["test_alignment"].values())) for n in headline.of(PAGE.networks, pair, "gnr")]
    assert abs(mean(aligned)) < 0.02 if pair == MLP else mean(aligned) < -0.05


def test_checks_at_full_size_have_the_defaults_and_the_reduced_ones_less():
    for network, report in masking.reports(PAGE.networks):
        spent = {name: report.settings[name] for name in ("steps", "draws", "queries", "readouts")}
        defaults = {name: getattr(Settings(), name) for name in spent}
        assert all(spent[name] < defaults[name] for name in spent) if network.reduced else spent == defaults, network.name


def test_on_fashion_mnist_tangential_pgd_leaves_at_most_five_points_more():
    for defence in ("standard", "gnr", "pgd-at", *VARIANTS):
        more = under(MLP, defence, "adaptive/tangential PGD") - under(MLP, defence, "adaptive/PGD margin")
        assert 0 <= more < 0.05, defence


@every_pair
def test_the_tangential_length_of_every_direction_shrinks(pair):
    def length(record, direction):
        return record["geometry"]["directions"][direction]["tangential length"]["mean"]

    for variant in VARIANTS:
        both = list(measured.pairs(PAGE.measured(pair), variant).values())
        for direction in both[0][0]["geometry"]["directions"]:
            ours, plain = (mean(length(records[k], direction) for records in both) for k in (0, 1))
            assert ours < plain, (variant, direction)


def test_perturbations_are_tangential_on_cifar_and_less_so_on_fashion_mnist():
    def radial(pair, defence):
        records = [record for record in PAGE.measured(pair) if measured.row(record) == defence]
        return [mean(record["geometry"]["attacks"][loss]["radial share"]["mean"] for record in records) for loss in ("mse", "ce", "margin")]

    for pair in PAGE.pairs:
        for row in shown(pair, ROWS):
            assert pair == MLP or max(radial(pair, row)) < (0.02 if row == "standard" else 0.2), "almost wholly tangential, and mostly"
    assert 0.15 < min(radial(MLP, "standard")) and max(radial(MLP, "standard")) < 0.21, "a sixth to a fifth"
    for variant in VARIANTS:
        for network in alone(MLP, variant):
            report = network.singly
            margin, mse = (report.clean & ~report.robust(f"adaptive/PGD {loss}") for loss in ("margin", "mse"))
            assert (margin & mse).sum() > 0.95 * mse.sum() and margin.sum() > mse.sum(), "nearly all that the other breaks, and more"
        for record in [record for record in PAGE.measured(MLP) if measured.row(record) == variant]:
            assert all(record["geometry"]["attacks"][loss]["cosine"]["mean"] < 0 for loss in ("ce", "margin")), (
                "against the training gradient"
            )
