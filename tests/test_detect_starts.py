"""Where descents start: the same for an image whatever its company, and no two alike while others are to be had."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from detect.explain import start_codes
from detect.starts import ALIKE, mixed_starts, nearest_starts, random_starts
from train.bank import thumbnails

torch.set_num_threads(1)


def bank(count: int, seed: int = 0, width: int = 5) -> tuple[Tensor, Tensor]:
    """Thumbnails (count, 256) of smooth pictures, and codes that tell which."""
    pictures = torch.randn((count, 1, 32, 32), generator=torch.Generator().manual_seed(seed))
    return thumbnails(pictures), torch.arange(count, dtype=torch.float32)[:, None].expand(-1, width)


def picks(thumbs: Tensor, bank_thumbs: Tensor, tries: int) -> list[list[int]]:
    codes = torch.arange(len(bank_thumbs), dtype=torch.float32)[:, None]
    return nearest_starts(thumbs, bank_thumbs, codes, tries)[..., 0].int().tolist()


def test_random_starts_are_the_same_for_every_image_and_company() -> None:
    found = random_starts(5, 3, 7, seed=4)
    assert found.shape == (5, 3, 7) and found.dtype == torch.float32
    assert torch.equal(found, found[:1].expand(5, -1, -1)) and torch.equal(random_starts(1, 3, 7, seed=4)[0], found[3])
    assert torch.equal(random_starts(2, 2, 7, seed=4)[0], found[0, :2])  # more starts leave the first ones as they are
    assert not torch.equal(random_starts(1, 3, 7, seed=5)[0], found[0])


def test_random_starts_leave_the_common_generator_alone() -> None:
    before = torch.random.get_rng_state()
    random_starts(2, 3, 4, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_random_starts_are_standard_normal() -> None:
    drawn = random_starts(1, 4000, 8, seed=0)[0]
    assert float(drawn.mean().abs()) < 0.02 and float((drawn.T.cov() - torch.eye(8)).abs().max()) < 0.1


def test_nearest_first_then_the_next_nearest() -> None:
    known, _ = bank(20)
    order = (known[3] @ known.T).argsort(descending=True).tolist()
    assert order[0] == 3 and picks(known[3:4], known, 4) == [order[:4]]  # noise is never alike


def test_what_looks_like_the_one_before_is_left_out() -> None:
    known, _ = bank(6)
    twice = torch.cat([known, torch.nn.functional.normalize(known + 1e-3 * bank(6, seed=1)[0])])
    assert float((twice[:6] * twice[6:]).sum(1).min()) > ALIKE
    for i in range(6):
        found = picks(known[i : i + 1], twice, 6)[0]
        assert found[0] == i and sorted(view % 6 for view in found) == list(range(6))  # one of each two


def test_alike_ones_are_taken_where_there_are_no_others() -> None:
    known, _ = bank(2)
    twice = torch.cat([known, torch.nn.functional.normalize(known + 1e-3 * bank(2, seed=1)[0])])
    found = picks(known[:1], twice, 4)[0]
    assert found[0] == 0 and found[1] % 2 == 1 and sorted(found) == [0, 1, 2, 3]


def test_nearest_of_a_batch_are_those_of_each() -> None:
    known, _ = bank(30)
    asked, _ = bank(7, seed=9)
    assert picks(asked, known, 3) == [picks(asked[i : i + 1], known, 3)[0] for i in range(7)]


def test_mixed_starts_come_in_order() -> None:
    encoded, near, drawn = torch.zeros(2, 3), torch.ones(2, 2, 3), 2 * torch.ones(2, 1, 3)
    assert mixed_starts(encoded, near, drawn)[1, :, 0].tolist() == [0, 1, 1, 2]
    assert mixed_starts(encoded, drawn=drawn)[0, :, 0].tolist() == [0, 2] and mixed_starts(encoded).shape == (2, 1, 3)


def test_start_codes_are_the_encoders_then_the_banks() -> None:
    thumbs, codes = bank(12)
    images = torch.randn((3, 1, 32, 32), generator=torch.Generator().manual_seed(5))
    run = SimpleNamespace(
        model=SimpleNamespace(ENCODES=True, encode=lambda x: -x.flatten(1)[:, :5]), bank=SimpleNamespace(code_thumbs=thumbs, codes=codes)
    )
    found = start_codes(run, images, 4)
    assert torch.equal(found[:, 0], -images.flatten(1)[:, :5]) and torch.equal(start_codes(run, images, 1), found[:, :1])
    assert torch.equal(found[:, 1:], nearest_starts(thumbnails(images), thumbs, codes, 3))
    run.model.ENCODES = False
    assert torch.equal(start_codes(run, images, 3), found[:, 1:])
