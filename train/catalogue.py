"""The learned forms: what each learns, from which paper, at what cost, and where its settings differ from :class:`train.config.Config`'s own.

No torch here: help texts and ``train list`` read it. The code of each is the module that it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Entry:
    """``code``: module and class below train.models; ``settings``: where its defaults differ; ``needs``: ``scenes`` where it learns from known poses;
    ``baseline``: it is here to be compared with."""

    code: str
    learns: str
    paper: str
    cost: str
    settings: dict[str, Any] = field(default_factory=dict)
    needs: str = ""
    baseline: bool = False


NORMALIZE = ("standard", "brightness", "none")  # what of each image's own brightness and contrast is taken out: train.images

GAN = {"latent": 64, "adversarial": 1.0, "adversarial_every": 1, "rate": 1e-3, "batch": 32, "spectral": False}
# of a few hundred photographs a generator from noise soon makes one picture; a judge that sees its neighbours does not let it
PLAIN = GAN | {"game": "cross-entropy", "penalty": "r1", "penalty_weight": 1.0, "minibatch": True, "rate": 5e-4}

CATALOGUE: dict[str, Entry] = {
    "unet-gan": Entry(
        "unet_gan:UnetGan",
        "a U-Net without cross connections inside a generator-discriminator game; nearest form by descent",
        "Tiger Analytics, option 2",
        "one encoder, one generator, one discriminator; a descent an image",
    ),
    "unet-som": Entry(
        "unet_som:UnetSom",
        "the same U-Net by reconstruction alone; a self-organising map of its descriptors recalls the nearest seen object",
        "Tiger Analytics, option 1; Kohonen 1982",
        "no discriminator; one pass an image",
        {"adversarial": 0.0, "corrupt": 0.0},
    ),
    "dcgan": Entry(
        "dcgan:Dcgan",
        "a generator of good images from noise; inverted by descent on a Laplacian pyramid, codes compared by Fréchet distance",
        "Lai et al. 2018; Radford et al. 2016",
        "no encoder; a long descent from many starts an image",
        PLAIN,
    ),
    "anogan": Entry(
        "dcgan:AnoGan",
        "the same generator; residual and discriminator features after a descent from noise",
        "Schlegl et al. 2017",
        "no encoder; a long descent from many starts an image",
        PLAIN,
    ),
    "f-anogan": Entry(
        "f_anogan:FAnoGan",
        "a generator from noise, then an encoder that maps images back to its noise",
        "Schlegl et al. 2019; Gulrajani et al. 2017",
        "two trainings, half the time each; one pass an image",
        PLAIN,  # the paper's own are --game wasserstein --penalty wgan-gp: in minutes they come less far
    ),
    "bigan": Entry(
        "bigan:BiGan",
        "generator and encoder at once, told apart as pairs of image and code by the Wasserstein distance; features drawn together",
        "Donahue et al. 2017, Dumoulin et al. 2017; GANspection",
        "one encoder, one generator, a discriminator of pairs; one pass an image",
        GAN | {"game": "wasserstein", "penalty": "wgan-gp", "minibatch": True, "pyramid": 10.0},
    ),
    "egbad": Entry(
        "bigan:Egbad",
        "generator and encoder at once; reconstruction and the pair discriminator's features",
        "Zenati et al. 2018",
        "one encoder, one generator, a discriminator of pairs; one pass an image",
        PLAIN | {"smoothing": 0.1},
    ),
    "ganomaly": Entry(
        "ganomaly:Ganomaly",
        "encoder, decoder, encoder: a code that survives being drawn",
        "Akcay et al. 2018",
        "two encoders, one generator, one discriminator; two passes an image",
        {"game": "cross-entropy", "corrupt": 0.0, "latent": 64, "adversarial_every": 2, "adversarial": 0.1},
    ),
    "descargan": Entry(
        "descargan:DeScarGan",
        "a translation of defective images into good ones, with cross connections and a class; the change is the defect",
        "Wolleb et al. 2020",
        "a U-Net with cross connections, a discriminator with a class head; one pass an image",
        {"adversarial": 0.1, "adversarial_every": 2, "corrupt": 1.0},
    ),
    "noisy-gan": Entry(
        "noisy_gan:NoisyGan",
        "the U-Net GAN from training data that hold unlabelled defects: what fits worst is left out, known abnormal images count as made",
        "Kimura and Yanagihara 2018 (arXiv 1807.01136)",
        "as unet-gan",
    ),
    "conditioned": Entry(
        "conditioned:Conditioned",
        "an image from pose, place and light, and an encoder that regresses them: the latent is physical",
        "Dosovitskiy et al. 2015; Nguyen-Phuoc et al. 2018; descent as in the CAD form",
        "rendered views alone; a learned volume and an encoder; a long descent an image",
        {"latent": 11, "corrupt": 0.0, "adversarial": 0.0, "batch": 8, "rate": 3e-3},
        needs="scenes",
    ),
    "ae-ssim": Entry(
        "autoencoder:SsimAutoencoder",
        "a plain autoencoder under structural similarity (a baseline)",
        "Bergmann et al. 2019",
        "one encoder, one generator; one pass an image",
        {"adversarial": 0.0, "corrupt": 0.0},
        baseline=True,
    ),
}


def class_of(name: str) -> type:
    """The model's class."""
    module, found = CATALOGUE[name].code.split(":")
    return getattr(import_module(f"train.models.{module}"), found)
