// Lets TVM's WebGPU runtime free buffers at the end of a process, when Python can't be called any more.
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

extern "C" int Py_IsInitialized();

TVM_FFI_STATIC_INIT_BLOCK() {
  using tvm::ffi::Function;
  tvm::ffi::reflection::GlobalDef().def("tests.gpu.while_python_runs", [](Function call) {
    return Function([call](tvm::ffi::PackedArgs arguments, tvm::ffi::Any* result) {
      if (Py_IsInitialized()) call.CallPacked(arguments, result);
    });
  });
}
