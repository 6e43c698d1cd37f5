// A Vulkan layer that makes a working driver fail. The file that MLC_EDGE_FAULTS names says how: a fault and
// a number in each line, read whenever one of the functions below is called, so that a test can change them.
//   memory B    no more than B bytes of device memory at once
//   buffers 1   there is no memory for another buffer
//   lose 1      the device is lost when commands are handed over
//   hang 1      it is lost when somebody waits for them
//   skip N      each Nth dispatch does nothing
//   zero 1      what is copied between buffers is zeros
//   half 1      workgroups lack half of their invocations in x
//   overflow 1  constants of half precision are infinite
//   discrete 1  the adapter says that it is a GPU with memory of its own
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

// What tests open: the last instance, and the one device.
VkInstance instance;
VkDevice device;
PFN_vkGetInstanceProcAddr next_instance;
PFN_vkGetDeviceProcAddr next_device;
PFN_vkGetPhysicalDeviceProperties next_properties;
PFN_vkGetPhysicalDeviceProperties2 next_properties2;

template <typename F>
F Next(const char* name) {
  return reinterpret_cast<F>(next_device(device, name));
}
#define NEXT(name) (Next<PFN_##name>(#name))

uint64_t Fault(const std::string& wanted) {
  const char* path = std::getenv("MLC_EDGE_FAULTS");
  std::ifstream file(path ? path : "");
  std::string name;
  for (uint64_t value; file >> name >> value;) {
    if (name == wanted) return value;
  }
  return 0;
}

// The loader's link in a chain of structures, moved on to the next layer.
template <typename Info>
Info* Link(const void* chain, VkStructureType type) {
  for (auto* info = static_cast<const Info*>(chain); info; info = static_cast<const Info*>(info->pNext)) {
    if (info->sType == type && info->function == VK_LAYER_LINK_INFO) return const_cast<Info*>(info);
  }
  std::abort();
}

VkResult CreateInstance(const VkInstanceCreateInfo* info, const VkAllocationCallbacks* allocator,
                        VkInstance* made) {
  auto* link = Link<VkLayerInstanceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
  next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  auto create = reinterpret_cast<PFN_vkCreateInstance>(next_instance(nullptr, "vkCreateInstance"));
  VkResult result = create(info, allocator, made);
  if (result != VK_SUCCESS) return result;
  instance = *made;
  next_properties = reinterpret_cast<PFN_vkGetPhysicalDeviceProperties>(
      next_instance(instance, "vkGetPhysicalDeviceProperties"));
  next_properties2 = reinterpret_cast<PFN_vkGetPhysicalDeviceProperties2>(
      next_instance(instance, "vkGetPhysicalDeviceProperties2"));
  return result;
}

VkResult CreateDevice(VkPhysicalDevice adapter, const VkDeviceCreateInfo* info,
                      const VkAllocationCallbacks* allocator, VkDevice* made) {
  auto* link = Link<VkLayerDeviceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
  next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  auto find = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  auto create = reinterpret_cast<PFN_vkCreateDevice>(find(instance, "vkCreateDevice"));
  VkResult result = create(adapter, info, allocator, made);
  device = *made;
  return result;
}

void Pose(VkPhysicalDeviceProperties* found) {
  if (!Fault("discrete")) return;
  found->deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
  std::strcpy(found->deviceName, "Discrete");
}

void GetPhysicalDeviceProperties(VkPhysicalDevice adapter, VkPhysicalDeviceProperties* found) {
  next_properties(adapter, found);
  Pose(found);
}

void GetPhysicalDeviceProperties2(VkPhysicalDevice adapter, VkPhysicalDeviceProperties2* found) {
  next_properties2(adapter, found);
  Pose(&found->properties);
}

std::mutex memory_mutex;
std::unordered_map<VkDeviceMemory, uint64_t> memory;
uint64_t memory_bytes;

VkResult AllocateMemory(VkDevice device, const VkMemoryAllocateInfo* info,
                        const VkAllocationCallbacks* allocator, VkDeviceMemory* made) {
  std::lock_guard<std::mutex> lock(memory_mutex);
  uint64_t limit = Fault("memory");
  if (limit && memory_bytes + info->allocationSize > limit) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  VkResult result = NEXT(vkAllocateMemory)(device, info, allocator, made);
  if (result == VK_SUCCESS) memory_bytes += memory[*made] = info->allocationSize;
  return result;
}

void FreeMemory(VkDevice device, VkDeviceMemory freed, const VkAllocationCallbacks* allocator) {
  std::lock_guard<std::mutex> lock(memory_mutex);
  memory_bytes -= memory[freed];
  memory.erase(freed);
  NEXT(vkFreeMemory)(device, freed, allocator);
}

VkResult CreateBuffer(VkDevice device, const VkBufferCreateInfo* info,
                      const VkAllocationCallbacks* allocator, VkBuffer* made) {
  if (Fault("buffers")) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  return NEXT(vkCreateBuffer)(device, info, allocator, made);
}

VkResult QueueSubmit(VkQueue queue, uint32_t count, const VkSubmitInfo* info, VkFence fence) {
  if (Fault("lose")) return VK_ERROR_DEVICE_LOST;
  return NEXT(vkQueueSubmit)(queue, count, info, fence);
}

VkResult WaitSemaphores(VkDevice device, const VkSemaphoreWaitInfo* info, uint64_t timeout) {
  if (Fault("hang")) return VK_ERROR_DEVICE_LOST;
  return NEXT(vkWaitSemaphores)(device, info, timeout);
}

VkResult WaitForFences(VkDevice device, uint32_t count, const VkFence* fences, VkBool32 all,
                       uint64_t timeout) {
  if (Fault("hang")) return VK_ERROR_DEVICE_LOST;
  return NEXT(vkWaitForFences)(device, count, fences, all, timeout);
}

std::atomic<uint64_t> dispatches{0};

void CmdDispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z) {
  uint64_t each = Fault("skip");
  if (each && ++dispatches % each == 0) return;
  NEXT(vkCmdDispatch)(commands, x, y, z);
}

void CmdCopyBuffer(VkCommandBuffer commands, VkBuffer source, VkBuffer target, uint32_t count,
                   const VkBufferCopy* regions) {
  if (!Fault("zero")) return NEXT(vkCmdCopyBuffer)(commands, source, target, count, regions);
  for (uint32_t i = 0; i < count; ++i) {
    NEXT(vkCmdFillBuffer)(commands, target, regions[i].dstOffset, regions[i].size, 0);
  }
}

// https://registry.khronos.org/SPIR-V/specs/unified1/SPIRV.html
constexpr uint32_t kHeaderWords = 5, kExecutionMode = 16, kTypeFloat = 22, kConstant = 43, kLocalSize = 17;
constexpr uint32_t kInfinity = 0x7C00;

VkResult CreateShaderModule(VkDevice device, const VkShaderModuleCreateInfo* info,
                            const VkAllocationCallbacks* allocator, VkShaderModule* made) {
  std::vector<uint32_t> words(info->pCode, info->pCode + info->codeSize / 4);
  bool halves = Fault("half"), overflows = Fault("overflow");
  std::set<uint32_t> half_precision;
  for (size_t i = kHeaderWords; i < words.size(); i += words[i] >> 16) {
    uint32_t operation = words[i] & 0xFFFF;
    if (operation == kTypeFloat && words[i + 2] == 16) half_precision.insert(words[i + 1]);
    if (operation == kConstant && overflows && half_precision.count(words[i + 1])) words[i + 3] = kInfinity;
    if (operation == kExecutionMode && halves && words[i + 2] == kLocalSize && words[i + 3] > 1) {
      words[i + 3] /= 2;
    }
  }
  VkShaderModuleCreateInfo changed = *info;
  changed.pCode = words.data();
  return NEXT(vkCreateShaderModule)(device, &changed, allocator, made);
}

#define HOOK(name) {"vk" #name, reinterpret_cast<PFN_vkVoidFunction>(name)}

PFN_vkVoidFunction GetDeviceProcAddr(VkDevice device, const char* name);
PFN_vkVoidFunction GetInstanceProcAddr(VkInstance instance, const char* name);

PFN_vkVoidFunction Hook(const char* name) {
  static const std::unordered_map<std::string, PFN_vkVoidFunction> hooks = {
      HOOK(GetInstanceProcAddr), HOOK(GetDeviceProcAddr), HOOK(CreateInstance), HOOK(CreateDevice),
      HOOK(GetPhysicalDeviceProperties), HOOK(GetPhysicalDeviceProperties2), HOOK(AllocateMemory),
      HOOK(FreeMemory), HOOK(CreateBuffer), HOOK(QueueSubmit), HOOK(WaitSemaphores), HOOK(WaitForFences), HOOK(CmdDispatch),
      HOOK(CmdCopyBuffer), HOOK(CreateShaderModule),
      {"vkWaitSemaphoresKHR", reinterpret_cast<PFN_vkVoidFunction>(WaitSemaphores)},
      {"vkGetPhysicalDeviceProperties2KHR",
       reinterpret_cast<PFN_vkVoidFunction>(GetPhysicalDeviceProperties2)},
  };
  auto found = hooks.find(name);
  return found == hooks.end() ? nullptr : found->second;
}

PFN_vkVoidFunction GetDeviceProcAddr(VkDevice device, const char* name) {
  PFN_vkVoidFunction hook = Hook(name);
  return hook ? hook : next_device(device, name);
}

PFN_vkVoidFunction GetInstanceProcAddr(VkInstance instance, const char* name) {
  PFN_vkVoidFunction hook = Hook(name);
  if (hook || !next_instance) return hook;
  return next_instance(instance, name);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) VkResult vkNegotiateLoaderLayerInterfaceVersion(
    VkNegotiateLayerInterface* version) {
  version->loaderLayerInterfaceVersion = 2;
  version->pfnGetInstanceProcAddr = GetInstanceProcAddr;
  version->pfnGetDeviceProcAddr = GetDeviceProcAddr;
  version->pfnGetPhysicalDeviceProcAddr = nullptr;
  return VK_SUCCESS;
}
