// Buffers, and the commands of a step: recorded into one encoder and handed over at a wait or a read.
#include <algorithm>
#include <cstring>

#include "gpu.h"

namespace mlc_edge {

namespace {

// A step of a large model needs less: some hundred kernels with scalars of their own.
constexpr uint64_t kArenaBytes = 1 << 18;
// Larger uploads go to the device by a way of their own, which waits for what was recorded.
constexpr uint64_t kSmallUpload = 1 << 14;
// wgpu keeps what is written in host memory until it is submitted, and the driver until it is done.
constexpr uint64_t kPendingUploads = 64 << 20;
constexpr uint64_t kReadback = 8 << 20;
// Small buffers that are freed are taken again, with the bind groups that they are in.
constexpr uint64_t kSmallBuffer = 1 << 20;
constexpr uint64_t kSpareBytes = 32 << 20;

uint64_t RoundUp(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

size_t Gpu::KeyHash::operator()(const GroupKey& key) const {
  size_t hash = key.size();
  for (uint64_t part : key) hash = (hash ^ part) * 0x9E3779B97F4A7C15u;
  return hash;
}

WGPUBuffer Gpu::CreateBuffer(uint64_t bytes, WGPUBufferUsage usage, const char* what) {
  WGPUBufferDescriptor descriptor = {};
  descriptor.size = bytes;
  descriptor.usage = usage;
  WGPUBuffer made = wgpuDeviceCreateBuffer(device_, &descriptor);
  Check("making a buffer of " + std::to_string(bytes) + " bytes" + what);
  return made;
}

Buffer* Gpu::Allocate(uint64_t bytes) {
  Lock lock(mutex_);
  Require();
  uint64_t size = std::max<uint64_t>(4, RoundUp(bytes, 4));
  statistics_.largest_buffer = std::max<int64_t>(statistics_.largest_buffer, size);
  auto spare = spare_.find(size);
  if (spare != spare_.end() && !spare->second.empty()) {
    Buffer* buffer = *spare->second.begin();
    spare->second.erase(spare->second.begin());
    spare_bytes_ -= size;
    live_.insert(buffer);
    return buffer;
  }
  WGPUBufferUsage usage =
      WGPUBufferUsage_Storage | WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst;
  Buffer* buffer = new Buffer{CreateBuffer(size, usage, ""), size, 0, {}};
  live_.insert(buffer);
  ++statistics_.buffers;
  return buffer;
}

void Gpu::Free(Buffer* buffer) {
  Lock lock(mutex_);
  if (!buffer->gpu) {
    delete buffer;
    return;
  }
  live_.erase(buffer);
  if (buffer->size <= kSmallBuffer && spare_bytes_ + buffer->size <= kSpareBytes) {
    spare_[buffer->size].insert(buffer);
    spare_bytes_ += buffer->size;
  } else {
    Release(buffer);
  }
}

void Gpu::Release(Buffer* buffer) {
  while (!buffer->groups.empty()) DropGroup(GroupKey(buffer->groups.back()));
  // Commands that were recorded keep it until they are done.
  wgpuBufferRelease(buffer->gpu);
  delete buffer;
}

void Gpu::RequireRange(const Buffer* buffer, uint64_t offset, uint64_t bytes) {
  Require();
  if (!buffer->gpu) Throw("RuntimeError", "the tensor's Vulkan device was closed");
  if (offset % 4 == 0 && offset <= buffer->size && bytes <= buffer->size - offset) return;
  Throw("ValueError", "bytes " + std::to_string(offset) + " to " + std::to_string(offset + bytes) +
                          " are no part of a buffer of " + std::to_string(buffer->size) +
                          ", or don't begin at a multiple of 4");
}

WGPUCommandEncoder Gpu::Encoder() {
  if (!encoder_) encoder_ = wgpuDeviceCreateCommandEncoder(device_, nullptr);
  return encoder_;
}

WGPUComputePassEncoder Gpu::Pass() {
  if (!pass_) {
    pass_ = wgpuCommandEncoderBeginComputePass(Encoder(), nullptr);
    pipeline_ = nullptr;
    ++statistics_.passes;
  }
  return pass_;
}

void Gpu::EndPass() {
  if (!pass_) return;
  wgpuComputePassEncoderEnd(pass_);
  wgpuComputePassEncoderRelease(pass_);
  pass_ = nullptr;
}

void Gpu::Submit() {
  EndPass();
  if (reserved_) wgpuQueueWriteBuffer(queue_, arena_, 0, staged_.data(), RoundUp(reserved_, 4));
  WGPUCommandBuffer commands = nullptr;
  if (encoder_) {
    commands = wgpuCommandEncoderFinish(encoder_, nullptr);
    wgpuCommandEncoderRelease(encoder_);
    encoder_ = nullptr;
  }
  ++batch_;
  reserved_ = written_ = 0;
  try {
    // wgpu ends the process if it is given commands that it complained of, or a device that is lost.
    Check("recording commands");
    Require();
  } catch (...) {
    if (commands) wgpuCommandBufferRelease(commands);
    throw;
  }
  wgpuQueueSubmit(queue_, commands ? 1 : 0, &commands);
  if (commands) wgpuCommandBufferRelease(commands);
  ++statistics_.submits;
  Check("handing over commands");
}

void Gpu::Poll() {
  ++statistics_.waits;
  wgpuDevicePoll(device_, true, nullptr);
  Check("waiting");
  Require();
}

void Gpu::Wait() {
  Lock lock(mutex_);
  Require();
  if (encoder_ || written_) Submit();
  Poll();
}

uint64_t Gpu::Reserve(uint64_t bytes, uint64_t alignment) {
  if (!arena_) {
    arena_ = CreateBuffer(kArenaBytes, WGPUBufferUsage_Uniform | WGPUBufferUsage_CopySrc |
                                           WGPUBufferUsage_CopyDst, " for arguments");
    staged_.resize(kArenaBytes);
  }
  uint64_t offset = RoundUp(reserved_, alignment);
  if (offset + bytes > kArenaBytes) {
    Submit();
    offset = 0;
  }
  reserved_ = offset + bytes;
  return offset;
}

void Gpu::Write(const void* source, Buffer* target, uint64_t offset, uint64_t bytes) {
  Lock lock(mutex_);
  RequireRange(target, offset, bytes);
  const uint8_t* from = static_cast<const uint8_t*>(source);
  if (bytes <= kSmallUpload) {
    statistics_.uploaded += bytes;
    uint64_t size = RoundUp(bytes, 4);
    uint8_t last[4] = {};
    // What comes after the bytes in their last word stays, unless it is the buffer's padding.
    if (size > bytes && offset + size < target->size) Read(target, offset + size - 4, last, 4);
    uint64_t place = Reserve(size, 4);
    std::memcpy(staged_.data() + place, from, bytes);
    std::memcpy(staged_.data() + place + bytes, last + bytes % 4, size - bytes);
    EndPass();
    wgpuCommandEncoderCopyBufferToBuffer(Encoder(), arena_, place, target->gpu, offset, size);
    target->used_in = batch_;
    return Check("uploading");
  }
  if (target->used_in == batch_) Submit();
  uint64_t whole = bytes / 4 * 4;
  for (uint64_t done = 0; done < whole;) {
    uint64_t part = std::min(whole - done, kPendingUploads);
    wgpuQueueWriteBuffer(queue_, target->gpu, offset + done, from + done, part);
    Check("uploading");
    done += part;
    written_ += part;
    statistics_.uploaded += part;
    if (written_ >= kPendingUploads) Wait();
  }
  if (whole < bytes) Write(from + whole, target, offset + whole, bytes - whole);
}

void Gpu::Read(Buffer* source, uint64_t offset, void* target, uint64_t bytes) {
  Lock lock(mutex_);
  RequireRange(source, offset, bytes);
  if (!readback_) {
    WGPUBufferUsage usage = WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst;
    readback_ = CreateBuffer(kReadback, usage, " for results");
  }
  for (uint64_t done = 0; done < bytes;) {
    uint64_t part = std::min(bytes - done, kReadback), size = RoundUp(part, 4);
    EndPass();
    wgpuCommandEncoderCopyBufferToBuffer(Encoder(), source->gpu, offset + done, readback_, 0, size);
    Submit();
    WGPUMapAsyncStatus status = WGPUMapAsyncStatus_Error;
    WGPUBufferMapCallbackInfo mapped = {};
    mapped.mode = WGPUCallbackMode_AllowSpontaneous;
    mapped.userdata1 = &status;
    mapped.callback = [](WGPUMapAsyncStatus found, WGPUStringView, void* told, void*) {
      *static_cast<WGPUMapAsyncStatus*>(told) = found;
    };
    wgpuBufferMapAsync(readback_, WGPUMapMode_Read, 0, size, mapped);
    Poll();
    if (status != WGPUMapAsyncStatus_Success) {
      Throw("RuntimeError", "results can't be read from the Vulkan device");
    }
    const void* found = wgpuBufferGetConstMappedRange(readback_, 0, size);
    std::memcpy(static_cast<uint8_t*>(target) + done, found, part);
    wgpuBufferUnmap(readback_);
    done += part;
  }
}

void Gpu::Copy(Buffer* source, uint64_t offset, Buffer* target, uint64_t to_offset,
               uint64_t bytes) {
  Lock lock(mutex_);
  RequireRange(source, offset, bytes);
  RequireRange(target, to_offset, bytes);
  // WebGPU copies words: beyond the last byte there is padding, or what has to stay.
  uint64_t size = RoundUp(bytes, 4), tail = bytes % 4;
  if (to_offset + size < target->size) size = bytes - tail;
  EndPass();
  wgpuCommandEncoderCopyBufferToBuffer(Encoder(), source->gpu, offset, target->gpu, to_offset,
                                       size);
  source->used_in = target->used_in = batch_;
  Check("copying");
  if (size >= bytes) return;
  uint8_t last[4];
  Read(source, offset + size, last, tail);
  Write(last, target, to_offset + size, tail);
}

WGPUBindGroup Gpu::Group(Kernel& kernel, const std::vector<Buffer*>& buffers) {
  GroupKey key{reinterpret_cast<uint64_t>(&kernel)};
  for (Buffer* buffer : buffers) key.push_back(reinterpret_cast<uint64_t>(buffer));
  auto found = groups_.find(key);
  if (found != groups_.end()) return found->second;
  std::vector<WGPUBindGroupEntry> entries(buffers.size() + 1);
  for (size_t i = 0; i < buffers.size(); ++i) {
    entries[i].binding = i;
    entries[i].buffer = buffers[i]->gpu;
    entries[i].size = buffers[i]->size;
    statistics_.largest_binding =
        std::max<int64_t>(statistics_.largest_binding, buffers[i]->size);
  }
  entries.back().binding = buffers.size();
  entries.back().buffer = arena_;
  entries.back().size = kernel.uniform_bytes();
  WGPUBindGroupDescriptor descriptor = {};
  descriptor.layout = kernel.layout_;
  descriptor.entryCount = entries.size();
  descriptor.entries = entries.data();
  WGPUBindGroup group = wgpuDeviceCreateBindGroup(device_, &descriptor);
  Check("giving " + kernel.name_ + " its arguments");
  for (Buffer* buffer : buffers) buffer->groups.push_back(key);
  kernel.groups_.push_back(key);
  ++statistics_.bind_groups;
  return groups_[key] = group;
}

void Gpu::DropGroup(const GroupKey& key) {
  auto found = groups_.find(key);
  wgpuBindGroupRelease(found->second);
  groups_.erase(found);
  auto forget = [&](std::vector<GroupKey>* keys) {
    keys->erase(std::remove(keys->begin(), keys->end(), key), keys->end());
  };
  forget(&reinterpret_cast<Kernel*>(key[0])->groups_);
  for (size_t i = 1; i < key.size(); ++i) forget(&reinterpret_cast<Buffer*>(key[i])->groups);
}

void Gpu::Dispatch(Kernel& kernel, const std::vector<Buffer*>& buffers, const uint32_t* scalars,
                   const std::array<uint32_t, 3>& groups) {
  kernel.Prepare();
  Lock lock(mutex_);
  Require();
  uint64_t place = Reserve(kernel.uniform_bytes(), uniform_alignment_);
  std::memcpy(staged_.data() + place, scalars, kernel.scalar_bytes());
  for (Buffer* buffer : buffers) RequireRange(buffer, 0, 0);
  WGPUBindGroup group = Group(kernel, buffers);
  WGPUComputePassEncoder pass = Pass();
  if (pipeline_ != kernel.pipeline_) {
    wgpuComputePassEncoderSetPipeline(pass, kernel.pipeline_);
    pipeline_ = kernel.pipeline_;
  }
  uint32_t offset = place;
  wgpuComputePassEncoderSetBindGroup(pass, 0, group, 1, &offset);
  wgpuComputePassEncoderDispatchWorkgroups(pass, groups[0], groups[1], groups[2]);
  for (Buffer* buffer : buffers) buffer->used_in = batch_;
  ++statistics_.dispatches;
}

}  // namespace mlc_edge
