// What TVM's runtime asks of a device and of the modules with its kernels.
#include <src/runtime/metadata.h>
#include <src/support/bytes_io.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/runtime/device_api.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <thread>

#include "gpu.h"

namespace mlc_edge {

namespace ffi = tvm::ffi;
namespace json = tvm::ffi::json;

namespace {

constexpr uint32_t kMaxGroups = 65535;

class VulkanDeviceAPI : public tvm::runtime::DeviceAPI {
 public:
  void SetDevice(DLDevice) final {}
  void GetAttr(DLDevice device, tvm::runtime::DeviceAttrKind kind, ffi::Any* value) final {
    if (kind == tvm::runtime::kExist) *value = device.device_id == 0 && Gpu::Get().is_open();
  }
  void* AllocDataSpace(DLDevice, size_t bytes, size_t, DLDataType) final {
    return Gpu::Get().Allocate(bytes);
  }
  void FreeDataSpace(DLDevice, void* data) final { Gpu::Get().Free(static_cast<Buffer*>(data)); }
  // Uploads are copied when they are asked for, and reading waits for all before it: nobody else needs to.
  void StreamSync(DLDevice, TVMStreamHandle) final {}

 protected:
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset,
                      size_t bytes, DLDevice from_device, DLDevice to_device, DLDataType,
                      TVMStreamHandle) final {
    Gpu& gpu = Gpu::Get();
    Buffer* source = static_cast<Buffer*>(const_cast<void*>(from));
    Buffer* target = static_cast<Buffer*>(to);
    if (from_device.device_type == kDLCPU) {
      gpu.Write(static_cast<const uint8_t*>(from) + from_offset, target, to_offset, bytes);
    } else if (to_device.device_type == kDLCPU) {
      gpu.Read(source, from_offset, static_cast<uint8_t*>(to) + to_offset, bytes);
    } else {
      gpu.Copy(source, from_offset, target, to_offset, bytes);
    }
  }
};

// How TVM calls a kernel: its arguments, then the extents that its launch tags name.
class Launcher {
 public:
  Launcher(const tvm::runtime::FunctionInfo& info, const std::string& wgsl) {
    for (DLDataType type : info->arg_types) types_.push_back(type);
    std::vector<bool> writes;
    for (const ffi::String& tag : info->launch_param_tags) Read(std::string(tag), &writes);
    size_t scalars = 0;
    for (DLDataType type : types_) scalars += !IsBuffer(type);
    if (writes.size() != types_.size() - scalars) {
      Throw("RuntimeError", "the kernel " + std::string(info->name) + " has no list of its buffers");
    }
    // The last place in x comes after the scalars.
    kernel_ = std::make_unique<Kernel>(info->name, wgsl, writes, scalars + 1);
  }

  Kernel& kernel() { return *kernel_; }

  void Launch(ffi::PackedArgs arguments) {
    std::vector<Buffer*> buffers;
    std::vector<uint32_t> scalars;
    for (size_t i = 0; i < types_.size(); ++i) {
      if (IsBuffer(types_[i])) {
        buffers.push_back(static_cast<Buffer*>(arguments[i].cast<void*>()));
      } else {
        scalars.push_back(Bits(arguments[i], types_[i]));
      }
    }
    std::array<int64_t, 6> extents = {1, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < places_.size(); ++i) {
      extents[places_[i]] = arguments[types_.size() + i].cast<int64_t>();
    }
    // A dimension has at most 65535 groups: more of them in x are spread over z, and kernels put them together.
    std::array<uint32_t, 3> groups;
    for (size_t i = 0; i < 3; ++i) groups[i] = extents[i];
    // What TVM calls packGridDimX: workgroups of a larger place in x than this have nothing to do.
    scalars.push_back(groups[0] - 1);
    for (; groups[0] > kMaxGroups; groups[2] *= 2) groups[0] = (groups[0] + 1) / 2;
    if (groups[0] * groups[1] * groups[2] == 0) return;
    Gpu::Get().Dispatch(*kernel_, buffers, scalars.data(), groups);
  }

 private:
  static bool IsBuffer(DLDataType type) { return type.code == kDLOpaqueHandle; }

  static uint32_t Bits(const ffi::AnyView& value, DLDataType type) {
    if (type.code != kDLFloat) return static_cast<uint32_t>(value.cast<int64_t>());
    float narrow = value.cast<double>();
    uint32_t bits;
    std::memcpy(&bits, &narrow, sizeof(bits));
    return bits;
  }

  void Read(const std::string& tag, std::vector<bool>* writes) {
    const std::string block = "blockIdx.", thread = "threadIdx.", access = "paramWriteAccess:";
    if (tag.rfind(block, 0) == 0) {
      places_.push_back(tag[block.size()] - 'x');
    } else if (tag.rfind(thread, 0) == 0) {
      places_.push_back(3 + tag[thread.size()] - 'x');
    } else if (tag.rfind(access, 0) == 0) {
      json::Array listed = json::Parse(tag.substr(access.size())).cast<json::Array>();
      for (const auto& entry : listed) writes->push_back(entry.cast<int64_t>() != 0);
    } else {
      Throw("RuntimeError", "a kernel has the unknown launch tag " + tag);
    }
  }

  std::vector<DLDataType> types_;
  std::vector<size_t> places_;
  std::unique_ptr<Kernel> kernel_;
};

class KernelModule final : public ffi::ModuleObj {
 public:
  explicit KernelModule(const ffi::Bytes& bytes) {
    tvm::support::BytesInStream stream(bytes);
    ffi::Map<ffi::String, tvm::runtime::FunctionInfo> infos;
    std::unordered_map<std::string, std::string> sources;
    if (!stream.Read(&infos) || !stream.Read(&sources)) {
      Throw("RuntimeError", "the library's kernels can't be read");
    }
    for (const auto& [name, info] : infos) {
      launchers_[name] = std::make_shared<Launcher>(info, sources.at(name));
    }
  }

  // That of TVM's code generator, which a library names.
  const char* kind() const final { return "webgpu"; }
  int GetPropertyMask() const final { return ffi::Module::kRunnable; }

  ffi::Optional<ffi::Function> GetFunction(const ffi::String& name) final {
    if (name == "vulkan.prepare") {
      return ffi::Function::FromTyped([this](ffi::Array<ffi::String> unused) { Prepare(unused); });
    }
    auto found = launchers_.find(name);
    if (found == launchers_.end()) return std::nullopt;
    return ffi::Function::FromPacked(
        [launcher = found->second](ffi::PackedArgs arguments, ffi::Any*) {
          launcher->Launch(arguments);
        });
  }

 private:
  // TVM numbers a program's kernels: name_kernel, name_kernel_1.
  static std::string ProgramOf(const std::string& kernel) {
    return kernel.substr(0, kernel.rfind("_kernel"));
  }

  // Makes pipelines on all cores, but those of some programs; returns when all are there.
  void Prepare(const ffi::Array<ffi::String>& unused) {
    std::unordered_set<std::string> programs(unused.begin(), unused.end());
    std::vector<Kernel*> kernels;
    for (const auto& [name, launcher] : launchers_) {
      if (!programs.count(ProgramOf(name))) kernels.push_back(&launcher->kernel());
    }
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::exception_ptr failure;
    auto work = [&] {
      for (size_t i; (i = next++) < kernels.size();) {
        try {
          kernels[i]->Prepare();
        } catch (...) {
          std::lock_guard<std::mutex> lock(mutex);
          failure = std::current_exception();
        }
      }
    };
    size_t count = std::max<size_t>(1, std::thread::hardware_concurrency());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < std::min(count, kernels.size()); ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
  }

  std::unordered_map<std::string, std::shared_ptr<Launcher>> launchers_;
};

std::string DescribeStatistics() {
  Statistics found = Gpu::Get().TakeStatistics();
  json::Object object;
  object.Set("dispatches", found.dispatches);
  object.Set("passes", found.passes);
  object.Set("submits", found.submits);
  object.Set("waits", found.waits);
  object.Set("pipelines", found.pipelines);
  object.Set("bind_groups", found.bind_groups);
  object.Set("buffers", found.buffers);
  object.Set("uploaded", found.uploaded);
  object.Set("largest_buffer", found.largest_buffer);
  object.Set("largest_binding", found.largest_binding);
  object.Set("live_buffers", found.live_buffers);
  return std::string(json::Stringify(object));
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("device_api.webgpu", [] {
        static VulkanDeviceAPI* api = new VulkanDeviceAPI();
        return static_cast<void*>(api);
      })
      .def("ffi.Module.load_from_bytes.webgpu",
           [](const ffi::Bytes& bytes) {
             return ffi::Module(ffi::make_object<KernelModule>(bytes));
           })
      .def("mlc_edge.vulkan.adapters", [] { return Gpu::Get().Adapters(); })
      .def("mlc_edge.vulkan.open", [](int64_t index) { Gpu::Get().Open(index); })
      .def("mlc_edge.vulkan.require", [] { Gpu::Get().Require(); })
      .def("mlc_edge.vulkan.lose", [] { Gpu::Get().Lose(); })
      .def("mlc_edge.vulkan.take_statistics", [] { return DescribeStatistics(); });
}

}  // namespace mlc_edge
