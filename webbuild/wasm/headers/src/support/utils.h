// TVM's runtime sources include this header and use nothing of it in the wasm build.
#ifndef TVM_SUPPORT_UTILS_H_
#define TVM_SUPPORT_UTILS_H_
#include <string>
#endif  // TVM_SUPPORT_UTILS_H_
