"""Where training runs: Lightning Fabric on processor or CUDA, in one process or several, and the precision that pays there."""

from __future__ import annotations

import torch

from cad.errors import InputError


def fabric_for(device: str, precision: str, devices: int = 1) -> object:
    """Lightning Fabric on ``auto``, ``cpu`` or ``cuda``; bfloat16 autocast where the machine computes it in hardware.

    With ``devices`` above 1 the command is started once for each (torch.distributed: nccl on CUDA, gloo on processors), and this returns in
    every one of them. Raises InputError for a device that is not here.
    """
    from lightning_fabric import Fabric

    if device not in ("auto", "cpu", "cuda"):
        raise InputError("--device", f'found "{device}"', wanted="auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device", "this machine has no CUDA device", wanted="auto or cpu")
    cuda = torch.cuda.is_available() and device != "cpu"
    if cuda and devices > torch.cuda.device_count():
        raise InputError("--devices", f"found {devices}", wanted=f"at most {torch.cuda.device_count()}, the CUDA devices of this machine")
    if precision == "auto":
        precision = "bf16-mixed" if (torch.cuda.is_bf16_supported() if cuda else cpu_has_bfloat16()) else "32-true"
    if precision == "16-mixed" and not cuda:
        raise InputError("--precision", "float16 on a processor", wanted="bf16-mixed or 32-true", step="or --device cuda")
    accelerator = "cuda" if cuda else "cpu"
    if devices == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=precision)
    # each player's turn touches its own networks alone: what it leaves out must not be waited for
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy="ddp_find_unused_parameters_true", precision=precision)
    fabric.launch()
    return fabric


def cpu_has_bfloat16() -> bool:
    """Whether autocast is a gain on this processor: with AMX, or with AVX512-BF16 on AMD (twice as fast as float32 there; on an
    Intel processor that has it without AMX a training step took 1.1 to 1.6 times as long as in float32)."""
    capable = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capable.get("amx_bf16") or (capable.get("avx512_bf16") and "AMD" in str(capable.get("cpu_name", ""))))
