"""The gradient checker: is the derivative that a function hands out the derivative that it has?"""

from .gradcheck import gradcheck as gradcheck, gradgradcheck as gradgradcheck
from .verdict import GradcheckResult as GradcheckResult, InputReport as InputReport
