"""The benchmark of the ways down, tiny: that it runs, that ways differ in what they say, and that its answer is what its rows are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cad.errors import InputError
from pipelines.benchmark_inversion import Forms, Way, answer, bench, by_default, forms_of, line, pictures, starts_of, ways
from synth.dataset import open_dataset
from train.runs import open_run

torch.set_num_threads(1)


def linear(width: int = 4, size: int = 16) -> Forms:
    """Pictures that are sums of their latent's numbers times a few others."""
    forms = torch.randn((width, 1, size, size), generator=torch.Generator().manual_seed(0))

    def decode(latent: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nz,zchw->nchw", latent, forms)

    codes = torch.randn((9, width), generator=torch.Generator().manual_seed(1))
    thumbs = torch.nn.functional.normalize(decode(codes).flatten(1))
    return Forms(decode, lambda images: images.flatten(1)[:, :width], thumbs, codes)


def test_figures_of_a_tiny_run(run_folder: Path, dataset_folder: Path) -> None:
    run, tried = (
        open_run(run_folder),
        (Way("adam", "random", 2, 5), Way("adam", "nearest", 3, 2, 0.03), Way("gauss-newton", "mixed", 4, 1, keep=1)),
    )
    views, labels = pictures(open_dataset(dataset_folder), run, 2)
    assert views.shape == (len(labels), 1, 32, 32) and labels.tolist().count("good") == 2
    found = bench(forms_of(run, "cpu"), views, tried, together=1, prior=0.02, seed=0)
    rows = [line(way, row, found[0], labels) for way, row in zip(tried, found, strict=True)]
    json.dumps(rows, allow_nan=False)
    assert rows[0]["excess_percent"] == {"median": 0.0, "highest": 0.0} and rows[0]["as_low"] == rows[0]["share_of_time"] == 1.0
    assert set(rows[1]["image_auroc"]) == set(labels.tolist()) - {"good"} | {"all"} and rows[2]["keep"] == 1


def test_the_default_is_told_beside_adam_on_the_models_own_loss(run_folder: Path, dataset_folder: Path) -> None:
    """Told twice it is the same; of a baseline of no steps, which ends where it was drawn, it is never worse."""
    run = open_run(run_folder)
    views, _ = pictures(open_dataset(dataset_folder), run, 2)
    first, again = (by_default(run, views, Way("adam", "random", 2, 0), 0) for _ in range(2))
    for name in ("loss", "baseline_loss", "as_low_share"):
        assert first[name] == again[name]
    assert first["as_low"] and first["loss"] < first["baseline_loss"] and first["share_of_time"] > 0
    json.dumps(first, allow_nan=False)


def test_losses_and_scores_do_not_hang_on_the_batch() -> None:
    forms, views = linear(), torch.randn((5, 1, 16, 16), generator=torch.Generator().manual_seed(2))
    tried = (Way("gauss-newton", "mixed", 4, 2), Way("adam", "random", 2, 4, 0.1))
    one, all_ = (bench(forms, views, tried, together=k, prior=0.02, seed=0) for k in (1, 5))
    for a, b in zip(one, all_, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
        np.testing.assert_allclose(a["score"], b["score"], rtol=1e-3)


@pytest.mark.parametrize("first", ["encoder", "random", "nearest", "mixed"])
def test_every_kind_of_start_gives_as_many_as_asked(first: str) -> None:
    forms, views = linear(), torch.randn((3, 1, 16, 16), generator=torch.Generator().manual_seed(2))
    count = 1 if first == "encoder" else 4
    found = starts_of(forms, views, Way("adam", first, count, 1), 0)
    assert found.shape == (3, count, 4)
    assert torch.equal(found[:, 0], forms.encode(views)) == (first in ("encoder", "mixed"))


def test_the_answer_is_the_lowest_of_the_quick() -> None:
    base = {"loss": 1.0}
    rows = [
        {"name": name, "loss": loss, "share_of_time": share}
        for name, loss, share in (("slow", 0.8, 0.2), ("quick", 1.01, 0.09), ("rash", 1.2, 0.01))
    ]
    found = answer(rows, base)
    assert found["within_a_tenth"]["name"] == "quick" and not found["as_low"] and found["loss_over_baseline"] == 1.01
    assert answer([{"loss": 1.0, "share_of_time": 0.1}], base)["as_low"]
    assert answer(rows[:1], base) == {"within_a_tenth": None, "as_low": False}


def test_every_way_is_tried_once() -> None:
    assert len(set(ways())) == len(ways()) and {w.method for w in ways()} == {"sgd", "adam", "nadam", "l-bfgs", "gauss-newton"}


def test_a_dataset_without_good_views_is_told(run_folder: Path, dataset_folder: Path) -> None:
    data = open_dataset(dataset_folder)
    bad = type(data)(data.folder, data.manifest, tuple(s for s in data.samples if s.label != "good"))
    with pytest.raises(InputError, match="wanted good views"):
        pictures(bad, open_run(run_folder), 2)
