from .conv import conv2d
from .embedding import embedding
from .pool import avg_pool2d, max_pool2d

__all__ = ["avg_pool2d", "conv2d", "embedding", "max_pool2d"]
