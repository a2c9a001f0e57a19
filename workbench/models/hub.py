"""Models from the Hugging Face hub: asked for once, aloud, and given up at once where there is no network."""

from __future__ import annotations

from workbench.errors import UserError, note, one_line

# Weights in other formats (pickles among them), copies in other number formats, and what lies in subfolders.
NOT_READ = ["*/*", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite"]
NOT_READ += ["*.npz", "*.fp16.safetensors", "*.bf16.safetensors", "consolidated*"]


SECONDS = 10  # to wait for the hub's first answer


def fetch(name: str) -> str:
    """The directory of a hub model's files, in the hub's own cache; without a network, what the cache has.

    Raises:
        UserError: no such model, no right to it, or no network and nothing in the cache.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    failure: Exception | None = None
    revision = None
    if not constants.HF_HUB_OFFLINE:
        note(f"workbench: asking the hub for {name} ...")
        try:  # snapshot_download asks too, but waits as long as the network likes
            revision = HfApi().model_info(name, timeout=SECONDS).sha
        except Exception as error:
            failure = error
    try:
        return str(
            snapshot_download(name, revision=revision, ignore_patterns=NOT_READ, local_files_only=revision is None)
        )
    except Exception as error:
        raise UserError(f"model '{name}' {_reason(failure or error)}") from (failure or error)


def _reason(error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return "is only given to those who have accepted its terms: do so on its page on the hub, then `hf auth login`"
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return "is neither a directory here nor on the hub; a private one needs `hf auth login`"
    if isinstance(error, HfHubHTTPError):
        return f"is not given by the hub: {one_line(error, 300)}"
    reason = (
        "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub cannot be reached ({one_line(error, 200)})"
    )
    return f"is not in the hub's cache, and {reason}; connect and try again, or give a directory with the model's files"
