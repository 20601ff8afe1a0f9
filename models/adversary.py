"""Adversaries: perturbations of the weights that a training step must withstand."""


class NoAdversary:
    """No perturbation."""

    options = ()


ADVERSARIES: dict[str, type[NoAdversary]] = {
    "none": NoAdversary,
}
