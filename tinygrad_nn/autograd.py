"""`tg.autograd`: gradients of recorded results, and operations of your own."""

from .transforms import Function, FunctionContext, grad

__all__ = ["Function", "FunctionContext", "grad"]
