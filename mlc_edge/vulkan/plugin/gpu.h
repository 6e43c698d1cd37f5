// One Vulkan device behind webgpu.h: buffers, kernels, and the commands between two waits.
#ifndef MLC_EDGE_VULKAN_GPU_H_
#define MLC_EDGE_VULKAN_GPU_H_

#include <webgpu.h>
#include <wgpu.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace mlc_edge {

class Kernel;

// Which bind group: the addresses of its kernel and its buffers.
using GroupKey = std::vector<uint64_t>;

// Device memory; its address is TVM's data pointer. `gpu` is null once the device is closed.
struct Buffer {
  WGPUBuffer gpu;
  uint64_t size;  // In bytes, a multiple of 4.
  uint64_t used_in;  // The batch of commands that named it last.
  std::vector<GroupKey> groups;  // Of what it is in.
};

// What was done since it was asked last, for tests and measurements.
struct Statistics {
  int64_t dispatches = 0, passes = 0, submits = 0, waits = 0, pipelines = 0;
  int64_t bind_groups = 0, buffers = 0;
  int64_t uploaded = 0, largest_buffer = 0, largest_binding = 0;
  // What there is, as opposed to what was made.
  int64_t live_buffers = 0;
};

// Throws a tvm::ffi::Error; `kind` is a Python exception's name.
[[noreturn]] void Throw(const std::string& kind, const std::string& message);

WGPUStringView View(const std::string& text);
std::string Text(WGPUStringView view);

class Gpu {
 public:
  // Never destroyed: TVM frees tensors until the very end of the process.
  static Gpu& Get();

  // JSON: a list of the adapters with a Vulkan driver, in the order of indices.
  std::string Adapters();
  // Opens an adapter with all of its limits, and the features that kernels may use.
  void Open(size_t index);
  // Ends the device: what is freed later is gone already, all else throws. Waits for the work that was begun.
  void Close();
  bool is_open();
  // Throws if the device is closed or lost.
  void Require();
  // What a driver's failure looks like from here: its consequences are tested.
  void Lose();
  Statistics TakeStatistics();

  Buffer* Allocate(uint64_t bytes);
  void Free(Buffer* buffer);
  void Write(const void* source, Buffer* target, uint64_t offset, uint64_t bytes);
  void Read(Buffer* source, uint64_t offset, void* target, uint64_t bytes);
  void Copy(Buffer* source, uint64_t offset, Buffer* target, uint64_t to_offset, uint64_t bytes);
  // `scalars` are `kernel.scalar_bytes()`.
  void Dispatch(Kernel& kernel, const std::vector<Buffer*>& buffers, const uint32_t* scalars,
                const std::array<uint32_t, 3>& groups);
  void Wait();

 private:
  friend class Kernel;
  using Lock = std::lock_guard<std::recursive_mutex>;

  void CreateInstance();
  std::vector<WGPUAdapter> FindAdapters();
  WGPUBuffer CreateBuffer(uint64_t bytes, WGPUBufferUsage usage, const char* what);
  void Release(Buffer* buffer);
  void RequireRange(const Buffer* buffer, uint64_t offset, uint64_t bytes);
  WGPUCommandEncoder Encoder();
  WGPUComputePassEncoder Pass();
  void EndPass();
  // Hands over what was recorded. Nothing is done by the device before that.
  void Submit();
  void Poll();
  // A place for `bytes` in the arena that this batch uploads; submits first if it is full.
  uint64_t Reserve(uint64_t bytes, uint64_t alignment);
  WGPUBindGroup Group(Kernel& kernel, const std::vector<Buffer*>& buffers);
  // Ends a bind group, of which kernel and buffers know then no more.
  void DropGroup(const GroupKey& key);
  // Throws what the calls before it on this thread complained of.
  void Check(const std::string& doing);

  std::recursive_mutex mutex_;
  WGPUInstance instance_ = nullptr;
  WGPUAdapter adapter_ = nullptr;
  std::atomic<WGPUDevice> device_{nullptr};
  WGPUQueue queue_ = nullptr;
  uint32_t uniform_alignment_ = 256;

  WGPUCommandEncoder encoder_ = nullptr;
  WGPUComputePassEncoder pass_ = nullptr;
  WGPUComputePipeline pipeline_ = nullptr;
  uint64_t batch_ = 1;
  uint64_t written_ = 0;  // Bytes that wgpu keeps copies of until the next submit.

  // Scalars of kernels and small uploads, in the order of commands.
  WGPUBuffer arena_ = nullptr;
  std::vector<uint8_t> staged_;
  uint64_t reserved_ = 0;
  WGPUBuffer readback_ = nullptr;

  struct KeyHash {
    size_t operator()(const GroupKey& key) const;
  };
  std::unordered_map<GroupKey, WGPUBindGroup, KeyHash> groups_;
  std::unordered_set<Buffer*> live_;
  // In an order, so that each step gets the same ones in the same roles.
  std::unordered_map<uint64_t, std::set<Buffer*>> spare_;
  uint64_t spare_bytes_ = 0;
  std::unordered_set<Kernel*> kernels_;
  Statistics statistics_;
  // Apart, since kernels are prepared without the lock.
  std::atomic<int64_t> pipelines_{0};
};

// A kernel's WGSL, and the pipeline that is made of it when it is first wanted.
class Kernel {
 public:
  // `writes` says of each buffer whether the kernel writes it; `scalars` counts what follows them, 4 bytes each.
  Kernel(std::string name, std::string wgsl, std::vector<bool> writes, size_t scalars);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Any thread may; throws what is wrong with the kernel.
  void Prepare();
  size_t buffers() const { return writes_.size(); }
  size_t scalar_bytes() const { return 4 * scalars_; }

 private:
  friend class Gpu;
  uint64_t uniform_bytes() const { return (scalar_bytes() + 15) / 16 * 16; }
  WGPUBindGroupLayout CreateLayout(WGPUDevice device);
  void Release();

  std::string name_, wgsl_;
  std::vector<bool> writes_;
  size_t scalars_;
  std::mutex making_;
  std::vector<GroupKey> groups_;  // Of what was made for it.
  WGPUBindGroupLayout layout_ = nullptr;
  WGPUComputePipeline pipeline_ = nullptr;
};

}  // namespace mlc_edge
#endif  // MLC_EDGE_VULKAN_GPU_H_
