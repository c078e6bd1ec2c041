"""Loads the model, once for each profile."""

from iscl_node.denoise.bundle_denoiser import BundleDenoiser, load_bundle
from iscl_node.settings import Settings


def load_denoisers(settings: Settings) -> dict[str, BundleDenoiser]:
    """The denoiser of every profile that a rule names.

    Raises
    ------
    ConfigurationError
    """
    profiles = sorted({rule.profile for rule in settings.rules if not rule.ignore})
    bundle = settings.bundle
    return {
        profile: load_bundle(bundle.path, profile, bundle.device, bundle.digest, bundle.precision)
        for profile in profiles
    }
