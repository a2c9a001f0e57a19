"""Models from the Hugging Face hub: asked for once, aloud, and given up at once where there is no network."""

from __future__ import annotations

import sys

from workbench.errors import UserError, one_line

# Weights in other formats (pickles among them), copies in other number formats, and what lies in subfolders.
NOT_READ = ["*/*", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite"]
NOT_READ += ["*.npz", "*.fp16.safetensors", "*.bf16.safetensors", "consolidated*"]


def fetch(name: str) -> str:
    """The directory of a hub model's files, in the hub's own cache; without a network, what the cache has.

    Raises:
        UserError: no such model, no right to it, or no network and nothing in the cache.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.errors import RepositoryNotFoundError as NotFoundError

    offline = constants.HF_HUB_OFFLINE
    if not offline:
        print(f"workbench: asking the hub for {name} ...", file=sys.stderr, flush=True)
    try:
        return str(snapshot_download(name, ignore_patterns=NOT_READ, local_files_only=offline))
    except LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise UserError(
            f"model '{name}' is not in the hub's cache, and {reason}; connect and try again, or give a directory "
            "with the model's files"
        ) from error
    except GatedRepoError as error:
        raise UserError(
            f"model '{name}' is only given to those who have accepted its terms; do so on its page on the hub, then "
            "`hf auth login`"
        ) from error
    except (NotFoundError, HFValidationError) as error:
        raise UserError(f"model '{name}': not on the hub; a private one needs `hf auth login`") from error
    except Exception as error:
        raise UserError(f"model '{name}' cannot be fetched from the hub: {one_line(error)}") from error
