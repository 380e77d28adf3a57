"""A policy as a folder that completion servers load: a Hugging Face checkpoint in float32 with its tokenizer.

In: a policy's artifact, its tokenizer, and the folder of the exports. Out: `<folder>/policy-<digest>`; the digest is
that of the params and the shape, so a server that has this folder has this policy. It appears by rename, whole or not
at all, and is made once for all that need it.
"""

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from data.tokens.hf_tokenizer import HfTokenizer
from data.tokens.tokenizer import SPECIALS, AnyTokenizer, Tokenizer
from scaling.model.policy import ADAPTERS_FILE, LORA_FILE, PARAMS_FILE, SHAPE_FILE, policy_of
from scaling.pretrained.hf import save_checkpoint

logger = logging.getLogger(__name__)

DIGEST_LENGTH = 12
_FILES = (SHAPE_FILE, PARAMS_FILE, LORA_FILE, ADAPTERS_FILE)


def policy_name(inputs: Mapping[str, Path]) -> str:
    """The export's name of the input `policy`, from the contents of its files, and of `base` if it has adapters."""
    policy = inputs["policy"]
    folders = [policy, inputs["base"]] if (policy / ADAPTERS_FILE).exists() else [policy]
    files = [folder / name for folder in folders for name in _FILES if (folder / name).exists()]
    if not files:
        raise FileNotFoundError(f"{policy} holds no policy; expected {SHAPE_FILE} and its params.")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return f"policy-{digest.hexdigest()[:DIGEST_LENGTH]}"


def export_policy(inputs: Mapping[str, Path], tokenizer: AnyTokenizer, folder: Path, name: str) -> Path:
    """Write the checkpoint, adapters merged, unless it is there; returns its folder."""
    target = folder / name
    if target.exists():
        return target
    aside = folder / f".{name}.{uuid.uuid4().hex[:8]}"
    aside.mkdir(parents=True)
    try:
        save_checkpoint(policy_of(inputs, "policy"), aside)
        if isinstance(tokenizer, HfTokenizer):
            tokenizer.tokenizer.save_pretrained(aside)
        else:
            _save_words(tokenizer, aside)
        aside.rename(target)
        logger.info("Wrote %s.", target)
    except OSError:
        if not target.exists():
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # another worker was faster, or the disk is full
    return target


def _save_words(tokenizer: Tokenizer, folder: Path) -> None:
    """The word tokenizer in the files of the package `tokenizers`, which servers need."""
    words = (*SPECIALS, *tokenizer.words)
    flags = {**dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False), "special": True}
    specials = [{"id": index, "content": word, **flags} for index, word in enumerate(SPECIALS)]
    stated = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": specials,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate(words)},
            "unk_token": SPECIALS[0],
        },
    }
    pad, bos, eos = SPECIALS
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pad,
        "bos_token": bos,
        "eos_token": eos,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer.json").write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
