// Reads the PTX that CUDA's compiler makes.
#include <algorithm>
#include <sstream>

#include "ptx.h"

namespace ptx {
namespace {

std::string Trim(const std::string& text) {
  size_t begin = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
  return begin == std::string::npos || end == std::string::npos || end < begin
             ? ""
             : text.substr(begin, end - begin + 1);
}

// "name[12]" as a name and a size.
std::pair<std::string, int64_t> Array(const std::string& text) {
  std::string last = text.substr(text.find_last_of(" \t") + 1, text.find(';') - text.find_last_of(" \t") - 1);
  size_t bracket = last.find('[');
  if (bracket == std::string::npos) return {last, 0};
  return {last.substr(0, bracket), std::strtoll(last.c_str() + bracket + 1, nullptr, 10)};
}

bool StartsWith(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

class KernelReader {
 public:
  KernelReader(const Module& module, std::string name) : module_(module), name_(std::move(name)) {}

  void Parameter(const std::string& line) {
    static const std::map<std::string, int> sizes = {
        {".u64", 8}, {".b64", 8}, {".u32", 4}, {".b32", 4}, {".f32", 4}, {".u8", 1}, {".s8", 1}};
    std::istringstream words(line);
    std::string param, type;
    words >> param >> type;
    auto found = sizes.find(type);
    if (found == sizes.end()) throw Error("parameter " + line);
    kernel_.parameter_bytes.push_back(found->second);
  }

  void Line(const std::string& line) {
    if (StartsWith(line, ".reg")) return Registers(line);
    if (StartsWith(line, ".maxntid") || StartsWith(line, ".loc ")) return;
    if (StartsWith(line, ".pragma") || StartsWith(line, ".minnctapersm")) return;
    if (StartsWith(line, ".shared")) return Declare(line, &kernel_.shared_bytes, &shared_);
    if (StartsWith(line, ".local")) return Declare(line, &kernel_.local_bytes, &locals_);
    if (line.back() == ':') {
      labels_[line.substr(0, line.size() - 1)] = kernel_.code.size();
    } else {
      Operation(line);
    }
  }

  void DeclareDynamic(const std::string& name) { dynamic_.push_back(name); }

  Kernel Finish() {
    for (auto& [index, label] : jumps_) {
      auto found = labels_.find(label);
      if (found == labels_.end()) throw Error(name_ + " jumps to " + label);
      kernel_.code[index].offset = static_cast<int64_t>(found->second);
    }
    for (auto& [name, place] : kernel_.registers) {
      if (name[0] == '%' && name.find('.') != std::string::npos) kernel_.specials[name] = place;
    }
    return std::move(kernel_);
  }

 private:
  void Declare(const std::string& line, int64_t* bytes, std::map<std::string, int64_t>* places) {
    auto [name, size] = Array(line);
    // A single variable, of which none is wider.
    if (size == 0) size = 8;
    *bytes = (*bytes + 63) / 64 * 64;
    (*places)[name] = *bytes;
    *bytes += size;
  }

  // Those that assembly within C++ names.
  void Registers(const std::string& line) {
    std::istringstream names(line.substr(line.find_first_of(" \t")));
    for (std::string name; std::getline(names, name, ',');) {
      std::istringstream words(name);
      for (std::string word; words >> word;) {
        if (word[0] != '.' && word[0] != '%') Constant(word, 0);
      }
    }
  }

  int Constant(const std::string& key, uint64_t value) {
    auto [entry, is_new] = kernel_.registers.try_emplace(key, kernel_.initial.size());
    if (is_new) kernel_.initial.push_back(value);
    return entry->second;
  }

  int Operand(const std::string& text) {
    if (text[0] == '%' || text == "_") return Constant(text, 0);
    if (auto known = kernel_.registers.find(text); known != kernel_.registers.end()) return known->second;
    if (StartsWith(text, "0f") || StartsWith(text, "0d")) {
      return Constant(text, std::strtoull(text.c_str() + 2, nullptr, 16));
    }
    if (auto at = shared_.find(text); at != shared_.end()) return Constant(text, at->second);
    if (auto at = locals_.find(text); at != locals_.end()) {
      int place = Constant(text, at->second);
      if (std::count(kernel_.local_addresses.begin(), kernel_.local_addresses.end(), place) == 0) {
        kernel_.local_addresses.push_back(place);
      }
      return place;
    }
    if (std::count(dynamic_.begin(), dynamic_.end(), text)) {
      kernel_.dynamic_shared = true;
      kernel_.shared_bytes = (kernel_.shared_bytes + 63) / 64 * 64;
      return Constant(text, kernel_.shared_bytes);
    }
    if (auto at = module_.constants.find(text); at != module_.constants.end()) {
      return Constant(text, reinterpret_cast<uint64_t>(at->second->data()));
    }
    char* end = nullptr;
    bool is_negative = text[0] == '-';
    uint64_t value = is_negative ? static_cast<uint64_t>(std::strtoll(text.c_str(), &end, 0))
                                 : std::strtoull(text.c_str(), &end, 0);
    if (*end != '\0' && *end != 'U') throw Error(name_ + ": operand " + text);
    return Constant(text, value);
  }

  void Address(const std::string& text, Instruction* to) {
    std::string inner = text.substr(1, text.size() - 2);
    size_t plus = inner.find('+');
    std::string base = inner.substr(0, plus);
    if (plus != std::string::npos) to->offset = std::strtoll(inner.c_str() + plus + 1, nullptr, 0);
    std::string start = name_ + "_param_";
    if (StartsWith(base, start)) {
      to->offset = std::strtoll(base.c_str() + start.size(), nullptr, 10);
    } else {
      to->in.push_back(Operand(base));
    }
  }

  void Operation(std::string line) {
    Instruction made;
    made.text = name_ + ": " + line;
    if (line[0] == '@') {
      size_t space = line.find_first_of(" \t");
      made.negated = line[1] == '!';
      made.guard = Operand(line.substr(made.negated ? 2 : 1, space - (made.negated ? 2 : 1)));
      line = Trim(line.substr(space));
    }
    size_t space = line.find_first_of(" \t");
    std::string operation = line.substr(0, space);
    std::vector<std::vector<std::string>> operands = Split(space == std::string::npos ? "" : line.substr(space));
    made.run = FindHandler(operation);
    if (made.run == nullptr) throw Error(made.text + " is not known to this driver");
    if (StartsWith(operation, "bra")) {
      jumps_.emplace_back(kernel_.code.size(), operands[0][0]);
    } else {
      // A store's first operand is where it stores.
      bool has_result = !StartsWith(operation, "st.") && !StartsWith(operation, "bar") && operation != "ret";
      for (size_t index = 0; index < operands.size(); ++index) {
        for (const std::string& each : operands[index]) {
          if (each[0] == '[') {
            Address(each, &made);
          } else {
            (has_result && index == 0 ? made.out : made.in).push_back(Operand(each));
          }
        }
      }
    }
    kernel_.code.push_back(std::move(made));
  }

  // Operands, each of them one or, in braces or with bars between, several.
  static std::vector<std::vector<std::string>> Split(const std::string& text) {
    std::vector<std::vector<std::string>> found;
    std::string word;
    bool together = false, joins = false;
    auto end_word = [&] {
      if (word.empty()) return;
      if (!joins) found.emplace_back();
      found.back().push_back(word);
      word.clear();
    };
    for (char c : text + ",") {
      if (c == '{') {
        together = true;
      } else if (c == '}' || c == ',' || c == '|') {
        end_word();
        if (c == '}') together = false;
        joins = together || c == '|';
      } else if (c != ' ' && c != '\t') {
        word += c;
      }
    }
    return found;
  }

  const Module& module_;
  std::string name_;
  Kernel kernel_;
  std::map<std::string, int64_t> shared_, locals_;
  std::vector<std::string> dynamic_;
  std::map<std::string, size_t> labels_;
  std::vector<std::pair<size_t, std::string>> jumps_;
};

void ReadConstant(const std::string& line, Module* module) {
  size_t equals = line.find('=');
  auto [name, size] = Array(Trim(line.substr(0, equals)));
  auto bytes = std::make_shared<std::vector<char>>(size);
  if (equals != std::string::npos) {
    bool is_array = size > 0;
    if (!is_array) bytes->resize(1);
    if (line.find(is_array ? ".b8" : "8 ") == std::string::npos) throw Error("constants " + line);
    const char* at = line.c_str() + (is_array ? line.find('{') : equals) + 1;
    for (char& byte : *bytes) {
      char* end = nullptr;
      byte = static_cast<char>(std::strtol(at, &end, 0));
      at = end + 1;
    }
  }
  module->constants[name] = bytes;
}

}  // namespace

namespace {

// A line's statements, and how deep in braces it ends: assembly within C++ has braces of its own.
int Statements(std::string line, int depth, KernelReader* reader) {
  while (!line.empty()) {
    size_t end = 1;
    if (line[0] == '{') {
      ++depth;
    } else if (line[0] == '}') {
      --depth;
    } else if (depth == 0) {
      return depth;
    } else {
      end = std::min(line.find(';'), line.size());
      // The last statement may end with its line, and what is within braces of its own is there whole.
      size_t closing = line.find('}');
      if (closing < end && line.find('{') > closing) end = closing;
      reader->Line(Trim(line.substr(0, end)));
      end = std::min(line[end] == ';' ? end + 1 : end, line.size());
    }
    line = Trim(line.substr(end));
  }
  return depth;
}

}  // namespace

Module Parse(const std::string& text) {
  Module module;
  std::vector<std::string> dynamic;
  std::unique_ptr<KernelReader> reader;
  std::string name, line;
  int depth = 0;
  std::istringstream lines(text);
  while (std::getline(lines, line)) {
    line = Trim(line.substr(0, line.find("//")));
    if (line.empty()) continue;
    if (StartsWith(line, ".target")) module.target = line.substr(8);
    if (StartsWith(line, ".extern .shared")) dynamic.push_back(Array(line).first);
    if (StartsWith(line, ".global") || StartsWith(line, ".const")) ReadConstant(line, &module);
    if (line.find(".entry ") != std::string::npos) {
      name = line.substr(line.find(".entry ") + 7);
      name = name.substr(0, name.find('('));
      reader = std::make_unique<KernelReader>(module, name);
      for (const std::string& each : dynamic) reader->DeclareDynamic(each);
    } else if (reader && StartsWith(line, ".param")) {
      reader->Parameter(line);
    } else if (reader) {
      depth = Statements(line, depth, reader.get());
      if (depth == 0 && line == "}") {
        module.kernels[name] = reader->Finish();
        reader.reset();
      }
    }
  }
  return module;
}

}  // namespace ptx
