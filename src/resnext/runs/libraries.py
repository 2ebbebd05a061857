"""Files of published weights, which torchvision and timm keep in their own caches or fetch."""

from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlparse

import torch

from resnext.errors import CheckpointError, UsageError


def library_file(library: str, name: str) -> Path:
    """The file of ``NAME`` or ``NAME@WEIGHTS``, from the library's cache or from its server.

    Of torchvision, WEIGHTS is such as IMAGENET1K_V1; the library's newest if left out. timm's
    names hold theirs already: resnext50_32x4d.a1_in1k.

    Raises:
        UsageError: the library is missing, or has no such network or weights.
        CheckpointError: the file is not at hand and cannot be fetched.
    """
    network, _, weights = name.partition("@")
    return _torchvision(network, weights) if library == "torchvision" else _timm(name)


def _torchvision(network: str, weights: str) -> Path:
    from torchvision import models

    try:
        known = models.get_model_weights(network)
    except ValueError as error:
        near = get_close_matches(network, models.list_models(module=models), n=3)
        raise _unknown(f"torchvision:{network}", near) from error
    if weights and weights not in known.__members__:
        raise _unknown(
            f"torchvision:{network}@{weights}", [f"@{name}" for name in known.__members__]
        )
    chosen = known[weights] if weights else known.DEFAULT
    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(chosen.url).path).name)
    if file.exists():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beginning_of_hash = file.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(chosen.url, str(file), beginning_of_hash)
    except (OSError, RuntimeError) as error:
        raise _unreachable(f"torchvision:{network}", chosen.url, file, error) from error
    return file


def _timm(name: str) -> Path:
    try:
        import timm
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise UsageError(f"expected timm to be installed, found: {error}") from error
    known = timm.models.is_model_pretrained(name)
    cfg = timm.models.get_pretrained_cfg(name) if known else None
    if cfg is None or not cfg.hf_hub_id:
        near = timm.list_pretrained(f"{name.partition('.')[0]}*")
        raise _unknown(f"timm:{name}", near[:5])
    try:
        return Path(hf_hub_download(cfg.hf_hub_id, "model.safetensors"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _unreachable(f"timm:{name}", cfg.hf_hub_id, None, error) from error


def _unknown(given: str, near: list[str]) -> UsageError:
    library = given.partition(":")[0]
    hint = f"there are {', '.join(near)}" if near else f"say a name of it, as in {library}:resnet50"
    return UsageError(f"expected weights of {library}, found {given}; {hint}")


def _unreachable(given: str, where: str, file: Path | None, error: Exception) -> CheckpointError:
    place = f", or put the file at {file}" if file else ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(
        f"expected the weights of {given} in the library's cache or at {where}, found neither "
        f"({reason}); fetch them on a machine with a network and say --weights FILE{place}"
    )
