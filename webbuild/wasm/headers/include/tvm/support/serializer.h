// Binary form of the values in a compiled module: little-endian scalars as they are, then
// containers as a uint64 count followed by their elements.
#ifndef TVM_SUPPORT_SERIALIZER_H_
#define TVM_SUPPORT_SERIALIZER_H_

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tvm {
namespace support {

template <typename T>
struct Serializer {
  static_assert(std::is_trivially_copyable<T>::value, "no binary form is known for this type");
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const T& value) { stream->Write(&value, sizeof(T)); }
  static bool Read(Stream* stream, T* value) { return stream->Read(value, sizeof(T)) == sizeof(T); }
};

inline void WriteCount(Stream* stream, size_t count) {
  Serializer<uint64_t>::Write(stream, static_cast<uint64_t>(count));
}

inline bool ReadCount(Stream* stream, size_t* count) {
  uint64_t wide;
  if (!Serializer<uint64_t>::Read(stream, &wide)) return false;
  *count = static_cast<size_t>(wide);
  return true;
}

template <>
struct Serializer<std::string> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const std::string& value) {
    WriteCount(stream, value.size());
    stream->Write(value.data(), value.size());
  }
  static bool Read(Stream* stream, std::string* value) {
    size_t size;
    if (!ReadCount(stream, &size)) return false;
    value->resize(size);
    return stream->Read(&(*value)[0], size) == size;
  }
};

template <>
struct Serializer<ffi::String> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const ffi::String& value) {
    Serializer<std::string>::Write(stream, std::string(value));
  }
  static bool Read(Stream* stream, ffi::String* value) {
    std::string text;
    if (!Serializer<std::string>::Read(stream, &text)) return false;
    *value = ffi::String(std::move(text));
    return true;
  }
};

template <typename T>
struct Serializer<std::vector<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const std::vector<T>& values) {
    WriteCount(stream, values.size());
    stream->WriteArray(values.data(), values.size());
  }
  static bool Read(Stream* stream, std::vector<T>* values) {
    size_t count;
    if (!ReadCount(stream, &count)) return false;
    values->resize(count);
    return stream->ReadArray(values->data(), count);
  }
};

template <typename T>
struct Serializer<ffi::Array<T>> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const ffi::Array<T>& values) {
    WriteCount(stream, values.size());
    for (const T& value : values) Serializer<T>::Write(stream, value);
  }
  static bool Read(Stream* stream, ffi::Array<T>* values) {
    size_t count;
    if (!ReadCount(stream, &count)) return false;
    ffi::Array<T> read;
    for (size_t i = 0; i < count; ++i) {
      T value;
      if (!Serializer<T>::Read(stream, &value)) return false;
      read.push_back(value);
    }
    *values = read;
    return true;
  }
};

template <typename K, typename V>
struct Serializer<std::unordered_map<K, V>> {
  static constexpr bool enabled = true;
  static void Write(Stream* stream, const std::unordered_map<K, V>& entries) {
    WriteCount(stream, entries.size());
    for (const auto& entry : entries) {
      Serializer<K>::Write(stream, entry.first);
      Serializer<V>::Write(stream, entry.second);
    }
  }
  static bool Read(Stream* stream, std::unordered_map<K, V>* entries) {
    size_t count;
    if (!ReadCount(stream, &count)) return false;
    for (size_t i = 0; i < count; ++i) {
      K key;
      V value;
      if (!Serializer<K>::Read(stream, &key) || !Serializer<V>::Read(stream, &value)) return false;
      entries->emplace(std::move(key), std::move(value));
    }
    return true;
  }
};

template <typename K, typename V>
struct Serializer<ffi::Map<K, V>> {
  static constexpr bool enabled = true;
  static bool Read(Stream* stream, ffi::Map<K, V>* entries) {
    size_t count;
    if (!ReadCount(stream, &count)) return false;
    for (size_t i = 0; i < count; ++i) {
      K key;
      V value{ffi::UnsafeInit{}};
      if (!Serializer<K>::Read(stream, &key) || !Serializer<V>::Read(stream, &value)) return false;
      entries->Set(key, value);
    }
    return true;
  }
};

}  // namespace support
}  // namespace tvm
#endif  // TVM_SUPPORT_SERIALIZER_H_
