"""What tvmjs is to TVM's WebGPU runtime in a browser, for this process: buffers and launches, by wgpu.

Launches follow the conventions of TVM's WGSL: one group of bindings, buffers in the order of arguments, then
a uniform buffer with the scalars and the grid's extent in x, of which more than 65535 is spread over z.
"""

import ctypes
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm_ffi
import wgpu

from tests.gpu.runtime import load_runtime

STORAGE = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
UNIFORM = wgpu.BufferUsage.UNIFORM | wgpu.BufferUsage.COPY_DST
# https://www.w3.org/TR/webgpu/#limits, of those that wgpu lets one lower.
DEFAULTS = {"maxBufferSize": 1 << 28, "maxStorageBufferBindingSize": 1 << 27}
PACK = {"int": "<i", "uint": "<I", "float": "<f"}


@dataclass
class Usage:
    """What was asked of a device: sizes in bytes, and WGSL of the kernels that were launched, by name."""

    largest_buffer: int = 0
    largest_binding: int = 0
    kernels: dict[str, str] = field(default_factory=dict)


class GpuDevice:
    """A Vulkan device behind TVM's device type "webgpu"."""

    def __init__(self, *, features: tuple[str, ...] = (), limits: Mapping[str, int] | None = None):
        """`limits` by WebGPU's names; none is lower than WebGPU's default."""
        adapters = wgpu.gpu.enumerate_adapters_sync()
        found = [a for a in adapters if set(features) <= a.features]
        assert found, f"no adapter has {features}: install mesa-vulkan-drivers"
        wanted = {
            _kebab(name): max(value, DEFAULTS.get(name, 0))
            for name, value in (limits or {}).items()
        }
        self._device = found[0].request_device_sync(
            required_features=list(features), required_limits=wanted
        )
        self._buffers: dict[int, wgpu.GPUBuffer] = {}
        self._next = 1
        self._encoder: wgpu.GPUCommandEncoder | None = None
        self.usage = Usage()

    def allocate(self, size: int) -> float:
        rounded = max(4, -(-size // 4) * 4)
        self.usage.largest_buffer = max(self.usage.largest_buffer, rounded)
        handle, self._next = self._next, self._next + 1
        self._buffers[handle] = self._device.create_buffer(size=rounded, usage=STORAGE)
        return float(handle)

    def free(self, handle: Any) -> None:
        self.flush()
        self._buffers.pop(_address(handle)).destroy()

    def write(self, source: Any, target: Any, offset: int, size: int) -> None:
        self.flush()
        content = ctypes.string_at(_address(source), size) + b"\0" * (-size % 4)
        self._device.queue.write_buffer(self._buffers[_address(target)], offset, content)

    def read(self, source: Any, offset: int, target: Any, size: int) -> None:
        self.flush()
        rounded = -(-size // 4) * 4
        content = self._device.queue.read_buffer(self._buffers[_address(source)], offset, rounded)
        ctypes.memmove(_address(target), bytes(content[:size]), size)

    def copy(self, source: Any, offset: int, target: Any, to_offset: int, size: int) -> None:
        encoder = self._recording()
        buffers = self._buffers[_address(source)], self._buffers[_address(target)]
        encoder.copy_buffer_to_buffer(buffers[0], offset, buffers[1], to_offset, size)

    def flush(self) -> None:
        """Submit what was recorded."""
        if self._encoder:
            self._device.queue.submit([self._encoder.finish()])
            self._encoder = None

    def create_shader(self, info: str, source: str) -> Callable[..., None]:
        """The function that launches a kernel."""
        kernel = _Kernel(json.loads(info))
        module = self._device.create_shader_module(code=source)
        layout = self._device.create_bind_group_layout(entries=kernel.layout())
        pipeline = self._device.create_compute_pipeline(
            layout=self._device.create_pipeline_layout(bind_group_layouts=[layout]),
            compute={"module": module, "entry_point": kernel.name},
        )

        def launch(*arguments: Any) -> None:
            self.usage.kernels[kernel.name] = source
            buffers = [self._buffers[_address(arguments[i])] for i in kernel.buffers]
            sizes = [buffer.size for buffer in buffers]
            self.usage.largest_binding = max(self.usage.largest_binding, *sizes)
            grid, packed = kernel.grid(arguments)
            scalars = kernel.scalars(arguments) + struct.pack("<I", packed)
            uniform = self._device.create_buffer_with_data(data=scalars, usage=UNIFORM)
            entries = [
                {"binding": index, "resource": {"buffer": buffer}}
                for index, buffer in enumerate([*buffers, uniform])
            ]
            group = self._device.create_bind_group(layout=layout, entries=entries)
            compute = self._recording().begin_compute_pass()
            compute.set_pipeline(pipeline)
            compute.set_bind_group(0, group)
            compute.dispatch_workgroups(*grid)
            compute.end()

        return launch

    def _recording(self) -> Any:
        self._encoder = self._encoder or self._device.create_command_encoder()
        return self._encoder


def _kebab(name: str) -> str:
    """wgpu's form of a limit's name: max-buffer-size."""
    return re.sub(r"(?=[A-Z])", "-", name).lower()


def _address(handle: Any) -> int:
    return int(getattr(handle, "value", handle))


class _Kernel:
    """A kernel's arguments and launch tags, as TVM describes them."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.name: str = info["name"]
        self._types: list[str] = info["arg_types"]
        self.buffers = [i for i, kind in enumerate(self._types) if kind == "handle"]
        self._scalars = [i for i, kind in enumerate(self._types) if kind != "handle"]
        self._dimensions: list[int] = []
        self._writes: list[int] = []
        for tag in info["launch_param_tags"]:
            kind, _, axis = tag.partition(".")
            if kind == "blockIdx":
                self._dimensions.append("xyz".index(axis))
            elif kind == "threadIdx":
                self._dimensions.append(3 + "xyz".index(axis))
            else:
                self._writes = json.loads(tag.removeprefix("paramWriteAccess:"))

    def layout(self) -> list[dict[str, Any]]:
        kinds = ["storage" if write else "read-only-storage" for write in self._writes]
        return [
            {"binding": i, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
            for i, kind in enumerate([*kinds, "uniform"])
        ]

    def grid(self, arguments: tuple[Any, ...]) -> tuple[tuple[int, int, int], int]:
        """Workgroups to dispatch, and the extent in x before it was spread over z."""
        extents = [1] * 6
        for place, value in zip(self._dimensions, arguments[len(self._types) :], strict=True):
            extents[place] = int(value)
        x, y, z = extents[:3]
        assert z == 1
        packed = x
        while x > 65535:
            x, z = -(-x // 2), z * 2
        return (x, y, z), packed

    def scalars(self, arguments: tuple[Any, ...]) -> bytes:
        return b"".join(
            struct.pack(PACK[self._types[i].rstrip("0123456789")], arguments[i])
            for i in self._scalars
        )


_current: list[GpuDevice] = []


def use(device: GpuDevice) -> None:
    """Make `device` the one that TVM's WebGPU runtime computes on, from here on."""
    if not _current:
        _register()
        load_runtime()
    _current[:] = [device]


def _register() -> None:
    """The functions that TVM's runtime looks up once."""
    names = {
        "deviceAllocDataSpace": "allocate",
        "deviceFreeDataSpace": "free",
        "deviceCopyToGPU": "write",
        "deviceCopyFromGPU": "read",
        "deviceCopyWithinGPU": "copy",
    }

    def device_api(name: str) -> Any:
        call = tvm_ffi.convert(lambda *given: getattr(_current[0], names[name])(*given))
        return tvm_ffi.get_global_func("tests.gpu.while_python_runs")(call)

    def create_shader(info: str, source: str) -> Any:
        return tvm_ffi.convert(_current[0].create_shader(info, source))

    register = tvm_ffi.register_global_func
    register("wasm.WebGPUDeviceAPI", device_api, override=True)
    register("wasm.WebGPUCreateShader", create_shader, override=True)
    register("__asyncify.WebGPUWaitForTasks", lambda: _current[0].flush(), override=True)
