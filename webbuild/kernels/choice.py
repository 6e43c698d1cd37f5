"""Which kernels a library is made of."""

from webbuild.kernels.cpu.kernels import CpuKernels
from webbuild.kernels.gpu.kernels import GpuKernels
from webbuild.kernels.interface import Kernels
from webbuild.quantization.formats import WeightFormats
from webbuild.targets import TargetProfile


def kernels_for(profile: TargetProfile, formats: WeightFormats) -> Kernels:
    """The kernels of `profile`'s libraries for weights in `formats`."""
    if profile.kernels == "cpu":
        dot_product = profile.dot_product if profile.interleaves(formats) else None
        return CpuKernels(formats.quantization.dtype, dot_product)
    barriers = profile.kernels == "gpu"
    return GpuKernels(profile.dtype, barriers=barriers, max_binding_bytes=profile.max_binding_bytes)
