// Pipelines of kernels.
#include "gpu.h"

namespace mlc_edge {

namespace {

// naga knows subgroup operations without being told, and refuses the line.
std::string ForNaga(std::string wgsl) {
  const std::string line = "enable subgroups;";
  size_t at = wgsl.find(line);
  return at == std::string::npos ? wgsl : wgsl.erase(at, line.size());
}

}  // namespace

Kernel::Kernel(std::string name, std::string wgsl, std::vector<bool> writes, size_t scalars)
    : name_(std::move(name)),
      wgsl_(ForNaga(std::move(wgsl))),
      writes_(std::move(writes)),
      scalars_(scalars) {
  Gpu& gpu = Gpu::Get();
  Gpu::Lock lock(gpu.mutex_);
  gpu.kernels_.insert(this);
}

Kernel::~Kernel() {
  Gpu& gpu = Gpu::Get();
  Gpu::Lock lock(gpu.mutex_);
  gpu.kernels_.erase(this);
  // The next pipeline may get its address.
  if (gpu.pipeline_ == pipeline_) gpu.pipeline_ = nullptr;
  while (!groups_.empty()) gpu.DropGroup(GroupKey(groups_.back()));
  Release();
}

void Kernel::Release() {
  std::lock_guard<std::mutex> lock(making_);
  if (!pipeline_) return;
  wgpuComputePipelineRelease(pipeline_);
  wgpuBindGroupLayoutRelease(layout_);
  pipeline_ = nullptr;
}

WGPUBindGroupLayout Kernel::CreateLayout(WGPUDevice device) {
  std::vector<WGPUBindGroupLayoutEntry> entries(writes_.size() + 1);
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].binding = i;
    entries[i].visibility = WGPUShaderStage_Compute;
    if (i == writes_.size()) {
      entries[i].buffer.type = WGPUBufferBindingType_Uniform;
      entries[i].buffer.hasDynamicOffset = true;
    } else {
      entries[i].buffer.type =
          writes_[i] ? WGPUBufferBindingType_Storage : WGPUBufferBindingType_ReadOnlyStorage;
    }
  }
  WGPUBindGroupLayoutDescriptor descriptor = {};
  descriptor.entryCount = entries.size();
  descriptor.entries = entries.data();
  return wgpuDeviceCreateBindGroupLayout(device, &descriptor);
}

void Kernel::Prepare() {
  std::lock_guard<std::mutex> lock(making_);
  if (pipeline_) return;
  Gpu& gpu = Gpu::Get();
  gpu.Require();
  WGPUDevice device = gpu.device_;
  WGPUShaderSourceWGSL source = {};
  source.chain.sType = WGPUSType_ShaderSourceWGSL;
  source.code = View(wgsl_);
  WGPUShaderModuleDescriptor module = {};
  module.nextInChain = &source.chain;
  module.label = View(name_);
  // Loops of kernels end: counting their rounds, as browsers must, takes a fifth of a decode step.
  WGPUShaderModule shader = wgpuDeviceCreateShaderModuleTrusted(
      device, &module, WGPUShaderRuntimeChecks_BoundsChecks);
  gpu.Check("reading the kernel " + name_);
  WGPUBindGroupLayout layout = CreateLayout(device);
  WGPUPipelineLayoutDescriptor arguments = {};
  arguments.bindGroupLayoutCount = 1;
  arguments.bindGroupLayouts = &layout;
  WGPUPipelineLayout pipeline_layout = wgpuDeviceCreatePipelineLayout(device, &arguments);
  WGPUComputePipelineDescriptor descriptor = {};
  descriptor.label = View(name_);
  descriptor.layout = pipeline_layout;
  descriptor.compute.module = shader;
  descriptor.compute.entryPoint = View(name_);
  WGPUComputePipeline pipeline = wgpuDeviceCreateComputePipeline(device, &descriptor);
  wgpuPipelineLayoutRelease(pipeline_layout);
  wgpuShaderModuleRelease(shader);
  gpu.Check("compiling the kernel " + name_);
  layout_ = layout;
  pipeline_ = pipeline;
  ++gpu.pipelines_;
}

}  // namespace mlc_edge
