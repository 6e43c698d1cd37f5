// The byte stream that TVM's runtime sources read and write; only what the wasm runtime uses.
#ifndef TVM_SUPPORT_IO_H_
#define TVM_SUPPORT_IO_H_

#include <cstddef>
#include <cstdint>

namespace tvm {
namespace support {

template <typename T>
struct Serializer;

class Stream {
 public:
  virtual ~Stream() = default;
  virtual size_t Read(void* data, size_t size) = 0;
  virtual size_t Write(const void* data, size_t size) = 0;

  template <typename T>
  bool Read(T* value);
  template <typename T>
  void Write(const T& value);

  template <typename T>
  bool ReadArray(T* values, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      if (!this->Read(values + i)) return false;
    }
    return true;
  }
  template <typename T>
  void WriteArray(const T* values, size_t count) {
    for (size_t i = 0; i < count; ++i) this->Write(values[i]);
  }
};

}  // namespace support
}  // namespace tvm

#include <tvm/support/serializer.h>

namespace tvm {
namespace support {

template <typename T>
bool Stream::Read(T* value) {
  return Serializer<T>::Read(this, value);
}

template <typename T>
void Stream::Write(const T& value) {
  Serializer<T>::Write(this, value);
}

}  // namespace support
}  // namespace tvm
#endif  // TVM_SUPPORT_IO_H_
