// Runs a kernel's blocks one after the other, their threads in turn from one barrier to the next.
#include <algorithm>

#include "ptx.h"

namespace ptx {
namespace {

constexpr size_t kWarp = 32;

void Run(Thread& thread, const Kernel& kernel) {
  while (thread.state == State::kReady) {
    if (thread.next >= kernel.code.size()) throw Error("a kernel without an end");
    const Instruction& instruction = kernel.code[thread.next++];
    if (instruction.guard >= 0) {
      bool holds = static_cast<uint8_t>(thread.registers[instruction.guard]) != 0;
      if (holds == instruction.negated) continue;
    }
    instruction.run(thread, instruction);
  }
}

const Instruction& Reached(const Thread& thread, const Kernel& kernel) {
  return kernel.code[thread.next - 1];
}

// shfl.sync.down: each lane takes the value of the one so many above it, if there is one in its segment.
void Exchange(std::vector<Thread*> lanes, const Kernel& kernel, size_t width) {
  std::vector<uint32_t> values(kWarp, 0);
  std::vector<bool> there(kWarp, false);
  for (Thread* lane : lanes) {
    size_t index = lane - &lane->block->threads[0];
    const Instruction& at = Reached(*lane, kernel);
    if (&at != &Reached(*lanes[0], kernel)) throw Error(at.text + ": lanes shuffle at different places");
    values[index % kWarp] = static_cast<uint32_t>(lane->registers[at.in[0]]);
    there[index % kWarp] = true;
  }
  for (Thread* lane : lanes) {
    const Instruction& at = Reached(*lane, kernel);
    size_t index = (lane - &lane->block->threads[0]) % kWarp;
    uint32_t by = static_cast<uint32_t>(lane->registers[at.in[1]]);
    uint32_t control = static_cast<uint32_t>(lane->registers[at.in[2]]);
    uint32_t mask = control >> 8 & 31, last = (index & mask) | (control & 31 & ~mask);
    bool inside = index + by <= last && index + by < width;
    if (inside && !there[index + by]) throw Error(at.text + ": takes the value of a lane that isn't there");
    lane->registers[at.out[0]] = values[inside ? index + by : index];
    if (at.out.size() > 1) lane->registers[at.out[1]] = inside;
    lane->state = State::kReady;
  }
}

// Until all of its threads wait for the block, or are done.
void RunWarp(Block& block, size_t first, const Kernel& kernel) {
  size_t end = std::min(first + kWarp, block.threads.size());
  while (true) {
    std::vector<Thread*> shuffling;
    for (size_t index = first; index < end; ++index) {
      Thread& thread = block.threads[index];
      Run(thread, kernel);
      if (thread.state == State::kShuffle) shuffling.push_back(&thread);
    }
    if (shuffling.empty()) return;
    Exchange(shuffling, kernel, kWarp);
  }
}

void RunBlock(Block& block, const Kernel& kernel) {
  while (true) {
    for (size_t first = 0; first < block.threads.size(); first += kWarp) RunWarp(block, first, kernel);
    const Instruction* barrier = nullptr;
    for (Thread& thread : block.threads) {
      if (thread.state == State::kDone) continue;
      const Instruction& reached = Reached(thread, kernel);
      if (barrier && barrier != &reached) throw Error(reached.text + ": threads wait at different barriers");
      barrier = &reached;
      thread.state = State::kReady;
    }
    if (barrier == nullptr) return;
  }
}

// Places of registers that tell a thread where it is, with which of the numbers below each holds.
std::vector<std::pair<int, int>> Specials(const Kernel& kernel) {
  static const std::vector<std::string> names = {"%tid", "%ctaid", "%nctaid", "%ntid"};
  std::vector<std::pair<int, int>> found;
  for (auto& [name, place] : kernel.specials) {
    auto known = std::find(names.begin(), names.end(), name.substr(0, name.find('.')));
    if (known == names.end()) throw Error("register " + name);
    found.emplace_back(place, 3 * (known - names.begin()) + (name.back() - 'x'));
  }
  return found;
}

}  // namespace

void Launch(const Kernel& kernel, Dim grid, Dim size, int64_t dynamic_shared_bytes,
            const std::vector<uint64_t>& parameters) {
  if (dynamic_shared_bytes > 0 && !kernel.dynamic_shared) throw Error("nobody uses the shared memory");
  auto specials = Specials(kernel);
  Block block;
  block.threads.resize(size.x * size.y * size.z);
  for (unsigned number = 0; number < grid.x * grid.y * grid.z; ++number) {
    Dim place = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    // What nobody wrote is no number.
    block.shared.assign(kernel.shared_bytes + dynamic_shared_bytes, static_cast<char>(0xff));
    for (size_t index = 0; index < block.threads.size(); ++index) {
      Thread& thread = block.threads[index];
      unsigned i = static_cast<unsigned>(index);
      Dim at = {i % size.x, i / size.x % size.y, i / size.x / size.y};
      thread.block = &block;
      thread.parameters = &parameters;
      thread.registers = kernel.initial;
      thread.local.assign(kernel.local_bytes, static_cast<char>(0xff));
      for (int local : kernel.local_addresses) {
        thread.registers[local] += reinterpret_cast<uint64_t>(thread.local.data());
      }
      thread.next = 0;
      thread.state = State::kReady;
      unsigned numbers[] = {at.x,   at.y,   at.z,   place.x, place.y, place.z,
                            grid.x, grid.y, grid.z, size.x,  size.y,  size.z};
      for (auto [register_place, number] : specials) thread.registers[register_place] = numbers[number];
    }
    RunBlock(block, kernel);
  }
}

}  // namespace ptx
