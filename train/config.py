"""What a run is trained with: validated numbers, saved beside the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from cad.errors import InputError, nearest
from cad.reading import model_error
from train.catalogue import CATALOGUE

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Defaults are what measured best for unet-gan on the notched cap at 64 px, in minutes of two cores; the catalogue has where another
    model's differ."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "unet-gan"
    size: Annotated[int, Field(ge=32, le=512, multiple_of=16)] = 64  # px, square, of what the networks see
    picture: Annotated[int, Field(ge=32, le=8192)] | None = None  # px of a photograph that is seen in tiles of ``size``; None: as a whole
    latent: Annotated[int, Field(ge=2, le=1024)] = 128
    width: Annotated[int, Field(ge=8, le=512)] = 32  # channels of the finest layer; each coarser one has twice as many
    filter: Literal[3, 5] = 5
    batch_norm: bool = True
    normalize: Literal["standard", "brightness", "none"] = "standard"  # what is taken out of each image: train.images.prepare
    corrupt: Annotated[float, Field(ge=0, le=1)] = 0.5  # share of images that the encoder sees with a patch disturbed
    pyramid: Weight = 1.0  # weight of the Laplacian-pyramid L1 loss
    adversarial: Weight = 0.02
    adversarial_every: Count = 4  # steps between two of the discriminator's
    game: Literal["hinge", "cross-entropy", "least-squares", "wasserstein"] = "hinge"
    matching: Weight = 1.0  # weight of the discriminator's features, beside its verdict
    penalty: Literal["none", "r1", "wgan-gp"] = "none"
    penalty_weight: Weight = 10.0
    spectral: bool = True  # spectral normalisation of the discriminator
    minibatch: bool = False  # minibatch discrimination
    augment: bool = False  # DiffAugment of all that the discriminator sees
    instance_noise: Weight = 0.0  # deviation of noise on all that the discriminator sees, falling to 0 over training
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # of the label of real images, one-sided
    judge_rate: Annotated[float, Field(gt=0)] = 1.0  # the discriminator's learning rate, in the generator's (two time scales)
    perceptual: Weight = 0.0  # of a distance between pretrained filters' responses (extra features)
    epochs: Count = 9
    minutes: Annotated[float, Field(gt=0)] | None = None  # stops an epochs budget early; the result then depends on the machine
    batch: Annotated[int, Field(ge=2)] = 24  # images a step, of each process
    accumulate: Count = 1  # parts that a step's images are computed in, one after another
    patience: Annotated[int, Field(ge=0)] = 0  # epochs without a better validation measure before training stops; 0: never
    validation: Share = 0.1  # share of the good images that is held out for it, where there is patience
    rate: Annotated[float, Field(gt=0)] = 2e-3
    ema: Share = 0.995
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("model")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CATALOGUE:
            raise ValueError(f"wanted one of {', '.join(CATALOGUE)}")
        return name

    @field_validator("accumulate")
    @classmethod
    def _equal_parts(cls, parts: int, info: ValidationInfo) -> int:
        if info.data.get("batch", parts) % parts:
            raise ValueError(f"wanted a divisor of the batch, {info.data['batch']}")
        return parts

    @field_validator("picture")
    @classmethod
    def _a_tile_at_least(cls, side: int | None, info: ValidationInfo) -> int | None:
        if side is not None and side < info.data.get("size", side):
            raise ValueError(f"wanted at least a tile, {info.data['size']}")
        return side


def config_for(data_size: int, /, **options: object) -> Config:
    """The validated Config of what was given, the model's own settings and the dataset's size where nothing was. Raises InputError with the
    option's name."""
    given = {k: v for k, v in options.items() if v is not None}
    name = str(given.get("model", "unet-gan"))
    if name not in CATALOGUE:
        raise InputError("--model", f'found "{name}"', wanted=", ".join(CATALOGUE), step=nearest(name, CATALOGUE))
    own = CATALOGUE[name].settings
    if CATALOGUE[name].needs == "scenes" and given.get("latent", own["latent"]) != own["latent"]:
        raise InputError("--latent", f"found {given['latent']}, and {name}'s latent is a pose", wanted=str(own["latent"]))
    given = own | given
    given.setdefault("size", max(32, -(-data_size // 16) * 16))
    if "filter" in given:
        given["filter"] = int(given["filter"])
    try:
        return Config(**given)
    except ValidationError as error:
        raise model_error(error, "-", Config) from None
