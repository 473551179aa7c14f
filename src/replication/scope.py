"""What is compared: defences, pairs of data and architecture, levels of eps; and what readers call them."""

DEFENCES = ("standard", "gnr", "pgd-at", "trades", "gfa-first", "gfa-deep")
COMPARED = tuple(name for name in DEFENCES if name != "trades")  # whose common images the paper's protocol attacks
PAIRS = {
    ("cifar10", "cnn"): "CNN, CIFAR-10",
    ("fashion_mnist", "mlp"): "MLP, Fashion-MNIST",
    ("cifar10", "mlp"): "MLP, CIFAR-10",
}
# Other architectures: small probes on a page of their own, in no claim and on no scoreboard.
PROBES = {
    ("cifar10", "resnet18"): "ResNet-18, CIFAR-10",
    ("cifar10", "resnet18-gn"): "ResNet-18 with group normalisation, CIFAR-10",
    ("cifar10", "vit"): "small ViT, CIFAR-10",
}
PAIR_NAMES = PAIRS | PROBES
VARIANTS = ("gfa-first", "gfa-deep")
ALIGNED = {name: f"{name}-aligned" for name in VARIANTS}  # beside the chosen setting, the best that took hold (see the plan)
ROWS = tuple(row for name in DEFENCES for row in (name, ALIGNED.get(name)) if row)  # what tables and figures tell apart
GFA_ROWS = tuple(row for name in VARIANTS for row in (name, ALIGNED[name]))
SEARCH_SEEDS = (0, 10)  # of the search at full size; the headline runs have others
CNN, MLP = ("cifar10", "cnn"), ("fashion_mnist", "mlp")
LEVELS = (1, 2, 4, 8, 12, 16)  # eps in grey levels, 1/255
LARGER = {"fashion_mnist": (26, 38, 51)}  # further ones where adversarial training loses too little within 16: up to eps = 0.2
DEFENCE_NAMES = {
    "standard": "plain", "gfa-first": "GFA-FIRST", "gfa-first-aligned": "GFA-FIRST, aligned",
    "gfa-deep": "GFA-DEEP", "gfa-deep-aligned": "GFA-DEEP, aligned", "pgd-at": "PGD-7 training",
    "gnr": "GNR", "trades": "TRADES", "tangential-gnr": "tangential GNR", "gradalign": "GradAlign", "cure": "CURE", "mart": "MART",
    "gfa-first-fixed-scale": "GFA-FIRST, fixed scale", "gfa-deep-fixed-scale": "GFA-DEEP, fixed scale",
    "pgd-at-gfa-first": "PGD-7 + GFA-FIRST", "pgd-at-gfa-deep": "PGD-7 + GFA-DEEP", "pgd-at-tangential": "PGD-7 + tangential GNR",
}  # fmt: skip
NORM_NAMES = {"linf": "L∞", "l2": "L2"}
LOSSES = ("mse", "ce", "margin")  # of the measures
DIRECTIONS = ("radial", "tangential gradient", "random tangential")  # of a walk away from an image
WITHIN = ("all", "tangential", "radial")  # what a perturbation is restrained to
LOSS_NAMES = {"mse": "squared error", "ce": "cross-entropy", "margin": "margin"}


def levels(data: str) -> tuple[int, ...]:
    """The eps at which networks on the data set `data` are attacked one after the other, in grey levels."""
    return LEVELS + LARGER.get(data, ())
