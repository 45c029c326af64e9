"""What a run is trained with: validated numbers, saved beside the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cad.reading import model_error

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]


class Config(BaseModel):
    """Defaults are what measured best on the notched cap at 64 px, in minutes of two cores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Literal["unet-gan"] = "unet-gan"
    size: Annotated[int, Field(ge=32, le=512, multiple_of=16)] = 64  # px, square
    latent: Annotated[int, Field(ge=2, le=1024)] = 128
    width: Annotated[int, Field(ge=8, le=512)] = 32  # channels of the finest layer; each coarser one has twice as many
    filter: Literal[3, 5] = 5
    batch_norm: bool = True
    normalize: Literal["standard", "none"] = "standard"  # standard: grey values to mean 0, deviation 1 in each image
    corrupt: Annotated[float, Field(ge=0, le=1)] = 0.5  # share of images that the encoder sees with a patch disturbed
    pyramid: Weight = 1.0  # weight of the Laplacian-pyramid L1 loss
    adversarial: Weight = 0.02
    adversarial_every: Count = 4  # steps between two of the discriminator's
    perceptual: Weight = 0.0  # of a distance between pretrained filters' responses (extra features)
    epochs: Count = 9
    minutes: Annotated[float, Field(gt=0)] | None = None  # stops an epochs budget early; the result then depends on the machine
    batch: Annotated[int, Field(ge=2)] = 24
    rate: Annotated[float, Field(gt=0)] = 2e-3
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0


def config_for(data_size: int, /, **options: object) -> Config:
    """The validated Config of what was given, the dataset's size where none was. Raises InputError with the option's name."""
    given = {k: v for k, v in options.items() if v is not None}
    given.setdefault("size", max(32, -(-data_size // 16) * 16))
    if "filter" in given:
        given["filter"] = int(given["filter"])
    try:
        return Config(**given)
    except ValidationError as error:
        raise model_error(error, "-", Config) from None
