"""How networks are computed: in bf16 where the device has it, once it agrees with float32.

Some libraries compute some convolutions wrongly on some processors: oneDNN 3.12 does those of few
channels in bf16 with AMX. So a fast way is compared with float32 on the CPU before it is used. What
came out is remembered in the cache folder; without one, it is found out anew by each process.

Conventions: a network takes ``[batch, channels, rows, frames]``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

import torch
from torch import Tensor, nn

from mmid.errors import MmidError
from mmid.settings import cache_folder
from mmid.system.console import LOG, note, stage
from mmid.system.files import parse_json, read_regular, written_whole
from mmid.version import __version__

AGREE = 0.999
"""Cosine to float32 from which on results are right; bf16's own rounding leaves 0.9999."""

AGREE_LEARNING = 0.95
"""The same of the gradient of each weight, which sums over more; rounding leaves 0.99."""

LONGEST, WORK = 431, 1 << 22
"""Frames of the longer input (20 s), and its price: weights times frames. A network that is larger
than twice its shortest input allows gets no longer one: a first query waits for this."""

NARROW, WIDTH = 16, 106
"""Convolutions of fewer channels, which libraries compute in ways of their own, are compared by
themselves, too, giving so many columns."""

NO_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
NO_AMX = (*NO_BF16, "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512")
"""What oneDNN may be limited to that leaves out bf16, and AMX."""

MOST_BYTES = 1 << 14
"""Of what is remembered of one network."""


@dataclass(frozen=True)
class Network:
    """A network to compare, and its smallest input.

    Parameters
    ----------
    module : nn.Module
    channels, rows, frames : int
        Of the smallest input.
    grows : bool
        Whether it takes more frames as well.
    """

    module: nn.Module
    channels: int
    rows: int
    frames: int
    grows: bool = True

    def inputs(self) -> Iterator[Tensor]:
        """Draw one short input, and two longer ones where they cost little; always the same."""
        weights = sum(parameter.numel() for parameter in self.module.parameters())
        more = min(LONGEST - self.frames, WORK // max(1, weights)) if self.grows else 0
        yield _noise(1, self.channels, self.rows, self.frames)
        if more >= self.frames or not self.grows:
            yield _noise(2, self.channels, self.rows, self.frames + more)


@dataclass(frozen=True)
class Precision:
    """How networks are computed on a device, and why.

    Parameters
    ----------
    name : str
        ``bf16``, ``float32``, or one of them without something that is wrong here.
    half : bool
        Whether it is bf16.
    device : str
        Kind of device.
    cosine : float
        The lowest one to float32 on the CPU; 1 where that is used.
    fault : str
        What was given up as it is wrong; empty where nothing was.
    """

    name: str
    half: bool
    device: str
    cosine: float = 1.0
    fault: str = ""

    def autocast(self) -> torch.autocast:
        """Return the context to compute in."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half)

    @property
    def reason(self) -> str:
        """Why it is used, in words."""
        if self.fault:
            return self.fault
        if self.device == "cpu" and not self.half:
            return "no bf16 on this processor"
        return f"agrees with float32 on the CPU (cosine {self.cosine:.5f})"


@dataclass(frozen=True)
class _Way:
    """A way of computing: its name, whether it is bf16, and what to switch off before."""

    name: str
    half: bool
    prepare: Callable[[], None] = lambda: None


def settle(
    networks: Sequence[Network],
    device: torch.device,
    fingerprint: str | None = None,
    *,
    learning: bool = False,
) -> Precision:
    """Find the fastest way to compute networks that agrees with float32 on the CPU.

    Where bf16 is wrong, what it is wrong with is switched off for this process (AMX, TF32), which
    comes too late for AMX if PyTorch has used it; then float32 is left. This is noted once.

    Parameters
    ----------
    networks : sequence of Network
        On the device.
    device : torch.device
    fingerprint : str, optional
        Of the weights; what is found out about them is remembered by it.
    learning : bool
        Compare gradients, too.

    Raises
    ------
    MmidError
        If nothing the device offers agrees with the CPU.
    """
    fault, cosine = "", 1.0
    for way in _ways(device):
        way.prepare()
        if device.type == "cpu" and not way.half:
            cosine = 1.0
        else:
            cosine = _compared(networks, device, way, fingerprint, learning)
        if cosine >= AGREE:
            found = Precision(way.name, way.half, device.type, cosine, fault)
            _note_fault(found)
            return found
        fault = fault or f"{way.name} is wrong here (cosine {cosine:.3f} to float32)"
    raise MmidError(
        f"{device.type} computes this model wrongly (cosine {cosine:.3f} to the CPU's results); "
        "use --device cpu"
    )


_noted: set[str] = set()


def _note_fault(found: Precision) -> None:
    """Note a fault once, and in the process that the user started."""
    LOG.debug("%s on %s: %s", found.name, found.device, found.reason)
    if found.fault and found.name not in _noted and parent_process() is None:
        _noted.add(found.name)
        note(f"{found.fault}, so {found.name} is used, which may be slower: see mmid doctor")


# ---- ways


def _ways(device: torch.device) -> list[_Way]:
    """Return what a device offers, fastest first; the last one needs nothing but float32."""
    if device.type == "cuda":
        half = [_Way("bf16", True), _Way("bf16 without TF32", True, _leave_tf32)]
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        ways = half if native else [_Way("float32", False)]
        return [*ways, _Way("float32 without TF32", False, _leave_tf32)]
    ways = []
    if device.type == "cpu" and _has_bf16():
        ways.append(_Way("bf16", True))
        if torch.cpu._is_amx_tile_supported() and _isa() not in NO_AMX:
            ways.append(_Way("bf16 without AMX", True, _leave_amx))
    return [*ways, _Way("float32", False)]


def _has_bf16() -> bool:
    """Return whether the processor computes bf16 natively, and oneDNN may let it."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and torch.cpu._is_avx512_bf16_supported() and _isa() not in NO_BF16


def _isa() -> str:
    """Return what oneDNN is limited to, upper case."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()


_amx_left = False


def _leave_amx() -> None:
    """Keep oneDNN from AMX; it looks at this once, before the first thing it computes."""
    global _amx_left
    _amx_left = True
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"


def _leave_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


# ---- comparing


def _noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _compared(
    networks: Sequence[Network],
    device: torch.device,
    way: _Way,
    fingerprint: str | None,
    learning: bool,
) -> float:
    """Return the lowest cosine to float32, remembered or found out."""
    key: list[str] | None = None
    if fingerprint and not learning and not _amx_left:  # whether in time is seen by trying
        key = [*_circumstances(device), way.name, fingerprint]
    cosine = _recall(key) if key else None
    if cosine is None:
        with stage("compare with float32"):
            cosine = min(_lowest(network, device, way.half, learning) for network in networks)
        if key:
            _remember(key, cosine)
    return cosine


@torch.inference_mode(False)
def _lowest(network: Network, device: torch.device, half: bool, learning: bool) -> float:
    """Return the lowest cosine of a network's results, and its narrow convolutions', to float32."""
    with _evaluating(network.module):
        pairs = [(network.module, x) for x in network.inputs()]
        pairs += [(layer, _columns(layer)) for layer in network.module.modules() if _narrow(layer)]
        with torch.set_grad_enabled(learning):
            return min(_cosine(module, x, device, half) for module, x in pairs)


def _narrow(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.in_channels < NARROW


def _columns(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv2d)
    rows, frames = layer.kernel_size
    noise = _noise(2, layer.in_channels, rows, (WIDTH - 1) * layer.stride[1] + frames)
    return noise.contiguous(memory_format=torch.channels_last)


def _cosine(module: nn.Module, x: Tensor, device: torch.device, half: bool) -> float:
    plain = module if device.type == "cpu" else deepcopy(module).cpu()
    with torch.autocast("cpu", enabled=False):
        wanted = plain(x)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        given = module(x.to(device))
    lowest = _least_alike(_vectors(wanted), _vectors(given))
    if wanted.requires_grad:
        learned = zip(_gradients(plain, wanted), _gradients(module, given), strict=True)
        alike = [_least_alike(one, other) for one, other in learned]
        lowest = min([lowest, *(cosine for cosine in alike if cosine < AGREE_LEARNING)])
    return lowest


def _vectors(results: Tensor) -> Tensor:
    """Return embeddings as they are, and whatever else as one vector each."""
    results = results.detach().cpu().double()
    return results if results.ndim == 3 else results.flatten(1)


def _gradients(module: nn.Module, results: Tensor) -> Iterator[Tensor]:
    """Return the gradient that each weight of a layer has of a random sum of the results."""
    weights = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    total = (results * _noise(*results.shape).sub(0.5).to(results.device)).sum()
    for gradient in torch.autograd.grad(total, weights, allow_unused=True):
        if gradient is not None:
            yield gradient.cpu().double().flatten()[None]


def _least_alike(wanted: Tensor, given: Tensor) -> float:
    """Return the lowest cosine of two lists of vectors; what is equal is alike, zeros, too."""
    cosine = nn.functional.cosine_similarity(wanted, given, -1)
    cosine[(wanted == given).all(-1)] = 1
    return float(cosine.nan_to_num(-1).min())


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Have a module in evaluation mode, so that nothing it has learned changes."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


# ---- remembering


def _circumstances(device: torch.device) -> list[str]:
    """Return what may change a result: versions, the processor, and what it may use."""
    facts: list[object] = [__version__, torch.__version__, device.type, platform.machine()]
    if device.type == "cuda":
        facts += [torch.cuda.get_device_name(device), torch.version.cuda]
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        facts += [cudnn, torch.backends.cudnn.allow_tf32]
        facts += [torch.backends.cuda.matmul.allow_tf32]
    elif device.type == "cpu":
        facts += [sorted(torch.cpu.get_capabilities().items()), _isa()]
        facts += [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
        facts += [torch.backends.mkldnn.enabled]
    else:
        facts += [platform.platform()]
    return [str(fact) for fact in facts]


def _memory(key: list[str]) -> Path:
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_folder() / "precision" / f"{digest[:32]}.json"


def _recall(key: list[str]) -> float | None:
    """Return what is remembered; None where that is nothing, or nothing that makes sense."""
    try:
        kept = parse_json(read_regular(_memory(key), MOST_BYTES))
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("key") != key:
        return None
    cosine = kept.get("cosine")
    sound = type(cosine) is float and math.isfinite(cosine) and abs(cosine) < 1.001
    return cosine if sound else None


def _remember(key: list[str], cosine: float) -> None:
    """Keep what came out, where there is a place for it."""
    path = _memory(key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            part.write_text(json.dumps({"key": key, "cosine": cosine}, indent=1))
