"""Improved GAN on a grid of Gaussians and on CIFAR-10."""

from __future__ import annotations

from ray_jobs.recipe import Claim, Fit, Headline, Location, fit
from ray_jobs.recipe.measures import likeness, modes_found


@fit(
    system="Improved GAN", data="density2d", headline=Headline("Salimans et al. 2016", arxiv="1606.03498"),
    claim=Claim("modes_hit", at_least=15), space={"lr": "loguniform(1e-4,5e-3)", "noise_std": "uniform(0,0.3)"},
    steps=2500, batch=128, lr=1e-3, ema=0.999, log_every=50,
)  # fmt: skip
def improved_gan_grid(
    *, steps: int, density: str = "sharp_grid", feature_matching: bool = False, kernels: int = 4, history: float = 0.0,
    real_label: float = 0.9, noise_std: float = 0.1, virtual: bool = False, width: int = 128, depth: int = 3,
    latents: int = 2
) -> Fit:  # fmt: skip
    """Improved GAN on a grid of 25 Gaussians in the plane: how many it finds.

    Args:
        density: 'sharp_grid', with nearly nothing between its modes, or 'grid', whose broad modes even uniform noise hits.
        feature_matching: the generator matches the discriminator's mean features in place of deceiving it.
        kernels: of minibatch discrimination, 0 for none.
        history: weight of the distance of each network's weights to their mean over the past.
        real_label: of real examples; below 1 smooths it.
        noise_std: standard deviation of the noise on all inputs of the discriminator, falling linearly to 0.
        virtual: whether the generator has virtual batch norm.
        width: units of each hidden layer of both networks.
        depth: hidden layers of both networks.
        latents: that a point is generated from.
    """
    from datamodules.labs.density2d import Density2D
    from lightning_modules.gan.improved_gan import ImprovedGAN
    from lightning_modules.nets.adversarial import dense_discriminator, dense_generator

    points = Density2D(name=density)
    kind = "virtual" if virtual else "none"
    generator = dense_generator(latents, points.shape, width=width, depth=depth, kind=kind)  # type: ignore[arg-type]
    discriminator = dense_discriminator(points.shape, width=width, depth=depth, kernels=kernels)
    model = ImprovedGAN(
        generator,
        discriminator,
        latents,
        feature_matching=feature_matching,
        history=history,
        real_label=real_label,
        noise_std=noise_std,
        noise_steps=steps,
    )
    return Fit(model, points, modes_found)


@fit(
    system="Improved GAN", data="CIFAR-10",
    headline=Headline("Salimans et al. 2016", arxiv="1606.03498", metric="IS", value=8.09,
                      where="Table 3, with labels"),
    space={"lr": "loguniform(5e-5,1e-3)", "kernels": "choice(0,20,100)"}, steps=100000, batch=128, lr=3e-4, ema=0.0,
    num_workers=4, save_every=5000, log_every=100,
)  # fmt: skip
def improved_gan_cifar10(
    *, steps: int, feature_matching: bool = False, kernels: int = 100, history: float = 0.0, real_label: float = 0.9,
    noise_std: float = 0.0, width: int = 96, latents: int = 100, data_dir: Location = ""
) -> Fit:  # fmt: skip
    """Improved GAN on CIFAR-10 at the paper's scale, without labels; needs GPUs.

    Strided networks with minibatch discrimination, smoothed labels and virtual batch norm, on CIFAR-10 from the hub.

    Args:
        feature_matching: the generator matches the discriminator's mean features in place of deceiving it.
        kernels: of minibatch discrimination, 0 for none.
        history: weight of the distance of each network's weights to their mean over the past.
        real_label: of real examples; below 1 smooths it.
        noise_std: standard deviation of the noise on all inputs of the discriminator, falling linearly to 0.
        width: channels at half the resolution; twice as many at each coarser one.
        latents: that an image is generated from.
        data_dir: local folder of parquet files with the columns img and label; '' takes the hub.
    """
    from datamodules.readers.images import Images
    from lightning_modules.gan.improved_gan import ImprovedGAN
    from lightning_modules.nets.strided import strided_discriminator, strided_generator

    images = Images(name="uoft-cs/cifar10", data_dir=data_dir)
    generator = strided_generator(latents, images.shape, width=width, kind="virtual")
    discriminator = strided_discriminator(images.shape, width=width, kernels=kernels)
    model = ImprovedGAN(
        generator,
        discriminator,
        latents,
        feature_matching=feature_matching,
        history=history,
        real_label=real_label,
        noise_std=noise_std,
        noise_steps=steps,
    )
    return Fit(model, images, likeness)
