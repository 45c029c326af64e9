"""The density of codes is what scipy says of it; several terms are one score whose ranking hangs on no unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gaussian_kde

from cad.errors import InputError
from detect.typical import KEPT, Density, Joint


def test_density_is_that_of_a_kernel_estimate(rng: np.random.Generator) -> None:
    """Scipy's, by the covariance of the points; up to the constants of a normal law."""
    codes, asked = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)), rng.normal(size=(40, 3)) * 3
    own, other = Density.of(codes).rarity(asked), -gaussian_kde(codes.T).logpdf(asked.T)
    np.testing.assert_allclose(own - own[0], other - other[0], rtol=1e-9, atol=1e-9)


def test_density_hangs_on_no_unit_and_no_neighbour(rng: np.random.Generator) -> None:
    codes, asked = rng.normal(size=(90, 5)), rng.normal(size=(12, 5))
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0] * 7.0
    own = Density.of(codes).rarity(asked)
    np.testing.assert_allclose(Density.of(codes @ turn + 3.0).rarity(asked @ turn + 3.0), own, rtol=1e-9, atol=1e-9)
    order = rng.permutation(12)
    np.testing.assert_allclose(Density.of(codes).rarity(asked[order]), own[order], rtol=1e-12)
    np.testing.assert_allclose([Density.of(codes).rarity(a[None])[0] for a in asked], own, rtol=1e-12)


@pytest.mark.parametrize(("count", "width"), [(2, 128), (9, 4), (400, 128)])
def test_rarity_grows_outwards(count: int, width: int, rng: np.random.Generator) -> None:
    codes = rng.normal(size=(count, width)).astype(np.float32)
    density = Density.of(codes)
    assert density.points.shape == (count, max(1, min(KEPT, count // 4, count, width)))
    axis = codes[0] - codes.mean(0)
    found = density.rarity(codes.mean(0) + axis * np.array([[1.0], [10.0], [100.0], [1e6]]))
    assert found[0] >= 0 and np.isfinite(found).all() and (np.diff(found) > 0).all()


def test_codes_that_are_all_alike_have_a_density() -> None:
    assert np.isfinite(Density.of(np.ones((8, 3))).rarity(np.array([[1.0, 1, 1], [2, 2, 2]]))).all()


def test_of_one_term_the_score_is_the_term(rng: np.random.Generator) -> None:
    good = {"map": rng.normal(size=20)}
    assert np.array_equal(Joint.of(["map"], good).score(good), good["map"])


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_a_unit_changes_no_order(first: float, second: float) -> None:
    rng = np.random.default_rng(7)
    good, seen = ({"map": np.exp(rng.normal(size=30)), "rarity": np.exp(2 * rng.normal(size=30))} for _ in range(2))
    scaled = [{"map": first * t["map"], "rarity": second * t["rarity"]} for t in (good, seen)]
    own = Joint.of(["map", "rarity"], good).score(seen)
    np.testing.assert_allclose(Joint.of(["map", "rarity"], scaled[0]).score(scaled[1]), first * own, rtol=1e-9)


def test_the_strangest_term_counts_most(rng: np.random.Generator) -> None:
    """Between the highest of the deviations and that less the logarithm of their number; all count; a term that is as usual takes little away."""
    good, seen = ({"map": np.exp(rng.normal(size=50)), "rarity": np.exp(0.2 * rng.normal(size=50))} for _ in range(2))
    logs = {k: np.log(v) for k, v in good.items()}
    deviations = np.stack([(np.log(seen[k]) - logs[k].mean()) / logs[k].std() for k in good])
    joint = Joint.of(["map", "rarity"], good)
    found = (np.log(joint.score(seen)) - logs["map"].mean()) / logs["map"].std()
    assert (found <= deviations.max(0) + 1e-9).all() and (found >= deviations.max(0) - np.log(2) - 1e-9).all()
    np.testing.assert_allclose(found, np.log(np.exp(deviations).mean(0)), rtol=1e-9, atol=1e-9)
    for name in good:
        assert (joint.score(seen | {name: 1.5 * seen[name]}) > joint.score(seen)).all()
    other = Joint.from_json(joint.json())
    assert np.array_equal(other.score(seen), joint.score(seen))


def test_a_score_of_any_size_is_finite() -> None:
    good = {"map": np.exp(np.linspace(-1e-3, 1e-3, 20)), "rarity": np.exp(np.linspace(-1, 1, 20))}
    seen = {"map": np.array([1e-30, 1.0, 1e6]), "rarity": np.array([0.0, 1.0, 1e9])}
    for names in (["map", "rarity"], ["rarity", "map"]):
        found = Joint.of(names, good).score(seen)
        assert np.isfinite(found).all() and (np.diff(found) > 0).all()


def test_what_cannot_be_joined_is_refused(rng: np.random.Generator) -> None:
    good = {"map": np.ones(4), "confidence": -np.ones(4)}
    with pytest.raises(InputError, match="oddness"):
        Joint.of(["map", "oddness"], good)
    with pytest.raises(InputError, match="negative"):
        Joint.of(["map", "confidence"], good)
    assert np.array_equal(Joint.of(["confidence"], good).score(good), good["confidence"])
