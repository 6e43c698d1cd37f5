// Adapters, and the life of the one device: from opening to an end in order.
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/json.h>

#include <atomic>
#include <algorithm>
#include <cstdlib>
#include <map>

#include "gpu.h"

namespace mlc_edge {

namespace json = tvm::ffi::json;

namespace {

// wgpu tells of errors on the thread and within the call that made them.
struct Complaint {
  std::string kind, message;
};
thread_local Complaint complaint;

std::atomic<bool> is_lost{false};
std::mutex loss_mutex;
std::string loss;

const std::map<WGPUFeatureName, const char*> kFeatures = {
    {WGPUFeatureName_ShaderF16, "shader-f16"},
    {WGPUFeatureName_Subgroups, "subgroups"},
    {static_cast<WGPUFeatureName>(WGPUNativeFeature_Subgroup), "subgroups"},
};

void OnError(WGPUDevice const*, WGPUErrorType type, WGPUStringView message, void*, void*) {
  // The first one is the cause.
  if (!complaint.message.empty()) return;
  complaint.message = Text(message);
  // wgpu-native gives a driver's want of memory the type of a mistake.
  bool is_memory = type == WGPUErrorType_OutOfMemory ||
                   complaint.message.find("Not enough memory left") != std::string::npos;
  complaint.kind = is_memory ? "MemoryError" : "RuntimeError";
}

void OnLoss(WGPUDevice const*, WGPUDeviceLostReason, WGPUStringView message, void*, void*) {
  std::lock_guard<std::mutex> lock(loss_mutex);
  loss = Text(message);
  is_lost = true;
}

json::Object Limits(WGPUAdapter adapter) {
  WGPULimits limits = {};
  wgpuAdapterGetLimits(adapter, &limits);
  json::Object found;
  auto put = [&](const char* name, uint64_t value) {
    found.Set(tvm::ffi::String(name), static_cast<int64_t>(std::min<uint64_t>(value, INT64_MAX)));
  };
  put("maxStorageBufferBindingSize", limits.maxStorageBufferBindingSize);
  put("maxBufferSize", limits.maxBufferSize);
  put("maxComputeInvocationsPerWorkgroup", limits.maxComputeInvocationsPerWorkgroup);
  put("maxComputeWorkgroupSizeX", limits.maxComputeWorkgroupSizeX);
  put("maxComputeWorkgroupSizeY", limits.maxComputeWorkgroupSizeY);
  put("maxComputeWorkgroupSizeZ", limits.maxComputeWorkgroupSizeZ);
  put("maxStorageBuffersPerShaderStage", limits.maxStorageBuffersPerShaderStage);
  put("maxComputeWorkgroupStorageSize", limits.maxComputeWorkgroupStorageSize);
  return found;
}

std::vector<WGPUFeatureName> Features(WGPUAdapter adapter) {
  WGPUSupportedFeatures supported = {};
  wgpuAdapterGetFeatures(adapter, &supported);
  std::vector<WGPUFeatureName> found;
  for (size_t i = 0; i < supported.featureCount; ++i) {
    if (kFeatures.count(supported.features[i])) found.push_back(supported.features[i]);
  }
  wgpuSupportedFeaturesFreeMembers(supported);
  return found;
}

json::Object Describe(WGPUAdapter adapter) {
  WGPUAdapterInfo info = {};
  wgpuAdapterGetInfo(adapter, &info);
  const char* types[] = {"unknown", "discrete", "integrated", "software", "unknown"};
  json::Array features;
  for (WGPUFeatureName feature : Features(adapter)) {
    features.push_back(tvm::ffi::String(kFeatures.at(feature)));
  }
  json::Object found;
  found.Set("name", tvm::ffi::String(Text(info.device)));
  found.Set("driver", tvm::ffi::String(Text(info.description)));
  found.Set("kind", tvm::ffi::String(types[info.adapterType < 5 ? info.adapterType : 0]));
  found.Set("features", features);
  found.Set("limits", Limits(adapter));
  wgpuAdapterInfoFreeMembers(info);
  return found;
}

}  // namespace

void Throw(const std::string& kind, const std::string& message) {
  throw tvm::ffi::Error(kind, message, "");
}

WGPUStringView View(const std::string& text) { return {text.data(), text.size()}; }

std::string Text(WGPUStringView view) {
  if (view.data == nullptr) return "";
  return view.length == WGPU_STRLEN ? std::string(view.data) : std::string(view.data, view.length);
}

Gpu& Gpu::Get() {
  static Gpu* gpu = new Gpu();
  return *gpu;
}

void Gpu::CreateInstance() {
  if (instance_) return;
  WGPUInstanceExtras extras = {};
  extras.chain.sType = static_cast<WGPUSType>(WGPUSType_InstanceExtras);
  extras.backends = WGPUInstanceBackend_Vulkan;
  WGPUInstanceDescriptor descriptor = {};
  descriptor.nextInChain = &extras.chain;
  instance_ = wgpuCreateInstance(&descriptor);
  if (!instance_) Throw("RuntimeError", "wgpu-native can't be started");
}

std::vector<WGPUAdapter> Gpu::FindAdapters() {
  CreateInstance();
  WGPUInstanceEnumerateAdapterOptions options = {};
  options.backends = WGPUInstanceBackend_Vulkan;
  std::vector<WGPUAdapter> found(wgpuInstanceEnumerateAdapters(instance_, &options, nullptr));
  if (!found.empty()) wgpuInstanceEnumerateAdapters(instance_, &options, found.data());
  return found;
}

std::string Gpu::Adapters() {
  Lock lock(mutex_);
  json::Array found;
  for (WGPUAdapter adapter : FindAdapters()) {
    found.push_back(Describe(adapter));
    wgpuAdapterRelease(adapter);
  }
  return std::string(json::Stringify(found));
}

void Gpu::Open(size_t index) {
  Lock lock(mutex_);
  if (device_) Throw("RuntimeError", "a process has one Vulkan device, and it is open");
  std::vector<WGPUAdapter> found = FindAdapters();
  for (size_t i = 0; i < found.size(); ++i) {
    if (i != index) wgpuAdapterRelease(found[i]);
  }
  if (index >= found.size()) Throw("RuntimeError", "there is no such adapter");
  adapter_ = found[index];
  WGPULimits limits = {};
  wgpuAdapterGetLimits(adapter_, &limits);
  limits.nextInChain = nullptr;
  uniform_alignment_ = limits.minUniformBufferOffsetAlignment;
  std::vector<WGPUFeatureName> features = Features(adapter_);
  WGPUDeviceDescriptor descriptor = {};
  descriptor.requiredFeatureCount = features.size();
  descriptor.requiredFeatures = features.data();
  descriptor.requiredLimits = &limits;
  descriptor.deviceLostCallbackInfo.mode = WGPUCallbackMode_AllowSpontaneous;
  descriptor.deviceLostCallbackInfo.callback = OnLoss;
  // Without a callback wgpu ends the process.
  descriptor.uncapturedErrorCallbackInfo.callback = OnError;
  struct Answer {
    WGPUDevice device = nullptr;
    std::string message;
  } answer;
  WGPURequestDeviceCallbackInfo request = {};
  request.mode = WGPUCallbackMode_AllowSpontaneous;
  request.userdata1 = &answer;
  request.callback = [](WGPURequestDeviceStatus, WGPUDevice device, WGPUStringView message,
                        void* told, void*) {
    static_cast<Answer*>(told)->device = device;
    static_cast<Answer*>(told)->message = Text(message);
  };
  // wgpu-native answers before this returns.
  wgpuAdapterRequestDevice(adapter_, &descriptor, request);
  if (!answer.device) {
    wgpuAdapterRelease(adapter_);
    adapter_ = nullptr;
    Throw("RuntimeError", "the driver refuses to open the device: " + answer.message);
  }
  device_ = answer.device;
  queue_ = wgpuDeviceGetQueue(device_);
  is_lost = false;
  statistics_ = {};
  // Before the driver's own: its threads are gone by the time that it is unloaded.
  static const int registered = std::atexit([] { Gpu::Get().Close(); });
  (void)registered;
}

void Gpu::Close() {
  Lock lock(mutex_);
  // From here on no thread begins to make a pipeline.
  WGPUDevice device = device_.exchange(nullptr);
  if (!device) return;
  EndPass();
  if (encoder_) wgpuCommandEncoderRelease(encoder_);
  encoder_ = nullptr;
  if (!is_lost) wgpuDevicePoll(device, true, nullptr);
  while (!groups_.empty()) DropGroup(GroupKey(groups_.begin()->first));
  for (Kernel* kernel : kernels_) kernel->Release();
  for (auto& entry : spare_) {
    for (Buffer* buffer : entry.second) Release(buffer);
  }
  spare_.clear();
  spare_bytes_ = 0;
  for (Buffer* buffer : live_) {
    wgpuBufferRelease(buffer->gpu);
    buffer->gpu = nullptr;
  }
  live_.clear();
  for (WGPUBuffer* own : {&arena_, &readback_}) {
    if (*own) wgpuBufferRelease(*own);
    *own = nullptr;
  }
  reserved_ = written_ = 0;
  wgpuQueueRelease(queue_);
  wgpuDeviceRelease(device);
  wgpuAdapterRelease(adapter_);
  wgpuInstanceRelease(instance_);
  queue_ = nullptr, adapter_ = nullptr, instance_ = nullptr;
}

bool Gpu::is_open() {
  Lock lock(mutex_);
  return device_ != nullptr;
}

void Gpu::Require() {
  if (!device_) Throw("RuntimeError", "the Vulkan device is closed");
  if (!is_lost) return;
  std::lock_guard<std::mutex> lock(loss_mutex);
  Throw("RuntimeError", "the Vulkan device is lost: " + (loss.empty() ? "no reason given" : loss));
}

void Gpu::Lose() {
  Lock lock(mutex_);
  Require();
  wgpuDeviceDestroy(device_);
  OnLoss(nullptr, WGPUDeviceLostReason_Unknown, View("it was destroyed"), nullptr, nullptr);
}

Statistics Gpu::TakeStatistics() {
  Lock lock(mutex_);
  Statistics found = statistics_;
  found.pipelines = pipelines_.exchange(0);
  found.live_buffers = live_.size();
  statistics_ = {};
  return found;
}

void Gpu::Check(const std::string& doing) {
  if (complaint.message.empty()) return;
  Complaint told = std::move(complaint);
  complaint = {};
  if (is_lost) Require();
  Throw(told.kind, doing + " failed on the Vulkan device: " + told.message);
}

}  // namespace mlc_edge
