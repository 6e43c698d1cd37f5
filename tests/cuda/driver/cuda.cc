// libcuda.so.1 of a GPU that this CPU stands in for: what TVM's runtime and mlc_edge.cuda.driver call of it.
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "ptx.h"
#include "standin.h"

namespace {

std::mutex memory_mutex;
std::map<const char*, size_t> allocations;
size_t used_bytes = 0;

struct Function {
  const ptx::Kernel* kernel;
  int64_t most_shared;
};

struct Loaded {
  ptx::Module module;
  std::map<std::string, Function> functions;
};

const int kCapability = 90, kVersion = 13000, kSharedBytes = 48 << 10;

}  // namespace

namespace ptx {

void RequireAllocated(const void* address, size_t bytes, const Instruction& instruction) {
  if (!standin_owns(address, bytes)) throw Error(instruction.text + ": beyond what is allocated");
}

}  // namespace ptx

extern "C" {

int standin_number(const char* name, int otherwise) {
  const char* found = std::getenv(name);
  return found ? std::atoi(found) : otherwise;
}

size_t standin_memory() { return static_cast<size_t>(standin_number("STANDIN_MIB", 2048)) << 20; }

size_t standin_used() { return used_bytes; }

void* standin_allocate(size_t bytes) {
  std::lock_guard<std::mutex> lock(memory_mutex);
  if (used_bytes + bytes > standin_memory()) return nullptr;
  char* made = static_cast<char*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  std::memset(made, 0xff, bytes);
  allocations[made] = bytes;
  used_bytes += bytes;
  return made;
}

void standin_free(void* address) {
  std::lock_guard<std::mutex> lock(memory_mutex);
  auto found = allocations.find(static_cast<char*>(address));
  if (found == allocations.end()) return;
  used_bytes -= found->second;
  std::free(address);
  allocations.erase(found);
}

bool standin_owns(const void* address, size_t bytes) {
  static thread_local const char* begin = nullptr;
  static thread_local const char* end = nullptr;
  static thread_local size_t known = 0;
  const char* first = static_cast<const char*>(address);
  if (known == allocations.size() && first >= begin && first + bytes <= end) return true;
  std::lock_guard<std::mutex> lock(memory_mutex);
  auto after = allocations.upper_bound(first);
  if (after == allocations.begin()) return false;
  auto& [start, size] = *std::prev(after);
  begin = start, end = start + size, known = allocations.size();
  return first + bytes <= end;
}

CUresult CUDAAPI cuInit(unsigned) {
  return standin_number("STANDIN_GPUS", 1) > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

// What NVRTC asks a driver for, where one is loaded.
CUresult CUDAAPI cuGetExportTable(const void** table, const CUuuid*) {
  *table = nullptr;
  return CUDA_ERROR_NOT_FOUND;
}

CUresult CUDAAPI cuDriverGetVersion(int* version) {
  *version = standin_number("STANDIN_VERSION", kVersion);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetCount(int* count) {
  *count = standin_number("STANDIN_GPUS", 1);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGet(CUdevice* device, int index) {
  *device = index;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetName(char* name, int size, CUdevice device) {
  std::snprintf(name, size, "stand-in %d", device);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  int capability = standin_number("STANDIN_CAPABILITY", kCapability);
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = capability / 10; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = capability % 10; break;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: *value = standin_number("STANDIN_INTEGRATED", 0); break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *value = kSharedBytes; break;
    default: *value = 1;
  }
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDeviceTotalMem_v2(size_t* bytes, CUdevice) {
  *bytes = standin_memory();
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char** name) {
  *name = error == CUDA_ERROR_NO_BINARY_FOR_GPU ? "CUDA_ERROR_NO_BINARY_FOR_GPU" : "CUDA_ERROR_UNKNOWN";
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorString(CUresult, const char** text) {
  *text = "the stand-in for a GPU says why on stderr";
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleLoadData(CUmodule* module, const void* image) {
  try {
    auto loaded = std::make_unique<Loaded>();
    loaded->module = ptx::Parse(static_cast<const char*>(image));
    int wanted = std::atoi(loaded->module.target.substr(loaded->module.target.find('_') + 1).c_str());
    if (wanted == 0 || wanted > standin_number("STANDIN_CAPABILITY", kCapability)) {
      return CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    for (auto& [name, bytes] : loaded->module.constants) {
      std::lock_guard<std::mutex> lock(memory_mutex);
      allocations[bytes->data()] = bytes->size();
    }
    *module = reinterpret_cast<CUmodule>(loaded.release());
    return CUDA_SUCCESS;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stand-in: %s\n", error.what());
    return CUDA_ERROR_INVALID_PTX;
  }
}

CUresult CUDAAPI cuModuleUnload(CUmodule module) {
  auto* loaded = reinterpret_cast<Loaded*>(module);
  for (auto& [name, bytes] : loaded->module.constants) {
    std::lock_guard<std::mutex> lock(memory_mutex);
    allocations.erase(bytes->data());
  }
  delete loaded;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  auto* loaded = reinterpret_cast<Loaded*>(module);
  auto found = loaded->module.kernels.find(name);
  if (found == loaded->module.kernels.end()) return CUDA_ERROR_NOT_FOUND;
  auto& made = loaded->functions[name];
  made = {&found->second, kSharedBytes};
  *function = reinterpret_cast<CUfunction>(&made);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    reinterpret_cast<Function*>(function)->most_shared = value;
  }
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                                  void**) {
  auto* launched = reinterpret_cast<Function*>(function);
  const ptx::Kernel& kernel = *launched->kernel;
  unsigned threads = config->blockDimX * config->blockDimY * config->blockDimZ;
  bool fits = threads > 0 && threads <= 1024 && config->gridDimX > 0 && config->gridDimY > 0 &&
              config->gridDimZ > 0 && config->gridDimY <= 65535 && config->gridDimZ <= 65535 &&
              kernel.shared_bytes + config->sharedMemBytes <= launched->most_shared;
  if (!fits) return CUDA_ERROR_INVALID_VALUE;
  std::vector<uint64_t> values(kernel.parameter_bytes.size(), 0);
  for (size_t index = 0; index < values.size(); ++index) {
    std::memcpy(&values[index], parameters[index], kernel.parameter_bytes[index]);
  }
  try {
    ptx::Launch(kernel, {config->gridDimX, config->gridDimY, config->gridDimZ},
                {config->blockDimX, config->blockDimY, config->blockDimZ}, config->sharedMemBytes, values);
    return CUDA_SUCCESS;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "stand-in: %s\n", error.what());
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
}

// Nothing that is compiled here calls it.
CUresult CUDAAPI cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                        const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                                        CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                                        CUtensorMapFloatOOBfill) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
}
