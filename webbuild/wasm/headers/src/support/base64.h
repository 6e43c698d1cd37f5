// Streams that carry base64 text over another stream.
#ifndef TVM_SUPPORT_BASE64_H_
#define TVM_SUPPORT_BASE64_H_

#include <tvm/ffi/extra/base64.h>
#include <tvm/support/io.h>

#include <string>

#include "bytes_io.h"

namespace tvm {
namespace support {

class Base64OutStream : public Stream {
 public:
  explicit Base64OutStream(Stream* target) : target_(target) {}

  using Stream::Read;
  using Stream::Write;
  size_t Read(void*, size_t) final { return 0; }
  size_t Write(const void* data, size_t size) final {
    plain_.append(static_cast<const char*>(data), size);
    return size;
  }
  void Finish() {
    ffi::String text = ffi::Base64Encode(ffi::Bytes(plain_));
    target_->Write(text.data(), text.size());
  }

 private:
  Stream* target_;
  std::string plain_;
};

class Base64InStream : public Stream {
 public:
  explicit Base64InStream(Stream* source) : source_(source) {}

  using Stream::Read;
  using Stream::Write;
  void InitPosition() {
    std::string text;
    char symbol;
    while (source_->Read(&symbol, 1) == 1) text.push_back(symbol);
    plain_ = ffi::Base64Decode(ffi::String(text));
  }
  size_t Read(void* data, size_t size) final {
    size = std::min(size, plain_.size() - position_);
    std::memcpy(data, plain_.data() + position_, size);
    position_ += size;
    return size;
  }
  size_t Write(const void*, size_t) final { return 0; }

 private:
  Stream* source_;
  ffi::Bytes plain_;
  size_t position_ = 0;
};

}  // namespace support
}  // namespace tvm
#endif  // TVM_SUPPORT_BASE64_H_
