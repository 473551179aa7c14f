"""Batches and augmentation, against loops over images."""

import pytest
import torch
from nets import digits

from deepdefense import data


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(n, shape=(2, 6, 5)):
    """n different uint8 images without a zero pixel, so that padding can be told from content."""
    return torch.randint(1, 256, (n, *shape), generator=generator(9), dtype=torch.uint8)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_random_crop_gives_shifted_images_with_zeros_around(padding):
    x, (channels, height, width) = numbered(200), (2, 6, 5)
    cropped = data.random_crop(x, padding, generator())
    seen = set()
    for image, got in zip(x, cropped, strict=True):
        canvas = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
        canvas[:, padding : padding + height, padding : padding + width] = image
        steps = range(2 * padding + 1)
        windows = {(i, j): canvas[:, i : i + height, j : j + width] for i in steps for j in steps}
        fitting = [shift for shift, window in windows.items() if torch.equal(window, got)]
        assert len(fitting) == 1
        seen.add(fitting[0])
    assert len(seen) == (2 * padding + 1) ** 2, "every shift occurs among 200 images"
    assert cropped.dtype == x.dtype and cropped.is_contiguous()


def test_random_flip_mirrors_about_half_of_the_images():
    x = numbered(400)
    flipped = data.random_flip(x, generator())
    kinds = [(torch.equal(a, b), torch.equal(a.flip(2), b)) for a, b in zip(x, flipped, strict=True)]
    assert all(sum(kind) == 1 for kind in kinds)
    assert 160 < sum(kind[1] for kind in kinds) < 240  # 4 standard deviations


@pytest.mark.parametrize("augment", list(data.AUGMENTATIONS))
def test_augmentation_depends_on_its_generator_only(augment):
    x, change = numbered(40, (1, 16, 16)), data.AUGMENTATIONS[augment]
    state = torch.get_rng_state()
    one, again, other = change(x, generator(1)), change(x, generator(1)), change(x, generator(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again) and torch.equal(one, x) == torch.equal(one, other) == (augment == "none")


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_an_epoch_has_every_image_once_with_its_label(batch_size):
    split = digits(train=50).train
    got = list(data.batches(split, batch_size, generator=generator()))
    assert [len(y) for _, y in got] == [len(part) for part in torch.arange(50).split(batch_size)]
    x, y = torch.cat([x for x, _ in got]), torch.cat([y for _, y in got])
    assert x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1

    def rows(pixels, labels):
        return sorted([*image, label] for image, label in zip(pixels.flatten(1).tolist(), labels.tolist(), strict=True))

    assert rows(x, y) == rows(split.images(), split.y)
    assert not torch.equal(y, split.y), "shuffled"


def test_an_epoch_is_repeatable_and_epochs_differ():
    split = digits(train=50).train

    def epoch(source):
        return torch.cat([x for x, _ in data.batches(split, 8, generator=source, augment="crop-flip")])

    source = generator(3)
    first, second = epoch(source), epoch(source)
    assert torch.equal(epoch(generator(3)), first) and not torch.equal(first, second)


def test_an_unknown_augmentation_is_named():
    with pytest.raises(ValueError, match="augment must be one of none, crop, crop-flip; got 'flip'"):
        next(data.batches(digits().train, 8, generator=generator(), augment="flip"))
