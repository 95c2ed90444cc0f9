"""How near samples are: pictures, videos, sound and latents, each by what is right for it."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cachedit_yaml.errors import ConfigError
from cachedit_yaml.generating import perceptual
from cachedit_yaml.generating.likeness import flicker, likeness, measured_as, spectral_distance
from cachedit_yaml.generating.samples import samples_of

PICTURE = Image.new("RGB", (8, 6), "red")


def test_samples_of_any_kind() -> None:
    pictures = samples_of(SimpleNamespace(images=[PICTURE]))
    assert (pictures.kind, pictures.text) == ("pictures", "1 picture of 8 x 6")
    videos = samples_of(SimpleNamespace(frames=[[PICTURE] * 3]))
    assert (videos.kind, videos.text) == ("videos", "1 video of 3 frames of 8 x 6")
    sound = samples_of(SimpleNamespace(audios=torch.randn(2, 1, 50)))
    assert (sound.kind, sound.text) == ("sound", "2 sounds of 1 x 50")
    latents = samples_of(SimpleNamespace(images=torch.randn(2, 4, 3, 5)))
    assert (latents.kind, latents.text) == ("numbers", "2 tensors of 4 x 3 x 5, not decoded")
    assert samples_of((torch.randn(2, 7),)).kind == "numbers"
    # Pictures and videos as numbers from 0 to 1, with the colours first or last.
    for shape in ((1, 6, 8, 3), (1, 3, 6, 8)):
        (item,) = found = samples_of(SimpleNamespace(images=torch.full(shape, 0.5)))
        assert (found.kind, item.dtype, item.shape) == ("pictures", np.uint8, (6, 8, 3))
        assert (item == 128).all()
    for shape in ((1, 4, 6, 8, 3), (1, 4, 3, 6, 8)):
        found = samples_of(SimpleNamespace(frames=np.zeros(shape)))
        assert (found.kind, found[0].shape) == ("videos", (4, 6, 8, 3))
    with pytest.raises(ConfigError, match="holds no numbers"):
        samples_of(SimpleNamespace())


def test_each_kind_by_its_own() -> None:
    sound = samples_of(SimpleNamespace(audios=torch.randn(2, 1, 50)))
    near = likeness(sound, [item + 0.01 * np.ptp(item) for item in sound])
    assert near.pooled == pytest.approx(40, abs=0.1)
    assert list(near.others()) == ["LSD"]
    assert likeness(sound, sound).distance == 0
    video = samples_of(SimpleNamespace(frames=[[PICTURE] * 3]))
    same = likeness(video, video)
    assert math.isinf(same.pooled)
    assert same.others() == {"SSIM": "1.0000", "FLICKER": "0.00"}
    latents = samples_of((torch.randn(2, 7, 3),))
    assert likeness(latents, latents).others() == {}
    with pytest.raises(ConfigError, match="another number or size"):
        likeness(video, sound)
    said = {item.kind: measured_as(item) for item in (sound, video, latents)}
    assert "log-spectral distance" in said["sound"]
    assert "FLICKER: how far the changes from frame to frame are off" in said["videos"]
    assert said["numbers"].startswith("2 tensors of 7 x 3, not decoded beside the uncached ones")


def test_flicker_is_what_changes_from_frame_to_frame() -> None:
    """An error that stays is none; one that comes and goes is."""
    video = np.random.default_rng(0).integers(50, 200, (6, 8, 8, 3), dtype=np.uint8)
    brighter = video + np.uint8(9)
    assert flicker(video, brighter) == 0
    blinking = video.copy()
    blinking[::2] += 9
    assert flicker(video, blinking) == pytest.approx(9)
    assert likeness([video], [brighter]).pooled < likeness([video], [blinking]).pooled


def test_the_spectral_distance_is_in_decibel() -> None:
    """Twice as loud is 6 dB in every place; a shift in time, which PSNR abhors, is nearly none."""
    rate = 16_000
    time = np.arange(2 * rate) / rate
    noise = np.random.default_rng(0).normal(size=(1, len(time))).astype(np.float32)
    assert spectral_distance(noise, 2 * noise) == pytest.approx(20 * math.log10(2), abs=1e-3)
    tone = np.sin(2 * np.pi * 440 * time)[None] + 0.1 * noise
    shifted = np.sin(2 * np.pi * 440 * time + 1)[None] + 0.1 * noise
    other = np.sin(2 * np.pi * 620 * time)[None] + 0.1 * noise
    assert spectral_distance(tone, shifted) < 0.5 * spectral_distance(tone, other)
    assert spectral_distance(np.zeros((1, 5)), np.zeros((1, 5))) == 0


def test_lpips_is_measured_with_weights_at_hand_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import alexnet

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    pictures = np.random.default_rng(0).integers(0, 200, (2, 40, 48, 3), dtype=np.uint8)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "AlexNet's weights are not at ~/checkpoints" in str(perceptual.missing(pictures[0]))
    assert perceptual.distances(pictures, pictures) == []
    torch.manual_seed(0)
    model = alexnet()
    path = tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
    assert perceptual.missing(pictures[0]) is None
    assert "needs 32 pixels" in str(perceptual.missing(pictures[0, :20]))
    before = torch.get_rng_state()
    assert perceptual.distances(pictures, pictures) == [0, 0]
    far = perceptual.distances(pictures, np.flip(pictures, 2).copy())
    assert torch.equal(before, torch.get_rng_state())
    # The layers are those of the file.
    own = perceptual._model().net.state_dict()
    given = {key: x for key, x in model.state_dict().items() if key.startswith("features")}
    assert len(own) == len(given) == 10
    assert all(map(torch.equal, own.values(), given.values()))
    near = perceptual.distances(pictures, pictures + np.uint8(1))
    assert all(0 < a < b for a, b in zip(near, far, strict=True))
    assert list(likeness([pictures[0]], [pictures[1]]).others()) == ["SSIM", "LPIPS"]


def test_lpips_is_no_part_of_the_package() -> None:
    program = (
        "import sys; sys.modules['lpips'] = None; import numpy as np\n"
        "from cachedit_yaml.generating import perceptual\n"
        "sys.modules.pop('lpips'); sys.path_hooks.clear(); sys.path_importer_cache.clear()\n"
        "print(perceptual.missing(np.zeros((64, 64, 3), np.uint8)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = "lpips is not installed (pip install 'cachedit-yaml[lpips]') False"
    assert done.stdout.strip() == said, done.stderr
