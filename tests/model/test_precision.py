"""`precision`: a fast way that is wrong is found out, given up and noted; a right one is kept.

Convolutions are made wrong as oneDNN's are on processors with AMX: under autocast, those of few
channels and a kernel of many rows, to the last digit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import EAR, TINY, shaken
from torch import nn
from wrong_bf16 import CPU, LIMIT, counted, is_narrow, noted, spoil

from mmid.cli.doctor import examine
from mmid.errors import MmidError
from mmid.model import precision
from mmid.model.checkpoint import load_checkpoint
from mmid.model.embedding import Score, embed_query
from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.precision import AGREE, LONGEST, WIDTH, Network, Precision, settle
from mmid.music.grid import DEFAULT
from mmid.training.distillation import teach
from mmid.training.experiment import Experiment
from mmid.training.tasks import make_task

pytestmark = [pytest.mark.numerical, pytest.mark.usefixtures("alone")]

CUDA = torch.device("cuda")


# ---- what is used


def test_what_is_right_is_used(path, capsys):
    found = load_checkpoint(path).encoders.precision
    assert (found.name, found.half, found.fault) == ("bf16", True, "")
    assert AGREE < found.cosine <= 1.00001 and "agrees with float32" in found.reason
    assert found.autocast()._enabled and noted(capsys) == []


def test_what_is_wrong_is_not_and_is_noted_once(path, spoilt, capsys):
    for _ in range(3):
        found = load_checkpoint(path).encoders.precision
        assert (found.name, found.half) == ("float32", False) and not found.autocast()._enabled
    [line] = noted(capsys)
    assert line.startswith("bf16 is wrong here (cosine ") and "so float32 is used" in line


@pytest.mark.parametrize("part", ["audio", "roll", "transcriber"])
def test_each_network_is_compared(path, monkeypatch, part):
    encoders = load_checkpoint(path).encoders
    own = set(getattr(encoders, part).modules())
    spoil(monkeypatch, which=lambda layer: layer in own)
    assert encoders.precision.name == "float32"


def test_a_layer_that_is_wrong_where_it_is_long_is_found_in_a_large_network(sound, monkeypatch):
    wide = replace(TINY, widths=(96, 8), collapsed=2_048, embedding=128)
    encoders = shaken(Encoders(ModelConfig(DEFAULT, wide, wide)))
    lengths = [x.shape[-1] for x in encoders.networks()[0].inputs()]
    assert lengths == [encoders.networks()[0].frames]
    plain = nn.Conv2d._conv_forward

    def convolve(self, x, *rest):
        given = plain(self, x, *rest)
        long = given.dtype == torch.bfloat16 and is_narrow(self) and given.shape[-1] == WIDTH
        return given * torch.tensor([1.0, -1.0]).repeat(1_024)[:, None, None] if long else given

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", convolve)
    assert encoders.precision.name == "float32"


def test_results_that_are_no_numbers_are_wrong(path, monkeypatch):
    plain = nn.Conv2d._conv_forward

    def convolve(self, *rest):
        given = plain(self, *rest)
        return given * torch.nan if given.dtype == torch.bfloat16 else given

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", convolve)
    assert load_checkpoint(path).encoders.precision.name == "float32"


def test_two_lengths_and_two_batches_are_compared(path):
    for network in load_checkpoint(path).encoders.networks():  # which are small
        short, long = network.inputs()
        assert (len(short), len(long)) == (1, 2)
        assert short.shape[-1] == network.frames and long.shape[-1] == LONGEST
        assert torch.equal(short, next(network.inputs()))


def test_nothing_but_float32_needs_no_comparison(path, monkeypatch):
    seen = counted(monkeypatch)
    monkeypatch.setattr(precision, "_has_bf16", lambda: False)
    found = load_checkpoint(path).encoders.precision
    assert (found.name, found.reason, seen) == ("float32", "no bf16 on this processor", [])


def test_zeros_agree_with_zeros(sound):
    zeros = nn.Conv2d(1, 3, 1, bias=False)
    nn.init.zeros_(zeros.weight)
    assert settle([Network(zeros, 1, 2, 5)], CPU).cosine == 1


# ---- AMX


def test_amx_is_left_where_that_helps(path, monkeypatch, capsys):
    spoil(monkeypatch, lambda: os.environ[LIMIT] != "AVX512_CORE_BF16")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    found = load_checkpoint(path).encoders.precision
    assert (found.name, found.half) == ("bf16 without AMX", True)
    [line] = noted(capsys)
    assert line.endswith("so bf16 without AMX is used, which may be slower: see mmid doctor")


def test_amx_that_was_used_before_is_not_believed_to_be_left(path, monkeypatch):
    """Whether oneDNN looks at the variable again only trying tells: nothing of it is remembered."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    stuck = True
    spoil(monkeypatch, lambda: stuck or not os.environ[LIMIT])
    assert load_checkpoint(path).encoders.precision.name == "float32"
    kept = len(list((path.parent / "cache" / "precision").iterdir()))
    assert kept == 1 and load_checkpoint(path).encoders.precision.name == "float32"
    stuck = False
    monkeypatch.setattr(precision, "_amx_left", False)  # a new process
    monkeypatch.setenv(LIMIT, "")
    assert load_checkpoint(path).encoders.precision.name == "bf16 without AMX"
    assert len(list((path.parent / "cache" / "precision").iterdir())) == kept


@pytest.mark.parametrize("isa", ["avx512_core_bf16", "AVX2"])
def test_amx_that_onednn_may_not_use_is_not_left(sound, monkeypatch, isa):
    monkeypatch.setenv(LIMIT, isa)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert [way.name for way in precision._ways(CPU)] == ["bf16", "float32"]


@pytest.mark.parametrize("isa", ["AVX2", "avx512_core", "AVX512_CORE_VNNI"])
def test_bf16_that_onednn_would_imitate_is_not_fast(monkeypatch, isa):
    monkeypatch.setenv(LIMIT, isa)
    assert [way.name for way in precision._ways(CPU)] == ["float32"]


def test_onednn_heeds_a_limit_that_is_set_before_it_computes():
    code = (
        "import os, torch\n"
        f"os.environ['{LIMIT}'] = 'SSE41'\n"
        "with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):\n"
        "    torch.nn.Conv2d(8, 16, (8, 1))(torch.rand(2, 8, 8, 106))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    if "cpu,isa:" not in said:
        pytest.skip("oneDNN does not compute this here")
    assert "cpu,isa:Intel SSE4.1" in said


# ---- GPUs


@pytest.fixture
def tf32() -> Iterator[None]:
    """Allow TF32, and leave it as it was."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


def tried(monkeypatch, right: set[str], bf16: bool = True) -> list[str]:
    """Act as if there were CUDA, and some ways right; return the ways as they are tried."""
    names: list[str] = []

    def compared(networks, device, way, *rest):
        names.append(way.name)
        assert torch.backends.cudnn.allow_tf32 == ("without TF32" not in way.name)
        return 1.0 if way.name in right else 0.5

    monkeypatch.setattr(precision, "_compared", compared)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation
    )
    return names


def test_tf32_is_left_before_bf16_is(monkeypatch, tf32):
    names = tried(monkeypatch, {"bf16 without TF32"})
    found = settle([], CUDA)
    assert names == ["bf16", "bf16 without TF32"] and found.half
    assert not torch.backends.cuda.matmul.allow_tf32
    assert found.fault == "bf16 is wrong here (cosine 0.500 to float32)"


def test_float32_without_tf32_is_left(monkeypatch, tf32):
    names = tried(monkeypatch, {"float32 without TF32"})
    assert not settle([], CUDA).half and len(names) == 3


def test_tf32_is_compared_where_there_is_no_bf16(monkeypatch, tf32):
    names = tried(monkeypatch, {"float32 without TF32"}, bf16=False)
    assert settle([], CUDA).fault.startswith("float32 is wrong here")
    assert names == ["float32", "float32 without TF32"]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_wrong_in_all_ways_is_refused(monkeypatch, tf32, device):
    tried(monkeypatch, set())
    with pytest.raises(MmidError, match=rf"{device} computes this model wrongly .*--device cpu"):
        settle([], torch.device(device))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_compared_with_the_cpu(path):
    encoders = load_checkpoint(path, CUDA).encoders
    assert encoders.precision.cosine >= AGREE and encoders.precision.device == "cuda"


# ---- what it is for


@pytest.mark.parametrize("seconds", [3.0, 10.0, 20.0, 45.0])
def test_a_narrow_model_embeds_as_in_float32(narrow, draw_notes, in_float32, monkeypatch, seconds):
    """On any processor, whatever its bf16 gives."""
    model, query = load_checkpoint(narrow), Score(draw_notes(3, 90, seconds), seconds)
    for queried in (query, query.transposed(3)):
        wanted, _ = embed_query(queried, model.encoders)
        with monkeypatch.context() as patch:
            patch.setattr(Encoders, "autocast", lambda self: self.precision.autocast())
            given, _ = embed_query(queried, model.encoders)
        np.testing.assert_allclose(given, wanted, atol=0.01)


def test_a_narrow_model_embeds_as_in_float32_where_bf16_is_wrong(path, draw_notes, monkeypatch):
    query = Score(draw_notes(3), 20.0)
    wanted, _ = embed_query(query, load_checkpoint(path).encoders)
    spoil(monkeypatch)
    wrong, _ = embed_query(query, load_checkpoint(path).encoders)  # remembered as right: by design
    (path.parent / "cache").rename(path.parent / "gone")
    given, _ = embed_query(query, load_checkpoint(path).encoders)
    assert np.abs(wrong - wanted).max() > 0.5
    np.testing.assert_allclose(given, wanted, atol=0.01)


def test_the_doctor_says_which_and_why(path, monkeypatch, spoilt):
    monkeypatch.setattr("mmid.cli.doctor._import", lambda *modules: None)
    [found] = [f for f in examine(None, str(path)).findings if f.subject == "precision"]
    assert found.state == "absent" and found.mend
    assert found.said.startswith("float32: bf16 is wrong here (cosine ")


def test_the_doctor_says_that_it_is_right(path, monkeypatch):
    monkeypatch.setattr("mmid.cli.doctor._import", lambda *modules: None)
    [found] = [f for f in examine(None, str(path)).findings if f.subject == "precision"]
    assert found.state == "ok" and found.said.startswith("bf16: agrees with float32")


# ---- training

TASKS = ["retrieval", "transcription", "audio-autoencoder", "midi-autoencoder"]


@pytest.fixture
def make(sound, monkeypatch, tiny_config):
    monkeypatch.setattr(Experiment, "model", replace(tiny_config, transcriber=None))
    monkeypatch.setattr("mmid.training.experiment.TranscriberConfig", lambda: EAR)
    return lambda task: make_task(Experiment(task=task, batch=4), CPU)


@pytest.mark.parametrize("name", TASKS)
def test_training_is_compared_too(make, monkeypatch, capsys, name):
    assert make(name).precision.name == "bf16"
    spoil(monkeypatch, which=lambda layer: layer.in_channels > 1)
    task = make(name)
    before = {n: t.clone() for n, t in task.network.state_dict().items()}
    assert task.network.training and task.precision.name == "float32" and task.network.training
    assert all(torch.equal(before[n], t) for n, t in task.network.state_dict().items())
    assert all(p.grad is None for p in task.network.parameters()) and len(noted(capsys)) == 1


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient.flip(1)


def test_gradients_that_are_wrong_are_found_out(make, monkeypatch):
    plain = nn.Conv2d._conv_forward

    def convolve(self, *rest):
        given = plain(self, *rest)
        return _Backwards.apply(given) if given.dtype == torch.bfloat16 else given

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", convolve)
    task = make("retrieval")
    assert task.precision.name == "float32"
    task.network.eval()
    assert task.precision.name == "float32", "what it is judged with is what it learned with"


def test_distilling_is_compared_too(path, draw_notes, monkeypatch, capsys):
    model, notes = load_checkpoint(path), [draw_notes(0), draw_notes(1)]
    monkeypatch.setattr("mmid.training.distillation.BATCH", 1)
    monkeypatch.setattr("mmid.training.distillation.FRAMES", 60)
    used, plain = [], Precision.autocast
    monkeypatch.setattr(Precision, "autocast", lambda self: used.append(self.name) or plain(self))
    teach(model, notes, 1)
    spoil(monkeypatch, which=lambda layer: layer.in_channels == 48)  # of the light pathway
    teach(model, notes, 1)
    assert used == ["bf16", "float32"] and len(noted(capsys)) == 1
