// libcudart.so.13 of the stand-in: what TVM's runtime calls of it. Streams are done with what they are given.
#include <cstdlib>
#include <cstring>

#include "standin.h"

namespace {

// driver_types.h
enum Error { kSuccess = 0, kInvalidValue = 1, kOutOfMemory = 2, kInvalidDevice = 101, kNotSupported = 801 };
enum Copy { kHostToHost = 0, kHostToDevice = 1, kDeviceToHost = 2, kDeviceToDevice = 3 };

thread_local int device = 0;
thread_local Error last = kSuccess;

Error Told(Error error) { return last = error == kSuccess ? last : error, error; }

}  // namespace

extern "C" {

int cuDeviceGetAttribute(int* value, int attribute, int device);

Error cudaGetDeviceCount(int* count) { return *count = standin_number("STANDIN_GPUS", 1), kSuccess; }
Error cudaGetDevice(int* index) { return *index = device, kSuccess; }

Error cudaSetDevice(int index) {
  if (index >= standin_number("STANDIN_GPUS", 1)) return Told(kInvalidDevice);
  device = index;
  return kSuccess;
}

Error cudaDeviceGetAttribute(int* value, int attribute, int index) {
  if (index >= standin_number("STANDIN_GPUS", 1)) return Told(kInvalidDevice);
  return static_cast<Error>(cuDeviceGetAttribute(value, attribute, index));
}

Error cudaGetDeviceProperties(void*, int) { return Told(kNotSupported); }

Error cudaMemGetInfo(size_t* free, size_t* total) {
  *total = standin_memory();
  *free = *total - standin_used();
  return kSuccess;
}

Error cudaMalloc(void** address, size_t bytes) {
  *address = standin_allocate(bytes);
  return *address ? kSuccess : Told(kOutOfMemory);
}

Error cudaFree(void* address) { return standin_free(address), kSuccess; }
Error cudaMallocHost(void** address, size_t bytes) { return *address = std::malloc(bytes), kSuccess; }
Error cudaFreeHost(void* address) { return std::free(address), kSuccess; }

Error cudaMemcpyAsync(void* to, const void* from, size_t bytes, Copy kind, void*) {
  bool is_there = (kind == kHostToDevice || standin_owns(from, bytes)) &&
                  (kind == kDeviceToHost || standin_owns(to, bytes));
  if (bytes > 0 && kind != kHostToHost && !is_there) return Told(kInvalidValue);
  std::memcpy(to, from, bytes);
  return kSuccess;
}

Error cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, void* stream) {
  return cudaMemcpyAsync(to, from, bytes, kDeviceToDevice, stream);
}

const char* cudaGetErrorName(Error error) {
  return error == kOutOfMemory ? "cudaErrorMemoryAllocation" : "cudaErrorUnknown";
}
const char* cudaGetErrorString(Error error) {
  return error == kOutOfMemory ? "out of memory" : "unknown error";
}

Error cudaGetLastError() {
  Error error = last;
  last = kSuccess;
  return error;
}

Error cudaPeekAtLastError() { return last; }
Error cudaStreamCreate(void** stream) { return *stream = std::malloc(1), kSuccess; }
Error cudaStreamCreateWithFlags(void** stream, unsigned) { return cudaStreamCreate(stream); }
Error cudaStreamDestroy(void* stream) { return std::free(stream), kSuccess; }
Error cudaStreamSynchronize(void*) { return kSuccess; }
Error cudaStreamWaitEvent(void*, void*, unsigned) { return kSuccess; }
Error cudaEventCreate(void** event) { return cudaStreamCreate(event); }
Error cudaEventDestroy(void* event) { return cudaStreamDestroy(event); }
Error cudaEventRecord(void*, void*) { return kSuccess; }
Error cudaEventSynchronize(void*) { return kSuccess; }
Error cudaEventElapsedTime(float* ms, void*, void*) { return *ms = 0, kSuccess; }
Error cudaStreamBeginCapture(void*, int) { return Told(kNotSupported); }
Error cudaStreamEndCapture(void*, void**) { return Told(kNotSupported); }
Error cudaGraphInstantiate(void**, void*, unsigned long long) { return Told(kNotSupported); }
Error cudaGraphLaunch(void*, void*) { return Told(kNotSupported); }
Error cudaGraphDestroy(void*) { return Told(kNotSupported); }
Error cudaGraphExecDestroy(void*) { return Told(kNotSupported); }
}
