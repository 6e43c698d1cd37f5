// PTX as a CPU computes it: what a module holds, and the threads of a block.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ptx {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Thread;
struct Instruction;
using Handler = void (*)(Thread&, const Instruction&);

// Operands are places in a thread's registers, those of constants among them.
struct Instruction {
  Handler run = nullptr;
  int guard = -1;
  bool negated = false;
  std::vector<int> out, in;
  // Of an address beside its register, of a jump its target, of a parameter its place.
  int64_t offset = 0;
  std::string text;
};

struct Kernel {
  std::vector<Instruction> code;
  std::map<std::string, int> registers;
  // What registers hold at first: constants and addresses within shared and local memory.
  std::vector<uint64_t> initial;
  std::vector<int> local_addresses;
  std::map<std::string, int> specials;
  std::vector<int> parameter_bytes;
  int64_t shared_bytes = 0, local_bytes = 0;
  bool dynamic_shared = false;
};

struct Module {
  std::string target;
  std::map<std::string, Kernel> kernels;
  std::map<std::string, std::shared_ptr<std::vector<char>>> constants;
};

Module Parse(const std::string& text);
Handler FindHandler(const std::string& operation);

enum class State { kReady, kBarrier, kShuffle, kDone };

struct Block {
  std::vector<char> shared;
  std::vector<Thread> threads;
};

struct Thread {
  Block* block = nullptr;
  const std::vector<uint64_t>* parameters = nullptr;
  std::vector<uint64_t> registers;
  std::vector<char> local;
  size_t next = 0;
  State state = State::kReady;
};

struct Dim {
  unsigned x, y, z;
};

// Ends with an Error where a GPU would compute something undefined.
void Launch(const Kernel& kernel, Dim grid, Dim block, int64_t dynamic_shared_bytes,
            const std::vector<uint64_t>& parameters);

// Whether all these bytes are of one allocation, or the module's.
void RequireAllocated(const void* address, size_t bytes, const Instruction& instruction);

}  // namespace ptx
