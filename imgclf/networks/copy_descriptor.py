"""A network whose output hardly changes when its image is turned, mirrored or made grey."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue, as `cv2.cvtColor`


class CopyDescriptor(nn.Module):
    """uint8 images (N, S, S, 3), RGB, to float32 descriptors (N, d), by which altered copies are neighbours.

    The descriptor is the mean of the features of two variants of the image: in colour, and grey and
    transposed. Features of mirror images are close by themselves.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.float()
        grey = (pixels * torch.tensor(LUMA)).sum(dim=3, keepdim=True).expand(-1, -1, -1, 3)
        # One batch: the exporter goes through the backbone once, which takes half the time.
        features = functional.normalize(self.backbone(torch.cat([pixels, grey.transpose(1, 2)])))
        return features.unflatten(0, (2, -1)).sum(dim=0)
