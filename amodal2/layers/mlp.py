"""Multi-layer perceptron with the parameter names of DETR-style heads (``layers.{i}``)."""

import itertools

import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them, and after the last one on request.

    Args:
        input_dim: width of the input.
        hidden_dim: width between the layers.
        output_dim: width of the output.
        num_layers: number of linear layers, at least 1.
        activate_last: apply ReLU to the output as well.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        num_layers: int,
        *,
        activate_last: bool = False,
    ) -> None:
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.activate_last = activate_last

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to the last axis.

        Args:
            x (Tensor[..., input_dim]): features.

        Returns:
            Tensor[..., output_dim]: features.
        """
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < last or self.activate_last:
                x = F.relu(x)
        return x
