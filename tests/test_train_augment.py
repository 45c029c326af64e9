"""Changes of pictures: each does what it says to its own row, and lets a gradient through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cad.errors import InputError
from train.augment import BRIGHTER, CHANGES, augment, draws

torch.set_num_threads(1)  # on tensors this small a second thread only waits, and waits long on a busy machine


def pictures(count: int = 4, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    return torch.randn((count, 1, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(count: int, seed: int = 0) -> Tensor:
    return draws(count, torch.Generator().manual_seed(seed))


def at(count: int = 4, **values: float) -> Tensor:
    """Draws that are all in the middle but for the named columns."""
    names = ("bright", "contrast", "down", "right", "cut_y", "cut_x")
    return torch.tensor([[values.get(n, 0.5) for n in names]]).repeat(count, 1)


@pytest.mark.parametrize("names", [[name] for name in CHANGES] + [list(CHANGES)], ids=str)
def test_a_row_does_not_see_its_batch(names: list[str]) -> None:
    images, by = pictures(), drawn(4)
    alone = torch.cat([augment(images[i : i + 1], by[i : i + 1], names) for i in range(4)])
    torch.testing.assert_close(augment(images, by, names), alone, rtol=1e-12, atol=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(augment(images[order], by[order], names), augment(images, by, names)[order], rtol=1e-12, atol=1e-12)


def test_draws_are_the_generators_and_a_larger_batch_begins_as_a_smaller() -> None:
    assert torch.equal(drawn(4), drawn(4)) and not torch.equal(drawn(4), drawn(4, seed=1))
    assert torch.equal(drawn(8)[:4], drawn(4))
    state = torch.random.get_rng_state()
    augment(pictures(), drawn(4))
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's draws move


@pytest.mark.parametrize("name", ["brightness", "contrast", "translation"])
@pytest.mark.parametrize("shape", [(16, 16), (17, 24)])
def test_the_middle_draw_changes_nothing(name: str, shape: tuple[int, int]) -> None:
    images = pictures(4, *shape)
    torch.testing.assert_close(augment(images, at(), [name]), images, rtol=0, atol=1e-12)


def test_brightness_adds_one_grey() -> None:
    images = pictures()
    torch.testing.assert_close(augment(images, at(bright=0.0), ["brightness"]), images - BRIGHTER)


def test_contrast_keeps_the_mean_and_scales_the_rest() -> None:
    images = pictures()
    off = images - images.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(augment(images, at(contrast=0.0), ["contrast"]), images - off / 2)


@pytest.mark.parametrize(("draw", "step"), [(0.0, -2), (0.25, -1), (0.75, 1), (0.999999, 2)])
def test_translation_moves_by_whole_pixels_and_lets_grey_in(draw: float, step: int) -> None:
    images = pictures()  # 16 px: an eighth is 2
    for axis, name in ((2, "down"), (3, "right")):
        wanted = images.roll(step, axis)
        wanted.narrow(axis, 0 if step > 0 else 16 + step, abs(step)).zero_()
        assert torch.equal(augment(images, at(**{name: draw}), ["translation"]), wanted)


@pytest.mark.parametrize("middle", [0.0, 0.5, 0.999999])
def test_cutout_clears_half_of_each_side_about_its_middle(middle: float) -> None:
    images = pictures() + 10  # nowhere 0 of itself
    cut = augment(images, at(cut_y=middle, cut_x=0.5), ["cutout"])
    gone = cut == 0
    assert torch.equal(cut[~gone], images[~gone])
    rows = {0.0: 4, 0.5: 8, 0.999999: 5}[middle]  # a middle at the border leaves half of it, the middle row with the lower half
    assert gone.flatten(1).sum(1).tolist() == [rows * 8] * 4 and gone.any(3).flatten(1).sum(1).tolist() == [rows] * 4


@pytest.mark.parametrize("name", list(CHANGES))
def test_gradients(name: str) -> None:
    by = drawn(2)
    assert torch.autograd.gradcheck(lambda x: augment(x, by, [name]), (pictures(2, 8, 8).requires_grad_(),))


def test_slopes_of_slopes_pass() -> None:
    by = drawn(2)
    images = pictures(2, 6, 6).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: augment(x, by).pow(3), (images,))


def test_a_change_that_is_not_known_is_told() -> None:
    with pytest.raises(InputError, match='"cut"; wanted did you mean "cutout"'):
        augment(pictures(), drawn(4), ["cut"])
    with pytest.raises(ValueError, match="4 images, 3 draws"):
        augment(pictures(), drawn(3))
