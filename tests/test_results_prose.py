"""What chapters 10 to 13 say in words of the networks that they show, as inequalities: records that contradict them fail here."""

import numpy as np
import pytest

from replication import networks as headline
from replication.chapters import masking
from replication.claims import measured, quantities
from replication.scope import CNN, MLP, PAIRS, VARIANTS

PAGE = headline.of_page()
MLP_CIFAR = ("cifar10", "mlp")
every_pair = pytest.mark.parametrize("pair", PAGE.pairs, ids=PAIRS.get)


def mean(values):
    values = list(values)
    assert values
    return float(np.mean(values))


def left(pair, defence, quantity):
    return mean(quantity(network) for network in headline.of(PAGE.networks, pair, defence))


def worst_case(pair, defence):
    return left(pair, defence, lambda network: quantities.worst_case(network).mean())


def under(pair, defence, attack):
    return left(pair, defence, lambda network: network.singly.robust(attack).mean())


# --- 10 -------------------------------------------------------------------------------------------------------------------


@every_pair
def test_first_keeps_more_than_plain_and_less_than_gnr_and_adversarial_training(pair):
    kept = {defence: worst_case(pair, defence) for defence in ("standard", "gfa-first", "gfa-deep", "gnr", "pgd-at")}
    assert kept["standard"] < kept["gfa-first"] < min(kept["gnr"], kept["pgd-at"]) and kept["gfa-deep"] < kept["pgd-at"]
    factor = kept["pgd-at"] / kept["gfa-first"]
    assert factor > 2 if pair[0] == "cifar10" else factor > 1, "several times as many on CIFAR-10, more on Fashion-MNIST"
    clean = {defence: left(pair, defence, lambda network: network.clean) for defence in ("gnr", "gfa-first")}
    assert clean["gnr"] < clean["gfa-first"], "GNR pays more clean accuracy than FIRST"


def test_the_reduced_cnns_adversarial_training_is_not_yet_what_a_reader_expects():
    assert left(CNN, "pgd-at", lambda network: network.clean) < 0.45 or worst_case(CNN, "pgd-at") < 0.2


def test_deep_gains_nothing_on_the_cnn():
    assert worst_case(CNN, "gfa-deep") <= worst_case(CNN, "standard")


@every_pair
def test_adaptive_attacks_find_within_two_images_what_autoattack_finds(pair):
    for network in headline.of(PAGE.networks, pair):
        report = network.reports["linf"]
        auto = report.robust(*report.in_suite("standard"))
        assert (auto & ~quantities.worst_case(network)).sum() <= 2, network.name


# --- 11 -------------------------------------------------------------------------------------------------------------------


def median(pair, defence):
    return left(pair, defence, lambda network: np.median(quantities.strict_distances(network)))


@pytest.mark.parametrize("pair", [CNN, MLP, MLP_CIFAR], ids=PAIRS.get)
def test_distances_grow_by_less_than_two_and_stay_below_adversarial_training(pair):
    first, deep, plain, trained = (median(pair, defence) for defence in ("gfa-first", "gfa-deep", "standard", "pgd-at"))
    assert 1 < first / plain < 2 and deep < first < trained and first < median(pair, "gnr")
    assert (deep > plain) == (pair != MLP_CIFAR), "with DEEP by less or, on the MLP for CIFAR-10, not at all"
    for network in headline.of(PAGE.networks, pair):
        assert np.isfinite(quantities.strict_distances(network)).all(), "no median hides a failure"


def test_deepfool_alone_overrates_gfa_on_fashion_mnist():
    def alone(defence, attack="paper/DeepFool"):
        def of(network):
            report = network.reports["l2"]
            return np.median(report.outcomes[attack].l2[report.clean])

        return left(MLP, defence, of)

    assert all(alone(gfa) > alone(other) for gfa in VARIANTS for other in ("standard", "gnr", "pgd-at")), "looks best of all five"
    assert alone("gfa-first") / median(MLP, "gfa-first") > 1.9
    assert max(alone(defence) / median(MLP, defence) for defence in ("standard", "pgd-at")) < 1.4
    seeds = headline.by_seed(PAGE.networks, MLP).values()
    assert mean(quantities.paper_ratio(networks, "gfa-first", "paper/DeepFool") for networks in seeds) < 3


# --- 12 -------------------------------------------------------------------------------------------------------------------


def rise(pair, defence, loss="mse", within="tangential"):
    return mean(measured.rise_ratios(PAGE.measured(pair), defence, loss=loss, within=within).values())


@every_pair
@pytest.mark.parametrize("loss", ["mse", "margin"])
def test_first_leaves_four_to_seven_tenths_of_the_tangential_rise(pair, loss):
    first, deep = rise(pair, "gfa-first", loss), rise(pair, "gfa-deep", loss)
    assert 0.35 < first < 0.75 and first < deep, "DEEP lowers it less"
    assert deep > 0.9 if pair in (CNN, MLP_CIFAR) else deep < 0.9, "hardly, or not"
    assert rise(pair, "gfa-first", "mse", "radial") > 1, "the radial rise grows"
    for other in ("gnr", "pgd-at"):
        assert rise(pair, other, loss) < (0.11 if pair in (CNN, MLP_CIFAR) else first) and rise(pair, other, loss, "radial") < 1


def test_c5_on_the_cnn_is_seed_by_seed_the_less_the_better_aligned():
    records = PAGE.measured(CNN)
    aligned = measured.alignment_changes(records, "gfa-first")
    ratios = measured.rise_ratios(records, "gfa-first")
    order = sorted(aligned, key=aligned.get)
    low, high = order[: len(order) // 2], order[-2:]
    assert max(ratios[seed] for seed in high) < min(ratios[seed] for seed in low)
    assert 0.45 < mean(ratios.values()) < 0.6, "about half is left"


def test_c8_adversarial_training_aligns_on_fashion_mnist_only():
    def change(pair, defence="pgd-at", kind=measured.ALIGNMENTS[0]):
        return mean(measured.alignment_changes(PAGE.measured(pair), defence, kind=kind).values())

    signed, magnitude, layers, _ = measured.ALIGNMENTS
    assert 0 < change(MLP) < 0.05
    for pair in (CNN, MLP_CIFAR):
        assert change(pair) < 0 and change(pair, kind=layers) < 0 < change(pair, kind=magnitude)
    assert all(change(pair, "gnr") < 0 for pair in (CNN, MLP_CIFAR))


# --- 13 -------------------------------------------------------------------------------------------------------------------


@every_pair
def test_attacks_orthogonal_to_the_gradient_are_no_stronger_than_the_free_one_on_the_margin(pair):
    for defence in ("standard", "gnr", "pgd-at", *VARIANTS):
        free = under(pair, defence, "adaptive/PGD margin")
        assert min(under(pair, defence, f"adaptive/orthogonal PGD, {which}") for which in ("clean", "iterate")) >= free, defence


def test_other_losses_gain_most_on_gnrs_cnn():
    table = masking.other_losses_table(PAGE.networks)
    points = table.map(lambda words: float(words.split(" ")[0].replace("−", "-")))
    assert points.loc[PAIRS[CNN], "GNR"] > points[["GFA-FIRST", "GFA-DEEP"]].to_numpy().max()


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
        records = [record for record in PAGE.measured(pair) if measured.objective(record) == defence]
        return [mean(record["geometry"]["attacks"][loss]["radial share"]["mean"] for record in records) for loss in ("mse", "ce", "margin")]

    for pair in PAGE.pairs:
        for defence in ("standard", "gnr", "pgd-at", *VARIANTS):
            assert pair == MLP or max(radial(pair, defence)) < 0.08, "almost wholly tangential"
    assert 0.15 < min(radial(MLP, "standard")) and max(radial(MLP, "standard")) < 0.2
    for variant in VARIANTS:
        for record in [record for record in PAGE.measured(MLP) if measured.objective(record) == variant]:
            assert all(record["geometry"]["attacks"][loss]["cosine"]["mean"] < 0 for loss in ("ce", "margin")), (
                "against the training gradient"
            )
