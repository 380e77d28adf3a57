"""Find a named checkpoint: on this machine, or in a repository of the Hugging Face hub, downloaded once.

In: the path of a folder or .gguf file, or a hub name and a revision. Out: `Source`: the path, and the hub's commit.
Only configs, tokenizers and safetensors are fetched: no pickle and no code.
"""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scaling.files import known_sha256_of

# What a policy needs; .txt is the vocabulary and the merges of older tokenizers, .jinja a chat template.
PATTERNS = ("*.json", "model*.safetensors", "*.txt", "*.jinja", "tokenizer.model")
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine."""

    path: Path  # a folder, or a .gguf file
    commit: str | None  # of the hub's repository; None for what is local


def content_digest(path: Path) -> str:
    """A digest of the files of a checkpoint on this machine that a policy needs, independent of its name.

    Raises ValueError if there are no such files. Reads everything once in a process, unless a file changes.
    """
    files = [path] if path.is_file() else sorted({file for pattern in PATTERNS for file in path.glob(pattern)})
    if not files:
        raise ValueError(f"{path} is neither a checkpoint's folder nor a .gguf file; correct the path.")
    with ThreadPoolExecutor(8) as pool:  # hashing releases the interpreter's lock
        digests = list(pool.map(known_sha256_of, files))
    names = [""] if path.is_file() else [file.name for file in files]
    return "sha256:" + hashlib.sha256(json.dumps(list(zip(names, digests, strict=True))).encode()).hexdigest()


def fetch(name: str, revision: str | None = None, patterns: tuple[str, ...] = PATTERNS) -> Source:
    """Find a checkpoint; from a repository of the hub, files of these patterns are fetched.

    A name in the hub's form is taken as the hub's, even if such a folder exists here; write ./FOLDER/NAME for a path.
    Raises ValueError or OSError that names the checkpoint and says what to do.
    """
    path, named = Path(name).expanduser(), _HUB_NAME.fullmatch(name)
    if name and not named and (path.is_dir() or (path.is_file() and path.suffix == ".gguf")):
        if revision is not None:
            raise ValueError(f"{name} is on this machine, but revision is {revision!r}; only the hub has revisions.")
        return Source(path, None)
    if not named:
        raise ValueError(
            f"{name!r} is neither a folder nor a .gguf file on this machine, nor a name of the hub, such as"
            " Qwen/Qwen2.5-0.5B; correct the path or the name."
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise ImportError(
            f"fetching {name} needs the package huggingface_hub, which is not installed; install the project with its"
            " extra: pip install --editable '.[hf]'."
        ) from error
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, OSError) as error:
        raise OSError(
            f"{name} (revision {revision or 'main'}) is neither in this machine's hub cache nor could it be fetched:"
            f" {error} Check name, revision, network and, for a gated repository, HF_TOKEN; or give a local folder."
        ) from error
    return Source(folder, folder.name)  # the cache keeps a snapshot in a folder named by its commit


def has_chat_template(name: str) -> bool | None:
    """Whether a checkpoint's folder has a chat template; None if it is not in a folder on this machine."""
    folder = Path(name)
    if not folder.is_dir():
        return None
    config = folder / "tokenizer_config.json"
    stated = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return bool(stated.get("chat_template")) or any(folder.glob("chat_template.*"))
