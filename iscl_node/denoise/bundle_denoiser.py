"""A denoiser made from a MONAI bundle whose ``network_def`` takes HU and gives HU."""

import importlib
import importlib.util
import math
import pickle
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from iscl_node.denoise.bundle_digest import bundle_identity, read_json
from iscl_node.denoise.denoiser import Slice, WindowHU
from iscl_node.domain import ModelIdentity, Precision
from iscl_node.errors import ConfigurationError

_PACKAGES = ("scripts", "torch", "monai")
"""Where the class of a network may come from; ``scripts`` is the bundle's own, which its digest covers."""


class BundleDenoiser:
    """One network of a bundle, on one device; calls are served one at a time.

    Parameters
    ----------
    network : nn.Module
        (N, 1, H, W) float32 HU to the same.
    device : torch.device
        Where it computes.
    model : ModelIdentity
        Which model it is.
    window_hu : tuple of float
        The HU that the network looks at.
    in_bfloat16 : bool
        Convolutions compute in bfloat16, all else in float32.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        model: ModelIdentity,
        window_hu: WindowHU,
        in_bfloat16: bool = False,
    ) -> None:
        self._network = network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._in_bfloat16 = in_bfloat16
        self._lock = threading.Lock()
        self.model = model
        self.window_hu = window_hu

    def denoise(self, hu: Slice) -> Slice:
        """Denoise one slice, (H, W) float32 HU to the same."""
        with self._lock, torch.inference_mode(), self._precision():
            image = torch.from_numpy(np.ascontiguousarray(hu, dtype=np.float32)).to(self._device)
            denoised: Slice = self._network(image[None, None])[0, 0].float().cpu().numpy()
            return denoised

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._in_bfloat16)


def load_bundle(
    bundle: Path, profile: str, device: str, trusted_digest: str = "", precision: Precision = "float32"
) -> BundleDenoiser:
    """Check the digest, build ``network_def`` of ``configs/inference.json`` and load its weights.

    Code of the bundle runs only after its digest has been compared; weights are loaded weights-only.

    Parameters
    ----------
    bundle : Path
        Folder of the bundle.
    profile : str
        HU window; the weights are ``models/model.pt`` for the profile that the bundle's configuration names, or if it
        names none, and ``models/<profile>.pt`` for others.
    device : str
        'auto', 'cpu' or 'cuda'.
    trusted_digest : str
        As :func:`bundle_identity` takes it.
    precision : str
        Of the convolutions. 'auto' is 'bfloat16' on a processor that computes in it, for a network that is as good
        with it, by its method ``bfloat16_is_enough``.

    Raises
    ------
    ConfigurationError
        If the bundle is incomplete, not the trusted one, or does not hold this profile.
    """
    model = bundle_identity(bundle, trusted_digest)
    config = read_json(bundle / "configs" / "inference.json")
    network = _build(bundle, model.digest, config | {"profile": profile})
    own_profile = config.get("profile", profile)
    _load_weights(network, bundle / "models" / ("model.pt" if profile == own_profile else f"{profile}.pt"))
    target, window_hu = _device(device), _window_hu(network)
    in_bfloat16 = _in_bfloat16(network, precision, target)
    _prepare(network)
    return BundleDenoiser(network, target, model, window_hu, in_bfloat16)


def _build(bundle: Path, digest: str, config: Mapping[str, Any]) -> nn.Module:
    """Instantiate ``network_def``: a class and plain arguments, or references to plain top-level values."""
    definition = dict(config.get("network_def", {}))
    target = str(definition.pop("_target_", ""))
    arguments = {name: _resolved(value, config) for name, value in definition.items()}
    try:
        return _class_of(bundle, digest, target)(**arguments)
    except (OSError, SyntaxError, ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{bundle}: network_def {target!r} cannot be built: {error}") from error


def _resolved(value: Any, config: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value.startswith("@"):
        value = config.get(value[1:], value)
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise ConfigurationError(f"network_def must have plain arguments to run in the node, not {value!r}")
    return value


def _class_of(bundle: Path, digest: str, target: str) -> type[nn.Module]:
    """The class that ``target`` names; ``scripts.`` is the bundle's own package.

    The package is imported under a name that holds the digest, so that two bundles can be loaded. A name below torch or
    MONAI alone is not enough: functions there run shell commands.
    """
    module, _, name = target.rpartition(".")
    package = module.split(".")[0]
    if package not in _PACKAGES:
        raise ValueError(f"it must be a class of {', '.join(_PACKAGES[:-1])} or {_PACKAGES[-1]}")
    if package == "scripts":
        module = module.replace("scripts", _import_scripts(bundle, digest), 1)
    found: object = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TypeError("it is no torch.nn.Module")
    return found


def _import_scripts(bundle: Path, digest: str) -> str:
    name = f"iscl_bundle_{digest[:16]}"
    if name not in sys.modules:
        folder = bundle / "scripts"
        spec = importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"{folder} is no package")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return name


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{path}: no weights of this network: {error}") from error


def _window_hu(network: nn.Module) -> WindowHU:
    """The ends of the network's ``window``; a network without one is taken to look at every value."""
    window = getattr(network, "window", None)
    return float(getattr(window, "low", -math.inf)), float(getattr(window, "high", math.inf))


def _prepare(network: nn.Module) -> None:
    """Let the network do once what speeds up each call."""
    prepare: Callable[[], None] | None = getattr(network.eval(), "prepare_inference", None)
    if prepare is not None:
        prepare()


def _in_bfloat16(network: nn.Module, precision: Precision, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bfloat16"
    capabilities = torch.cpu.get_capabilities()
    is_native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    is_enough: Callable[[], bool] = getattr(network, "bfloat16_is_enough", lambda: False)
    return device.type == "cpu" and is_native and is_enough()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"[bundle] device is {name!r}, but no CUDA device is usable; 'auto' takes the CPU")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"{name!r} is no device; 'auto', 'cpu' and 'cuda' are") from error
