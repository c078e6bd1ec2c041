"""Loads the model, once for each profile."""

from iscl_node.denoise.bundle_denoiser import BundleDenoiser, load_bundle
from iscl_node.denoise.bundle_digest import bundle_identity
from iscl_node.errors import ConfigurationError
from iscl_node.settings import INSTALLED_BUNDLE, Settings


def load_denoisers(settings: Settings) -> dict[str, BundleDenoiser]:
    """The denoiser of every profile that a rule names.

    Raises
    ------
    ConfigurationError
        A bundle cannot be used, or nobody says that it is to be trusted.
    """
    profiles = sorted({rule.profile for rule in settings.rules if not rule.ignore})
    bundle = settings.bundle
    if profiles and not bundle.digest and bundle.path.resolve() != INSTALLED_BUNDLE.resolve():
        digest = bundle_identity(bundle.path).digest
        raise ConfigurationError(
            f"the bundle in {bundle.path} is not the one that was installed with the node, and its code runs in it: "
            f'if it is to be trusted, set digest = "{digest}" under [bundle]'
        )
    return {
        profile: load_bundle(bundle.path, profile, bundle.device, bundle.digest, bundle.precision)
        for profile in profiles
    }
