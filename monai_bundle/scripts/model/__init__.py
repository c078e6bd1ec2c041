"""The networks, the noise prior and the denoiser made of them."""
