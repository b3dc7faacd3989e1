"""What mmid uses where nothing is named: folders of the user's, and the variables that name others.

Conventions: a variable that is empty counts as one that is not set.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLES = {
    "MMID_INDEX": "the index: a folder or an address",
    "MILVUS_TOKEN": "what a Milvus server requires: user:password or a key",
    "MMID_SERVER": "the address of an mmid serve that queries go to",
    "MMID_MODEL": "the model: a name or a .safetensors file",
    "MMID_CACHE": "the folder of what can be made or fetched again",
    "HF_ENDPOINT": "the hub that models are fetched from",
    "ONEDNN_MAX_CPU_ISA": "what oneDNN may use of the processor",
    "SF2_PATH": "folders with more soundfonts",
    "NO_COLOR": "no colours, whatever its value",
    "COLUMNS": "how wide tables may be",
}
"""Environment variables that mmid reads, and what each says."""


def default_index() -> Path:
    """Return the folder of the index where none is given."""
    from platformdirs import user_data_path

    return user_data_path("mmid") / "index"


def cache_folder() -> Path:
    """Return the folder of what can be made or fetched again: MMID_CACHE, or the user's."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("MMID_CACHE") or user_cache_path("mmid"))


def default_cache() -> Path:
    """Return the folder of cached features."""
    return cache_folder() / "features"
